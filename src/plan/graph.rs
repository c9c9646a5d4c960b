//! Puts numbered nodes in order: the user's wishes first, then the data's links, then small before
//! big.
//!
//! Knows numbers and bytes. It must not know kinds, namespaces or how a wish was spelled.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The data says that `from` should stand before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    /// Both are of one namespace. In a cycle that runs through several namespaces, the links
    /// between them give way.
    pub within: bool,
}

/// The user says that all of `before` stand before all of `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderConstraint {
    pub before: Vec<usize>,
    pub after: Vec<usize>,
}

/// Wishes that cannot all hold: each node must stand before the next one, and the last before the
/// first, by the wish of that number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CycleEdges(pub Vec<(usize, usize)>);

/// Orders the nodes `0..bytes.len()` into runs; a run of several nodes is a cycle of links.
///
/// Wishes always hold. A link holds unless it contradicts the wishes or stands inside a cycle.
/// Whatever is still free goes small before big, ties by number. A wish is one more node in the
/// graph, so the work stays linear in what was given.
pub(super) fn arrange(
    bytes: &[u64],
    links: &[Edge],
    wishes: &[OrderConstraint],
) -> Result<Vec<Vec<usize>>, CycleEdges> {
    let nodes = bytes.len() + wishes.len();
    let wished: Vec<(usize, usize)> = (bytes.len()..)
        .zip(wishes)
        .flat_map(|(node, wish)| {
            wish.before
                .iter()
                .map(move |&before| (before, node))
                .chain(wish.after.iter().map(move |&after| (node, after)))
        })
        .collect();
    let user = Graph::new(nodes, wished.iter().copied());
    if let Some(cycle) = user.any_cycle() {
        return Err(CycleEdges(
            cycle
                .chunks(2)
                .filter_map(|two| Some((*two.first()?, two.get(1)?.checked_sub(bytes.len())?)))
                .collect(),
        ));
    }
    let links = drop_denied(links, &user, &wished);

    let all = links.iter().map(|link| (link.from, link.to)).chain(wished);
    let outer = Graph::new(nodes, all).ranks(bytes);
    let inside = links
        .iter()
        .filter(|link| link.within && at(&outer, link.from) == at(&outer, link.to));
    let inner = Graph::new(nodes, inside.map(|link| (link.from, link.to))).ranks(bytes);

    let mut order: Vec<usize> = (0..bytes.len()).collect();
    order.sort_by_key(|&node| (at(&outer, node), at(&inner, node), at(bytes, node), node));
    Ok(order
        .chunk_by(|&a, &b| at(&outer, a) == at(&outer, b))
        .map(<[usize]>::to_vec)
        .collect())
}

/// The links that the wishes leave standing. In what remains, no wish is part of a cycle.
fn drop_denied(links: &[Edge], user: &Graph, wished: &[(usize, usize)]) -> Vec<Edge> {
    if wished.is_empty() {
        return links.to_vec();
    }
    let nodes = user.next.len();
    let components = |links: &[Edge]| {
        Graph::new(
            nodes,
            links
                .iter()
                .map(|link| (link.from, link.to))
                .chain(wished.iter().copied()),
        )
        .components()
    };

    // First the links that the wishes alone turn round.
    let component = components(links);
    let mut links = links.to_vec();
    links.sort_by_key(|link| link.to);
    let mut left = Vec::new();
    for same_end in links.chunk_by(|a, b| a.to == b.to) {
        let suspect = |link: &Edge| at(&component, link.from) == at(&component, link.to);
        let reached = same_end
            .iter()
            .find(|link| suspect(link))
            .map(|link| user.reached_from(link.to));
        let is_reached = |link: &&Edge| {
            let reached = reached.as_ref();
            reached.is_some_and(|reached| at(reached, link.from))
        };
        left.extend(same_end.iter().filter(|link| !is_reached(link)));
    }

    // Then those that other links and a wish turn round together. Where a wish holds a node back,
    // its links onward in that cycle go: any cycle with a wish has a wish followed by a link, so
    // none is left.
    let component = components(&left);
    let mut held_back = vec![false; nodes];
    for &(from, to) in wished {
        if at(&component, from) == at(&component, to) {
            first_visit(&mut held_back, to);
        }
    }
    left.retain(|link| {
        !(at(&held_back, link.from) && at(&component, link.from) == at(&component, link.to))
    });
    left
}

