//! Which targets are refused, and which ways into them cannot work: everything that can be said
//! before anything is sent.
//!
//! Knows the choices, the manifest and two variables of the environment. It reaches nothing.

use std::collections::{HashMap, HashSet};

use super::{Choices, Environment, OnExisting, PlanError, Step, WriteMethod};
use crate::model::address::without_user;
use crate::model::read_address;
use crate::model::{
    EntryInfo, ExportFormat, KindInfo, KindRef, Manifest, TargetPlace, TargetSpec, folded,
    pair_names,
};
use crate::store::is_bucket_address;

/// Fills in the emulator's address, and refuses a target that may not be the one that is meant.
pub(super) fn resolve_target(
    manifest: &Manifest,
    choices: &Choices,
    environment: &Environment,
) -> Result<TargetSpec, PlanError> {
    let target = resolve_address(&choices.target, environment)?;
    let source = &manifest.backup.project;
    if let TargetPlace::Service { project, .. } = target.place()
        && bare_project(project) == bare_project(source)
        && !choices.selection.disaster_recovery
    {
        let project = source.clone();
        return Err(PlanError::SourceProject { target, project });
    }
    Ok(target)
}

/// Fills in the emulator's address, and refuses an address that may not be the one that is meant.
///
/// # Errors
/// [`PlanError`] where the environment names another Datastore, or no emulator.
pub fn resolve_address(
    target: &TargetSpec,
    environment: &Environment,
) -> Result<TargetSpec, PlanError> {
    match target.place() {
        TargetPlace::Service { .. } => match environment.emulator_variable() {
            Some((variable, value)) => Err(PlanError::EmulatorVariableSet {
                target: target.clone(),
                variable: variable.to_owned(),
                value: without_user(value),
            }),
            None => Ok(target.clone()),
        },
        TargetPlace::Emulator { project, host } => resolve_emulator(project, host, environment),
        TargetPlace::Folder { .. } => Ok(target.clone()),
    }
}

/// The emulator with its address: its own, or the one of the environment.
fn resolve_emulator(
    project: &str,
    host: Option<&str>,
    environment: &Environment,
) -> Result<TargetSpec, PlanError> {
    let host = match (host, &environment.emulator_host) {
        (Some(host), _) => host.to_owned(),
        (None, Some(host)) => {
            read_address(host).map_err(|_| PlanError::InvalidEmulatorAddress {
                found: without_user(host),
            })?
        }
        (None, None) => {
            let project = project.to_owned();
            return Err(PlanError::NoEmulatorAddress { project });
        }
    };
    let is_google = is_googles(&host);
    let target = TargetSpec::Emulator {
        project: project.to_owned(),
        host: Some(host),
    };
    if is_google {
        return Err(PlanError::EmulatorAddressIsGoogle { target });
    }
    Ok(target)
}

/// Refuses ways that the target, or the import, cannot go whatever the archive holds.
pub(super) fn check_way(choices: &Choices) -> Result<(), PlanError> {
    let is_written_once = choices.target.path().is_some();
    if is_written_once && choices.on_existing != OnExisting::Fail {
        return Err(PlanError::WriteOnceTarget {
            on_existing: choices.on_existing,
            target: choices.target.clone(),
        });
    }
    let selection = &choices.selection;
    if selection.with_dependencies && selection.only.is_empty() && choices.sample.is_none() {
        return Err(PlanError::NothingToAdd);
    }
    match choices.via {
        WriteMethod::Commit => check_no_staging(choices.staging.as_deref()),
        WriteMethod::Import => {
            check_staging(&choices.target, choices.staging.as_deref())?;
            check_unchanged(choices)
        }
    }
}

fn check_no_staging(staging: Option<&str>) -> Result<(), PlanError> {
    match staging {
        Some(_) => Err(staging_error("it needs --via import")),
        None => Ok(()),
    }
}

/// Refuses a staging place that the target's own import cannot read.
fn check_staging(target: &TargetSpec, staging: Option<&str>) -> Result<(), PlanError> {
    let is_in_bucket = staging.is_some_and(is_bucket_address);
    match target.place() {
        TargetPlace::Folder { .. } => Err(no_import(format!("{target} has no import of its own"))),
        TargetPlace::Service { .. } if !is_in_bucket => Err(staging_error(
            "the service imports from a bucket: add --staging gs://BUCKET/NAME",
        )),
        TargetPlace::Emulator { .. } if is_in_bucket => Err(staging_error(
            "an emulator imports from a folder of this machine, not from a bucket",
        )),
        TargetPlace::Service { .. } | TargetPlace::Emulator { .. } => Ok(()),
    }
}

