//! Which steps the data wants before which: read off the manifest, as numbers of steps.
//!
//! Knows parents and references, and nothing of what the user wants.

use std::collections::{HashMap, HashSet};

use super::graph::Edge;
use super::selected::SelectedKind;
use crate::model::{Kind, KindRef};

/// The data says that the step `by` needs the step `of`.
pub(super) struct Dependency {
    pub of: usize,
    pub by: usize,
    /// As an ancestor in its keys; otherwise its properties refer to it.
    pub parent: bool,
    /// Both are in one namespace.
    pub within: bool,
}

impl Dependency {
    pub fn link(&self) -> Edge {
        Edge {
            from: self.of,
            to: self.by,
            within: self.within,
        }
    }
}

/// The number of each pair.
pub(super) fn numbers<'a>(taken: &'a [SelectedKind<'_>]) -> HashMap<&'a KindRef, usize> {
    let pairs = taken.iter().map(|taken| &taken.pair);
    pairs.zip(0..).collect()
}

/// Every need once; who is both parent and referred to counts as a parent.
pub(super) fn needs(taken: &[SelectedKind]) -> Vec<Dependency> {
    let number = numbers(taken);
    let mut needs = Vec::new();
    for (by, selected) in taken.iter().enumerate() {
        // Nobody waits for himself.
        let mut seen = HashSet::from([by]);
        for (needed, parent) in needed_pairs(selected) {
            if let Some(&of) = number.get(&needed)
                && seen.insert(of)
            {
                needs.push(Dependency {
                    of,
                    by,
                    parent,
                    within: needed.namespace == selected.pair.namespace,
                });
            }
        }
    }
    needs
}

/// What the keys and properties of a kind name, and whether as a parent.
fn needed_pairs(
    SelectedKind { pair, item }: &SelectedKind<'_>,
) -> impl Iterator<Item = (KindRef, bool)> {
    let here = |kind: &Kind| KindRef {
        namespace: pair.namespace.clone(),
        kind: kind.clone(),
    };
    let parents = item.parents.iter().map(move |kind| (here(kind), true));
    let kinds = item.references.iter().map(here);
    let references = kinds.chain(item.reference_pairs.iter().cloned());
    parents.chain(references.map(|pair| (pair, false)))
}
