//! The plan: a manifest and the user's choices put in order for one target.
//!
//! Pure: no I/O, no clock, no randomness. It knows what the archive's manifest says of each kind, and must not know how an
//! archive is read or how a target is reached.

mod choices;
mod document;
mod error;
mod needs;
mod order;
mod reasons;
mod target;
mod waits;
mod words;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use choices::{After, ChoiceError, Choices, Environment, Hooks, Into, NamespaceMap, Redaction, Selection, Via};
pub use document::{ArchiveRef, Member, PLAN_FORMAT, Plan, PlanTotals, Skipped, Step};
pub use error::{Before, PlanClass, PlanError};
pub use target::TargetSpec;

use crate::model::{KindItem, Manifest, Pair, Selector, Sha256};
use needs::{Need, needs};
use order::{Contradiction, Link, arrange};
use reasons::reasons;
use words::words;

/// Orders what `choices` take of `manifest` into steps for one target.
///
/// The same arguments give the same plan, byte for byte, in whatever order the manifest lists its kinds. The user's word
/// goes first (`--first`, `--last`, `--after`), then what the data says, then small before big:
///
/// * A step comes after the steps of all kinds that stand as ancestors in its keys, of all pairs that its properties refer
///   to, and of the kinds of the same names in its own namespace. (Namespaces of one application mirror one another; who
///   refers to `Product` somewhere will rather find its own `Product` there.)
/// * Kinds that need one another in a circle stand together; the plan names them. Where such a circle runs through several
///   namespaces, the order within each namespace still holds.
///
/// # Errors
/// When a choice matches nothing, when the user's words contradict one another, when two steps would land in one place,
/// or when the target may be the wrong one.
pub fn plan(manifest: &Manifest, archive: &ArchiveRef, choices: &Choices, environment: &Environment) -> Result<Plan, PlanError> {
    let selection = &choices.selection;
    let target = resolve_target(manifest, choices, environment)?;
    let items = sorted_items(manifest)?;
    check_choices(&items, choices)?;

    let mut taken = Vec::new();
    let mut skipped = Vec::new();
    for item in items {
        let pair = item.pair();
        match reason_to_skip(&pair, selection) {
            Some(because) => skipped.push(Skipped { namespace: pair.namespace, kind: pair.kind, because }),
            None => taken.push(Taken { pair, item }),
        }
    }

    let bytes: Vec<u64> = taken.iter().map(|taken| taken.item.bytes).collect();
    let needs = needs(&taken);
    let links: Vec<Link> = needs.iter().map(Need::link).collect();
    let words = words(&taken, selection)?;
    let runs = arrange(&bytes, &links, &words.wishes).map_err(|Contradiction(circle)| PlanError::Contradiction {
        circle: circle
            .into_iter()
            .filter_map(|(node, wish)| Some(Before { pair: taken.get(node)?.pair.clone(), word: words.said.get(wish)?.clone() }))
            .collect(),
    })?;

    let reasons = reasons(&taken, &needs, &words, &runs);
    let steps: Vec<Step> = (1..)
        .zip(runs.iter().flatten())
        .filter_map(|(id, &node)| {
            let Taken { pair, item } = taken.get(node)?;
            Some(Step {
                id,
                namespace: pair.namespace.clone(),
                kind: pair.kind.clone(),
                to_namespace: choices.map_namespaces.get(&pair.namespace).unwrap_or(&pair.namespace).clone(),
                entities: item.entities,
                bytes: item.bytes,
                because: reasons.get(node)?.clone(),
            })
        })
        .collect();
    if choices.into == Into::Empty {
        check_collisions(&steps)?;
    }
    let member =
        |&node: &usize| taken.get(node).map(|taken| Member { namespace: taken.pair.namespace.clone(), kind: taken.pair.kind.clone() });
    let mut plan = Plan {
        format: PLAN_FORMAT.to_owned(),
        tool: document::TOOL.to_owned(),
        archive: archive.clone(),
        project: manifest.backup.project.clone(),
        target,
        via: choices.via,
        into: choices.into,
        maps: choices.map_namespaces.clone(),
        choices: selection.clone(),
        staging: choices.staging.clone(),
        redaction: choices.redaction.clone(),
        sample: choices.sample,
        hooks: choices.hooks.clone(),
        cycles: runs.iter().filter(|run| run.len() > 1).map(|run| run.iter().filter_map(member).collect()).collect(),
        totals: PlanTotals::of(&steps),
        steps,
        skipped,
        seal: Sha256([0; 32]),
    };
    plan.seal = plan.head_digest();
    Ok(plan)
}

/// An item that becomes a step. Everything below names it by its number, which follows namespace and kind.
struct Taken<'a> {
    pair: Pair,
    item: &'a KindItem,
}

