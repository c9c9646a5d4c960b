//! Why a kind stands where it stands: the chain of the user's words, parents and references, up to
//! what waits for nothing.
//!
//! Reads the same arrangement that the plan is made of; it decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::ordering::PlanOrder;
use super::reasons::reasons;
use super::selected::{SelectedKind, SkippedKind};
use super::{Choices, CycleMember, PlanError};
use crate::model::{Kind, Manifest, Namespace, Selector};

/// Why lists over the steps have an item for a node of the order.
const IS_STEP: &str = "the order numbers the steps, and each has a reason";

/// All about the place of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The namespace in the archive.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Its step as planned; none where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The reason, as the plan gives it.
    pub reason: String,
    /// The user's words that have a say in it.
    pub words: Vec<String>,
    /// The others of its cycle.
    pub cycle: Vec<CycleMember>,
    /// What it stands behind, each followed by what that stands behind, up to what waits for
    /// nothing.
    pub behind: Vec<ExplainedKind>,
    /// What waits for it.
    pub before: Vec<ExplainedKind>,
}

/// One pair of a chain, and what ties it to the one that it is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedKind {
    /// How far up the chain; 1 is next to the kind that was requested.
    pub depth: u32,
    /// The step as planned.
    pub step: u32,
    /// The namespace in the archive.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// What ties it: `parent`, `reference`, or the user's word.
    pub by: String,
    /// Whether the tie does not hold: both are in a cycle, or the user's word is against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub void: Option<&'static str>,
    /// Whether what it stands behind is told elsewhere in the chain.
    pub told: bool,
}

/// Explains the place of every pair that `selector` chooses.
///
/// # Errors
/// As [`super::plan`], and when the selector chooses nothing of the archive.
pub fn explain(
    manifest: &Manifest,
    choices: &Choices,
    selector: &Selector,
) -> Result<Vec<Explanation>, PlanError> {
    let arrangement = PlanOrder::new(manifest, choices)?;
    let reasons = reasons(&arrangement);
    let ties = DependencyIndex::from_order(&arrangement);
    // What a kind comes after is shown once for all kinds that are requested.
    let mut told = BTreeSet::new();
    let nodes = arrangement.numbered_runs().map(|(_, node)| node);
    let mut explained: Vec<Explanation> = nodes
        .filter(|&node| selector.matches(&ties.taken(node).pair))
        .map(|node| ties.explain(node, &reasons, &mut told))
        .collect();
    let skipped = arrangement.skipped.iter();
    explained.extend(
        skipped
            .filter(|skipped| selector.matches(&skipped.pair()))
            .map(Explanation::from_skipped),
    );
    if explained.is_empty() {
        return Err(PlanError::EmptySelection {
            option: "--explain".to_owned(),
            selector: selector.to_string(),
        });
    }
    explained.sort_by_key(|one| one.step.map_or(u32::MAX, |step| step));
    Ok(explained)
}

impl Explanation {
    fn from_skipped(skipped: &SkippedKind) -> Self {
        Explanation {
            namespace: skipped.namespace.clone(),
            kind: skipped.kind.clone(),
            step: None,
            reason: skipped.reason.clone(),
            words: Vec::new(),
            cycle: Vec::new(),
            behind: Vec::new(),
            before: Vec::new(),
        }
    }
}

#[derive(Clone, Copy)]
struct StepPlace {
    run: usize,
    step: u32,
}

