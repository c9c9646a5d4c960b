//! Extracting: the entries of an archive as objects again, as they were, or as managed exports that
//! Google's import takes.
//!
//! Every entry is held against its digest before it gets its name. Nothing that is there is
//! overwritten; what an earlier run laid down is passed over.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use sha2::Digest as _;

use crate::archive::existing::{ExpectedObject, free_names};
use crate::archive::unpack::{
    GeneratedObject, UnpackError, UnpackEvent, UnpackOptions, UnpackPlan, lay,
};
use crate::archive::{Archive, ArchiveError};
use crate::export::layout::ManagedExport;
use crate::model::{
    COMPANIONS_FOLDER, EntryInfo, EntryRole, ExportFormat, Kind, KindInfo, KindRef, Manifest,
    Selector, Sha256, file_name,
};
use crate::progress::{Event, Observer};
use crate::runtime::workers::{WorkerPanicked, Workers};
use crate::store::{Store, StoreError};

/// In which form the entries are laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtractFormat {
    /// As they lay under SOURCE.
    Original,
    /// As managed exports: legacy backups get metadata, and so do exports with changed names or
    /// names that DEST cannot hold; all others stay as they are.
    Managed,
}

/// What was extracted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ExtractStats {
    /// Objects written.
    pub objects: u64,
    /// Bytes of those objects.
    pub bytes: u64,
}

/// Why nothing, or not all, was extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// DEST cannot be written, or a name there is taken.
    #[error(transparent)]
    Dest(StoreError),
    /// A selector chooses nothing.
    #[error("selector {0}: expected a kind of the archive, found none")]
    NoMatch(Selector),
    /// An export holds chosen and unchosen kinds together.
    #[error(
        "{entry}: expected an entry of chosen kinds alone, found that it is part of {other} as well"
    )]
    CannotSplitExport {
        /// The entry that both need.
        entry: String,
        /// A pair that was not chosen.
        other: KindRef,
    },
    /// Two objects would get the same name.
    #[error("{0}: expected a name for each object, found two objects that would get this one")]
    SameName(String),
    /// An object of an export would be written among the companions.
    #[error("{0} is an object of an export and would be written among the companions")]
    AmongCompanions(String),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

impl From<UnpackError> for ExtractError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Archive(error) => ExtractError::Archive(error),
            UnpackError::Dest(error) => ExtractError::Dest(error),
            UnpackError::Worker(error) => ExtractError::Worker(error),
        }
    }
}

/// What is written: entries under other names, and small objects that kindpack makes itself, the
/// finish marks last.
#[derive(Debug, Default)]
struct ExtractPlan {
    entries: Vec<(EntryInfo, String)>,
    made: Vec<GeneratedObject>,
}

/// Writes the entries of the chosen kinds below the root of `dest`.
///
/// # Errors
/// [`ExtractError`]. Objects that were finished before an error stay; none is half written.
pub async fn extract(
    archive: &Arc<Archive>,
    dest: &dyn Store,
    only: &[Selector],
    form: ExtractFormat,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<ExtractStats, ExtractError> {
    let kinds = archive
        .choose(only)
        .map_err(|selector| ExtractError::NoMatch(selector.clone()))?;
    check_whole_exports(archive, &kinds, form)?;
    let mut layout = layout_of(dest, kinds, form).await?;
    if only.is_empty() {
        layout.add_rest(archive.manifest())?;
    }
    layout.check_unique_names()?;
    dest.check_names(&layout.names().collect::<Vec<_>>())
        .await
        .map_err(ExtractError::Dest)?;
    // A finish mark comes when everything that it stands for is there for good, also what an
    // earlier run laid down.
    let vouched_for = layout.covered_by_marker();
    layout.skip_existing(dest, workers).await?;

    observer.start_phase(
        "extracting",
        layout.entries.iter().map(|(item, _)| item.bytes).sum(),
    );
    let mut done = ExtractStats::default();
    let mut told = |told: UnpackEvent<'_>| match told {
        UnpackEvent::Bytes(bytes) => observer.advance(bytes, bytes),
        UnpackEvent::Object(name, bytes) => {
            observer.event(Event::Extracted {
                name: name.to_owned(),
                bytes,
            });
            done = ExtractStats {
                objects: done.objects + 1,
                bytes: done.bytes + bytes,
            };
        }
    };
    let load = UnpackPlan {
        entries: layout.entries,
        made: layout.made,
        vouched_for,
    };
    lay(
        archive,
        dest,
        load,
        UnpackOptions::AS_THEY_ARE,
        workers,
        &mut told,
    )
    .await?;
    observer.finish_phase();
    Ok(done)
}

