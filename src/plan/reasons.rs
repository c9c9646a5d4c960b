//! Why each step stands where it stands, in a few plain words.
//!
//! Reads an order that is made already; it decides nothing.

use super::ordering::PlanOrder;
use super::selected::SelectedKind;
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
    let run_of = |around: &[Neighbours], node: usize| around.get(node).map(|around| around.run);
    for need in &arrangement.needs {
        // Inside a cycle, and against the user's word, a need does not hold and so is no reason.
        if run_of(&around, need.of) < run_of(&around, need.by) {
            if let Some(needed) = around.get_mut(need.of) {
                if need.parent {
                    needed.parent_of.push(need.by)
                } else {
                    needed.referenced_by.push(need.by)
                }
            }
            if let Some(needing) = around.get_mut(need.by) {
                needing.needs.push(need.of);
            }
        }
    }
    around
}

/// The name of a kind, with its namespace where that is another than the reader's.
fn name(arrangement: &PlanOrder<'_>, node: usize, seen_from: &KindRef) -> String {
    match arrangement.taken.get(node) {
        Some(SelectedKind { pair, .. }) if pair.namespace == seen_from.namespace => {
            pair.kind.to_string()
        }
        Some(SelectedKind { pair, .. }) => pair.to_string(),
        None => String::new(),
    }
}

fn reason(arrangement: &PlanOrder<'_>, all: &[Neighbours], node: usize) -> String {
    let (Some(SelectedKind { pair, .. }), Some(around)) =
        (arrangement.taken.get(node), all.get(node))
    else {
        return String::new();
    };
    let name = |node: usize| name(arrangement, node, pair);
    let list = |nodes: &[usize], most: usize| {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|&node| all.get(node).map(|around| around.at));
        shortened(nodes.iter().map(|&node| name(node)), nodes.len(), most)
    };
    if let Some(word) = arrangement.words.placed.get(&node) {
        return word.clone();
    }
    if let Some(&by) = arrangement.needed_by.get(&node) {
        return format!("needed by {}", name(by));
    }
    let run = arrangement.runs.get(around.run);
    let others = run.into_iter().flatten().filter(|&&other| other != node);
    let others: Vec<usize> = others.copied().collect();
    if !others.is_empty() {
        let names = others.iter().map(|&other| name(other));
        return format!("in a cycle with {}", shortened(names, others.len(), 3));
    }
    let needed = [
        ("parent of", &around.parent_of),
        ("referenced by", &around.referenced_by),
    ];
    let needed = needed.into_iter().filter(|(_, nodes)| !nodes.is_empty());
    let needed: Vec<String> = needed
        .map(|(how, nodes)| format!("{how} {}", list(nodes, 1)))
        .collect();
    if !needed.is_empty() {
        return needed.join(", ");
    }
    match arrangement.words.awaited.get(&node) {
        Some(word) => word.clone(),
        None if !around.needs.is_empty() => format!("after {}", list(&around.needs, 3)),
        None => "stands alone".to_owned(),
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

/// The first names of a list of `count`, and how many more there are.
pub(super) fn shortened(names: impl Iterator<Item = String>, count: usize, most: usize) -> String {
    let names: Vec<String> = names.take(most).collect();
    match count.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
