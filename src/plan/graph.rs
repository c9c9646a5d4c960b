//! Graphs of numbered nodes: their strongly connected components, and the order that edges leave.
//!
//! Knows numbers and bytes only.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DefaultIx, DiGraph, NodeIndex};
use petgraph::visit::{Dfs, VisitMap};

/// Numbered nodes, and edges between them in the order in which they were given.
pub(super) struct Graph(DiGraph<(), ()>);

impl Graph {
    pub fn new(
        nodes: usize,
        edges: impl IntoIterator<Item = (usize, usize), IntoIter: DoubleEndedIterator>,
    ) -> Self {
        let mut graph = DiGraph::with_capacity(nodes, 0);
        (0..nodes).for_each(|_| _ = graph.add_node(()));
        // What was added last is met first.
        for (from, to) in edges.into_iter().rev() {
            graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
        }
        Graph(graph)
    }

    pub fn len(&self) -> usize {
        self.0.node_count()
    }

    fn next(&self, node: usize) -> impl Iterator<Item = usize> {
        self.0.neighbors(NodeIndex::new(node)).map(NodeIndex::index)
    }

    fn edges(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> {
        let edges = self.0.raw_edges().iter().rev();
        edges.map(|edge| (edge.source().index(), edge.target().index()))
    }

    /// Says of each node whether it can be reached from `start`, which can.
    pub fn reached_from(&self, start: usize) -> impl Fn(usize) -> bool + use<> {
        let mut search = Dfs::new(&self.0, NodeIndex::new(start));
        while search.next(&self.0).is_some() {}
        move |node| {
            search
                .discovered
                .is_visited(&NodeIndex::<DefaultIx>::new(node))
        }
    }

    /// Each node's strongly connected component, by the number of its first node.
    pub fn components(&self) -> Vec<usize> {
        let mut component = vec![0; self.len()];
        for members in kosaraju_scc(&self.0) {
            let first = members.iter().min().map_or(0, |node| node.index());
            for node in members {
                set(&mut component, node.index(), first);
            }
        }
        component
    }

    /// A shortest cycle through the smallest node that is in one. Leads with that node and does not
    /// repeat it.
    pub fn any_cycle(&self) -> Option<Vec<usize>> {
        let cycles = kosaraju_scc(&self.0).into_iter();
        let cycles = cycles.filter(|members| members.len() > 1);
        let start = cycles.flatten().min()?.index();
        let mut came_from = vec![None; self.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in self.next(node) {
                if next == start {
                    return Some(path_to(node, &came_from));
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
    pub fn ranks(&self, component: &[usize], bytes: &[u64]) -> Vec<usize> {
        let weights = weights(component, bytes);
        let among: Vec<_> = self
            .edges()
            .map(|(from, to)| (at(component, from), at(component, to)))
            .filter(|(from, to)| from != to)
            .collect();
        let place = Graph::new(self.len(), among).places(&weights);
        component.iter().map(|&number| at(&place, number)).collect()
    }

    /// The place of each node of a graph without cycles. Of the nodes that wait for none, the
    /// lightest goes first, and of equals the one with the smallest number.
    pub fn places(&self, weights: &[Option<u64>]) -> Vec<usize> {
        let mut waits_for = vec![0usize; self.len()];
        for (_, to) in self.edges() {
            let count = at(&waits_for, to);
            set(&mut waits_for, to, count + 1);
        }
        let key = |node: usize| Reverse((at(weights, node), node));
        let mut ready: BinaryHeap<_> = (0..self.len())
            .filter(|&node| at(&waits_for, node) == 0)
            .map(key)
            .collect();
        let mut place = vec![0; self.len()];
        let mut next_place = 0;
        while let Some(Reverse((_, node))) = ready.pop() {
            set(&mut place, node, next_place);
            next_place += 1;
            for next in self.next(node) {
                let count = at(&waits_for, next) - 1;
                set(&mut waits_for, next, count);
                if count == 0 {
                    ready.push(key(next));
                }
            }
        }
        place
    }
}

/// The place of each node in an order of all nodes.
pub(super) fn places(order: &[usize]) -> Vec<usize> {
    let mut place = vec![0; order.len()];
    for (index, &node) in order.iter().enumerate() {
        set(&mut place, node, index);
    }
    place
}

/// The nodes that lead to `node`, itself at the end.
fn path_to(node: usize, came_from: &[Option<usize>]) -> Vec<usize> {
    let mut path: Vec<usize> =
        std::iter::successors(Some(node), |&node| at(came_from, node)).collect();
    path.reverse();
    path
}

/// The bytes of each component together. A wish weighs nothing (`None`), so it never holds a node
/// back after one that is ready.
fn weights(component: &[usize], bytes: &[u64]) -> Vec<Option<u64>> {
    let mut weights: Vec<Option<u64>> = vec![None; component.len()];
    for (&number, &own) in component.iter().zip(bytes) {
        let sum = at(&weights, number).map_or(own, |sum: u64| sum.saturating_add(own));
        set(&mut weights, number, Some(sum));
    }
    weights
}

/// Why lists have an item for each node.
const IS_NODE: &str = "links join nodes of the graph, and each list has an item for every node";

pub(super) fn at<T: Copy>(list: &[T], index: usize) -> T {
    *list.get(index).expect(IS_NODE)
}

pub(super) fn set<T>(list: &mut [T], index: usize, value: T) {
    *list.get_mut(index).expect(IS_NODE) = value;
}

pub(super) fn item_mut<T>(list: &mut [T], index: usize) -> &mut T {
    list.get_mut(index).expect(IS_NODE)
}
