//! Orders the nodes of a cycle so that the arcs that point forward weigh as little as possible: a
//! minimum feedback arc set, in which hard arcs must never point forward.
//!
//! Small cycles are solved exactly. Larger ones begin with the heuristic of P. Eades, X. Lin and
//! W. F. Smyth, "A fast and effective heuristic for the feedback arc set problem" (Information
//! Processing Letters 47, 1993), with weights and hard arcs, and then move single nodes to better
//! places. Memory grows with the nodes and arcs as they are given.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::{Graph, at, item_mut, places, set};

/// Up to this many nodes are solved exactly, by a table of all their subsets.
pub(super) const EXACT_NODES: usize = 12;

/// Up to this many nodes are moved one by one to better places.
const SIFTED_NODES: usize = 500;

/// How often all nodes are tried.
const SIFT_PASSES: usize = 8;

/// One node should stand before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arc {
    pub from: usize,
    pub to: usize,
    /// What it costs if it points forward: if `to` stands before `from`.
    pub weight: u128,
    /// It may not point forward at all. Hard arcs alone form no cycle.
    pub is_hard: bool,
}

/// The arcs of a cycle over the nodes `0..nodes`. Of orders that cost the same, smaller nodes go
/// first.
pub(super) struct FeedbackArcs<'a> {
    arcs: &'a [Arc],
    /// The arcs that begin and that end at each node.
    out: Vec<Vec<usize>>,
    into: Vec<Vec<usize>>,
}

impl<'a> FeedbackArcs<'a> {
    pub fn new(nodes: usize, arcs: &'a [Arc]) -> Self {
        let (mut out, mut into) = (vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
        for (index, arc) in arcs.iter().enumerate() {
            item_mut(&mut out, arc.from).push(index);
            item_mut(&mut into, arc.to).push(index);
        }
        FeedbackArcs { arcs, out, into }
    }

    /// The nodes in the best order; of large cycles in a good one.
    pub fn order(&self) -> Vec<usize> {
        let order = self.good_order();
        if self.nodes() > EXACT_NODES {
            return order;
        }
        SubsetTable::new(self, self.cost(&order)).order()
    }

    fn nodes(&self) -> usize {
        self.out.len()
    }

    fn arcs_of<'b>(
        &'b self,
        lists: &'b [Vec<usize>],
        node: usize,
    ) -> impl Iterator<Item = &'b Arc> {
        let list = lists.get(node).into_iter().flatten();
        list.filter_map(|&index| self.arcs.get(index))
    }

    /// What the arcs weigh that point forward.
    pub fn cost(&self, order: &[usize]) -> u128 {
        let place = places(order);
        let forward = |arc: &&Arc| at(&place, arc.to) < at(&place, arc.from);
        let forward = self.arcs.iter().filter(forward);
        forward.map(|arc| arc.weight).sum()
    }

    /// An order that is never worse than the trivial one.
    fn good_order(&self) -> Vec<usize> {
        let candidates = [Removal::new(self).order(), self.trivial_order()];
        let best = candidates.into_iter().min_by_key(|order| self.cost(order));
        let mut order = best.unwrap_or_default();
        if self.nodes() <= SIFTED_NODES {
            self.sift(&mut order);
        }
        order
    }

    /// Smaller nodes first, as the hard arcs allow.
    fn trivial_order(&self) -> Vec<usize> {
        let hard = self.arcs.iter().filter(|arc| arc.is_hard);
        let hard: Vec<_> = hard.map(|arc| (arc.from, arc.to)).collect();
        let place = Graph::new(self.nodes(), hard).places(&vec![None; self.nodes()]);
        let mut order: Vec<usize> = (0..self.nodes()).collect();
        order.sort_by_key(|&node| at(&place, node));
        order
    }

    /// Moves each node to its best place among the others, until nothing changes.
    fn sift(&self, order: &mut Vec<usize>) {
        let mut place = places(order);
        for _ in 0..SIFT_PASSES {
            let mut is_changed = false;
            for node in 0..self.nodes() {
                let (from, to) = (at(&place, node), self.best_place(node, &place));
                move_node(order, &mut place, from, to);
                is_changed |= from != to;
            }
            if !is_changed {
                break;
            }
        }
    }

    /// Where a node costs least while all others stay. It stays too, unless it gains by moving.
    fn best_place(&self, node: usize, place: &[usize]) -> usize {
        let own = at(place, node);
        let neighbours = self.neighbours(node, place);
        let (left, right): (Vec<_>, Vec<_>) = neighbours
            .into_iter()
            .partition(|neighbour| neighbour.place < own);
        let to_left = best_of(
            own,
            left.iter()
                .rev()
                .map(|neighbour| (neighbour, neighbour.cost)),
        );
        let to_right = best_of(
            own,
            right.iter().map(|neighbour| (neighbour, -neighbour.cost)),
        );
        [to_left, to_right]
            .into_iter()
            .min_by_key(|(cost, _)| *cost)
            .map_or(own, |(_, place)| place)
    }

    /// The nodes that arcs join with a node, by place.
    fn neighbours(&self, node: usize, place: &[usize]) -> Vec<Neighbour> {
        let neighbour = |other: usize, arc: &Arc, cost: i128| Neighbour {
            place: at(place, other),
            cost,
            is_hard: arc.is_hard,
        };
        let before = self.arcs_of(&self.into, node);
        let before = before.map(|arc| neighbour(arc.from, arc, signed(arc.weight)));
        let after = self.arcs_of(&self.out, node);
        let after = after.map(|arc| neighbour(arc.to, arc, -signed(arc.weight)));
        let mut neighbours: Vec<Neighbour> = before.chain(after).collect();
        neighbours.sort_by_key(|neighbour| neighbour.place);
        neighbours
    }
}

