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

/// Every need once; who is both parent and referred to counts as a parent.
pub(super) fn needs(taken: &[SelectedKind]) -> Vec<Dependency> {
    let number: HashMap<&KindRef, usize> = taken
        .iter()
        .enumerate()
        .map(|(number, taken)| (&taken.pair, number))
        .collect();
    let mut needs = Vec::new();
    for (by, SelectedKind { pair, item }) in taken.iter().enumerate() {
        let here = |kind: &Kind| KindRef {
            namespace: pair.namespace.clone(),
            kind: kind.clone(),
        };
        let parents = item.parents.iter().map(|kind| (here(kind), true));
        let references = item
            .references
            .iter()
            .map(here)
            .chain(item.reference_pairs.iter().cloned())
            .map(|pair| (pair, false));
        // Nobody waits for himself.
        let mut seen = HashSet::from([by]);
        for (needed, parent) in parents.chain(references) {
            if let Some(&of) = number.get(&needed)
                && seen.insert(of)
            {
                needs.push(Dependency {
                    of,
                    by,
                    parent,
                    within: needed.namespace == pair.namespace,
                });
            }
        }
    }
    needs
}
