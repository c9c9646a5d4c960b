//! Puts numbered nodes in order: the user's wishes first, then the data's links, then small before
//! big.
//!
//! Knows numbers and bytes. It must not know kinds, namespaces or how a wish was spelled.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DefaultIx, DiGraph, NodeIndex};
use petgraph::visit::{Dfs, VisitMap, Visitable};

/// The data says that `from` should stand before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    /// Both are of one namespace. In a cycle that runs through several namespaces, the links
    /// between them give way.
    pub within: bool,
}

impl Edge {
    fn pair(&self) -> (usize, usize) {
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
    let wished = wished_pairs(bytes.len(), wishes);
    let user = Graph::new(nodes, wished.iter().copied());
    if let Some(cycle) = user.any_cycle() {
        return Err(contradiction(&cycle, bytes.len()));
    }
    let links = drop_denied(links, &user, &wished);

    let all = links.iter().map(Edge::pair).chain(wished);
    let outer = Graph::new(nodes, all).ranks(bytes);
    let inside = links
        .iter()
        .filter(|link| link.within && link.is_inside(&outer));
    let inner = Graph::new(nodes, inside.map(Edge::pair)).ranks(bytes);

    let mut order: Vec<usize> = (0..bytes.len()).collect();
    order.sort_by_key(|&node| (at(&outer, node), at(&inner, node), at(bytes, node), node));
    Ok(order
        .chunk_by(|&a, &b| at(&outer, a) == at(&outer, b))
        .map(<[usize]>::to_vec)
        .collect())
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

/// The links that the wishes leave standing. In what remains, no wish is part of a cycle.
fn drop_denied(links: &[Edge], user: &Graph, wished: &[(usize, usize)]) -> Vec<Edge> {
    if wished.is_empty() {
        return links.to_vec();
    }
    let left = drop_reversed(links, user, &components(links, wished, user.len()));
    drop_held_back(&left, wished, &components(&left, wished, user.len()))
}

fn components(links: &[Edge], wished: &[(usize, usize)], nodes: usize) -> Vec<usize> {
    let all = links.iter().map(Edge::pair).chain(wished.iter().copied());
    Graph::new(nodes, all).components()
}

/// First the links go that the wishes alone turn round.
fn drop_reversed(links: &[Edge], user: &Graph, component: &[usize]) -> Vec<Edge> {
    let mut links = links.to_vec();
    links.sort_by_key(|link| link.to);
    let mut left = Vec::new();
    for same_end in links.chunk_by(|a, b| a.to == b.to) {
        let suspect = same_end.iter().find(|link| link.is_inside(component));
        let reached = suspect.map(|link| user.reached_from(link.to));
        let is_reached = |link: &Edge| {
            let reached = reached.as_ref();
            reached
                .is_some_and(|reached| reached.is_visited(&NodeIndex::<DefaultIx>::new(link.from)))
        };
        left.extend(same_end.iter().filter(|link| !is_reached(link)));
    }
    left
}

/// Then those go that other links and a wish turn round together. Where a wish holds a node back,
/// its links onward in that cycle go: any cycle with a wish has a wish followed by a link, so none
/// is left.
fn drop_held_back(links: &[Edge], wished: &[(usize, usize)], component: &[usize]) -> Vec<Edge> {
    let is_inside = |from, to| at(component, from) == at(component, to);
    let held_back: HashSet<usize> = wished
        .iter()
        .filter(|&&(from, to)| is_inside(from, to))
        .map(|&(_, to)| to)
        .collect();
    let left = links
        .iter()
        .filter(|link| !(held_back.contains(&link.from) && link.is_inside(component)));
    left.copied().collect()
}

/// Numbered nodes, and edges between them in the order in which they were given.
struct Graph(DiGraph<(), ()>);

impl Graph {
    fn new(
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

    fn len(&self) -> usize {
        self.0.node_count()
    }

    fn next(&self, node: usize) -> impl Iterator<Item = usize> {
        self.0.neighbors(NodeIndex::new(node)).map(NodeIndex::index)
    }

    fn edges(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> {
        let edges = self.0.raw_edges().iter().rev();
        edges.map(|edge| (edge.source().index(), edge.target().index()))
    }

    /// Marks the nodes that can be reached from `start`, itself included.
    fn reached_from(&self, start: usize) -> <DiGraph<(), ()> as Visitable>::Map {
        let mut search = Dfs::new(&self.0, NodeIndex::new(start));
        while search.next(&self.0).is_some() {}
        search.discovered
    }

    /// Each node's strongly connected component, by the number of its first node.
    fn components(&self) -> Vec<usize> {
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
    fn any_cycle(&self) -> Option<Vec<usize>> {
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
    fn ranks(&self, bytes: &[u64]) -> Vec<usize> {
        let component = self.components();
        let weights = weights(&component, bytes);
        let among: Vec<_> = self
            .edges()
            .map(|(from, to)| (at(&component, from), at(&component, to)))
            .filter(|(from, to)| from != to)
            .collect();
        let place = Graph::new(self.len(), among).places(&weights);
        component.iter().map(|&number| at(&place, number)).collect()
    }

    /// The place of each node of a graph without cycles. Of the nodes that wait for none, the
    /// lightest goes first, and of equals the one with the smallest number.
    fn places(&self, weights: &[Option<u64>]) -> Vec<usize> {
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

fn at<T: Copy>(list: &[T], index: usize) -> T {
    *list.get(index).expect(IS_NODE)
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    *list.get_mut(index).expect(IS_NODE) = value;
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
