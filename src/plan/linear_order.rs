//! Puts numbered nodes in order: the user's wishes first, then parents, then as few references
//! pointing forward as possible, then small before big.
//!
//! Knows numbers and bytes. It must not know kinds, namespaces or how a wish was spelled.

use super::feedback::{Arc, EXACT_NODES, FeedbackArcs};
use super::graph::{Graph, at, item_mut, set};

/// The data says that `from` should stand before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    /// `from` is a parent of `to`, and so must stand before it.
    pub is_parent: bool,
    /// How many references point forward if `to` stands before `from`.
    pub references: u64,
}

impl Edge {
    pub fn pair(&self) -> (usize, usize) {
        (self.from, self.to)
    }

    /// Whether both ends have the same number, such as that of their component.
    fn is_inside(&self, numbers: &[usize]) -> bool {
        at(numbers, self.from) == at(numbers, self.to)
    }
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

/// What it costs if a parent stands after its child: more than any number of references.
const PARENT_WEIGHT: u128 = 1 << 64;

/// Orders the nodes `0..bytes.len()`.
///
/// Wishes always hold. A parent's edge holds unless it contradicts wishes or other parents.
/// References hold outside cycles; inside a cycle as few as possible point forward. Whatever is
/// still free goes small before big, ties by number. A wish is one more node in the graph, so
/// memory stays linear in what was given.
pub(super) fn arrange(
    bytes: &[u64],
    edges: &[Edge],
    wishes: &[OrderConstraint],
) -> Result<Vec<usize>, CycleEdges> {
    let nodes = bytes.len() + wishes.len();
    let wished = wished_pairs(bytes.len(), wishes);
    let user = Graph::new(nodes, wished.iter().copied());
    if let Some(cycle) = user.any_cycle() {
        return Err(contradiction(&cycle, bytes.len()));
    }
    let edges = drop_reversed(edges, &user, &wished);
    let arcs = arcs(nodes, &edges, &wished);
    let all = Graph::new(nodes, arcs.iter().map(|arc| (arc.from, arc.to)));
    let component = all.components();
    let outer = all.ranks(&component, bytes);
    let inner = CycleNodes::new(&component, bytes).places(arcs);

    let mut order: Vec<usize> = (0..bytes.len()).collect();
    order.sort_by_key(|&node| (at(&outer, node), at(&inner, node)));
    Ok(order)
}

/// The wishes as edges, each by a node of its own after the first `nodes`.
fn wished_pairs(nodes: usize, wishes: &[OrderConstraint]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (node, wish) in (nodes..).zip(wishes) {
        pairs.extend(wish.before.iter().map(|&before| (before, node)));
        pairs.extend(wish.after.iter().map(|&after| (node, after)));
    }
    pairs
}

/// A cycle of wishes, in which each second node is a wish.
fn contradiction(cycle: &[usize], nodes: usize) -> CycleEdges {
    let pairs = cycle.chunks(2).filter_map(|two| match two {
        [node, wish] => Some((*node, wish.checked_sub(nodes)?)),
        _ => None,
    });
    CycleEdges(pairs.collect())
}

/// The edges that the wishes alone do not turn round.
fn drop_reversed(edges: &[Edge], user: &Graph, wished: &[(usize, usize)]) -> Vec<Edge> {
    let mut edges = edges.to_vec();
    if wished.is_empty() {
        return edges;
    }
    let all = edges.iter().map(Edge::pair).chain(wished.iter().copied());
    let component = Graph::new(user.len(), all.collect::<Vec<_>>()).components();
    edges.sort_by_key(|edge| edge.to);
    let mut left = Vec::new();
    for same_end in edges.chunk_by(|a, b| a.to == b.to) {
        let suspect = same_end.iter().find(|edge| edge.is_inside(&component));
        let reached = suspect.map(|edge| user.reached_from(edge.to));
        let is_reached = |edge: &Edge| reached.as_ref().is_some_and(|reached| reached(edge.from));
        left.extend(same_end.iter().filter(|edge| !is_reached(edge)));
    }
    left
}

/// Wishes and edges with what each costs. Parents that contradict wishes or one another are not
/// hard.
fn arcs(nodes: usize, edges: &[Edge], wished: &[(usize, usize)]) -> Vec<Arc> {
    let parents = edges.iter().filter(|edge| edge.is_parent);
    let firm = parents.map(Edge::pair).chain(wished.iter().copied());
    let component = Graph::new(nodes, firm.collect::<Vec<_>>()).components();
    let wished = wished.iter().map(|&(from, to)| Arc {
        from,
        to,
        weight: 0,
        is_hard: true,
    });
    let edges = edges.iter().map(|edge| Arc {
        from: edge.from,
        to: edge.to,
        weight: u128::from(edge.references) + u128::from(edge.is_parent) * PARENT_WEIGHT,
        is_hard: edge.is_parent && !edge.is_inside(&component),
    });
    edges.chain(wished).collect()
}

/// The component of a node, its size, and the node. Sorted, small goes before big.
type CycleNode = (usize, Option<u64>, usize);

/// The nodes of each component that is a cycle.
struct CycleNodes<'a> {
    component: &'a [usize],
    nodes: Vec<CycleNode>,
    /// The number of each node in its cycle.
    number: Vec<usize>,
}

