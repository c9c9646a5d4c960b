//! Why each step stands where it stands, in a few plain words.
//!
//! Reads an order that is made already; it decides nothing.

use super::ordering::{Arrangement, Taken};
use crate::model::Pair;

/// The reason of each step, by its number. The strongest is given alone: the user's word, who
/// brought a step that nobody chose, a cycle, who needs the step, whom it needs.
pub(super) fn reasons(arrangement: &Arrangement<'_>) -> Vec<String> {
    let Arrangement {
        taken,
        needed_by,
        needs,
        words,
        runs,
        ..
    } = arrangement;
    let mut around: Vec<Around> = taken.iter().map(|_| Around::default()).collect();
    for (at, (run, node)) in arrangement.in_order().enumerate() {
        if let Some(around) = around.get_mut(node) {
            (around.run, around.at) = (run, at);
        }
    }
    let run_of = |around: &[Around], node: usize| around.get(node).map(|around| around.run);
    for need in needs {
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

    let name = |node: usize, seen_from: &Pair| match taken.get(node) {
        Some(Taken { pair, .. }) if pair.namespace == seen_from.namespace => pair.kind.to_string(),
        other => other
            .map(|taken| taken.pair.to_string())
            .unwrap_or_default(),
    };
    let list = |nodes: &[usize], most: usize, seen_from: &Pair| {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|&node| around.get(node).map(|around| around.at));
        shortened(
            nodes.iter().map(|&node| name(node, seen_from)),
            nodes.len(),
            most,
        )
    };
    let reason = |(node, (Taken { pair, .. }, around)): (usize, (&Taken, &Around))| {
        let run = runs.get(around.run).map_or(&[][..], Vec::as_slice);
        let mut early = Vec::new();
        for (how, nodes) in [
            ("parent of", &around.parent_of),
            ("referenced by", &around.referenced_by),
        ] {
            if !nodes.is_empty() {
                early.push(format!("{how} {}", list(nodes, 1, pair)));
            }
        }
        match (
            words.placed.get(&node),
            run.len().saturating_sub(1),
            words.awaited.get(&node),
        ) {
            (Some(word), ..) => word.clone(),
            _ if needed_by.contains_key(&node) => {
                format!(
                    "needed by {}",
                    needed_by
                        .get(&node)
                        .map(|&by| name(by, pair))
                        .unwrap_or_default()
                )
            }
            (_, others @ 1.., _) => {
                let names = run
                    .iter()
                    .filter(|&&other| other != node)
                    .map(|&other| name(other, pair));
                format!("in a cycle with {}", shortened(names, others, 3))
            }
            _ if !early.is_empty() => early.join(", "),
            (_, _, Some(word)) => word.clone(),
            _ if !around.needs.is_empty() => format!("after {}", list(&around.needs, 3, pair)),
            _ => "stands alone".to_owned(),
        }
    };
    taken.iter().zip(&around).enumerate().map(reason).collect()
}

/// What is around a step in the finished order.
#[derive(Default)]
struct Around {
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
