//! Which steps of a plan wait for which others, where several run at once.
//!
//! Reads the document's order, the data's needs and the user's words. Must not know who runs the
//! steps. Memory and time grow with the needs as they are given: no step has a list of all that it
//! needs through others.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::constraints::from_choices;
use super::dependencies::needs;
use super::selected::SelectedKind;
use super::{Plan, PlanError};
use crate::model::{KindInfo, KindRef, Manifest};

/// Who waits for whom. Steps go by their places in the plan; no step waits for one that comes
/// later.
#[derive(Debug, Clone, Default)]
pub struct WaitGraph {
    steps: usize,
    /// For each node those that wait for it. After the steps come gates: each opens when all that
    /// it waits for is over, and stands for all of that.
    waiting: Vec<Vec<u32>>,
}

impl Plan {
    /// Which steps wait for which.
    ///
    /// A step waits for each earlier one that it needs, that the user's words (`first`, `last`,
    /// `depends-on`) put before it, or that somebody moved before it; a moved step holds back with
    /// all that comes before it.
    ///
    /// # Errors
    /// When the plan contradicts the archive, which `check_against` says first.
    pub fn waits(&self, manifest: &Manifest) -> Result<WaitGraph, PlanError> {
        let items: HashMap<KindRef, &KindInfo> = manifest
            .kinds
            .iter()
            .map(|item| (item.pair(), item))
            .collect();
        let taken: Vec<SelectedKind<'_>> = self
            .steps
            .iter()
            .map(|step| {
                let pair = step.pair();
                let item = items
                    .get(&pair)
                    .copied()
                    .ok_or_else(|| PlanError::PlanModified {
                        what: format!("step {}", step.id),
                        expected: "a kind of the archive".to_owned(),
                        found: pair.to_string(),
                    })?;
                Ok(SelectedKind { pair, item })
            })
            .collect::<Result<_, PlanError>>()?;
        let mut waits = WaitGraph {
            steps: taken.len(),
            waiting: vec![Vec::new(); taken.len()],
        };
        for need in needs(&taken).iter().filter(|need| need.of < need.by) {
            waits.add(need.of, need.by);
        }
        for wish in from_choices(&taken, &self.head.choices.selection)?.wishes {
            let before = wish.before.iter().map(|&step| (step, WaitSide::Before));
            let after = wish.after.iter().map(|&step| (step, WaitSide::After));
            waits.add_all(before.chain(after).collect());
        }
        let ids: Vec<u32> = self.steps.iter().map(|step| step.id).collect();
        waits.add_moved(&ids);
        Ok(waits)
    }
}

/// Why lists have an item for each node.
const IS_NODE: &str = "steps and gates wait for one another only, and each list has them all";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum WaitSide {
    Before,
    After,
}

impl WaitGraph {
    fn add(&mut self, before: usize, after: usize) {
        if let (Some(waiting), Ok(after)) = (self.waiting.get_mut(before), u32::try_from(after)) {
            waiting.push(after);
        }
    }

    fn add_gate(&mut self) -> usize {
        self.waiting.push(Vec::new());
        self.waiting.len() - 1
    }

    /// Makes each step that comes after wait for all earlier steps that come before.
    fn add_all(&mut self, mut sides: Vec<(usize, WaitSide)>) {
        sides.sort_unstable();
        let mut gate = None;
        let mut not_yet_in_gate = Vec::new();
        for (step, side) in sides {
            if side == WaitSide::Before {
                not_yet_in_gate.push(step);
                continue;
            }
            if !not_yet_in_gate.is_empty() {
                let next = self.add_gate();
                for before in gate.into_iter().chain(not_yet_in_gate.drain(..)) {
                    self.add(before, next);
                }
                gate = Some(next);
            }
            if let Some(gate) = gate {
                self.add(gate, step);
            }
        }
    }

    /// Makes each step wait for all up to the last one before it that was planned after it.
    fn add_moved(&mut self, ids: &[u32]) {
        // Those whose id no later step exceeds so far: their ids fall from the first to the last.
        let mut larger: Vec<(usize, u32)> = Vec::new();
        let mut last_larger: Vec<(usize, usize)> = Vec::new();
        for (at, &id) in ids.iter().enumerate() {
            while larger.pop_if(|(_, other)| *other < id).is_some() {}
            last_larger.extend(larger.last().map(|(earlier, _)| (at, *earlier)));
            larger.push((at, id));
        }
        let ends: BTreeSet<usize> = last_larger.iter().map(|(_, end)| *end).collect();
        let mut gates: HashMap<usize, usize> = HashMap::new();
        let (mut gate, mut begin) = (None, 0);
        for end in ends {
            let next = self.add_gate();
            for before in gate.into_iter().chain(begin..=end) {
                self.add(before, next);
            }
            (gate, begin) = (Some(next), end + 1);
            gates.insert(end, next);
        }
        for (step, end) in last_larger {
            if let Some(&gate) = gates.get(&end) {
                self.add(gate, step);
            }
        }
    }

    /// How many links there are: what the whole takes in memory.
    #[cfg(test)]
    pub(super) fn links(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    /// Begins with the steps that are not over. What is over is waited through: its own needs may
    /// be left.
    pub fn into_queue(self, is_over: impl Fn(usize) -> bool) -> StepQueue {
        let mut open = vec![0u32; self.waiting.len()];
        for &node in self.waiting.iter().flatten() {
            if let Some(open) = open.get_mut(node as usize) {
                *open += 1;
            }
        }
        let passes: Vec<bool> = (0..self.waiting.len())
            .map(|node| node >= self.steps || is_over(node))
            .collect();
        let left = passes.iter().filter(|passes| !**passes).count();
        let free: Vec<usize> = (0..open.len())
            .filter(|node| open.get(*node) == Some(&0))
            .collect();
        let mut turns = StepQueue {
            waiting: self.waiting,
            open,
            passes,
            ready: BinaryHeap::new(),
            left,
        };
        free.into_iter().for_each(|node| turns.free(node));
        turns
    }
}

/// Whose turn it is: steps that are left, and what each still waits for.
#[derive(Debug)]
pub struct StepQueue {
    waiting: Vec<Vec<u32>>,
    /// How many each node still waits for.
    open: Vec<u32>,
    /// Nodes that nobody runs: gates, and steps that are over.
    passes: Vec<bool>,
    ready: BinaryHeap<Reverse<usize>>,
    left: usize,
}

impl StepQueue {
    /// Takes the first step in the plan's order that waits for nothing any more.
    pub fn next_ready(&mut self) -> Option<usize> {
        let Reverse(step) = self.ready.pop()?;
        self.left -= 1;
        Some(step)
    }

    /// Whether steps are left that nobody took.
    pub fn is_any_left(&self) -> bool {
        self.left > 0
    }

    /// A step that was taken is over.
    pub fn finish(&mut self, step: usize) {
        let mut ended = vec![step];
        while let Some(node) = ended.pop() {
            let waiting = self.waiting.get_mut(node).expect(IS_NODE);
            for next in std::mem::take(waiting) {
                let next = next as usize;
                let open = self.open.get_mut(next).expect(IS_NODE);
                *open -= 1;
                if *open > 0 {
                    continue;
                }
                if self.is_passed(next) {
                    ended.push(next);
                } else {
                    self.ready.push(Reverse(next));
                }
            }
        }
    }

    fn is_passed(&self, node: usize) -> bool {
        self.passes.get(node) == Some(&true)
    }

    /// A node waits for nothing.
    fn free(&mut self, node: usize) {
        if self.is_passed(node) {
            self.finish(node)
        } else {
            self.ready.push(Reverse(node))
        }
    }
}