impl<'a> CycleNodes<'a> {
    fn new(component: &'a [usize], bytes: &[u64]) -> Self {
        let mut count = vec![0usize; component.len()];
        for &number in component {
            *item_mut(&mut count, number) += 1;
        }
        let nodes = component.iter().enumerate();
        let nodes = nodes.filter(|(_, number)| at(&count, **number) > 1);
        let size = |node: usize| bytes.get(node).copied();
        let mut nodes: Vec<_> = nodes
            .map(|(node, &number)| (number, size(node), node))
            .collect();
        nodes.sort_unstable();
        let mut number = vec![0; component.len()];
        for cycle in nodes.chunk_by(|a, b| a.0 == b.0) {
            (0..)
                .zip(cycle)
                .for_each(|(at, (_, _, node))| set(&mut number, *node, at));
        }
        CycleNodes {
            component,
            nodes,
            number,
        }
    }

    /// The place of each node in its cycle.
    fn places(&self, mut arcs: Vec<Arc>) -> Vec<usize> {
        let component = |node: usize| at(self.component, node);
        arcs.retain(|arc| component(arc.from) == component(arc.to));
        arcs.sort_by_key(|arc| component(arc.from));
        let mut place = vec![0; self.component.len()];
        let cycles = self.nodes.chunk_by(|a, b| a.0 == b.0);
        let arcs = arcs.chunk_by(|a, b| component(a.from) == component(b.from));
        // Every cycle has arcs, so both lists name the same components, in order.
        for (nodes, arcs) in cycles.zip(arcs) {
            for (index, number) in self.order(nodes, arcs).into_iter().enumerate() {
                let node = nodes.get(number).map(|(_, _, node)| *node);
                node.into_iter()
                    .for_each(|node| set(&mut place, node, index));
            }
        }
        place
    }

    /// The order of one cycle, by the numbers of its nodes. Wishes have no size, and so the first
    /// numbers.
    fn order(&self, nodes: &[CycleNode], arcs: &[Arc]) -> Vec<usize> {
        let numbered = arcs.iter().map(|arc| Arc {
            from: at(&self.number, arc.from),
            to: at(&self.number, arc.to),
            ..*arc
        });
        let arcs: Vec<Arc> = numbered.collect();
        let wishes = nodes.iter().filter(|(_, size, _)| size.is_none()).count();
        let kinds = nodes.len() - wishes;
        if wishes == 0 || kinds > EXACT_NODES {
            return FeedbackArcs::new(nodes.len(), &arcs).order();
        }
        let order = FeedbackArcs::new(kinds, &without_wishes(&arcs, wishes)).order();
        order.into_iter().map(|kind| kind + wishes).collect()
    }
}

