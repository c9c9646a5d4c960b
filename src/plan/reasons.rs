//! Why each step stands where it stands, in a few plain words.
//!
//! Reads an order that is made already; it decides nothing.

use super::dependencies::Dependency;
use super::ordering::PlanOrder;
use crate::model::KindRef;

/// The reason of each step, by its number. The strongest is given alone: the user's word, who
/// brought a step that nobody chose, a cycle, who needs the step, whom it needs.
pub(super) fn reasons(arrangement: &PlanOrder<'_>) -> Vec<String> {
    let around = neighbours(arrangement);
    let nodes = 0..arrangement.taken.len();
    nodes
        .map(|node| reason(arrangement, &around, node))
        .collect()
}

/// What is around each step in the finished order.
fn neighbours(arrangement: &PlanOrder<'_>) -> Vec<Neighbours> {
    let mut around: Vec<Neighbours> = vec![Neighbours::default(); arrangement.taken.len()];
    for (at, (run, node)) in arrangement.numbered_runs().enumerate() {
        if let Some(around) = around.get_mut(node) {
            (around.run, around.at) = (run, at);
        }
    }
    let needs = arrangement.needs.iter();
    needs.for_each(|need| add_need(&mut around, need));
    around
}

/// Adds a need. Inside a cycle, and against the user's word, it does not hold and so is no reason.
fn add_need(around: &mut [Neighbours], need: &Dependency) {
    let run_of = |node: usize| around.get(node).map(|around| around.run);
    if run_of(need.of) >= run_of(need.by) {
        return;
    }
    if let Some(needed) = around.get_mut(need.of) {
        needed.add_needing(need);
    }
    if let Some(needing) = around.get_mut(need.by) {
        needing.needs.push(need.of);
    }
}

/// One step of an order, and what is around it.
struct StepReason<'a> {
    arrangement: &'a PlanOrder<'a>,
    all: &'a [Neighbours],
    node: usize,
    pair: &'a KindRef,
    around: &'a Neighbours,
}

fn reason(arrangement: &PlanOrder<'_>, all: &[Neighbours], node: usize) -> String {
    let (Some(taken), Some(around)) = (arrangement.taken.get(node), all.get(node)) else {
        return String::new();
    };
    let pair = &taken.pair;
    StepReason {
        arrangement,
        all,
        node,
        pair,
        around,
    }
    .strongest()
}

impl StepReason<'_> {
    fn strongest(&self) -> String {
        let words = &self.arrangement.words;
        let reason = words.placed.get(&self.node).cloned();
        reason
            .or_else(|| self.who_brought_it())
            .or_else(|| self.cycle())
            .or_else(|| self.who_needs_it())
            .or_else(|| words.awaited.get(&self.node).cloned())
            .unwrap_or_else(|| self.whom_it_needs())
    }

    fn who_brought_it(&self) -> Option<String> {
        let by = self.arrangement.needed_by.get(&self.node)?;
        Some(format!("needed by {}", self.name(*by)))
    }

    fn cycle(&self) -> Option<String> {
        let run = self.arrangement.runs.get(self.around.run)?;
        let others = run.iter().filter(|&&other| other != self.node);
        let names = others.clone().map(|&other| self.name(other));
        let count = others.count();
        (count > 0).then(|| format!("in a cycle with {}", shortened(names, count, 3)))
    }

    fn who_needs_it(&self) -> Option<String> {
        let (parent_of, referenced_by) = (&self.around.parent_of, &self.around.referenced_by);
        let needed = [("parent of", parent_of), ("referenced by", referenced_by)];
        let needed = needed.into_iter().filter(|(_, nodes)| !nodes.is_empty());
        let needed = needed.map(|(how, nodes)| format!("{how} {}", self.list(nodes, 1)));
        let needed: Vec<String> = needed.collect();
        (!needed.is_empty()).then(|| needed.join(", "))
    }

    fn whom_it_needs(&self) -> String {
        if self.around.needs.is_empty() {
            return "stands alone".to_owned();
        }
        format!("after {}", self.list(&self.around.needs, 3))
    }

    /// The names of some steps, in the order of the plan.
    fn list(&self, nodes: &[usize], most: usize) -> String {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|&node| self.all.get(node).map(|around| around.at));
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

/// What is around a step in the finished order.
#[derive(Default, Clone)]
struct Neighbours {
    run: usize,
    at: usize,
    parent_of: Vec<usize>,
    referenced_by: Vec<usize>,
    needs: Vec<usize>,
}

impl Neighbours {
    fn add_needing(&mut self, need: &Dependency) {
        if need.parent {
            self.parent_of.push(need.by);
        } else {
            self.referenced_by.push(need.by);
        }
    }
}

/// The first names of a list of `count`, and how many more there are.
pub(super) fn shortened(names: impl Iterator<Item = String>, count: usize, most: usize) -> String {
    let names: Vec<String> = names.take(most).collect();
    match count.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
