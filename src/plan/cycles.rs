//! Kinds that need one another, and what their order leaves pointing forward.
//!
//! Reads an order that is made already; it decides nothing.

use super::dependencies::Dependency;
use super::graph::{Graph, at, item_mut, set};

/// Kinds that need one another in a circle, whatever the user says of their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KindCycle {
    /// The steps, in order.
    pub members: Vec<usize>,
    /// References between its kinds, where the archive counts them.
    pub references: Option<u64>,
    /// Those of them that point forward, at a kind that is restored later.
    pub later: Option<u64>,
}

/// All cycles of an order, and which one each step is in.
pub(super) struct KindCycles {
    pub cycles: Vec<KindCycle>,
    cycle_of: Vec<Option<usize>>,
    /// The same number for kinds that are parents of one another, also through others.
    parents: Vec<usize>,
}

impl KindCycles {
    /// Finds the cycles among steps; `place` says where each stands.
    pub fn new(needs: &[Dependency], order: &[usize], place: &[usize]) -> Self {
        let parents = needs.iter().filter(|need| need.is_parent);
        let mut cycles = KindCycles {
            cycles: Vec::new(),
            cycle_of: vec![None; order.len()],
            parents: components(order.len(), parents),
        };
        cycles.add_members(order, &components(order.len(), needs.iter()));
        for need in needs.iter().filter(|need| need.is_reference) {
            cycles.add_references(need, at(place, need.by) < at(place, need.of));
        }
        cycles
    }

    /// The cycle that a step is in.
    pub fn of(&self, step: usize) -> Option<&KindCycle> {
        let cycle = at(&self.cycle_of, step)?;
        self.cycles.get(cycle)
    }

    /// The cycle that both steps are in.
    pub fn of_both(&self, one: usize, other: usize) -> Option<&KindCycle> {
        let is_same = at(&self.cycle_of, one) == at(&self.cycle_of, other);
        self.of(one).filter(|_| is_same)
    }

    /// Whether two kinds are parents of one another, so that one comes before its parent.
    pub fn are_both_parents(&self, one: usize, other: usize) -> bool {
        at(&self.parents, one) == at(&self.parents, other)
    }

    fn add_members(&mut self, order: &[usize], component: &[usize]) {
        let mut count = vec![0usize; order.len()];
        for &number in component {
            *item_mut(&mut count, number) += 1;
        }
        let mut cycle_of_component = vec![None; order.len()];
        for &step in order
            .iter()
            .filter(|&&step| at(&count, at(component, step)) > 1)
        {
            let number = at(component, step);
            let cycle = at(&cycle_of_component, number).unwrap_or(self.cycles.len());
            if cycle == self.cycles.len() {
                self.cycles.push(KindCycle::default());
            }
            set(&mut cycle_of_component, number, Some(cycle));
            set(&mut self.cycle_of, step, Some(cycle));
            item_mut(&mut self.cycles, cycle).members.push(step);
        }
    }

    fn add_references(&mut self, need: &Dependency, is_later: bool) {
        let cycle =
            at(&self.cycle_of, need.of).filter(|_| self.of_both(need.of, need.by).is_some());
        let Some(cycle) = cycle.and_then(|cycle| self.cycles.get_mut(cycle)) else {
            return;
        };
        cycle.references = sum(cycle.references, need.references);
        if is_later {
            cycle.later = sum(cycle.later, need.references);
        }
    }
}

fn components<'a>(nodes: usize, needs: impl Iterator<Item = &'a Dependency>) -> Vec<usize> {
    let edges: Vec<_> = needs.map(|need| (need.of, need.by)).collect();
    Graph::new(nodes, edges).components()
}

impl Default for KindCycle {
    fn default() -> Self {
        KindCycle {
            members: Vec::new(),
            references: Some(0),
            later: Some(0),
        }
    }
}

/// The sum of numbers of references; unknown where one of them is.
pub(super) fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one?.saturating_add(other?))
}

#[cfg(test)]
mod tests {
    use super::super::graph::places;
    use super::*;

    fn reference(of: usize, by: usize, references: u64) -> Dependency {
        Dependency {
            of,
            by,
            is_parent: false,
            is_reference: true,
            references: Some(references),
        }
    }

    #[test]
    fn cycle_counts_the_references_between_its_kinds() {
        let needs = [
            reference(0, 1, 5),
            reference(1, 0, 40),
            reference(0, 2, 100),
            reference(3, 1, 1_000),
        ];
        let order = [3, 0, 1, 2];
        let cycles = KindCycles::new(&needs, &order, &places(&order));
        let expected = KindCycle {
            members: vec![0, 1],
            references: Some(45),
            later: Some(40),
        };
        assert_eq!(cycles.cycles, [expected]);
        assert!(cycles.of_both(0, 1).is_some());
        assert!(cycles.of_both(0, 2).is_none() && cycles.of_both(2, 3).is_none());
    }
}