struct Graph {
    next: Vec<Vec<usize>>,
}

impl Graph {
    fn new(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut next = vec![Vec::new(); nodes];
        for (from, to) in edges {
            if let Some(list) = next.get_mut(from) {
                list.push(to);
            }
        }
        Graph { next }
    }

    fn next(&self, node: usize) -> &[usize] {
        self.next.get(node).map_or(&[], Vec::as_slice)
    }

    fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.next
            .iter()
            .enumerate()
            .flat_map(|(from, next)| next.iter().map(move |&to| (from, to)))
    }

    /// Marks the nodes that can be reached from `start`, itself included.
    fn reached_from(&self, start: usize) -> Vec<bool> {
        let mut seen = vec![false; self.next.len()];
        let mut stack = vec![start];
        while let Some(node) = stack.pop() {
            if first_visit(&mut seen, node) {
                stack.extend(self.next(node));
            }
        }
        seen
    }

    /// Each node's strongly connected component, by the number of one of its nodes (Kosaraju, with
    /// stacks of its own).
    fn components(&self) -> Vec<usize> {
        let nodes = self.next.len();
        let mut seen = vec![false; nodes];
        let mut finished = Vec::new();
        for root in 0..nodes {
            let mut path = if first_visit(&mut seen, root) {
                vec![(root, 0)]
            } else {
                Vec::new()
            };
            while let Some((node, child)) = path.pop() {
                let Some(&next) = self.next(node).get(child) else {
                    finished.push(node);
                    continue;
                };
                path.push((node, child + 1));
                if first_visit(&mut seen, next) {
                    path.push((next, 0));
                }
            }
        }
        let back = Graph::new(nodes, self.edges().map(|(from, to)| (to, from)));
        let mut seen = vec![false; nodes];
        let mut component = vec![0; nodes];
        for &root in finished.iter().rev() {
            let mut stack = vec![root];
            while let Some(node) = stack.pop() {
                if first_visit(&mut seen, node) {
                    set(&mut component, node, root);
                    stack.extend(back.next(node));
                }
            }
        }
        component
    }

    /// A shortest cycle through the smallest node that is in one. Leads with that node and does not
    /// repeat it.
    fn any_cycle(&self) -> Option<Vec<usize>> {
        let component = self.components();
        let mut sizes = vec![0usize; component.len()];
        for &number in &component {
            let size = at(&sizes, number);
            set(&mut sizes, number, size + 1);
        }
        let start = (0..component.len()).find(|&node| at(&sizes, at(&component, node)) > 1)?;
        let mut came_from = vec![None; component.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for &next in self.next(node) {
                if next == start {
                    let mut cycle: Vec<usize> =
                        std::iter::successors(Some(node), |&node| at(&came_from, node)).collect();
                    cycle.reverse();
                    return Some(cycle);
                }
                if at(&came_from, next).is_none() {
                    set(&mut came_from, next, Some(node));
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Each node's place, shared by the nodes of a component: along the edges, and small before big
    /// where those leave it free.
    fn ranks(&self, bytes: &[u64]) -> Vec<usize> {
        let component = self.components();
        let nodes = component.len();
        // A wish weighs nothing (`None`), so it never holds a node back behind one that is ready.
        let mut weight: Vec<Option<u64>> = vec![None; nodes];
        let mut least: Vec<Option<usize>> = vec![None; nodes];
        for (node, &number) in component.iter().enumerate() {
            if let Some(&own) = bytes.get(node) {
                let sum = at(&weight, number).unwrap_or(0).saturating_add(own);
                set(&mut weight, number, Some(sum));
            }
            let lowest = at(&least, number).unwrap_or(node);
            set(&mut least, number, Some(lowest));
        }
        let among = self
            .edges()
            .map(|(from, to)| (at(&component, from), at(&component, to)))
            .filter(|(from, to)| from != to);
        let condensed = Graph::new(nodes, among);
        let mut waits_for = vec![0usize; nodes];
        for (_, to) in condensed.edges() {
            let count = at(&waits_for, to);
            set(&mut waits_for, to, count + 1);
        }
        let key = |number: usize| Reverse((at(&weight, number), at(&least, number), number));
        let mut ready: BinaryHeap<_> = (0..nodes)
            .filter(|&node| at(&component, node) == node && at(&waits_for, node) == 0)
            .map(key)
            .collect();
        let mut place = vec![0; nodes];
        let mut next_place = 0;
        while let Some(Reverse((_, _, number))) = ready.pop() {
            set(&mut place, number, next_place);
            next_place += 1;
            for &next in condensed.next(number) {
                let count = at(&waits_for, next).saturating_sub(1);
                set(&mut waits_for, next, count);
                if count == 0 {
                    ready.push(key(next));
                }
            }
        }
        component.iter().map(|&number| at(&place, number)).collect()
    }
}

/// Why lists have an item for each node.
const IS_NODE: &str = "links join nodes of the graph, and each list has an item for every node";

fn at<T: Copy>(list: &[T], index: usize) -> T {
    *list.get(index).expect(IS_NODE)
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    *list.get_mut(index).expect(IS_NODE) = value;
}

/// Marks a node; whether it was unmarked so far.
fn first_visit(seen: &mut [bool], node: usize) -> bool {
    seen.get_mut(node)
        .is_some_and(|seen| !std::mem::replace(seen, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(pairs: &[(usize, usize)]) -> Vec<Edge> {
        pairs
            .iter()
            .map(|&(from, to)| Edge {
                from,
                to,
                within: true,
            })
            .collect()
    }

    fn wish(before: &[usize], after: &[usize]) -> OrderConstraint {
        OrderConstraint {
            before: before.to_vec(),
            after: after.to_vec(),
        }
    }

    #[test]
    fn free_nodes_go_small_before_big() {
        assert_eq!(
            arrange(&[3, 1, 2, 1], &[], &[]),
            Ok(vec![vec![1], vec![3], vec![2], vec![0]])
        );
        assert_eq!(
            arrange(&[3, 1, 2, 1], &links(&[(0, 1)]), &[]),
            Ok(vec![vec![3], vec![2], vec![0], vec![1]])
        );
        assert_eq!(arrange(&[], &[], &[]), Ok(vec![]));
    }

    #[test]
    fn cycle_stands_together_with_its_total_size() {
        assert_eq!(
            arrange(&[5, 4, 8, 1], &links(&[(0, 1), (1, 0), (3, 0)]), &[]),
            Ok(vec![vec![3], vec![2], vec![1, 0]])
        );
    }

    #[test]
    fn namespace_order_holds_within_wide_cycles() {
        let mut round = links(&[(0, 1), (1, 2), (2, 0)]);
        round[1].within = false;
        round[2].within = false;
        assert_eq!(arrange(&[9, 1, 5], &round, &[]), Ok(vec![vec![2, 0, 1]]));
    }

    #[test]
    fn constraint_reverses_only_its_own_edge() {
        let chain = links(&[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(
            arrange(&[9, 8, 7, 1], &chain, &[wish(&[2], &[0, 1, 3])]),
            Ok(vec![vec![2], vec![3], vec![0], vec![1]])
        );
    }

    #[test]
    fn constraint_cuts_chain_at_held_back_node() {
        let chain = links(&[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(
            arrange(&[1, 1, 1, 1], &chain, &[wish(&[3], &[0])]),
            Ok(vec![vec![1], vec![2], vec![3], vec![0]])
        );
    }

    #[test]
    fn a_wish_inside_a_cycle_opens_it() {
        let round = links(&[(0, 1), (1, 2), (2, 0)]);
        assert_eq!(
            arrange(&[1, 2, 3], &round, &[wish(&[0], &[1])]),
            Ok(vec![vec![2], vec![0], vec![1]])
        );
    }

    #[test]
    fn contradicting_wishes_are_named_from_end_to_end() {
        let wishes = [
            wish(&[3], &[4]),
            wish(&[0], &[1]),
            wish(&[1], &[2]),
            wish(&[2], &[0]),
        ];
        assert_eq!(
            arrange(&[1; 5], &[], &wishes),
            Err(CycleEdges(vec![(0, 1), (1, 2), (2, 3)]))
        );
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let count = 200_000;
        let chain: Vec<_> = (1..count)
            .map(|node| Edge {
                from: node,
                to: node - 1,
                within: true,
            })
            .collect();
        let runs = arrange(&vec![1; count], &chain, &[]).unwrap();
        assert!(runs.iter().flatten().copied().eq((0..count).rev()));
    }
}