/// The arcs between kinds alone: from each that a wish puts first to each that it puts after.
fn without_wishes(arcs: &[Arc], wishes: usize) -> Vec<Arc> {
    let of_kinds = arcs.iter().filter(|arc| arc.from >= wishes);
    let direct = of_kinds.flat_map(|arc| {
        let wish = arc.to < wishes;
        let after = arcs.iter().filter(move |next| wish && next.from == arc.to);
        let ends = after.map(|next| next.to).chain((!wish).then_some(arc.to));
        ends.map(|to| Arc {
            from: arc.from - wishes,
            to: to - wishes,
            ..*arc
        })
    });
    direct.collect()
}

#[cfg(test)]
mod tests {
    use super::super::graph::places;
    use super::*;

    fn references(pairs: &[(usize, usize)]) -> Vec<Edge> {
        let edge = |&(from, to): &(usize, usize)| Edge {
            from,
            to,
            is_parent: false,
            references: 1,
        };
        pairs.iter().map(edge).collect()
    }

    fn wish(before: &[usize], after: &[usize]) -> OrderConstraint {
        OrderConstraint {
            before: before.to_vec(),
            after: after.to_vec(),
        }
    }

    #[test]
    fn free_nodes_go_small_before_big() {
        assert_eq!(arrange(&[3, 1, 2, 1], &[], &[]), Ok(vec![1, 3, 2, 0]));
        assert_eq!(
            arrange(&[3, 1, 2, 1], &references(&[(0, 1)]), &[]),
            Ok(vec![3, 2, 0, 1])
        );
        assert_eq!(arrange(&[], &[], &[]), Ok(vec![]));
    }

    #[test]
    fn cycle_stands_together_with_its_total_size() {
        assert_eq!(
            arrange(&[5, 4, 8, 1], &references(&[(0, 1), (1, 0), (3, 0)]), &[]),
            Ok(vec![3, 2, 1, 0])
        );
    }

    #[test]
    fn parents_outweigh_any_number_of_references() {
        let mut round = references(&[(0, 1), (1, 2), (2, 0)]);
        round[0].references = u64::MAX;
        round[2].is_parent = true;
        assert_eq!(arrange(&[9, 1, 5], &round, &[]), Ok(vec![2, 0, 1]));
        round[1].is_parent = true;
        assert_eq!(arrange(&[9, 1, 5], &round, &[]), Ok(vec![1, 2, 0]));
        round[0].is_parent = true;
        let cycle_of_parents = arrange(&[9, 1, 5], &round, &[]).unwrap();
        assert_eq!(
            cycle_of_parents,
            [2, 0, 1],
            "one with few references is broken"
        );
    }