/// The entries of kinds under the names that they get.
async fn layout_of(
    dest: &dyn Store,
    kinds: Vec<&KindInfo>,
    form: ExtractFormat,
) -> Result<ExtractPlan, ExtractError> {
    let mut layout = ExtractPlan::default();
    match form {
        ExtractFormat::Original => layout.original(kinds.into_iter()),
        ExtractFormat::Managed => {
            let renamed = renamed(dest, &kinds).await?;
            let (renamed, others): (Vec<_>, Vec<_>) = kinds
                .into_iter()
                .partition(|kind| renamed.contains(&kind.pair()));
            layout.original(others.into_iter());
            layout.managed(&renamed);
        }
    }
    Ok(layout)
}

/// An export of which a part is missing is none.
fn check_whole_exports(
    archive: &Archive,
    chosen: &[&KindInfo],
    form: ExtractFormat,
) -> Result<(), ExtractError> {
    let pairs: BTreeSet<KindRef> = chosen.iter().map(|kind| kind.pair()).collect();
    let needed = |kind: &KindInfo, item: &EntryInfo| {
        // A legacy backup is laid down kind by kind: only its data cannot be divided.
        form == ExtractFormat::Original
            || kind.format == ExportFormat::ManagedExport
            || item.role == EntryRole::Output
    };
    let entries: BTreeSet<&str> = chosen
        .iter()
        .flat_map(|kind| kind.entries.iter().filter(|item| needed(kind, item)))
        .map(|item| item.name.as_str())
        .collect();
    for kind in archive
        .manifest()
        .kinds
        .iter()
        .filter(|kind| !pairs.contains(&kind.pair()))
    {
        if let Some(shared) = kind
            .entries
            .iter()
            .find(|item| needed(kind, item) && entries.contains(item.name.as_str()))
        {
            return Err(ExtractError::CannotSplitExport {
                entry: shared.name.clone(),
                other: kind.pair(),
            });
        }
    }
    Ok(())
}

/// The kinds that are written under names of kindpack's own: those of legacy backups, and those of
/// exports with a name that DEST cannot hold or that is not the one that the metadata give:
/// Google's import would not find such an object.
async fn renamed(dest: &dyn Store, kinds: &[&KindInfo]) -> Result<HashSet<KindRef>, ExtractError> {
    let mut renamed: HashSet<KindRef> = HashSet::new();
    let mut marks: HashSet<&str> = HashSet::new();
    for kind in kinds {
        if kind.format == ExportFormat::LegacyBackup {
            renamed.insert(kind.pair());
            continue;
        }
        let names: Vec<&str> = kind
            .entries
            .iter()
            .map(|item| original_name(&item.name))
            .collect();
        match dest.check_names(&names).await {
            Ok(()) if kind.entries.iter().all(|item| item.listed_as.is_none()) => {}
            Ok(()) | Err(StoreError::UnsupportedName { .. }) => {
                marks.extend(kind.completion_markers())
            }
            Err(error) => return Err(ExtractError::Dest(error)),
        }
    }
    // All kinds of an export go with it.
    let exports = kinds
        .iter()
        .filter(|kind| kind.completion_markers().any(|mark| marks.contains(mark)));
    renamed.extend(exports.map(|kind| kind.pair()));
    Ok(renamed)
}

/// The name of an entry below SOURCE: without `exports/`.
fn original_name(name: &str) -> &str {
    name.strip_prefix("exports/").unwrap_or(name)
}

