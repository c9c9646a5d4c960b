//! The export of a step as an importer is to see it, or why no importer can do the step. Reads nothing but the manifest.

use super::ImportError;
use crate::archive_file::ArchiveFile;
use crate::managed::OVERALL_SUFFIX;
use crate::model::{EntryItem, EntryRole, ExportFormat, KindItem};
use crate::plan::Step;

/// The entries of an export.
#[derive(Debug)]
pub(super) struct Export {
    /// Each with its name below the folder that bears the export's own name, which it begins with.
    pub(super) entries: Vec<(EntryItem, String)>,
    /// The name of the finish mark among them.
    pub(super) finish_mark: String,
}

impl Export {
    pub(super) fn of(archive: &ArchiveFile, step: &Step) -> Result<Self, ImportError> {
        let pair = step.pair();
        let unfit = |expected, found: String| ImportError::Unfit { pair: pair.clone(), expected, found };
        let Some(item) = archive.kind(&pair) else {
            return Err(unfit("a kind of the archive", "none".to_owned()));
        };
        if step.to_namespace != step.namespace {
            return Err(unfit("a namespace that stays", format!("one that becomes {}", step.to_pair())));
        }
        if item.format == ExportFormat::LegacyBackup {
            return Err(unfit("a managed export", "a backup of the Datastore Admin".to_owned()));
        }
        if let Some(encoded) = item.entries.iter().find(|entry| entry.content_encoding.is_some()) {
            return Err(unfit("entries as they were written", format!("{}, encoded", encoded.name)));
        }
        // An emulator reads backslashes between folders as Windows has written them.
        let is_renamed = |entry: &&EntryItem| entry.listed_as.as_ref().is_some_and(|listed| listed.replace('\\', "/") != entry.name);
        if let Some(renamed) = item.entries.iter().find(is_renamed) {
            return Err(unfit("files under the names that the export's metadata give", format!("{}, renamed", renamed.name)));
        }
        let shares = |other: &&KindItem| other.pair() != pair && other.entries.iter().any(|entry| item.entries.contains(entry));
        if item.entries.iter().any(|entry| archive.is_shared(entry))
            && let Some(other) = archive.manifest().kinds.iter().find(shares)
        {
            return Err(unfit("an export of this kind and namespace alone", format!("one with {} in it", other.pair())));
        }
        let mut marks = item.entries.iter().filter(|entry| entry.role == EntryRole::ExportMetadata);
        let (Some(mark), None) = (marks.next(), marks.next()) else {
            return Err(unfit("an export with one finish mark", "another number".to_owned()));
        };
        let (folder, base) = mark.name.rsplit_once('/').unwrap_or(("", &mark.name));
        // The service wants the folder to be called like the finish mark, whatever it was called in SOURCE.
        let name = base.strip_suffix(OVERALL_SUFFIX).unwrap_or(base);
        let entries = item.entries.iter().map(|entry| {
            let below = entry.name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            let below = below.ok_or_else(|| unfit("an export in one folder", format!("{} outside of it", entry.name)))?;
            Ok((entry.clone(), format!("{name}/{below}")))
        });
        Ok(Export { entries: entries.collect::<Result<_, ImportError>>()?, finish_mark: format!("{name}/{base}") })
    }
}
