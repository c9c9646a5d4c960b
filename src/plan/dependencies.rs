//! Which steps the data wants before which: read off the manifest, as numbers of steps.
//!
//! Knows parents and references, and nothing of what the user wants.

use std::collections::{BTreeMap, HashMap};

use super::linear_order::Edge;
use super::selected::SelectedKind;
use crate::model::KindRef;

/// The data says that the step `by` needs the step `of`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    pub of: usize,
    pub by: usize,
    /// `of` stands as an ancestor in the keys of `by`.
    pub is_parent: bool,
    /// Properties of `by` refer to `of`.
    pub is_reference: bool,
    /// How many references there are, where the archive says so.
    pub references: Option<u64>,
}

impl Dependency {
    fn new(of: usize, by: usize) -> Self {
        Dependency {
            of,
            by,
            is_parent: false,
            is_reference: false,
            references: None,
        }
    }

    /// Where nobody counted, all references to a kind count as one.
    pub fn edge(&self) -> Edge {
        Edge {
            from: self.of,
            to: self.by,
            is_parent: self.is_parent,
            references: match self.is_reference {
                true => self.references.unwrap_or(1),
                false => 0,
            },
        }
    }
}

/// The number of each pair.
pub(super) fn numbers<'a>(taken: &'a [SelectedKind<'_>]) -> HashMap<&'a KindRef, usize> {
    let pairs = taken.iter().map(|taken| &taken.pair);
    pairs.zip(0..).collect()
}

/// Every need of a step for another one, once.
pub(super) fn needs(taken: &[SelectedKind]) -> Vec<Dependency> {
    let number = numbers(taken);
    let steps = taken.iter().enumerate();
    steps
        .flat_map(|(by, selected)| needs_of(by, selected, &number))
        .collect()
}

fn needs_of(
    by: usize,
    SelectedKind { pair, item }: &SelectedKind<'_>,
    number: &HashMap<&KindRef, usize>,
) -> impl Iterator<Item = Dependency> + use<> {
    let mut needs: BTreeMap<usize, Dependency> = BTreeMap::new();
    // A kind that needs itself waits for nothing.
    let others = |pair: &KindRef| number.get(pair).copied().filter(|&of| of != by);
    for kind in &item.parents {
        let parent = KindRef {
            namespace: pair.namespace.clone(),
            kind: kind.clone(),
        };
        if let Some(of) = others(&parent) {
            let need = needs.entry(of).or_insert(Dependency::new(of, by));
            need.is_parent = true;
        }
    }
    for (referenced, references) in item.counted_references() {
        if let Some(of) = others(referenced) {
            let need = needs.entry(of).or_insert(Dependency::new(of, by));
            (need.is_reference, need.references) = (true, references);
        }
    }
    needs.into_values()
}
