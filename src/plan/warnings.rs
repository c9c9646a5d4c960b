//! What a plan does not do although somebody may expect it: rules that match nothing, references that will lead nowhere.
//!
//! Knows a finished arrangement and the choices. None of this is a reason not to run the plan.

use std::collections::{BTreeMap, HashSet};

use super::arrangement::{Arrangement, exact_needs};
use super::{Choices, Into, TargetSpec};
use crate::model::{Manifest, Pair};

/// How many of those that refer to something missing are named.
const NAMED: usize = 3;

/// All that is worth a warning, what can do most harm first.
pub(super) fn warnings(manifest: &Manifest, arrangement: &Arrangement<'_>, choices: &Choices) -> Vec<String> {
    let mut warnings = Vec::new();
    if choices.selection.disaster_recovery && matches!(choices.target, TargetSpec::Datastore { .. }) {
        warnings.push("--disaster-recovery: the target may be the project that the backup was made of".to_owned());
    }
    for found in &choices.redaction.matches {
        if found.properties.is_empty() {
            warnings.push(format!("--redact {}: matches no property", found.rule));
        }
    }
    if let Some(sample) = choices.sample {
        if choices.into == Into::Replace {
            warnings.push(format!("--into replace: what the sample of {sample} leaves out is deleted from the target"));
        }
        if !choices.selection.with_needed {
            warnings.push(format!(
                "a sample of {sample}: entities may have parents and references that are not restored; --with-needed brings those too"
            ));
        }
    }
    warnings.extend(dangling(manifest, arrangement));
    warnings
}

/// Pairs that stand as parents or in references of what is restored, and are not restored.
fn dangling(manifest: &Manifest, arrangement: &Arrangement<'_>) -> Vec<String> {
    let restored: HashSet<&Pair> = arrangement.taken.iter().map(|taken| &taken.pair).collect();
    let held: HashSet<Pair> = manifest.kinds.iter().map(|item| item.pair()).collect();
    let mut missing: BTreeMap<Pair, Vec<&Pair>> = BTreeMap::new();
    for taken in &arrangement.taken {
        for (needed, _) in exact_needs(taken.item).filter(|(needed, _)| !restored.contains(needed)) {
            let by = missing.entry(needed).or_default();
            // A pair that is both parent and referred to comes twice, one behind the other of the same item.
            if by.last() != Some(&&taken.pair) {
                by.push(&taken.pair);
            }
        }
    }
    let told = |(pair, by): (Pair, Vec<&Pair>)| {
        let why = if held.contains(&pair) { "is left out" } else { "is not in the archive" };
        let named: Vec<String> = by.iter().take(NAMED).map(|pair| pair.to_string()).collect();
        let more = by.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{pair} {why}; keys or references to it: in {}{more}", named.join(", "))
    };
    missing.into_iter().map(told).collect()
}
