//! Why a kind stands where it stands: the chain of the user's words, parents and references, up to
//! what waits for nothing.
//!
//! Reads the same arrangement that the plan is made of; it decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::dependencies::Dependency;
use super::ordering::PlanOrder;
use super::reasons::reasons;
use super::selected::{SelectedKind, SkippedKind};
use super::words::counted_references;
use super::{Choices, Cycle, PlanError};
use crate::model::{Kind, KindInfo, Manifest, Namespace, Selector, UnmatchedSelector};

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
    /// The cycle that it is in, itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle: Option<Cycle>,
    /// What it comes after, each followed by what that comes after, up to what waits for nothing.
    pub after: Vec<ExplainedKind>,
    /// What comes after it.
    pub before: Vec<ExplainedKind>,
    /// What it needs although that is restored later.
    pub later: Vec<ExplainedKind>,
    /// What needs it although that is restored earlier.
    pub earlier: Vec<ExplainedKind>,
}

/// One pair of a chain, and what ties it to the one that it is about.
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
    /// What ties it: `parent`, `reference`, a number of references, or the user's word.
    pub by: String,
    /// How many references there are, where there are any and the archive says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<u64>,
    /// Why the tie does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_by: Option<&'static str>,
    /// Whether what it comes after is shown above in the chain.
    pub is_shown_above: bool,
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
    let mut shown = BTreeSet::new();
    let nodes = arrangement.order.iter().copied();
    let mut explained: Vec<Explanation> = nodes
        .filter(|&node| selector.matches(&ties.taken(node).pair))
        .map(|node| ties.explain(node, &reasons, &mut shown))
        .collect();
    let skipped = arrangement.skipped.iter();
    let skipped = skipped.filter(|skipped| selector.matches(&skipped.pair()));
    explained.extend(skipped.map(Explanation::from_skipped));
    if explained.is_empty() {
        return Err(PlanError::EmptySelection {
            option: "--explain".to_owned(),
            unmatched: UnmatchedSelector::new(selector, manifest.kinds.iter().map(KindInfo::pair)),
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
            cycle: None,
            after: Vec::new(),
            before: Vec::new(),
            later: Vec::new(),
            earlier: Vec::new(),
        }
    }
}

/// What ties two steps: a need of the data or the user's word.
#[derive(Clone, Copy)]
enum Tie<'a> {
    Need(&'a Dependency),
    Word(&'a str),
}

impl Tie<'_> {
    fn by(self) -> String {
        let need = match self {
            Tie::Word(word) => return word.to_owned(),
            Tie::Need(need) => need,
        };
        let counted = || need.references.map(counted_references);
        let reference = || counted().unwrap_or_else(|| "reference".to_owned());
        let parent = need.is_parent.then(|| "parent".to_owned());
        let reference = need.is_reference.then(reference);
        let both: Vec<String> = parent.into_iter().chain(reference).collect();
        both.join(", ")
    }

    fn references(self) -> Option<u64> {
        match self {
            Tie::Need(need) => need.references,
            Tie::Word(_) => None,
        }
    }
}

/// The steps that are tied to one, by their numbers.
type Ties<'a> = BTreeMap<usize, Tie<'a>>;

/// Who comes after whom, and why.
struct DependencyIndex<'a> {
    arrangement: &'a PlanOrder<'a>,
    /// For each step what its keys and properties need.
    needs: HashMap<usize, Vec<&'a Dependency>>,
    needed_by: HashMap<usize, Vec<&'a Dependency>>,
}

impl<'a> DependencyIndex<'a> {
    fn from_order(arrangement: &'a PlanOrder<'a>) -> Self {
        let mut ties = DependencyIndex {
            arrangement,
            needs: HashMap::new(),
            needed_by: HashMap::new(),
        };
        for need in &arrangement.needs {
            ties.needs.entry(need.by).or_default().push(need);
            ties.needed_by.entry(need.of).or_default().push(need);
        }
        ties
    }

