//! Which targets are refused, and which ways into them cannot work: everything that can be said
//! before anything is sent.
//!
//! Knows the choices, the manifest and two variables of the environment. It reaches nothing.

use std::collections::{HashMap, HashSet};

use super::{Choices, Environment, OnExisting, PlanError, Step, WriteMethod};
use crate::model::address::without_user;
use crate::model::read_address;
use crate::model::{
    EntryInfo, ExportFormat, KindInfo, KindRef, Manifest, TargetSpec, folded, pair_names,
};

/// Fills in the emulator's address, and refuses a target that may not be the one that is meant.
pub(super) fn resolve_target(
    manifest: &Manifest,
    choices: &Choices,
    environment: &Environment,
) -> Result<TargetSpec, PlanError> {
    let target = choices.target.clone();
    match &choices.target {
        TargetSpec::Datastore { project, .. } => {
            if let Some((variable, value)) = environment.emulator_variable() {
                return Err(PlanError::EmulatorVariableSet {
                    target,
                    variable: variable.to_owned(),
                    value: without_user(value),
                });
            }
            let source = &manifest.backup.project;
            if bare_project(project) == bare_project(source) && !choices.selection.disaster_recovery
            {
                return Err(PlanError::SourceProject {
                    target,
                    project: source.clone(),
                });
            }
            Ok(target)
        }
        TargetSpec::Emulator { project, host } => {
            let host = match (host, &environment.emulator_host) {
                (Some(host), _) => host.clone(),
                (None, Some(host)) => {
                    read_address(host).map_err(|_| PlanError::InvalidEmulatorAddress {
                        found: without_user(host),
                    })?
                }
                (None, None) => {
                    return Err(PlanError::NoEmulatorAddress {
                        project: project.clone(),
                    });
                }
            };
            let target = TargetSpec::Emulator {
                project: project.clone(),
                host: Some(host.clone()),
            };
            if is_googles(&host) {
                Err(PlanError::EmulatorAddressIsGoogle { target })
            } else {
                Ok(target)
            }
        }
        TargetSpec::Dir(_) | TargetSpec::Ndjson(_) => Ok(target),
    }
}

/// Refuses ways that the target, or the import, cannot go whatever the archive holds.
pub(super) fn check_way(choices: &Choices) -> Result<(), PlanError> {
    let written_whole = matches!(choices.target, TargetSpec::Dir(_) | TargetSpec::Ndjson(_));
    if written_whole && choices.on_existing != OnExisting::Fail {
        return Err(PlanError::WriteOnceTarget {
            on_existing: choices.on_existing,
            target: choices.target.clone(),
        });
    }
    if choices.selection.with_dependencies
        && choices.selection.only.is_empty()
        && choices.sample.is_none()
    {
        return Err(PlanError::NothingToAdd);
    }
    if choices.via == WriteMethod::Commit {
        return match &choices.staging {
            Some(staging) => Err(staging_error(
                "--via import beside it",
                format!("--staging {staging} alone"),
            )),
            None => Ok(()),
        };
    }
    let in_bucket = choices
        .staging
        .as_ref()
        .map(|staging| staging.starts_with("gs://"));
    match (&choices.target, in_bucket) {
        (TargetSpec::Dir(_) | TargetSpec::Ndjson(_), _) => {
            return Err(no_import(
                "a target with an import of its own",
                choices.target.to_string(),
            ));
        }
        (TargetSpec::Datastore { .. }, Some(true))
        | (TargetSpec::Emulator { .. }, None | Some(false)) => {}
        (TargetSpec::Datastore { .. }, found) => {
            let found = match (found, &choices.staging) {
                (Some(_), Some(staging)) => format!("{staging:?}"),
                _ => "none".to_owned(),
            };
            return Err(staging_error(
                "gs://BUCKET/NAME, from which the service imports",
                found,
            ));
        }
        (TargetSpec::Emulator { .. }, Some(true)) => {
            return Err(staging_error(
                "a folder of this machine, as an emulator reads no bucket",
                "a bucket".to_owned(),
            ));
        }
    }
    let by_itself = [
        (!choices.redaction.rules.is_empty(), "--redact"),
        (choices.sample.is_some(), "a sample"),
        (
            choices.map_namespaces.iter().any(|(from, to)| from != to),
            "--map-namespace",
        ),
    ];
    match by_itself.iter().find(|(asked, _)| *asked) {
        Some((_, asked)) => Err(no_import(
            "exports that go in as they are",
            (*asked).to_owned(),
        )),
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
    for item in taken {
        let pair = item.pair();
        if item.format == ExportFormat::LegacyBackup {
            return Err(no_import(
                "managed exports",
                format!("{pair}, which is a backup of the old Datastore Admin"),
            ));
        }
        let others = |entry: &EntryInfo| {
            pairs_of
                .get(entry.name.as_str())
                .and_then(|pairs| pairs.iter().filter(|p| **p != pair).min())
        };
        if let Some(other) = item.entries.iter().find_map(others) {
            return Err(no_import(
                "an export for each kind of a namespace",
                format!("one that holds {pair} and {other}"),
            ));
        }
        if let Some(entry) = item
            .entries
            .iter()
            .find(|entry| entry.content_encoding.is_some())
        {
            return Err(no_import(
                "exports that are not encoded",
                format!("{} of {pair}, which is", entry.name),
            ));
        }
    }
    Ok(())
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
    if !matches!(target, TargetSpec::Dir(_) | TargetSpec::Ndjson(_)) {
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

fn no_import(expected: &'static str, found: String) -> PlanError {
    PlanError::NoImport { expected, found }
}

fn staging_error(expected: &'static str, found: String) -> PlanError {
    PlanError::Staging { expected, found }
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
    let project = project.rsplit('~').next().unwrap_or_default();
    project
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .trim_matches(['.', '/', ' '])
        .to_lowercase()
}
