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
use super::{Plan, PlanError, Step};
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
        let taken = self.selected_kinds(manifest)?;
        let mut waits = WaitGraph::without_waits(taken.len());
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

    /// The kinds of the steps, as the archive has them.
    fn selected_kinds<'a>(
        &self,
        manifest: &'a Manifest,
    ) -> Result<Vec<SelectedKind<'a>>, PlanError> {
        let items = manifest.kinds.iter();
        let items: HashMap<KindRef, &KindInfo> = items.map(|item| (item.pair(), item)).collect();
        let steps = self.steps.iter();
        let selected = steps.map(|step| match items.get(&step.pair()) {
            Some(&item) => Ok(SelectedKind {
                pair: step.pair(),
                item,
            }),
            None => Err(step_without_kind(step)),
        });
        selected.collect()
    }
}

fn step_without_kind(step: &Step) -> PlanError {
    PlanError::PlanModified {
        what: format!("step {}", step.id),
        expected: "a kind of the archive".to_owned(),
        found: step.pair().to_string(),
    }
}

/// For each step the last one before it that was planned after it, where there is one.
fn last_larger(ids: &[u32]) -> Vec<(usize, usize)> {
    // Those whose id no later step exceeds so far: their ids fall from the first to the last.
    let mut larger: Vec<(usize, u32)> = Vec::new();
    let mut last_larger: Vec<(usize, usize)> = Vec::new();
    for (at, &id) in ids.iter().enumerate() {
        while larger.pop_if(|(_, other)| *other < id).is_some() {}
        last_larger.extend(larger.last().map(|(earlier, _)| (at, *earlier)));
        larger.push((at, id));
    }
    last_larger
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

    fn without_waits(steps: usize) -> Self {
        let waiting = vec![Vec::new(); steps];
        WaitGraph { steps, waiting }
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
        let last_larger = last_larger(ids);
        let ends = last_larger.iter().map(|(_, end)| *end);
        let gates = self.add_gates(&ends.collect());
        for (step, end) in last_larger {
            if let Some(&gate) = gates.get(&end) {
                self.add(gate, step);
            }
        }
    }

    /// Adds a gate for each end, which waits for all steps up to it.
    fn add_gates(&mut self, ends: &BTreeSet<usize>) -> HashMap<usize, usize> {
        let mut gates: HashMap<usize, usize> = HashMap::new();
        let (mut gate, mut begin) = (None, 0);
        for &end in ends {
            let next = self.add_gate();
            for before in gate.into_iter().chain(begin..=end) {
                self.add(before, next);
            }
            (gate, begin) = (Some(next), end + 1);
            gates.insert(end, next);
        }
        gates
    }

    /// How many links there are: what the whole takes in memory.
    #[cfg(test)]
    pub(super) fn links(&self) -> usize {
        self.waiting.iter().map(Vec::len).sum()
    }

    /// Begins with the steps that are not over. What is over is waited through: its own needs may
    /// be left.
    pub fn into_queue(self, is_over: impl Fn(usize) -> bool) -> StepQueue {
        let nodes = 0..self.waiting.len();
        let open = self.open_counts();
        let is_free = |node: &usize| open.get(*node) == Some(&0);
        let free: Vec<usize> = nodes.clone().filter(is_free).collect();
        let passes: Vec<bool> = nodes
            .map(|node| node >= self.steps || is_over(node))
            .collect();
        let mut turns = StepQueue {
            waiting: self.waiting,
            open,
            left: passes.iter().filter(|passes| !**passes).count(),
            passes,
            ready: BinaryHeap::new(),
        };
        free.into_iter().for_each(|node| turns.free(node));
        turns
    }

    /// How many others each node waits for.
    fn open_counts(&self) -> Vec<u32> {
        let mut open = vec![0u32; self.waiting.len()];
        for &node in self.waiting.iter().flatten() {
            if let Some(open) = open.get_mut(node as usize) {
                *open += 1;
            }
        }
        open
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
                if !self.take_wait(next) {
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

    /// Takes one from what a node waits for. Says whether that was the last.
    fn take_wait(&mut self, node: usize) -> bool {
        let open = self.open.get_mut(node).expect(IS_NODE);
        *open -= 1;
        *open == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_leads_to_the_gate_of_its_stretch() {
        let mut waits = WaitGraph::without_waits(4);
        waits.add_moved(&[2, 1, 4, 3]);
        // One gate after the first step, and one after that gate and two more steps.
        assert_eq!(
            waits.waiting,
            [vec![4], vec![5], vec![5], vec![], vec![5, 1], vec![3]]
        );
    }

    #[test]
    fn steps_are_left_until_all_are_taken() {
        let mut queue = WaitGraph::without_waits(2).into_queue(|_| false);
        for step in 0..2 {
            assert!(queue.is_any_left());
            assert_eq!(queue.next_ready(), Some(step));
        }
        assert!(!queue.is_any_left() && queue.next_ready().is_none());
        assert!(
            !WaitGraph::without_waits(2)
                .into_queue(|_| true)
                .is_any_left()
        );
    }
}
