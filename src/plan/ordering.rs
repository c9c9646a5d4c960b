//! Which pairs become steps, and in which order: what making a plan and explaining one have in
//! common.
//!
//! Knows the manifest and the user's selection. It must not know targets, nor how steps are written
//! down.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::constraints::{Constraints, from_choices};
use super::cycles::KindCycles;
use super::dependencies::{Dependency, needs, numbers};
use super::graph::{at, places};
use super::linear_order::{CycleEdges, Edge, arrange};
use super::selected::{SelectedKind, SkippedKind};
use super::{Choices, CycleLink, PlanError, PlanSelection};
use crate::model::{KindInfo, KindRef, Manifest, Selector, UnmatchedSelector};

/// What is restored, in order.
pub(super) struct PlanOrder<'a> {
    pub taken: Vec<SelectedKind<'a>>,
    pub skipped: Vec<SkippedKind>,
    /// Who needs a step that nobody chose.
    pub needed_by: BTreeMap<usize, usize>,
    pub needs: Vec<Dependency>,
    pub words: Constraints,
    /// The numbers of the steps, in order.
    pub order: Vec<usize>,
    /// Where each step stands, by its number.
    pub place: Vec<usize>,
    pub cycles: KindCycles,
}

impl<'a> PlanOrder<'a> {
    /// Chooses and orders.
    pub fn new(manifest: &'a Manifest, choices: &Choices) -> Result<Self, PlanError> {
        let selection = &choices.selection;
        let items = sorted_items(manifest)?;
        check_choices(&items, choices)?;
        let pulled = pulled_in(&items, selection);
        let (taken, skipped) = divide(items, &pulled, selection);
        let needed_by = needed_by(&taken, &pulled);

        let bytes: Vec<u64> = taken.iter().map(|taken| taken.item.bytes).collect();
        let needs = needs(&taken);
        let edges: Vec<Edge> = needs.iter().map(Dependency::edge).collect();
        let words = from_choices(&taken, selection)?;
        let order = arrange(&bytes, &edges, &words.wishes)
            .map_err(|cycle| constraint_cycle(cycle, &taken, &words))?;
        let place = places(&order);
        Ok(PlanOrder {
            cycles: KindCycles::new(&needs, &order, &place),
            taken,
            skipped,
            needed_by,
            needs,
            words,
            order,
            place,
        })
    }

    /// Whether a need holds: what is needed is restored before what needs it.
    pub fn is_met(&self, need: &Dependency) -> bool {
        at(&self.place, need.of) < at(&self.place, need.by)
    }
}

/// What becomes a step, and what is left out.
fn divide<'a>(
    items: Vec<&'a KindInfo>,
    pulled: &HashMap<KindRef, KindRef>,
    selection: &PlanSelection,
) -> (Vec<SelectedKind<'a>>, Vec<SkippedKind>) {
    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    for item in items {
        let pair = item.pair();
        match reason_to_skip(&pair, selection) {
            Some(reason) if !pulled.contains_key(&pair) => skipped.push(SkippedKind {
                namespace: pair.namespace,
                kind: pair.kind,
                reason,
            }),
            _ => taken.push(SelectedKind { pair, item }),
        }
    }
    (taken, skipped)
}