    fn taken(&self, node: usize) -> &SelectedKind<'a> {
        self.arrangement.taken.get(node).expect(IS_STEP)
    }

    fn explain(&self, node: usize, reasons: &[String], shown: &mut BTreeSet<usize>) -> Explanation {
        let pair = &self.taken(node).pair;
        let cycle = self.arrangement.cycles.of(node);
        Explanation {
            namespace: pair.namespace.clone(),
            kind: pair.kind.clone(),
            step: Some(self.step(node)),
            reason: reasons.get(node).expect(IS_STEP).clone(),
            words: self.arrangement.words.about(node),
            cycle: cycle.map(|cycle| Cycle::from_steps(cycle, &self.arrangement.taken)),
            after: self.chain(node, shown),
            before: self.links(&self.all_before(node)),
            later: self.links(&self.needs_that(false, &self.needs, node, |need| need.of)),
            earlier: self.links(&self.needs_that(false, &self.needed_by, node, |need| need.by)),
        }
    }

    /// The step's number in the plan.
    fn step(&self, node: usize) -> u32 {
        let place = self.arrangement.place.get(node).expect(IS_STEP);
        u32::try_from(*place + 1).unwrap_or(u32::MAX)
    }

    /// What a step comes after. It may be tied to another in several ways; the user's word is
    /// shown.
    fn all_after(&self, node: usize) -> Ties<'a> {
        let mut ties = self.needs_that(true, &self.needs, node, |need| need.of);
        for (before, after, said) in self.arrangement.words.one_by_one() {
            if after.binary_search(&node).is_ok() {
                ties.extend(before.iter().map(|&other| (other, Tie::Word(said))));
            }
        }
        ties
    }

    /// What comes after a step.
    fn all_before(&self, node: usize) -> Ties<'a> {
        let mut ties = self.needs_that(true, &self.needed_by, node, |need| need.by);
        for (before, after, said) in self.arrangement.words.one_by_one() {
            if before.binary_search(&node).is_ok() {
                ties.extend(after.iter().map(|&other| (other, Tie::Word(said))));
            }
        }
        ties
    }

    /// The needs of a step that hold, or those that do not.
    fn needs_that(
        &self,
        are_met: bool,
        needs: &HashMap<usize, Vec<&'a Dependency>>,
        node: usize,
        other: fn(&Dependency) -> usize,
    ) -> Ties<'a> {
        let needs = needs.get(&node).into_iter().flatten();
        let needs = needs.filter(|need| self.arrangement.is_met(need) == are_met);
        needs.map(|&need| (other(need), Tie::Need(need))).collect()
    }

    /// The steps that are tied to one, as the plan orders them.
    fn links(&self, ties: &Ties<'_>) -> Vec<ExplainedKind> {
        let links = ties.iter().map(|(&other, &tie)| self.link(1, other, tie));
        let mut links: Vec<ExplainedKind> = links.collect();
        links.sort_by_key(|link| link.step);
        links
    }

    fn link(&self, depth: u32, other: usize, tie: Tie<'_>) -> ExplainedKind {
        let pair = &self.taken(other).pair;
        ExplainedKind {
            depth,
            step: self.step(other),
            namespace: pair.namespace.clone(),
            kind: pair.kind.clone(),
            by: tie.by(),
            references: tie.references(),
            broken_by: self.broken_by(tie),
            is_shown_above: false,
        }
    }

    /// Why a need does not hold.
    fn broken_by(&self, tie: Tie<'_>) -> Option<&'static str> {
        let Tie::Need(need) = tie else {
            return None;
        };
        let (cycles, placed) = (&self.arrangement.cycles, &self.arrangement.words.placed);
        let is_placed = placed.contains_key(&need.of) || placed.contains_key(&need.by);
        let breaks_cycle = match need.is_parent {
            true => cycles.are_both_parents(need.of, need.by),
            false => cycles.of_both(need.of, need.by).is_some() && !is_placed,
        };
        (!self.arrangement.is_met(need)).then_some(match breaks_cycle {
            true => "to break the cycle",
            false => "because of your order",
        })
    }

    /// The chain upwards, depth first. What a pair comes after is shown once.
    fn chain(&self, node: usize, shown: &mut BTreeSet<usize>) -> Vec<ExplainedKind> {
        let mut links = Vec::new();
        shown.insert(node);
        let mut stack = self.next_above(node, 1);
        while let Some((above, mut link)) = stack.pop() {
            if shown.insert(above) {
                stack.extend(self.next_above(above, link.depth.saturating_add(1)));
            } else {
                link.is_shown_above = !self.all_after(above).is_empty();
            }
            links.push(link);
        }
        links
    }

    /// What a step comes directly after, the first step last, as a stack takes it.
    fn next_above(&self, node: usize, depth: u32) -> Vec<(usize, ExplainedKind)> {
        let above = self.all_after(node).into_iter();
        let mut links: Vec<_> = above
            .map(|(other, tie)| (other, self.link(depth, other, tie)))
            .collect();
        links.sort_by_key(|(_, link)| std::cmp::Reverse(link.step));
        links
    }
}