/// Who stands behind whom, and why.
struct DependencyIndex<'a> {
    arrangement: &'a PlanOrder<'a>,
    place: HashMap<usize, StepPlace>,
    /// For each step those that its keys and properties need, and how.
    needs: HashMap<usize, Vec<(usize, &'static str)>>,
    needed_by: HashMap<usize, Vec<(usize, &'static str)>>,
}

impl<'a> DependencyIndex<'a> {
    fn from_order(arrangement: &'a PlanOrder<'a>) -> Self {
        let place = (1..)
            .zip(arrangement.numbered_runs())
            .map(|(step, (run, node))| (node, StepPlace { run, step }))
            .collect();
        let mut ties = DependencyIndex {
            arrangement,
            place,
            needs: HashMap::new(),
            needed_by: HashMap::new(),
        };
        for need in &arrangement.needs {
            let how = if need.parent { "parent" } else { "reference" };
            ties.needs.entry(need.by).or_default().push((need.of, how));
            ties.needed_by
                .entry(need.of)
                .or_default()
                .push((need.by, how));
        }
        ties
    }

    fn taken(&self, node: usize) -> &SelectedKind<'a> {
        self.arrangement.taken.get(node).expect(IS_STEP)
    }

    fn explain(&self, node: usize, reasons: &[String], told: &mut BTreeSet<usize>) -> Explanation {
        let pair = &self.taken(node).pair;
        Explanation {
            namespace: pair.namespace.clone(),
            kind: pair.kind.clone(),
            step: self.place.get(&node).map(|place| place.step),
            reason: reasons.get(node).expect(IS_STEP).clone(),
            words: self.arrangement.words.about(node),
            cycle: self.cycle(node),
            behind: self.behind(node, told),
            before: self.before(node),
        }
    }

    /// What a step should stand behind. It may be tied to another in several ways; the user's word
    /// is told.
    fn all_behind(&self, node: usize) -> BTreeMap<usize, &str> {
        let mut behind: BTreeMap<usize, &str> = self
            .needs
            .get(&node)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for (before, after, said) in self.arrangement.words.one_by_one() {
            if after.binary_search(&node).is_ok() {
                behind.extend(before.iter().map(|&other| (other, said)));
            }
        }
        behind
    }

    /// What should stand behind a step.
    fn all_before(&self, node: usize) -> BTreeMap<usize, &str> {
        let mut waiting: BTreeMap<usize, &str> = self
            .needed_by
            .get(&node)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for (before, after, said) in self.arrangement.words.one_by_one() {
            if before.binary_search(&node).is_ok() {
                waiting.extend(after.iter().map(|&other| (other, said)));
            }
        }
        waiting
    }

    fn cycle(&self, node: usize) -> Vec<CycleMember> {
        let run = self
            .place
            .get(&node)
            .and_then(|place| self.arrangement.runs.get(place.run));
        let others = run.into_iter().flatten().filter(|other| **other != node);
        let member = |&other: &usize| {
            self.arrangement
                .taken
                .get(other)
                .map(|taken| CycleMember::from_pair(&taken.pair))
        };
        others.filter_map(member).collect()
    }

    fn link(
        &self,
        depth: u32,
        of: usize,
        by: usize,
        how: &str,
        other: usize,
    ) -> Option<ExplainedKind> {
        let (first, second) = (self.place.get(&of)?, self.place.get(&by)?);
        let void = match first.run.cmp(&second.run) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some("in one cycle"),
            std::cmp::Ordering::Greater => Some("the user's word is against it"),
        };
        let pair = &self.arrangement.taken.get(other)?.pair;
        Some(ExplainedKind {
            depth,
            step: self.place.get(&other)?.step,
            namespace: pair.namespace.clone(),
            kind: pair.kind.clone(),
            by: how.to_owned(),
            void,
            told: false,
        })
    }

    fn before(&self, node: usize) -> Vec<ExplainedKind> {
        let waiting = self.all_before(node);
        let mut links: Vec<ExplainedKind> = waiting
            .iter()
            .filter_map(|(&by, how)| self.link(1, node, by, how, by))
            .collect();
        links.sort_by_key(|link| link.step);
        links
    }

    /// The chain upwards, depth first. What stands behind a pair is told once, and not beyond a tie
    /// that does not hold.
    fn behind(&self, node: usize, told: &mut BTreeSet<usize>) -> Vec<ExplainedKind> {
        let mut links = Vec::new();
        told.insert(node);
        let mut stack = self.next_above(node, 1);
        while let Some((above, mut link)) = stack.pop() {
            let goes_on = link.void.is_none() && self.is_behind_any(above);
            if goes_on && told.insert(above) {
                stack.extend(self.next_above(above, link.depth.saturating_add(1)));
            } else {
                link.told = goes_on;
            }
            links.push(link);
        }
        links
    }

    fn is_behind_any(&self, node: usize) -> bool {
        let mut words = self.arrangement.words.one_by_one();
        self.needs.contains_key(&node)
            || words
                .any(|(before, after, _)| !before.is_empty() && after.binary_search(&node).is_ok())
    }

    /// What stands directly above, the first step last, as a stack takes it.
    fn next_above(&self, node: usize, depth: u32) -> Vec<(usize, ExplainedKind)> {
        let above = self.all_behind(node);
        let mut links: Vec<_> = above
            .iter()
            .filter_map(|(&of, how)| Some((of, self.link(depth, of, node, how, of)?)))
            .collect();
        links.sort_by_key(|(_, link)| std::cmp::Reverse(link.step));
        links
    }
}
