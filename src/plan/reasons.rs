//! Why each step stands where it stands, in a few plain words.
//!
//! Reads an order that is made already; it decides nothing.

use super::cycles::sum;
use super::dependencies::Dependency;
use super::graph::{at, item_mut};
use super::ordering::PlanOrder;
use super::words::{counted_references, pointing_forward, shortened};
use crate::model::KindRef;

/// The reason of each step, by its number. The strongest is given alone: the user's word, who
/// brought a step that nobody chose, the cycle that it breaks, who needs the step, whom it needs.
pub(super) fn reasons(arrangement: &PlanOrder<'_>) -> Vec<String> {
    let around = neighbours(arrangement);
    let steps = arrangement.taken.iter().zip(&around).enumerate();
    steps
        .map(|(node, (taken, around))| {
            let pair = &taken.pair;
            let step = StepReason {
                arrangement,
                node,
                pair,
                around,
            };
            step.strongest()
        })
        .collect()
}

/// What is around each step in the finished order.
fn neighbours<'a>(arrangement: &'a PlanOrder<'_>) -> Vec<Neighbours<'a>> {
    let mut around = vec![Neighbours::default(); arrangement.taken.len()];
    for need in &arrangement.needs {
        if !arrangement.is_met(need) {
            item_mut(&mut around, need.by).later.push(need);
            continue;
        }
        item_mut(&mut around, need.by).needs.push(need);
        let needed = item_mut(&mut around, need.of);
        if need.is_parent {
            needed.parent_of.push(need.by);
        } else {
            needed.referenced_by.push(need);
        }
    }
    around
}

/// What is around a step in the finished order.
#[derive(Default, Clone)]
struct Neighbours<'a> {
    parent_of: Vec<usize>,
    /// References alone, of kinds of which it is no parent.
    referenced_by: Vec<&'a Dependency>,
    needs: Vec<&'a Dependency>,
    /// What it needs and what is restored later.
    later: Vec<&'a Dependency>,
}

/// One step of an order, and what is around it.
struct StepReason<'a> {
    arrangement: &'a PlanOrder<'a>,
    node: usize,
    pair: &'a KindRef,
    around: &'a Neighbours<'a>,
}

impl StepReason<'_> {
    fn strongest(&self) -> String {
        let words = &self.arrangement.words;
        let reason = words.placed.get(&self.node).cloned();
        reason
            .or_else(|| self.who_brought_it())
            .or_else(|| self.broken_cycle())
            .or_else(|| self.whose_parent())
            .or_else(|| self.who_refers_to_it())
            .or_else(|| words.awaited.get(&self.node).cloned())
            .unwrap_or_else(|| self.whom_it_needs())
    }

    fn who_brought_it(&self) -> Option<String> {
        let by = self.arrangement.needed_by.get(&self.node)?;
        Some(format!("needed by {}", self.name(*by)))
    }

    fn broken_cycle(&self) -> Option<String> {
        let cycle = self.arrangement.cycles.of(self.node)?;
        let cycles = &self.arrangement.cycles;
        let is_in_it = |need: &&&Dependency| cycles.of_both(need.of, need.by).is_some();
        let later: Vec<_> = self.around.later.iter().filter(is_in_it).collect();
        let others: Vec<usize> = later.iter().map(|need| need.of).collect();
        if others.is_empty() {
            return None;
        }
        let references = later.iter().filter(|need| need.is_reference);
        let references = references.map(|need| need.references);
        let count = pointing_forward(references.fold(Some(0), sum), cycle.references);
        let count = count.map(|count| format!(": {count}")).unwrap_or_default();
        let others = self.list(&others, 2);
        Some(format!("breaks the cycle with {others}{count}"))
    }

    fn whose_parent(&self) -> Option<String> {
        let children = &self.around.parent_of;
        (!children.is_empty()).then(|| format!("parent of {}", self.list(children, 1)))
    }

    /// Names the kind with the most references.
    fn who_refers_to_it(&self) -> Option<String> {
        let referring = self.around.referenced_by.iter();
        let place = |need: &Dependency| at(&self.arrangement.place, need.by);
        let most =
            referring.max_by_key(|need| (need.references, std::cmp::Reverse(place(need))))?;
        let count = most.references.map(counted_references);
        let count = count.map(|count| format!(" ({count})")).unwrap_or_default();
        let first = format!("{}{count}", self.name(most.by));
        let referring = self.around.referenced_by.len();
        let names = shortened(std::iter::once(first), referring, 1);
        Some(format!("referenced by {names}"))
    }

    fn whom_it_needs(&self) -> String {
        let mut needs = self.around.needs.clone();
        if needs.is_empty() {
            return "independent".to_owned();
        }
        // Parents first: they decide more than references.
        needs.sort_by_key(|need| (!need.is_parent, at(&self.arrangement.place, need.of)));
        let names = needs.iter().map(|need| self.name(need.of));
        format!("after {}", shortened(names, needs.len(), 2))
    }

    /// The names of some steps, in the order of the plan.
    fn list(&self, nodes: &[usize], most: usize) -> String {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|&node| at(&self.arrangement.place, node));
        let names = nodes.iter().map(|&node| self.name(node));
        shortened(names, nodes.len(), most)
    }

    /// The name of a kind, with its namespace where that is another than this step's.
    fn name(&self, node: usize) -> String {
        match self.arrangement.taken.get(node) {
            Some(taken) if taken.pair.namespace == self.pair.namespace => {
                taken.pair.kind.to_string()
            }
            Some(taken) => taken.pair.to_string(),
            None => String::new(),
        }
    }
}
