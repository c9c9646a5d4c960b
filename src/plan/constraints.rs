//! The user's words about order, turned into wishes about numbered steps.
//!
//! Knows selectors and pairs. Whether the wishes can hold together is for the ordering to find out.

use std::collections::BTreeMap;

use super::graph::OrderConstraint;
use super::selected::SelectedKind;
use super::{PlanError, PlanSelection};
use crate::model::Selector;

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

/// Reads `first`, `last` and `after`. A step that several selectors of `first` (or `last`) choose
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
        let (firsts, lasts) = (selection.firsts(), selection.lasts());
        let mut front: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut back: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut middle = Vec::new();
        for (number, SelectedKind { pair, .. }) in taken.iter().enumerate() {
            let claim = |given: &[(String, &Selector)]| {
                let at = given
                    .iter()
                    .position(|(_, selector)| selector.matches(pair))?;
                given
                    .get(at)
                    .map(|(option, selector)| (at, format!("{option} {selector}")))
            };
            match (claim(&firsts), claim(&lasts)) {
                (None, None) => middle.push(number),
                (Some((at, word)), None) => {
                    self.placed.insert(number, word);
                    front.entry(at).or_default().push(number);
                }
                (None, Some((at, word))) => {
                    self.placed.insert(number, word);
                    back.entry(at).or_default().push(number);
                }
                (Some((_, first)), Some((_, last))) => {
                    return Err(PlanError::FirstAndLast {
                        pair: pair.clone(),
                        first,
                        last,
                    });
                }
            }
        }
        let groups: Vec<Vec<usize>> = front
            .into_values()
            .chain([middle])
            .chain(back.into_values())
            .filter(|group| !group.is_empty())
            .collect();
        for (group, next) in groups.iter().zip(groups.iter().skip(1)) {
            let word_of = |group: &[usize]| {
                group
                    .first()
                    .and_then(|number| self.placed.get(number))
                    .cloned()
            };
            let said: Vec<String> = [word_of(group), word_of(next)]
                .into_iter()
                .flatten()
                .collect();
            self.add(group.clone(), next.clone(), said.join(" "));
        }
        Ok(())
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