/// A node that an arc joins with another.
struct Neighbour {
    place: usize,
    /// What it costs if the other stands before this one instead of after it.
    cost: i128,
    is_hard: bool,
}

/// The lowest cost on the way past neighbours, and the place of the last one to pass. A hard arc
/// ends the way.
fn best_of<'n>(
    own: usize,
    neighbours: impl Iterator<Item = (&'n Neighbour, i128)>,
) -> (i128, usize) {
    let (mut best, mut cost) = ((0, own), 0);
    let mut neighbours = neighbours.peekable();
    while let Some((neighbour, change)) = neighbours.next() {
        if neighbour.is_hard {
            break;
        }
        cost += change;
        let same = |next: &(&Neighbour, i128)| next.0.place == neighbour.place;
        if cost < best.0 && !neighbours.peek().is_some_and(same) {
            best = (cost, neighbour.place);
        }
    }
    best
}

fn move_node(order: &mut Vec<usize>, place: &mut [usize], from: usize, to: usize) {
    if from == to {
        return;
    }
    let node = order.remove(from);
    order.insert(to, node);
    let (first, last) = (from.min(to), from.max(to));
    for (index, &node) in order.iter().enumerate().take(last + 1).skip(first) {
        set(place, node, index);
    }
}

fn signed(weight: u128) -> i128 {
    i128::try_from(weight).unwrap_or(i128::MAX)
}

/// The heuristic: sinks are taken away to the end and sources to the front, and where there is
/// neither, the node that gains most goes to the front.
struct Removal<'a> {
    cycle: &'a FeedbackArcs<'a>,
    nodes: Vec<OpenNode>,
    sources: BinaryHeap<Reverse<usize>>,
    sinks: BinaryHeap<usize>,
    /// Nodes that no hard arc holds back, by what they gain. Some entries are out of date.
    free: BinaryHeap<(i128, Reverse<usize>)>,
    front: Vec<usize>,
    end: Vec<usize>,
}

/// What is left around a node.
#[derive(Clone, Default)]
struct OpenNode {
    out: usize,
    into: usize,
    hard_into: usize,
    /// What its arcs to others weigh more than those from others.
    gain: i128,
    is_removed: bool,
}