/// Refuses whatever changes entities: an import takes exports as they are.
fn check_unchanged(choices: &Choices) -> Result<(), PlanError> {
    let mut maps = choices.map_namespaces.iter();
    let changes = [
        (!choices.redaction.rules.is_empty(), "--redact"),
        (choices.sample.is_some(), "--sample or --limit"),
        (maps.any(|(from, to)| from != to), "--map-namespace"),
    ];
    match changes.iter().find(|(is_asked_for, _)| *is_asked_for) {
        Some((_, what)) => Err(no_import(format!(
            "an import takes exports unchanged, so it excludes {what}"
        ))),
        None => Ok(()),
    }
}

/// Refuses steps whose exports the target's own import would not take as they are, or of which it
/// would take more than the step.
pub(super) fn check_imports(manifest: &Manifest, taken: &[&KindInfo]) -> Result<(), PlanError> {
    let mut pairs_of: HashMap<&str, HashSet<KindRef>> = HashMap::new();
    for item in &manifest.kinds {
        for entry in &item.entries {
            pairs_of.entry(&entry.name).or_default().insert(item.pair());
        }
    }
    taken
        .iter()
        .try_for_each(|item| check_import(item, &pairs_of))
}

fn check_import(
    item: &KindInfo,
    pairs_of: &HashMap<&str, HashSet<KindRef>>,
) -> Result<(), PlanError> {
    check_managed(item)?;
    check_one_kind(item, pairs_of)?;
    check_not_encoded(item)
}

fn check_managed(item: &KindInfo) -> Result<(), PlanError> {
    if item.format != ExportFormat::LegacyBackup {
        return Ok(());
    }
    let pair = item.pair();
    Err(no_import(format!(
        "{pair} is a backup of the old Datastore Admin"
    )))
}

/// Refuses an export that holds another kind as well.
fn check_one_kind(
    item: &KindInfo,
    pairs_of: &HashMap<&str, HashSet<KindRef>>,
) -> Result<(), PlanError> {
    let pair = item.pair();
    let other_pair = |entry: &EntryInfo| {
        let pairs = pairs_of.get(entry.name.as_str())?;
        pairs.iter().filter(|other| **other != pair).min()
    };
    let Some(other) = item.entries.iter().find_map(other_pair) else {
        return Ok(());
    };
    Err(no_import(format!(
        "the export of {pair} holds {other} as well"
    )))
}

fn check_not_encoded(item: &KindInfo) -> Result<(), PlanError> {
    let mut entries = item.entries.iter();
    let Some(entry) = entries.find(|entry| entry.content_encoding.is_some()) else {
        return Ok(());
    };
    Err(no_import(format!(
        "{} of {} is stored encoded",
        entry.name,
        item.pair()
    )))
}

/// Refuses two steps that end in one place, unless the second may overwrite the first.
pub(super) fn check_collisions(steps: &[Step]) -> Result<(), PlanError> {
    let mut landed: HashMap<KindRef, &Step> = HashMap::new();
    for step in steps {
        if let Some(other) = landed.insert(step.to_pair(), step) {
            let [first, second] = [other, step].map(|step| step.namespace.clone());
            return Err(PlanError::Collision {
                kind: step.kind.clone(),
                first,
                second,
                to: step.to_namespace.clone(),
            });
        }
    }
    Ok(())
}

/// Refuses two steps that end in one file, where the target is a folder: it may be moved to a file
/// system that ignores case.
pub(super) fn check_files(target: &TargetSpec, steps: &[Step]) -> Result<(), PlanError> {
    if target.path().is_none() {
        return Ok(());
    }
    let mut written: HashMap<(String, String), &Step> = HashMap::new();
    for step in steps {
        let (namespace, kind) = pair_names(&step.to_pair());
        if let Some(other) = written.insert((folded(&namespace), folded(&kind)), step) {
            return Err(PlanError::SameFile {
                first: other.to_pair(),
                second: step.to_pair(),
            });
        }
    }
    Ok(())
}

fn no_import(reason: String) -> PlanError {
    PlanError::NoImport { reason }
}

fn staging_error(fault: &'static str) -> PlanError {
    PlanError::Staging { fault }
}

/// Whether an address leads to Google's own services, which would take an emulator's unguarded
/// writes for real ones.
fn is_googles(address: &str) -> bool {
    let name = address
        .rsplit_once(':')
        .map_or(address, |(name, _)| name)
        .trim_end_matches('.')
        .to_ascii_lowercase();
    ["googleapis.com", "google.com"].iter().any(|domain| {
        name.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// A project id as it can be compared: App Engine's `s~` and `e~` name a data centre, the service
/// takes any case, and who types `example.com:shop` beside `shop` has most likely the same one in
/// mind.
fn bare_project(project: &str) -> String {
    let id = project.rsplit_once('~').map_or(project, |(_, id)| id);
    let id = id.rsplit_once(':').map_or(id, |(_, id)| id);
    id.trim_matches(['.', '/', ' ']).to_lowercase()
}
