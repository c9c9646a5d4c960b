//! Which steps of a plan wait for which others, where several may run side by side.
//!
//! Reads the document's order, the data's needs and the user's words. Knows nothing of who runs the steps.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::needs;
use super::words::words;
use super::{Plan, PlanError, Taken};
use crate::model::Manifest;

impl Plan {
    /// For each step, by its id, the steps that must be done before it starts. All of them stand before it in the document.
    ///
    /// A step waits for an earlier one that it needs, directly or through others of the plan; that the user's words (`first`, `last`,
    /// `after`) put before it; or that somebody moved before it in the document.
    ///
    /// # Errors
    /// When the plan's words contradict the archive, which `check_against` says first.
    pub fn waits_for(&self, manifest: &Manifest) -> Result<BTreeMap<u32, BTreeSet<u32>>, PlanError> {
        let taken: Vec<Taken> = self
            .steps
            .iter()
            .filter_map(|step| {
                let pair = step.pair();
                manifest.kind(&pair).map(|item| Taken { pair, item })
            })
            .collect();
        // Whom a step needs, by their places in the document.
        let mut before: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); taken.len()];
        for need in needs(&taken) {
            if let Some(of) = before.get_mut(need.by) {
                of.insert(need.of);
            }
        }
        for wish in words(&taken, &self.choices)?.wishes {
            for after in wish.after {
                if let Some(of) = before.get_mut(after) {
                    of.extend(&wish.before);
                }
            }
        }
        let ids: Vec<u32> = self.steps.iter().map(|step| step.id).collect();
        let id_at = |at: usize| ids.get(at).copied().unwrap_or_default();
        let waits = |(at, &id): (usize, &u32)| {
            let needed = reached(&before, at);
            let waits = (0..at).filter(|&earlier| needed.contains(&earlier) || id_at(earlier) > id).map(id_at);
            (id, waits.collect())
        };
        Ok(ids.iter().enumerate().map(waits).collect())
    }
}

/// All that `start` needs, directly or through others.
fn reached(before: &[BTreeSet<usize>], start: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![start];
    while let Some(node) = stack.pop() {
        for &next in before.get(node).into_iter().flatten() {
            if seen.insert(next) {
                stack.push(next);
            }
        }
    }
    seen
}
