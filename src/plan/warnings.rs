//! What a plan does not do although somebody may expect it: rules that match nothing, references
//! that will lead nowhere.
//!
//! Knows a finished arrangement and the choices. None of this is a reason not to run the plan.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::ordering::PlanOrder;
use super::words::shortened;
use super::{Choices, OnExisting, PlanSelection, Redaction, RuleMatch};
use crate::model::{Kind, KindRef, Manifest, MissingKind, Namespace};

/// How many pairs that are missing are named.
const NAMED: usize = 8;

/// All that is worth a warning, what can do most harm first.
pub(super) fn warnings(
    manifest: &Manifest,
    arrangement: &PlanOrder<'_>,
    choices: &Choices,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if choices.selection.disaster_recovery && choices.target.is_real_service() {
        warnings.push(
            "--disaster-recovery: the target may be the project that the backup was made of"
                .to_owned(),
        );
    }
    if arrangement.taken.is_empty() && !manifest.kinds.is_empty() {
        warnings.push("nothing is left to restore".to_owned());
    }
    warnings.extend(missing_kinds(manifest, &choices.selection).map(ToString::to_string));
    warnings.extend(late_parents(arrangement));
    warnings.extend(wrong_counts(manifest, arrangement));
    warnings.extend(redaction_warnings(&choices.redaction));
    warnings.extend(sample_warnings(choices));
    warnings.extend(dangling(manifest, arrangement));
    warnings
}

/// Kinds that the backup lacks and the user's words would take.
pub fn missing_kinds<'a>(
    manifest: &'a Manifest,
    selection: &'a PlanSelection,
) -> impl Iterator<Item = &'a MissingKind> {
    let is_taken = |missing: &&MissingKind| selection.takes(&missing.pair());
    manifest.missing.iter().filter(is_taken)
}

/// Kinds that are restored before their parents: by the user's word, or because their parents form
/// a cycle.
fn late_parents(arrangement: &PlanOrder<'_>) -> impl Iterator<Item = String> {
    let parents = arrangement.needs.iter().filter(|need| need.is_parent);
    let late = parents.filter(|need| !arrangement.is_met(need));
    let cycles = &arrangement.cycles;
    let (in_cycle, by_word): (Vec<_>, Vec<_>) =
        late.partition(|need| cycles.are_both_parents(need.of, need.by));
    let name = |node: usize| arrangement.taken.get(node).map(|taken| &taken.pair);
    let late = [("a cycle of parents", in_cycle), ("your order", by_word)].into_iter();
    late.filter(|(_, needs)| !needs.is_empty())
        .map(move |(because, needs)| {
            let names = needs.iter().filter_map(|need| {
                Some(format!(
                    "{} (parent {})",
                    name(need.by)?,
                    name(need.of)?.kind
                ))
            });
            let names = shortened(names, needs.len(), NAMED);
            format!("restored before their parents, because of {because}: {names}")
        })
}

/// Counts of what is restored that were wrong when it was packed.
fn wrong_counts(manifest: &Manifest, arrangement: &PlanOrder<'_>) -> Vec<String> {
    let restored: HashSet<&KindRef> = arrangement.taken.iter().map(|taken| &taken.pair).collect();
    let counts = manifest.accepted_counts();
    let restored = counts
        .iter()
        .filter(|count| count.kinds.iter().any(|pair| restored.contains(pair)));
    restored.map(ToString::to_string).collect()
}

fn redaction_warnings(redaction: &Redaction) -> Vec<String> {
    let matches = redaction.matches.iter();
    let idle = matches.filter(|found| found.properties.is_empty());
    let mut warnings: Vec<String> = idle.map(idle_rule).collect();
    if redaction.key_is_short {
        warnings.push("KINDPACK_REDACT_KEY is short: anyone with the restored data could guess the key, and then the values".to_owned());
    }
    warnings
}

fn idle_rule(RuleMatch { rule, left_out, .. }: &RuleMatch) -> String {
    if left_out.is_empty() {
        return format!("--redact {rule} matches no property of the archive");
    }
    let names = shortened(left_out.iter().cloned(), left_out.len(), 1);
    format!("--redact {rule} matches only what is not restored: {names}")
}

fn sample_warnings(choices: &Choices) -> Vec<String> {
    let Some(sample) = choices.sample else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    if choices.on_existing == OnExisting::Replace {
        warnings.push(format!("--on-existing replace: what the sample of {sample} leaves out is deleted from the target"));
    }
    if !choices.selection.with_dependencies {
        warnings.push(format!(
            "a sample of {sample}: entities may have parents and references that are not restored; --with-dependencies brings those too"
        ));
    }
    warnings
}

/// A pair that is not restored, and the pairs that name it.
type Unrestored<'a> = (KindRef, BTreeSet<&'a KindRef>);

/// Pairs that stand as parents or in references of what is restored, and are not restored.
fn dangling(manifest: &Manifest, arrangement: &PlanOrder<'_>) -> impl Iterator<Item = String> {
    let kinds = manifest.kinds.iter();
    let held: HashSet<(&Namespace, &Kind)> =
        kinds.map(|item| (&item.namespace, &item.kind)).collect();
    let (left_out, absent): (Vec<_>, Vec<_>) = unrestored(arrangement)
        .into_iter()
        .partition(|(pair, _)| held.contains(&(&pair.namespace, &pair.kind)));
    [("left out", left_out), ("not in the archive", absent)]
        .into_iter()
        .filter(|(_, missing)| !missing.is_empty())
        .map(|(what, missing)| dangling_warning(what, &missing))
}

fn unrestored<'a>(arrangement: &'a PlanOrder<'_>) -> BTreeMap<KindRef, BTreeSet<&'a KindRef>> {
    let restored: HashSet<&KindRef> = arrangement.taken.iter().map(|taken| &taken.pair).collect();
    let mut missing: BTreeMap<KindRef, BTreeSet<&KindRef>> = BTreeMap::new();
    for taken in &arrangement.taken {
        let needed = taken.item.needs().map(|(needed, _)| needed);
        for needed in needed.filter(|needed| !restored.contains(needed)) {
            missing.entry(needed).or_default().insert(&taken.pair);
        }
    }
    missing
}

fn dangling_warning(what: &str, missing: &[Unrestored<'_>]) -> String {
    let names = missing.iter().map(|(pair, by)| {
        let by = shortened(by.iter().map(|pair| pair.to_string()), by.len(), 1);
        format!("{pair} (from {by})")
    });
    let names = shortened(names, missing.len(), NAMED);
    format!(
        "some keys and references lead nowhere after the restore, to kinds that are {what}: {names}"
    )
}