    #[test]
    fn constraint_reverses_only_its_own_edge() {
        let chain = references(&[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(
            arrange(&[9, 8, 7, 1], &chain, &[wish(&[2], &[0, 1, 3])]),
            Ok(vec![2, 3, 0, 1])
        );
    }

    #[test]
    fn constraint_cuts_chain_where_it_is_weakest() {
        let mut chain = references(&[(0, 1), (1, 2), (2, 3)]);
        (chain[0].references, chain[2].references) = (5, 5);
        let wishes = [wish(&[3], &[0])];
        assert_eq!(arrange(&[1; 4], &chain, &wishes), Ok(vec![2, 3, 0, 1]));
        chain[1].is_parent = true;
        assert_eq!(arrange(&[1; 4], &chain, &wishes), Ok(vec![1, 2, 3, 0]));
    }

    #[test]
    fn constraints_hold_in_a_large_cycle() {
        let count = 4 * EXACT_NODES;
        let round: Vec<_> = (0..count).map(|node| (node, (node + 1) % count)).collect();
        let order = arrange(&vec![1; count], &references(&round), &[wish(&[9], &[3, 8])]).unwrap();
        let place = |node| order.iter().position(|other| *other == node).unwrap();
        assert!(place(9) < place(3) && place(9) < place(8));
        let broken = round.iter().filter(|(from, to)| place(*to) < place(*from));
        assert_eq!(broken.count(), 1, "{order:?}");
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
        let chain: Vec<_> = (1..count).map(|node| (node, node - 1)).collect();
        let order = arrange(&vec![1; count], &references(&chain), &[]).unwrap();
        assert!(order.into_iter().eq((0..count).rev()));
    }

    #[test]
    fn a_long_ring_is_cut_once() {
        let count = 100_000;
        let ring: Vec<_> = (0..count).map(|node| ((node + 1) % count, node)).collect();
        let order = arrange(&vec![1; count], &references(&ring), &[]).unwrap();
        let next = |two: &[usize]| two[0] == (two[1] + 1) % count;
        assert!(order.windows(2).all(next), "{:?}", &order[..9]);
    }

    #[test]
    fn as_few_parents_as_possible_come_late() {
        let mut edges = references(&[(0, 1), (1, 2), (2, 0)]);
        for parent in &mut edges {
            (parent.is_parent, parent.references) = (true, 0);
        }
        edges.extend(references(&[(1, 0), (1, 0), (2, 1), (2, 1)]));
        // Backwards no reference points forward, but two parents come after their children.
        assert_eq!(arrange(&[1; 3], &edges, &[]), Ok(vec![1, 2, 0]));
    }

    /// Arcs among nodes, the same ones in every run.
    fn fixed_edges(nodes: usize, count: usize, seed: u64) -> Vec<Edge> {
        let mut state = seed;
        let mut below = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % end
        };
        let edges = (0..count).map(|_| {
            let from = below(nodes as u64) as usize;
            let step = 1 + below(nodes as u64 - 1) as usize;
            Edge {
                from,
                to: (from + step) % nodes,
                is_parent: false,
                references: 1 + below(9),
            }
        });
        edges.collect()
    }

    #[test]
    fn large_cycles_keep_every_parent_first() {
        // Too many nodes for moves one by one: nothing mends what the heuristic does.
        let nodes = 600;
        for seed in 0..3 {
            let mut edges = fixed_edges(nodes, 5 * nodes, seed);
            for edge in &mut edges {
                edge.is_parent = edge.to + nodes / 5 < edge.from;
            }
            let order = arrange(&vec![1; nodes], &edges, &[]).unwrap();
            let place = places(&order);
            let mut parents = edges.iter().filter(|edge| edge.is_parent);
            assert!(
                parents.all(|edge| place[edge.from] < place[edge.to]),
                "{seed}"
            );
        }
    }

    /// The fewest references that can point forward where node 0 stands before node 1: by the sets
    /// of nodes that may stand in front.
    fn fewest_forward(nodes: usize, edges: &[Edge]) -> u64 {
        let mut fewest = vec![u64::MAX; 1 << nodes];
        fewest[0] = 0;
        for front in 0..fewest.len() {
            for node in (0..nodes).filter(|node| front & (1 << node) == 0) {
                if node == 1 && front & 1 == 0 || fewest[front] == u64::MAX {
                    continue;
                }
                let forward = edges
                    .iter()
                    .filter(|edge| edge.to == node && front & (1 << edge.from) == 0);
                let cost = fewest[front] + forward.map(|edge| edge.references).sum::<u64>();
                let next = front | 1 << node;
                fewest[next] = fewest[next].min(cost);
            }
        }
        fewest[fewest.len() - 1]
    }

    #[test]
    fn constraints_leave_small_cycles_the_best_order() {
        for seed in 0..12 {
            let kinds = EXACT_NODES - seed as usize % 3;
            let edges = fixed_edges(kinds, 60, seed);
            let wishes = [wish(&[0], &[1]), wish(&[0], &[1])];
            let order = arrange(&vec![1; kinds], &edges, &wishes).unwrap();
            let place = places(&order);
            let forward = edges
                .iter()
                .filter(|edge| place[edge.to] < place[edge.from]);
            let cost: u64 = forward.map(|edge| edge.references).sum();
            // What the wish turns round is no cost.
            let free: Vec<Edge> = edges
                .iter()
                .filter(|edge| edge.pair() != (1, 0))
                .copied()
                .collect();
            let turned: u64 = edges
                .iter()
                .filter(|edge| edge.pair() == (1, 0))
                .map(|edge| edge.references)
                .sum();
            assert!(place[0] < place[1]);
            assert_eq!(cost, fewest_forward(kinds, &free) + turned, "{seed}");
        }
    }
}