impl<'a> Removal<'a> {
    fn new(cycle: &'a FeedbackArcs<'a>) -> Self {
        let mut nodes = vec![OpenNode::default(); cycle.nodes()];
        for arc in cycle.arcs {
            let from = item_mut(&mut nodes, arc.from);
            (from.out, from.gain) = (from.out + 1, from.gain + signed(arc.weight));
            let to = item_mut(&mut nodes, arc.to);
            (to.into, to.gain) = (to.into + 1, to.gain - signed(arc.weight));
            to.hard_into += usize::from(arc.is_hard);
        }
        let mut removal = Removal {
            cycle,
            nodes,
            sources: BinaryHeap::new(),
            sinks: BinaryHeap::new(),
            free: BinaryHeap::new(),
            front: Vec::new(),
            end: Vec::new(),
        };
        (0..cycle.nodes()).for_each(|node| removal.enqueue(node));
        removal
    }

    fn order(mut self) -> Vec<usize> {
        loop {
            if let Some(sink) = self.sinks.pop() {
                if self.remove(sink) {
                    self.end.push(sink);
                }
            } else if let Some(Reverse(source)) = self.sources.pop() {
                if self.remove(source) {
                    self.front.push(source);
                }
            } else if let Some((gain, Reverse(node))) = self.free.pop() {
                if self.node(node).gain == gain && self.remove(node) {
                    self.front.push(node);
                }
            } else {
                break;
            }
        }
        self.front.extend(self.end.into_iter().rev());
        self.front
    }

    fn node(&mut self, node: usize) -> &mut OpenNode {
        item_mut(&mut self.nodes, node)
    }

    /// Queues a node by what is left around it.
    fn enqueue(&mut self, node: usize) {
        let OpenNode {
            out,
            into,
            hard_into,
            gain,
            is_removed,
        } = self.node(node).clone();
        if is_removed {
            return;
        }
        if out == 0 {
            self.sinks.push(node);
        } else if into == 0 {
            self.sources.push(Reverse(node));
        } else if hard_into == 0 {
            self.free.push((gain, Reverse(node)));
        }
    }

    /// Takes a node away with its arcs. Says no where that is done already.
    fn remove(&mut self, node: usize) -> bool {
        if std::mem::replace(&mut self.node(node).is_removed, true) {
            return false;
        }
        let cycle = self.cycle;
        for arc in cycle.arcs_of(&cycle.out, node) {
            let to = self.node(arc.to);
            (to.into, to.gain) = (to.into - 1, to.gain + signed(arc.weight));
            to.hard_into -= usize::from(arc.is_hard);
            self.enqueue(arc.to);
        }
        for arc in cycle.arcs_of(&cycle.into, node) {
            let from = self.node(arc.from);
            (from.out, from.gain) = (from.out - 1, from.gain - signed(arc.weight));
            self.enqueue(arc.from);
        }
        true
    }
}

/// The lowest cost of every set of nodes that may stand at the end, as far as it is not above a
/// cost that is known to be possible.
struct SubsetTable {
    nodes: usize,
    /// What the arc from one node to another weighs: row by row.
    weights: Vec<u128>,
    /// The nodes that must stand after each node, as bits.
    after: Vec<usize>,
    costs: Vec<Option<u128>>,
}

impl SubsetTable {
    fn new(cycle: &FeedbackArcs<'_>, bound: u128) -> Self {
        let nodes = cycle.nodes();
        let mut table = SubsetTable {
            nodes,
            weights: vec![0; nodes * nodes],
            after: vec![0; nodes],
            costs: vec![None; 1 << nodes],
        };
        for arc in cycle.arcs {
            *item_mut(&mut table.weights, arc.from * nodes + arc.to) += arc.weight;
            *item_mut(&mut table.after, arc.from) |= usize::from(arc.is_hard) << arc.to;
        }
        table.fill(bound);
        table
    }

