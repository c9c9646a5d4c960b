//! The plan: a manifest and the user's choices put in order for one target.
//!
//! Pure: no I/O, no clock, no randomness. It knows what the archive's manifest says of each kind,
//! and must not know how an archive is read or how a target is reached.

mod choices;
mod concurrency;
mod constraints;
mod cycles;
mod dependencies;
mod document;
mod error;
mod estimate;
mod explain;
mod feedback;
mod fields;
mod graph;
mod guards;
mod linear_order;
mod ordering;
pub mod profile;
mod reasons;
mod selected;
mod warnings;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use choices::{
    ChoiceError, Choices, DependencyRule, Environment, Hooks, NamespaceMap, OnExisting, OrderFile,
    PlanSelection, Redaction, RuleMatch, WriteMethod,
};
pub use concurrency::{StepQueue, WaitGraph};
pub use document::{
    ArchiveRef, CheckedPlan, Cycle, CycleMember, LaterKind, PLAN_FORMAT, Plan, PlanHead,
    PlanTotals, Step,
};
pub use error::{CycleLink, PlanClass, PlanError};
pub use explain::{ExplainedKind, Explanation, explain};

use crate::model::{Kind, Manifest};
use crate::transform::redact::RuleSet;
use estimate::sizes;
use graph::{at, item_mut};
pub use guards::resolve_address;
use guards::{check_collisions, check_files, check_imports, check_way, resolve_target};
use ordering::PlanOrder;
use reasons::reasons;
use selected::SelectedKind;
pub use selected::SkippedKind;
pub use warnings::missing_kinds;
use warnings::warnings;

/// Orders what `choices` take of `manifest` into steps for one target.
///
/// The same arguments give the same plan, byte for byte, in whatever order the manifest lists its
/// kinds. The user's word goes first (`--first`, `--last`, `--depends-on`), then what the data
/// says, then small before big:
///
/// * A step comes after the steps of all kinds that stand as ancestors in its keys, and of all
///   pairs that its properties refer to.
/// * In a cycle parents still come before children, and as few references as possible point at a
///   kind that is restored later. Each step lists those, and the plan names the cycle.
///
/// # Errors
/// When a choice matches nothing, when the user's words contradict one another, when two steps
/// would land in one place, or when the target may be the wrong one.
pub fn plan(
    manifest: &Manifest,
    archive: &ArchiveRef,
    choices: &Choices,
    environment: &Environment,
) -> Result<Plan, PlanError> {
    let target = resolve_target(manifest, choices, environment)?;
    check_way(choices)?;
    check_redaction(manifest, &choices.redaction)?;
    let arrangement = PlanOrder::new(manifest, choices)?;
    if choices.via == WriteMethod::Import {
        let items = arrangement.taken.iter().map(|taken| taken.item);
        check_imports(manifest, &items.collect::<Vec<_>>())?;
    }
    let steps = steps(&arrangement, choices);
    if choices.on_existing != OnExisting::Merge {
        check_collisions(&steps)?;
    }
    check_files(&target, &steps)?;
    let head = PlanHead::new(manifest, archive, target, choices);
    Ok(Plan {
        cycles: cycles(&arrangement),
        warnings: warnings(manifest, &arrangement, choices),
        totals: PlanTotals::from_steps(&steps, &head.choices.target, choices.via),
        steps,
        skipped: arrangement.skipped,
        seal: head.digest(),
        head,
    })
}

/// The kinds that need one another in a circle.
fn cycles(arrangement: &PlanOrder<'_>) -> Vec<Cycle> {
    let cycles = arrangement.cycles.cycles.iter();
    cycles
        .map(|cycle| Cycle::from_steps(cycle, &arrangement.taken))
        .collect()
}

/// What each step refers to that is restored later, by its number.
fn later_kinds(arrangement: &PlanOrder<'_>) -> Vec<Vec<LaterKind>> {
    let mut later = vec![Vec::new(); arrangement.taken.len()];
    let unmet = arrangement
        .needs
        .iter()
        .filter(|need| !arrangement.is_met(need));
    let mut unmet: Vec<_> = unmet.filter(|need| need.is_reference).collect();
    unmet.sort_by_key(|need| at(&arrangement.place, need.of));
    for need in unmet {
        let taken = arrangement.taken.get(need.of);
        item_mut(&mut later, need.by).extend(taken.map(|taken| LaterKind {
            namespace: taken.pair.namespace.clone(),
            kind: taken.pair.kind.clone(),
            references: need.references,
        }));
    }
    later
}

/// The steps, in order, each with its reason and what it brings.
fn steps(arrangement: &PlanOrder<'_>, choices: &Choices) -> Vec<Step> {
    let reasons = reasons(arrangement);
    let sizes = sizes(arrangement, choices);
    let maps = &choices.map_namespaces;
    let later = later_kinds(arrangement);
    let step = |(id, &node): (u32, &usize)| {
        let SelectedKind { pair, item } = arrangement.taken.get(node)?;
        let size = sizes.get(node)?;
        let to_namespace = maps.get(&pair.namespace).unwrap_or(&pair.namespace);
        Some(Step {
            id,
            namespace: pair.namespace.clone(),
            kind: pair.kind.clone(),
            to_namespace: to_namespace.clone(),
            entities: size.entities,
            of_entities: choices.sample.map(|_| item.entities),
            bytes: size.bytes,
            deletes: choices.on_existing == OnExisting::Replace,
            reason: reasons.get(node)?.clone(),
            later: later.get(node)?.clone(),
        })
    };
    (1..).zip(&arrangement.order).filter_map(step).collect()
}

/// A hash without its key is none. A misspelt rule, be it the kind or the property, would let
/// through what it is to hide.
fn check_redaction(manifest: &Manifest, redaction: &Redaction) -> Result<(), PlanError> {
    check_key(redaction)?;
    let rules = RuleSet::new(&redaction.rules, named_kinds(manifest))?;
    for (number, found) in redaction.matches.iter().enumerate() {
        let is_idle = found.properties.is_empty() && found.left_out.is_empty();
        if is_idle && !found.rule.is_optional() && !names_empty_kinds(manifest, &rules, number) {
            let rule = found.rule.to_string();
            return Err(PlanError::RuleMatchesNothing {
                rule,
                nearest: None,
            });
        }
    }
    Ok(())
}

fn check_key(redaction: &Redaction) -> Result<(), PlanError> {
    let mut rules = redaction.rules.iter();
    match rules.find(|rule| rule.needs_key()) {
        Some(rule) if redaction.key_id.is_none() => Err(PlanError::NoRedactKey {
            rule: rule.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Whether a rule names kinds, but only such without entities: of those nothing can be let through.
fn names_empty_kinds(manifest: &Manifest, rules: &RuleSet, number: usize) -> bool {
    let kinds = manifest.kinds.iter();
    let mut named = kinds
        .filter(|item| rules.names_kind(number, &item.kind))
        .peekable();
    named.peek().is_some() && named.all(|item| item.entities == 0)
}

/// Every kind that rules may name: those that the archive holds, and those that stand in its keys
/// and references.
pub fn named_kinds(manifest: &Manifest) -> BTreeSet<&Kind> {
    manifest
        .kinds
        .iter()
        .flat_map(|item| {
            let elsewhere = item.reference_pairs.iter().map(|pair| &pair.kind);
            [&item.kind]
                .into_iter()
                .chain(&item.parents)
                .chain(&item.references)
                .chain(elsewhere)
        })
        .collect()
}
