//! How many exports of how many kinds a backup has.

use std::collections::BTreeSet;

use super::Manifest;

/// The size of a backup, counted in exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// Exports; one usually holds a single kind of a single namespace.
    pub exports: u64,
    /// Kinds; one that is in several namespaces counts once.
    pub kinds: u64,
    /// Namespaces.
    pub namespaces: u64,
}

impl KindCounts {
    /// Counts the kinds and namespaces of some exports.
    pub fn new<N: Ord, K: Ord>(exports: usize, pairs: impl IntoIterator<Item = (N, K)>) -> Self {
        let (namespaces, kinds): (BTreeSet<N>, BTreeSet<K>) = pairs.into_iter().unzip();
        KindCounts {
            exports: exports as u64,
            kinds: kinds.len() as u64,
            namespaces: namespaces.len() as u64,
        }
    }

    /// Counts what an archive holds.
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let kinds = manifest.kinds.iter();
        // Kinds that share an export share its entries.
        let entries = kinds.clone().map(|kind| kind.entries.first());
        let exports: BTreeSet<Option<&str>> = entries
            .map(|entry| entry.map(|entry| entry.name.as_str()))
            .collect();
        let pairs = kinds.map(|kind| (&kind.namespace, &kind.kind));
        KindCounts::new(exports.len() + manifest.empty_exports.len(), pairs)
    }
}
