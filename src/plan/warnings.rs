//! What a plan does not do although somebody may expect it: rules that match nothing, references
//! that will lead nowhere.
//!
//! Knows a finished arrangement and the choices. None of this is a reason not to run the plan.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::ordering::PlanOrder;
use super::reasons::shortened;
use super::{Choices, OnExisting, PlanSelection};
use crate::model::{Kind, KindRef, Manifest, MissingKind, Namespace, TargetSpec};

/// How many pairs that are missing are named.
const NAMED: usize = 8;

/// All that is worth a warning, what can do most harm first.
pub(super) fn warnings(
    manifest: &Manifest,
    arrangement: &PlanOrder<'_>,
    choices: &Choices,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if choices.selection.disaster_recovery && matches!(choices.target, TargetSpec::Datastore { .. })
    {
        warnings.push(
            "--disaster-recovery: the target may be the project that the backup was made of"
                .to_owned(),
        );
    }
    warnings.extend(missing_kinds(manifest, &choices.selection).map(ToString::to_string));
    let restored: HashSet<&KindRef> = arrangement.taken.iter().map(|taken| &taken.pair).collect();
    let counts = manifest.accepted_counts();
    warnings.extend(
        counts
            .iter()
            .filter(|count| count.kinds.iter().any(|pair| restored.contains(pair)))
            .map(ToString::to_string),
    );
    for found in choices
        .redaction
        .matches
        .iter()
        .filter(|found| found.properties.is_empty())
    {
        warnings.push(match found.left_out.as_slice() {
            [] => format!("--redact {} matches no property of the archive", found.rule),
            left_out => {
                let names = shortened(left_out.iter().cloned(), left_out.len(), 1);
                format!(
                    "--redact {} matches only what is not restored: {names}",
                    found.rule
                )
            }
        });
    }
    if choices.redaction.key_is_short {
        warnings.push("KINDPACK_REDACT_KEY is short: whoever sees the restored data can find it, and values with it, by trying".to_owned());
    }
    if let Some(sample) = choices.sample {
        if choices.on_existing == OnExisting::Replace {
            warnings.push(format!("--on-existing replace: what the sample of {sample} leaves out is deleted from the target"));
        }
        if !choices.selection.with_dependencies {
            warnings.push(format!(
                "a sample of {sample}: entities may have parents and references that are not restored; --with-dependencies brings those too"
            ));
        }
    }
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

/// Pairs that stand as parents or in references of what is restored, and are not restored.
fn dangling(manifest: &Manifest, arrangement: &PlanOrder<'_>) -> impl Iterator<Item = String> {
    let restored: HashSet<&KindRef> = arrangement.taken.iter().map(|taken| &taken.pair).collect();
    let mut missing: BTreeMap<KindRef, BTreeSet<&KindRef>> = BTreeMap::new();
    for taken in &arrangement.taken {
        for (needed, _) in taken
            .item
            .needs()
            .filter(|(needed, _)| !restored.contains(needed))
        {
            missing.entry(needed).or_default().insert(&taken.pair);
        }
    }
    let held: HashSet<(&Namespace, &Kind)> = manifest
        .kinds
        .iter()
        .map(|item| (&item.namespace, &item.kind))
        .collect();
    let (left_out, absent): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|(pair, _)| held.contains(&(&pair.namespace, &pair.kind)));
    let told = |(what, missing): (&str, Vec<(KindRef, BTreeSet<&KindRef>)>)| {
        let names = missing.iter().map(|(pair, by)| {
            format!(
                "{pair} (from {})",
                shortened(by.iter().map(|pair| pair.to_string()), by.len(), 1)
            )
        });
        (!missing.is_empty()).then(|| {
            format!(
                "keys or references lead to what is {what}: {}",
                shortened(names, missing.len(), NAMED)
            )
        })
    };
    [("left out", left_out), ("not in the archive", absent)]
        .into_iter()
        .filter_map(told)
}
