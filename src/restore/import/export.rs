//! The export of a step as an importer is to see it, or why no importer can do the step. Reads
//! nothing but the manifest.

use super::ImportError;
use crate::archive::Archive;
use crate::archive::unpack::GeneratedObject;
use crate::export::layout::{ManagedExport, OVERALL_SUFFIX};
use crate::model::{EntryInfo, EntryRole, ExportFormat, KindInfo};
use crate::plan::Step;

/// The entries of an export.
#[derive(Debug)]
pub(super) struct StagedExport {
    /// Each with its name, in the folder that bears the export's own name.
    pub(super) entries: Vec<(EntryInfo, String)>,
    /// Objects that are made for it, where it has names of kindpack's own.
    pub(super) made: Vec<GeneratedObject>,
    /// The name of the completion marker among them.
    pub(super) completion_marker: String,
}

impl StagedExport {
    /// The export as it is in the archive; with other names where the metadata give others than its
    /// objects have.
    pub(super) fn from_step(archive: &Archive, step: &Step) -> Result<Self, ImportError> {
        let (item, mark) = importable(archive, step)?;
        if item.entries.iter().any(is_renamed) {
            return Ok(StagedExport::with_new_names(item));
        }
        StagedExport::with_own_names(step, item, mark)
    }

    /// The service wants the folder to be called like the completion marker, whatever it was called in
    /// SOURCE.
    fn with_own_names(step: &Step, item: &KindInfo, mark: &EntryInfo) -> Result<Self, ImportError> {
        let (folder, base) = mark.name.rsplit_once('/').unwrap_or(("", &mark.name));
        let name = base.strip_suffix(OVERALL_SUFFIX).unwrap_or(base);
        let entries = item.entries.iter().map(|entry| {
            let below = name_below(step, entry, folder)?;
            Ok((entry.clone(), format!("{name}/{below}")))
        });
        Ok(StagedExport {
            entries: entries.collect::<Result<_, ImportError>>()?,
            made: Vec::new(),
            completion_marker: format!("{name}/{base}"),
        })
    }

    /// The same export with names that every store holds, for which its metadata is written anew.
    pub(super) fn renamed(archive: &Archive, step: &Step) -> Result<Self, ImportError> {
        Ok(StagedExport::with_new_names(importable(archive, step)?.0))
    }

    fn with_new_names(item: &KindInfo) -> Self {
        let export = ManagedExport::from_pair(&item.pair(), item.started, item.finished);
        let outputs = item.outputs().enumerate();
        let entries: Vec<(EntryInfo, String)> = outputs
            .map(|(number, output)| (output.clone(), export.output_path(number)))
            .collect();
        let renamed = StagedExport {
            made: made_objects(&export, item, entries.len()),
            entries,
            completion_marker: export.overall_path(),
        };
        renamed.below(&export.name())
    }

    /// The same export in a folder of that name.
    pub(super) fn below(self, folder: &str) -> Self {
        let below = |name: String| format!("{folder}/{name}");
        let entries = self.entries.into_iter();
        let made = self.made.into_iter().map(|made| GeneratedObject {
            name: below(made.name),
            ..made
        });
        StagedExport {
            entries: entries.map(|(entry, name)| (entry, below(name))).collect(),
            made: made.collect(),
            completion_marker: below(self.completion_marker),
        }
    }

    /// The names of all of its objects.
    pub(super) fn names(&self) -> Vec<&str> {
        let entries = self.entries.iter().map(|(_, name)| name.as_str());
        let made = self.made.iter().map(|made| made.name.as_str());
        entries.chain(made).collect()
    }
}

/// The kind of a step and the completion marker of its export, where an importer can do the step.
fn importable<'a>(
    archive: &'a Archive,
    step: &Step,
) -> Result<(&'a KindInfo, &'a EntryInfo), ImportError> {
    let found = archive.kind(&step.pair());
    let item = found.ok_or_else(|| unfit(step, "the archive does not hold it"))?;
    check_namespace(step)?;
    check_format(step, item)?;
    check_encodings(step, item)?;
    check_alone(archive, step, item)?;
    Ok((item, completion_marker(step, item)?))
}

fn unfit(step: &Step, reason: impl Into<String>) -> ImportError {
    ImportError::NotImportable {
        pair: step.pair(),
        reason: reason.into(),
    }
}

fn check_namespace(step: &Step) -> Result<(), ImportError> {
    if step.to_namespace == step.namespace {
        return Ok(());
    }
    let reason = format!("its namespace changes to {}", step.to_namespace);
    Err(unfit(step, reason))
}

fn check_format(step: &Step, item: &KindInfo) -> Result<(), ImportError> {
    if item.format != ExportFormat::LegacyBackup {
        return Ok(());
    }
    Err(unfit(step, "it is a backup of the old Datastore Admin"))
}

fn check_encodings(step: &Step, item: &KindInfo) -> Result<(), ImportError> {
    let mut entries = item.entries.iter();
    let Some(encoded) = entries.find(|entry| entry.content_encoding.is_some()) else {
        return Ok(());
    };
    Err(unfit(step, format!("{} is stored encoded", encoded.name)))
}

/// Refuses an export that holds another kind as well.
fn check_alone(archive: &Archive, step: &Step, item: &KindInfo) -> Result<(), ImportError> {
    let Some(other) = sharing_kind(archive, step, item) else {
        return Ok(());
    };
    Err(unfit(
        step,
        format!("its export holds {} as well", other.pair()),
    ))
}

/// Another kind with an entry of this one.
fn sharing_kind<'a>(archive: &'a Archive, step: &Step, item: &KindInfo) -> Option<&'a KindInfo> {
    if !item.entries.iter().any(|entry| archive.is_shared(entry)) {
        return None;
    }
    let is_of_item = |entry: &EntryInfo| item.entries.contains(entry);
    let mut kinds = archive.manifest().kinds.iter();
    kinds.find(|other| other.pair() != step.pair() && other.entries.iter().any(is_of_item))
}

fn completion_marker<'a>(step: &Step, item: &'a KindInfo) -> Result<&'a EntryInfo, ImportError> {
    let is_mark = |entry: &&EntryInfo| entry.role == EntryRole::ExportMetadata;
    let mut marks = item.entries.iter().filter(is_mark);
    match (marks.next(), marks.next()) {
        (Some(mark), None) => Ok(mark),
        _ => Err(unfit(
            step,
            "its export has not exactly one completion marker",
        )),
    }
}

/// Whether an entry has another name than its object had. An emulator reads backslashes between
/// folders as Windows has written them.
fn is_renamed(entry: &EntryInfo) -> bool {
    let listed = entry.listed_as.as_ref();
    listed.is_some_and(|listed| listed.replace('\\', "/") != entry.name)
}

/// The name of an entry below the export's folder.
fn name_below<'a>(step: &Step, entry: &'a EntryInfo, folder: &str) -> Result<&'a str, ImportError> {
    let rest = entry.name.strip_prefix(folder);
    rest.and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| {
        let reason = format!("{} is outside the folder of its export", entry.name);
        unfit(step, reason)
    })
}

/// The metadata of an export that gets new names, and its completion marker.
fn made_objects(export: &ManagedExport, item: &KindInfo, outputs: usize) -> Vec<GeneratedObject> {
    let metadata = GeneratedObject {
        name: export.metadata_path(),
        bytes: export.metadata(outputs),
        is_mark: false,
    };
    let overall = GeneratedObject {
        name: export.overall_path(),
        bytes: export.overall(item.entities, item.bytes),
        is_mark: true,
    };
    vec![metadata, overall]
}