impl ExtractPlan {
    fn original<'a>(&mut self, kinds: impl Iterator<Item = &'a KindInfo>) {
        let mut seen = BTreeSet::new();
        for item in kinds.flat_map(|kind| &kind.entries) {
            if seen.insert(&item.name) {
                self.entries
                    .push((item.clone(), original_name(&item.name).to_owned()));
            }
        }
    }

    /// Kinds as managed exports of kindpack's own: the outputs are taken as they are, two small
    /// metadata objects are written beside them.
    fn managed(&mut self, kinds: &[&KindInfo]) {
        // Outputs may mix kinds and namespaces: those that share outputs are one export. What has
        // no outputs shares none.
        let mut exports: BTreeMap<(Option<&Kind>, Vec<&str>), Vec<&KindInfo>> = BTreeMap::new();
        for kind in kinds {
            let outputs: Vec<&str> = kind.outputs().map(|output| output.name.as_str()).collect();
            exports
                .entry((outputs.is_empty().then_some(&kind.kind), outputs))
                .or_default()
                .push(kind);
        }
        for items in exports.into_values() {
            let Some(first) = items.first() else { continue };
            let pairs: Vec<KindRef> = items.iter().map(|item| item.pair()).collect();
            let export = ManagedExport::from_pairs(&pairs, first.started, first.finished);
            let is_one = |same: fn(&KindRef, &KindRef) -> bool| {
                pairs
                    .windows(2)
                    .all(|two| matches!(two, [a, b] if same(a, b)))
            };
            let place = if !is_one(|a, b| a.namespace == b.namespace) {
                "all".to_owned()
            } else if first.namespace.is_default() {
                "default".to_owned()
            } else {
                file_name(first.namespace.as_str())
            };
            let kind = if is_one(|a, b| a.kind == b.kind) {
                file_name(first.kind.as_str())
            } else {
                "all_kinds".to_owned()
            };
            let around = format!("{place}/{kind}/{}", export.name());
            let outputs: Vec<&EntryInfo> = first.outputs().collect();
            for (number, output) in outputs.iter().enumerate() {
                self.entries.push((
                    (*output).clone(),
                    format!("{around}/{}", export.output_path(number)),
                ));
            }
            let entities = items.iter().map(|item| item.entities).sum();
            let bytes = items.iter().map(|item| item.bytes).sum();
            let metadata = (
                export.metadata_path(),
                export.metadata(outputs.len()),
                false,
            );
            let mark = (export.overall_path(), export.overall(entities, bytes), true);
            let made = |(path, bytes, is_mark)| GeneratedObject {
                name: format!("{around}/{path}"),
                bytes,
                is_mark,
            };
            self.made.extend([metadata, mark].map(made));
        }
    }

    /// Adds what is of no kind: exports without entities, and companions.
    fn add_rest(&mut self, manifest: &Manifest) -> Result<(), ExtractError> {
        let empty = manifest.empty_exports.iter();
        let empty = empty.flat_map(|export| &export.entries);
        self.entries
            .extend(empty.map(|item| (item.clone(), original_name(&item.name).to_owned())));
        let is_among_companions = |name: &&str| name.starts_with(COMPANIONS_FOLDER);
        if let Some(name) = self.names().find(is_among_companions)
            && !manifest.companions.is_empty()
        {
            return Err(ExtractError::AmongCompanions(name.to_owned()));
        }
        let companions = manifest.companions.iter();
        self.entries
            .extend(companions.map(|item| (item.clone(), item.name.clone())));
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .map(|(_, name)| name.as_str())
            .chain(self.made.iter().map(|made| made.name.as_str()))
    }

    /// Leaves out what an earlier run has laid down already; anything else under a name that is
    /// needed is refused.
    async fn skip_existing(
        &mut self,
        dest: &dyn Store,
        workers: &Workers,
    ) -> Result<(), ExtractError> {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        let of_entries = self
            .entries
            .iter()
            .map(|(item, _)| ExpectedObject::from(item));
        let of_made = self
            .made
            .iter()
            .map(|GeneratedObject { bytes, .. }| ExpectedObject {
                len: bytes.len() as u64,
                crc32c: crc32c::crc32c(bytes),
                sha256: Sha256(sha2::Sha256::digest(bytes).into()),
            });
        let is_free = free_names(dest, &names, of_entries.chain(of_made), workers).await;
        let is_free = is_free.map_err(ExtractError::Dest)?;
        let mut is_missing = is_free.into_iter();
        self.entries.retain(|_| is_missing.next() == Some(true));
        self.made.retain(|_| is_missing.next() == Some(true));
        Ok(())
    }

    /// The names of all that finish marks stand for.
    fn covered_by_marker(&self) -> Vec<String> {
        let entries = self
            .entries
            .iter()
            .filter(|(item, _)| item.role != EntryRole::ExportMetadata)
            .map(|(_, name)| name);
        entries
            .chain(
                self.made
                    .iter()
                    .filter(|made| !made.is_mark)
                    .map(|made| &made.name),
            )
            .cloned()
            .collect()
    }

    fn check_unique_names(&self) -> Result<(), ExtractError> {
        let mut seen = BTreeSet::new();
        match self.names().find(|name| !seen.insert(*name)) {
            Some(name) => Err(ExtractError::SameName(name.to_owned())),
            None => Ok(()),
        }
    }
}