fn needed_by(
    taken: &[SelectedKind<'_>],
    pulled: &HashMap<KindRef, KindRef>,
) -> BTreeMap<usize, usize> {
    let number = numbers(taken);
    pulled
        .iter()
        .filter_map(|(pair, by)| Some((*number.get(pair)?, *number.get(by)?)))
        .collect()
}

/// The wishes of a cycle, in the user's words.
fn constraint_cycle(
    CycleEdges(circle): CycleEdges,
    taken: &[SelectedKind<'_>],
    words: &Constraints,
) -> PlanError {
    let link = |(node, wish): (usize, usize)| {
        Some(CycleLink {
            pair: taken.get(node)?.pair.clone(),
            word: words.said.get(wish)?.clone(),
        })
    };
    PlanError::ConstraintCycle {
        circle: circle.into_iter().filter_map(link).collect(),
    }
}

fn sorted_items(manifest: &Manifest) -> Result<Vec<&KindInfo>, PlanError> {
    let mut items: Vec<&KindInfo> = manifest.kinds.iter().collect();
    items.sort_by(|a, b| (&a.namespace, &a.kind).cmp(&(&b.namespace, &b.kind)));
    let mut neighbours = items.iter().zip(items.iter().skip(1));
    match neighbours.find(|(a, b)| a.namespace == b.namespace && a.kind == b.kind) {
        Some((item, _)) => Err(PlanError::RepeatedKind { pair: item.pair() }),
        None => Ok(items),
    }
}

/// A misspelt choice must not pass in silence, so each has to match something in the archive, if
/// only what is skipped.
fn check_choices(items: &[&KindInfo], choices: &Choices) -> Result<(), PlanError> {
    check_selectors(items, &choices.selection)?;
    check_constraints(items, &choices.selection)?;
    check_maps(items, choices)
}

fn check_selectors(items: &[&KindInfo], selection: &PlanSelection) -> Result<(), PlanError> {
    for (option, selector) in selection.selectors() {
        let is_chosen = |item: &&KindInfo| selector.matches_names(&item.namespace, &item.kind);
        if !items.iter().any(is_chosen) {
            return Err(PlanError::EmptySelection {
                option,
                unmatched: UnmatchedSelector::new(selector, items.iter().map(|item| item.pair())),
            });
        }
    }
    Ok(())
}

fn check_constraints(items: &[&KindInfo], selection: &PlanSelection) -> Result<(), PlanError> {
    for (option, after) in selection.depends_on() {
        let is_on_both_sides_or_none = |item: &&KindInfo| {
            let matches = |side: &Selector| side.matches_names(&item.namespace, &item.kind);
            matches(&after.step) == matches(&after.needs)
        };
        if items.iter().all(is_on_both_sides_or_none) {
            return Err(PlanError::EmptyConstraint {
                word: format!("{option} {after}"),
            });
        }
    }
    Ok(())
}

fn check_maps(items: &[&KindInfo], choices: &Choices) -> Result<(), PlanError> {
    for (from, to) in &choices.map_namespaces {
        let is_named = |item: &&KindInfo| {
            let mut references = item.reference_pairs.iter();
            item.namespace == *from || references.any(|pair| pair.namespace == *from)
        };
        if !items.iter().any(is_named) {
            return Err(PlanError::UnknownNamespace {
                from: from.clone(),
                to: to.clone(),
            });
        }
    }
    Ok(())
}

/// Why a pair stays out whatever needs it.
fn reason_to_refuse(pair: &KindRef, selection: &PlanSelection) -> Option<String> {
    if pair.is_lease() {
        return Some("the mark of another restore".to_owned());
    }
    selection
        .exclude
        .iter()
        .find(|skip| skip.matches(pair))
        .map(|skip| format!("--exclude {skip}"))
}

fn reason_to_skip(pair: &KindRef, selection: &PlanSelection) -> Option<String> {
    if let Some(reason) = reason_to_refuse(pair, selection) {
        return Some(reason);
    }
    (!selection.is_chosen(pair)).then(|| "not chosen by --only".to_owned())
}

/// With `--with-dependencies`: who pulled each pair in that the user has not chosen. What is
/// skipped by name stays out.
fn pulled_in(items: &[&KindInfo], selection: &PlanSelection) -> HashMap<KindRef, KindRef> {
    let mut pulled = HashMap::new();
    if !selection.with_dependencies {
        return pulled;
    }
    let by_pair: HashMap<KindRef, &KindInfo> =
        items.iter().map(|item| (item.pair(), *item)).collect();
    let chosen = items
        .iter()
        .filter(|item| reason_to_skip(&item.pair(), selection).is_none());
    let mut queue: VecDeque<&KindInfo> = chosen.copied().collect();
    let mut seen: HashSet<KindRef> = queue.iter().map(|item| item.pair()).collect();
    while let Some(item) = queue.pop_front() {
        for (pair, _) in item.needs() {
            let Some(needed) = by_pair.get(&pair) else {
                continue;
            };
            if reason_to_refuse(&pair, selection).is_none() && seen.insert(pair.clone()) {
                pulled.insert(pair, item.pair());
                queue.push_back(needed);
            }
        }
    }
    pulled
}
