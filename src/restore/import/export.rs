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
    /// The name of the finish mark among them.
    pub(super) finish_mark: String,
}

impl StagedExport {
    /// The export as it is in the archive; with other names where the metadata give others than its
    /// objects have.
    pub(super) fn from_step(archive: &Archive, step: &Step) -> Result<Self, ImportError> {
        let (item, mark) = importable(archive, step)?;
        // An emulator reads backslashes between folders as Windows has written them.
        let is_renamed = |entry: &EntryInfo| {
            entry
                .listed_as
                .as_ref()
                .is_some_and(|listed| listed.replace('\\', "/") != entry.name)
        };
        if item.entries.iter().any(is_renamed) {
            return Ok(StagedExport::with_new_names(item));
        }
        let (folder, base) = mark.name.rsplit_once('/').unwrap_or(("", &mark.name));
        // The service wants the folder to be called like the finish mark, whatever it was called in
        // SOURCE.
        let name = base.strip_suffix(OVERALL_SUFFIX).unwrap_or(base);
        let entries = item.entries.iter().map(|entry| {
            let below = entry
                .name
                .strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/'));
            let below = below.ok_or_else(|| ImportError::NotImportable {
                pair: step.pair(),
                expected: "an export in one folder",
                found: format!("{} outside of it", entry.name),
            })?;
            Ok((entry.clone(), format!("{name}/{below}")))
        });
        let entries = entries.collect::<Result<_, ImportError>>()?;
        Ok(StagedExport {
            entries,
            made: Vec::new(),
            finish_mark: format!("{name}/{base}"),
        })
    }

    /// The same export with names that every store holds, for which its metadata is written anew.
    pub(super) fn renamed(archive: &Archive, step: &Step) -> Result<Self, ImportError> {
        Ok(StagedExport::with_new_names(importable(archive, step)?.0))
    }

    fn with_new_names(item: &KindInfo) -> Self {
        let export = ManagedExport::from_pair(&item.pair(), item.started, item.finished);
        let below = |path: String| format!("{}/{path}", export.name());
        let outputs: Vec<&EntryInfo> = item.outputs().collect();
        let entries = outputs
            .iter()
            .enumerate()
            .map(|(number, output)| ((*output).clone(), below(export.output_path(number))))
            .collect();
        let finish_mark = below(export.overall_path());
        let made = vec![
            GeneratedObject {
                name: below(export.metadata_path()),
                bytes: export.metadata(outputs.len()),
                is_mark: false,
            },
            GeneratedObject {
                name: finish_mark.clone(),
                bytes: export.overall(item.entities, item.bytes),
                is_mark: true,
            },
        ];
        StagedExport {
            entries,
            made,
            finish_mark,
        }
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
            finish_mark: below(self.finish_mark),
        }
    }

    /// The names of all of its objects.
    pub(super) fn names(&self) -> Vec<&str> {
        self.entries
            .iter()
            .map(|(_, name)| name.as_str())
            .chain(self.made.iter().map(|made| made.name.as_str()))
            .collect()
    }
}

/// The kind of a step and the finish mark of its export, where an importer can do the step.
fn importable<'a>(
    archive: &'a Archive,
    step: &Step,
) -> Result<(&'a KindInfo, &'a EntryInfo), ImportError> {
    let pair = step.pair();
    let unfit = |expected, found: String| ImportError::NotImportable {
        pair: pair.clone(),
        expected,
        found,
    };
    let Some(item) = archive.kind(&pair) else {
        return Err(unfit("a kind of the archive", "none".to_owned()));
    };
    if step.to_namespace != step.namespace {
        return Err(unfit(
            "a namespace that stays",
            format!("one that becomes {}", step.to_pair()),
        ));
    }
    if item.format == ExportFormat::LegacyBackup {
        return Err(unfit(
            "a managed export",
            "a backup of the Datastore Admin".to_owned(),
        ));
    }
    if let Some(encoded) = item
        .entries
        .iter()
        .find(|entry| entry.content_encoding.is_some())
    {
        return Err(unfit(
            "entries as they were written",
            format!("{}, encoded", encoded.name),
        ));
    }
    let shares = |other: &&KindInfo| {
        other.pair() != pair
            && other
                .entries
                .iter()
                .any(|entry| item.entries.contains(entry))
    };
    if item.entries.iter().any(|entry| archive.is_shared(entry))
        && let Some(other) = archive.manifest().kinds.iter().find(shares)
    {
        return Err(unfit(
            "an export of this kind and namespace alone",
            format!("one with {} in it", other.pair()),
        ));
    }
    let mut marks = item
        .entries
        .iter()
        .filter(|entry| entry.role == EntryRole::ExportMetadata);
    let (Some(mark), None) = (marks.next(), marks.next()) else {
        return Err(unfit(
            "an export with one finish mark",
            "another number".to_owned(),
        ));
    };
    Ok((item, mark))
}