    /// Puts each node before each set that may stand at the end.
    fn fill(&mut self, bound: u128) {
        set(&mut self.costs, 0, Some(0));
        for end in 0..self.costs.len() {
            for node in 0..self.nodes {
                let Some(cost) = self.cost_with(node, end).filter(|cost| *cost <= bound) else {
                    continue;
                };
                let known = item_mut(&mut self.costs, end | 1 << node);
                *known = Some(known.map_or(cost, |known| known.min(cost)));
            }
        }
    }

    /// What it costs if a node stands before the nodes of a set that stand at the end, where it may.
    fn cost_with(&self, node: usize, end: usize) -> Option<u128> {
        let cost = at(&self.costs, end)?;
        let is_free = end & (1 << node) == 0 && at(&self.after, node) & !end == 0;
        is_free.then(|| {
            let others = (0..self.nodes).filter(|other| end & (1 << other) != 0);
            let forward = others.map(|other| at(&self.weights, other * self.nodes + node));
            cost + forward.sum::<u128>()
        })
    }

    /// The best order; of several the one whose first nodes are smallest.
    fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut left = self.costs.len() - 1;
        while let Some(node) = self.first_of(left) {
            order.push(node);
            left &= !(1 << node);
        }
        order
    }

    fn first_of(&self, left: usize) -> Option<usize> {
        let cost = at(&self.costs, left);
        let mut nodes = (0..self.nodes).filter(|node| left & (1 << node) != 0);
        nodes.find(|&node| self.cost_with(node, left & !(1 << node)) == cost && cost.is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arc(from: usize, to: usize, weight: u128, is_hard: bool) -> Arc {
        Arc {
            from,
            to,
            weight,
            is_hard,
        }
    }

    /// Weighted arcs among nodes, and hard ones that lead from lower to higher ranks.
    fn any_arcs(nodes: usize, arcs: usize) -> impl Strategy<Value = Vec<Arc>> {
        let arcs = prop::collection::vec((0..nodes, 0..nodes, 0..50_u64, 0..4_u8), 0..arcs);
        let ranks = Just((0..nodes).collect::<Vec<_>>()).prop_shuffle();
        (arcs, ranks).prop_map(|(arcs, ranks)| {
            let arcs = arcs.into_iter().filter(|(from, to, ..)| from != to);
            arcs.map(|(from, to, weight, hard)| {
                arc(
                    from,
                    to,
                    weight.into(),
                    hard == 0 && ranks[from] < ranks[to],
                )
            })
            .collect()
        })
    }

    fn holds(order: &[usize], arcs: &[Arc]) -> bool {
        let place = places(order);
        let mut hard = arcs.iter().filter(|arc| arc.is_hard);
        hard.all(|arc| place[arc.from] < place[arc.to])
    }

    fn permutations(nodes: usize) -> Vec<Vec<usize>> {
        let Some(last) = nodes.checked_sub(1) else {
            return vec![Vec::new()];
        };
        let shorter = permutations(last).into_iter();
        let longer = shorter.flat_map(|shorter| {
            (0..nodes).map(move |at| {
                let mut longer = shorter.clone();
                longer.insert(at, last);
                longer
            })
        });
        longer.collect()
    }

    #[test]
    fn equal_costs_go_small_before_big() {
        let ring = [
            arc(0, 2, 1, false),
            arc(2, 1, 1, false),
            arc(1, 0, 1, false),
        ];
        assert_eq!(FeedbackArcs::new(3, &ring).order(), [0, 2, 1]);
    }

    #[test]
    fn moves_mend_what_the_heuristic_left() {
        let arcs = [
            arc(0, 1, 3, false),
            arc(1, 2, 3, false),
            arc(2, 0, 1, false),
        ];
        let cycle = FeedbackArcs::new(3, &arcs);
        let mut order = vec![2, 1, 0];
        cycle.sift(&mut order);
        assert_eq!((cycle.cost(&order), order), (1, vec![0, 1, 2]));
    }

    /// Arcs among nodes, the same ones in every run.
    fn fixed_arcs(nodes: usize, count: usize, seed: u64) -> Vec<Arc> {
        let mut state = seed;
        let mut below = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % end
        };
        let arcs = (0..count).map(|_| {
            let from = below(nodes as u64) as usize;
            let step = 1 + below(nodes as u64 - 1) as usize;
            arc(from, (from + step) % nodes, 1 + u128::from(below(9)), false)
        });
        arcs.collect()
    }

    #[test]
    fn twelve_nodes_are_solved_exactly() {
        for seed in 0..4 {
            let arcs = fixed_arcs(EXACT_NODES, 60, seed);
            let cycle = FeedbackArcs::new(EXACT_NODES, &arcs);
            let best = SubsetTable::new(&cycle, u128::MAX).order();
            assert_eq!(cycle.order(), best, "{seed}");
        }
    }

    #[test]
    fn no_single_move_mends_a_large_cycle() {
        for seed in 0..10 {
            let arcs = fixed_arcs(40, 200, seed);
            let cycle = FeedbackArcs::new(40, &arcs);
            let place = places(&cycle.order());
            for node in 0..40 {
                assert_eq!(cycle.best_place(node, &place), place[node], "{seed}");
            }
        }
    }

    #[test]
    fn node_stays_where_a_move_gains_nothing() {
        let neighbour = |place, is_hard| Neighbour {
            place,
            cost: 0,
            is_hard,
        };
        let [near, far] = [neighbour(4, false), neighbour(3, false)];
        let hard = neighbour(2, true);
        assert_eq!(best_of(5, [(&near, 0), (&far, 0)].into_iter()), (0, 5));
        assert_eq!(best_of(5, [(&near, 2), (&far, -3)].into_iter()), (-1, 3));
        let stopped = [(&near, -1), (&hard, -9), (&far, -9)];
        assert_eq!(best_of(5, stopped.into_iter()), (-1, 4));
    }

    /// The order of the heuristic alone.
    fn removal_order(nodes: usize, arcs: &[(usize, usize, u128)]) -> Vec<usize> {
        let arcs = arcs
            .iter()
            .map(|&(from, to, weight)| arc(from, to, weight, false));
        let arcs: Vec<Arc> = arcs.collect();
        Removal::new(&FeedbackArcs::new(nodes, &arcs)).order()
    }

    #[test]
    fn heuristic_takes_sources_one_after_another() {
        let arcs = [(0, 1, 1), (1, 2, 1), (2, 3, 10), (3, 2, 1)];
        assert_eq!(removal_order(4, &arcs), [0, 1, 2, 3]);
    }

    #[test]
    fn heuristic_forgets_arcs_of_removed_nodes() {
        let into_a_ring = [(0, 1, 100), (1, 2, 10), (2, 1, 1)];
        assert_eq!(removal_order(3, &into_a_ring), [0, 1, 2]);
        let out_of_a_ring = [(0, 2, 100), (0, 1, 1), (1, 0, 10)];
        assert_eq!(removal_order(3, &out_of_a_ring), [1, 0, 2]);
        let through_a_chain = [(0, 1, 10), (1, 0, 1), (1, 2, 100), (2, 3, 1)];
        assert_eq!(removal_order(4, &through_a_chain), [0, 1, 2, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn small_cycles_cost_the_least_possible(arcs in any_arcs(6, 24)) {
            let cycle = FeedbackArcs::new(6, &arcs);
            let order = cycle.order();
            let possible = permutations(6).into_iter().filter(|order| holds(order, &arcs));
            let mut best: Vec<_> = possible.map(|order| (cycle.cost(&order), order)).collect();
            best.sort();
            prop_assert_eq!((cycle.cost(&order), order), best.swap_remove(0));
        }

        #[test]
        fn large_cycles_are_no_worse_than_trivial(arcs in any_arcs(40, 200)) {
            let cycle = FeedbackArcs::new(40, &arcs);
            let order = cycle.order();
            let mut nodes = order.clone();
            nodes.sort();
            prop_assert!(nodes.into_iter().eq(0..40) && holds(&order, &arcs));
            prop_assert!(cycle.cost(&order) <= cycle.cost(&cycle.trivial_order()));
        }
    }
}
