//! The user's words about order, turned into wishes about numbered steps.
//!
//! Knows selectors and pairs. Whether the wishes can hold together is for the ordering to find out.

use std::collections::BTreeMap;

use super::linear_order::OrderConstraint;
use super::selected::SelectedKind;
use super::{PlanError, PlanSelection};
use crate::model::{KindRef, Selector};

/// What the user said about order. The numbers in each wish rise.
#[derive(Default)]
pub(super) struct Constraints {
    pub wishes: Vec<OrderConstraint>,
    /// How the user said each wish.
    pub said: Vec<String>,
    /// How many of the first wishes are about groups: all that is first, all else, all that is
    /// last.
    groups: usize,
    /// The word that gives a step its place.
    pub placed: BTreeMap<usize, String>,
    /// The word by which others wait for a step.
    pub awaited: BTreeMap<usize, String>,
}

/// Reads `first`, `last` and `depends_on`. A step that several selectors of `first` (or `last`) choose
/// goes by the earliest.
pub(super) fn from_choices(
    taken: &[SelectedKind],
    selection: &PlanSelection,
) -> Result<Constraints, PlanError> {
    let mut words = Constraints::default();
    words.add_groups(taken, selection)?;
    words.groups = words.wishes.len();
    words.add_afters(taken, selection);
    Ok(words)
}

/// Where a group stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum GroupSide {
    First,
    Middle,
    Last,
}

/// The earliest selector that chooses a pair: its place, and how the user said it.
fn claim(given: &[(String, &Selector)], pair: &KindRef) -> Option<(usize, String)> {
    let mut given = given.iter().enumerate();
    let (at, (option, selector)) = given.find(|(_, (_, selector))| selector.matches(pair))?;
    Some((at, format!("{option} {selector}")))
}

impl Constraints {
    /// Each word that says something of a step, once.
    pub fn about(&self, node: usize) -> Vec<String> {
        let wishes = self.wishes.iter().zip(&self.said);
        let mut about: Vec<String> = wishes
            .filter(|(wish, _)| {
                wish.before.binary_search(&node).is_ok() || wish.after.binary_search(&node).is_ok()
            })
            .map(|(_, said)| said.clone())
            .collect();
        about.sort();
        about.dedup();
        about
    }

    /// The wishes of `after`, which name what waits for what: before, behind, and how it was said.
    pub fn one_by_one(&self) -> impl Iterator<Item = (&[usize], &[usize], &str)> {
        let wishes = self.wishes.iter().zip(&self.said).skip(self.groups);
        wishes.map(|(wish, said)| (wish.before.as_slice(), wish.after.as_slice(), said.as_str()))
    }

    fn add(&mut self, before: Vec<usize>, after: Vec<usize>, said: String) {
        self.wishes.push(OrderConstraint { before, after });
        self.said.push(said);
    }

    /// Makes each group of `first`, what is in no group, and each group of `last` wait for the one
    /// before.
    fn add_groups(
        &mut self,
        taken: &[SelectedKind],
        selection: &PlanSelection,
    ) -> Result<(), PlanError> {
        let groups = self.groups_of(taken, selection)?;
        for (group, next) in groups.iter().zip(groups.iter().skip(1)) {
            let words = [group, next]
                .into_iter()
                .filter_map(|group| self.word_of(group));
            let said: Vec<String> = words.collect();
            self.add(group.clone(), next.clone(), said.join(" "));
        }
        Ok(())
    }

    /// The numbers that go together, in order; says of each by which word.
    fn groups_of(
        &mut self,
        taken: &[SelectedKind],
        selection: &PlanSelection,
    ) -> Result<Vec<Vec<usize>>, PlanError> {
        let (firsts, lasts) = (selection.firsts(), selection.lasts());
        let mut groups: BTreeMap<(GroupSide, usize), Vec<usize>> = BTreeMap::new();
        for (number, SelectedKind { pair, .. }) in taken.iter().enumerate() {
            let group = match (claim(&firsts, pair), claim(&lasts, pair)) {
                (None, None) => (GroupSide::Middle, 0),
                (Some((at, word)), None) => {
                    self.placed.insert(number, word);
                    (GroupSide::First, at)
                }
                (None, Some((at, word))) => {
                    self.placed.insert(number, word);
                    (GroupSide::Last, at)
                }
                (Some((_, first)), Some((_, last))) => {
                    let pair = pair.clone();
                    return Err(PlanError::FirstAndLast { pair, first, last });
                }
            };
            groups.entry(group).or_default().push(number);
        }
        Ok(groups.into_values().collect())
    }

    /// The word that gives a group its place.
    fn word_of(&self, group: &[usize]) -> Option<String> {
        self.placed.get(group.first()?).cloned()
    }

    /// Makes what the left side of `A=B` chooses wait for what the right side chooses.
    fn add_afters(&mut self, taken: &[SelectedKind], selection: &PlanSelection) {
        for (option, after) in selection.depends_on() {
            let said = format!("{option} {after}");
            let (mut waiting, mut only_waiting, mut only_awaited, mut both) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (number, SelectedKind { pair, .. }) in taken.iter().enumerate() {
                match (after.step.matches(pair), after.needs.matches(pair)) {
                    (true, true) => both.push(number),
                    (true, false) => only_waiting.push(number),
                    (false, true) => only_awaited.push(number),
                    (false, false) => continue,
                }
                waiting.extend(after.step.matches(pair).then_some(number));
            }
            // `*=User` means all others: what both sides choose waits for the rest of the right
            // side, not for itself.
            for (before, behind) in [(only_awaited, waiting), (both, only_waiting)] {
                if !before.is_empty() && !behind.is_empty() {
                    behind.iter().for_each(|&number| {
                        _ = self.placed.entry(number).or_insert_with(|| said.clone())
                    });
                    before.iter().for_each(|&number| {
                        _ = self.awaited.entry(number).or_insert_with(|| said.clone())
                    });
                    self.add(before, behind, said.clone());
                }
            }
        }
    }
}