/// Fills in the emulator's address, and refuses a target that may not be the one that is meant.
fn resolve_target(manifest: &Manifest, choices: &Choices, environment: &Environment) -> Result<TargetSpec, PlanError> {
    let target = choices.target.clone();
    match (&choices.target, &environment.emulator_host) {
        (TargetSpec::Datastore { .. }, Some(host)) => Err(PlanError::Doubtful { target, emulator_host: host.clone() }),
        (TargetSpec::Datastore { project, .. }, None) => {
            let source = &manifest.backup.project;
            if bare_project(project) == bare_project(source) && !choices.selection.disaster_recovery {
                return Err(PlanError::SourceProject { target, project: source.clone() });
            }
            Ok(target)
        }
        (TargetSpec::Emulator { project, host }, variable) => {
            let host = match (host, variable) {
                (Some(host), _) => host,
                (None, Some(host)) if target::check_address(host).is_ok() => host,
                (None, Some(host)) => return Err(PlanError::BadEmulatorAddress { found: host.clone() }),
                (None, None) => return Err(PlanError::NoEmulatorAddress { project: project.clone() }),
            };
            let target = TargetSpec::Emulator { project: project.clone(), host: Some(host.clone()) };
            if is_googles(host) { Err(PlanError::RealService { target }) } else { Ok(target) }
        }
        (TargetSpec::Dir(_) | TargetSpec::Ndjson(_), _) => Ok(target),
    }
}

/// Whether an address leads to Google's own services, which would take an emulator's unguarded writes for real ones.
fn is_googles(address: &str) -> bool {
    let name = address.rsplit_once(':').map_or(address, |(name, _)| name).trim_end_matches('.').to_ascii_lowercase();
    ["googleapis.com", "google.com"]
        .iter()
        .any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// A project id as it can be compared: App Engine's `s~` and `e~` name a data centre, and the service takes any case.
fn bare_project(project: &str) -> String {
    project.rsplit('~').next().unwrap_or_default().to_lowercase()
}

fn sorted_items(manifest: &Manifest) -> Result<Vec<&KindItem>, PlanError> {
    let mut items: Vec<&KindItem> = manifest.kinds.iter().collect();
    items.sort_by(|a, b| (&a.namespace, &a.kind).cmp(&(&b.namespace, &b.kind)));
    match items.iter().zip(items.iter().skip(1)).find(|(a, b)| a.namespace == b.namespace && a.kind == b.kind) {
        Some((item, _)) => Err(PlanError::RepeatedKind { pair: item.pair() }),
        None => Ok(items),
    }
}

/// A misspelt choice must not pass in silence, so each has to match something in the archive, if only what is skipped.
fn check_choices(items: &[&KindItem], choices: &Choices) -> Result<(), PlanError> {
    let pairs: Vec<Pair> = items.iter().map(|item| item.pair()).collect();
    let selection = &choices.selection;
    let sides = |side: fn(&After) -> &Selector| selection.after.iter().map(side);
    let given = selection.only.iter().map(|s| ("--only", s));
    let given = given.chain(selection.skip.iter().map(|s| ("--skip", s))).chain(selection.first.iter().map(|s| ("--first", s)));
    let given = given.chain(selection.last.iter().map(|s| ("--last", s)));
    let given = given.chain(sides(|after| &after.step).chain(sides(|after| &after.needs)).map(|s| ("--after", s)));
    for (option, selector) in given {
        if !pairs.iter().any(|pair| selector.matches(pair)) {
            return Err(PlanError::NothingChosen { option, selector: selector.to_string() });
        }
    }
    for after in &selection.after {
        if pairs.iter().all(|pair| after.step.matches(pair) == after.needs.matches(pair)) {
            return Err(PlanError::OrdersNothing { after: after.to_string() });
        }
    }
    for (from, to) in &choices.map_namespaces {
        let named = |item: &&KindItem| item.namespace == *from || item.reference_pairs.iter().any(|pair| pair.namespace == *from);
        if !items.iter().any(named) {
            return Err(PlanError::UnknownNamespace { from: from.clone(), to: to.clone() });
        }
    }
    Ok(())
}

fn reason_to_skip(pair: &Pair, selection: &Selection) -> Option<String> {
    if let Some(skip) = selection.skip.iter().find(|skip| skip.matches(pair)) {
        return Some(format!("--skip {skip}"));
    }
    let left_out = !selection.only.is_empty() && !selection.only.iter().any(|only| only.matches(pair));
    left_out.then(|| "not chosen by --only".to_owned())
}

fn check_collisions(steps: &[Step]) -> Result<(), PlanError> {
    let mut landed: HashMap<Pair, &Step> = HashMap::new();
    for step in steps {
        if let Some(other) = landed.insert(step.to_pair(), step) {
            let [first, second] = [other, step].map(|step| step.namespace.clone());
            return Err(PlanError::Collision { kind: step.kind.clone(), first, second, to: step.to_namespace.clone() });
        }
    }
    Ok(())
}
