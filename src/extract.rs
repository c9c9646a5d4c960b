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
    Selector, Sha256, UnmatchedSelector, file_name,
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
    /// Objects that were there already with the same contents.
    pub already_there: u64,
}

/// Why nothing, or not all, was extracted.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum ExtractError {
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// DEST cannot be written, or a name there is taken.
    #[error(transparent)]
    Dest(StoreError),
    /// A selector chooses nothing.
    #[error(transparent)]
    NoMatch(#[from] UnmatchedSelector),
    /// An export holds chosen and unchosen kinds together.
    #[error("{entry} belongs to {other} as well, which is not selected")]
    CannotSplitExport {
        /// The entry that both need.
        entry: String,
        /// A pair that was not chosen.
        other: KindRef,
    },
    /// Two objects would get the same name.
    #[error("two objects would be written as {0}")]
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
/// completion markers last.
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
    let mut plan = plan_of(archive, dest, only, form).await?;
    plan.check_names(dest).await?;
    // A completion marker comes when everything that it stands for is there for good, also what an
    // earlier run laid down.
    let vouched_for = plan.covered_by_marker();
    let already_there = plan.skip_existing(dest, workers).await?;
    observer.start_phase("extracting", plan.entry_bytes());
    let mut tally = ExtractTally::new(observer);
    let mut count = |event: UnpackEvent<'_>| tally.count(event);
    let load = plan.into_load(vouched_for);
    let laying = UnpackOptions::AS_THEY_ARE;
    lay(archive, dest, load, laying, workers, &mut count).await?;
    observer.finish_phase();
    Ok(ExtractStats {
        already_there,
        ..tally.done
    })
}

/// Reports what is laid down, and counts it.
struct ExtractTally<'a> {
    observer: &'a dyn Observer,
    done: ExtractStats,
}

impl<'a> ExtractTally<'a> {
    fn new(observer: &'a dyn Observer) -> Self {
        let done = ExtractStats::default();
        ExtractTally { observer, done }
    }

    fn count(&mut self, event: UnpackEvent<'_>) {
        match event {
            UnpackEvent::Bytes(bytes) => self.observer.advance(bytes, bytes),
            UnpackEvent::Started(name) => self.observer.start_entry(name),
            UnpackEvent::Object(name, bytes) => self.count_object(name.to_owned(), bytes),
        }
    }

    fn count_object(&mut self, name: String, bytes: u64) {
        self.observer.event(Event::Extracted { name, bytes });
        self.done.objects += 1;
        self.done.bytes += bytes;
    }
}

/// What is written for the chosen kinds, and what is of no kind where all are chosen.
async fn plan_of(
    archive: &Archive,
    dest: &dyn Store,
    only: &[Selector],
    form: ExtractFormat,
) -> Result<ExtractPlan, ExtractError> {
    let kinds = archive.choose(only)?;
    check_whole_exports(archive, &kinds, form)?;
    let mut plan = layout_of(dest, kinds, form).await?;
    if only.is_empty() {
        plan.add_rest(archive.manifest())?;
    }
    Ok(plan)
}

/// The entries of kinds under the names that they get.
async fn layout_of(
    dest: &dyn Store,
    kinds: Vec<&KindInfo>,
    form: ExtractFormat,
) -> Result<ExtractPlan, ExtractError> {
    let renamed = match form {
        ExtractFormat::Original => HashSet::new(),
        ExtractFormat::Managed => renamed(dest, &kinds).await?,
    };
    let (renamed, others): (Vec<_>, Vec<_>) = kinds
        .into_iter()
        .partition(|kind| renamed.contains(&kind.pair()));
    let mut layout = ExtractPlan::default();
    layout.original(others.into_iter());
    layout.managed(&renamed);
    Ok(layout)
}

/// An export of which a part is missing is none.
fn check_whole_exports(
    archive: &Archive,
    chosen: &[&KindInfo],
    form: ExtractFormat,
) -> Result<(), ExtractError> {
    let pairs: BTreeSet<KindRef> = chosen.iter().map(|kind| kind.pair()).collect();
    let needed = chosen.iter().flat_map(|kind| indivisible(kind, form));
    let needed: BTreeSet<&str> = needed.map(|item| item.name.as_str()).collect();
    let is_other = |kind: &&KindInfo| !pairs.contains(&kind.pair());
    let mut others = archive.manifest().kinds.iter().filter(is_other);
    others.try_for_each(|other| check_shares_nothing(other, &needed, form))
}

/// Checks that an unchosen kind needs no entry that a chosen one needs.
fn check_shares_nothing(
    other: &KindInfo,
    needed: &BTreeSet<&str>,
    form: ExtractFormat,
) -> Result<(), ExtractError> {
    let is_shared = |item: &&EntryInfo| needed.contains(item.name.as_str());
    match indivisible(other, form).find(is_shared) {
        Some(shared) => Err(ExtractError::CannotSplitExport {
            entry: shared.name.clone(),
            other: other.pair(),
        }),
        None => Ok(()),
    }
}

/// The entries of a kind that cannot be divided among exports.
fn indivisible(kind: &KindInfo, form: ExtractFormat) -> impl Iterator<Item = &EntryInfo> {
    // A legacy backup is laid down kind by kind: only its data cannot be divided.
    let is_whole = form == ExtractFormat::Original || kind.format == ExportFormat::ManagedExport;
    let entries = kind.entries.iter();
    entries.filter(move |item| is_whole || item.role == EntryRole::Output)
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
        } else if !keeps_names(dest, kind).await? {
            marks.extend(kind.completion_markers());
        }
    }
    // All kinds of an export go with it.
    let exports = kinds
        .iter()
        .filter(|kind| kind.completion_markers().any(|mark| marks.contains(mark)));
    renamed.extend(exports.map(|kind| kind.pair()));
    Ok(renamed)
}

/// Whether the entries of a kind keep their names, and these are the ones that the metadata give.
async fn keeps_names(dest: &dyn Store, kind: &KindInfo) -> Result<bool, ExtractError> {
    let entries = kind.entries.iter();
    let names: Vec<&str> = entries.map(|item| original_name(&item.name)).collect();
    match dest.check_names(&names).await {
        Ok(()) => Ok(kind.entries.iter().all(|item| item.listed_as.is_none())),
        Err(StoreError::UnsupportedName { .. }) => Ok(false),
        Err(error) => Err(ExtractError::Dest(error)),
    }
}

/// The name of an entry below SOURCE: without `exports/`.
fn original_name(name: &str) -> &str {
    name.strip_prefix("exports/").unwrap_or(name)
}

fn with_original_name(item: &EntryInfo) -> (EntryInfo, String) {
    (item.clone(), original_name(&item.name).to_owned())
}

fn expected_of(made: &GeneratedObject) -> ExpectedObject {
    ExpectedObject {
        len: made.bytes.len() as u64,
        crc32c: crc32c::crc32c(&made.bytes),
        sha256: Sha256(sha2::Sha256::digest(&made.bytes).into()),
    }
}

/// The outputs of kinds by name, with the kind where there are none: what has no outputs shares
/// none.
type OutputsKey<'a> = (Option<&'a Kind>, Vec<&'a str>);

/// Kinds by their outputs. Outputs may mix kinds and namespaces: those that share outputs are one
/// export.
fn by_outputs<'a>(kinds: &[&'a KindInfo]) -> BTreeMap<OutputsKey<'a>, Vec<&'a KindInfo>> {
    let mut exports: BTreeMap<OutputsKey<'a>, Vec<&'a KindInfo>> = BTreeMap::new();
    for kind in kinds {
        exports.entry(outputs_key(kind)).or_default().push(kind);
    }
    exports
}

fn outputs_key(kind: &KindInfo) -> OutputsKey<'_> {
    let outputs: Vec<&str> = kind.outputs().map(|output| output.name.as_str()).collect();
    (outputs.is_empty().then_some(&kind.kind), outputs)
}

/// A managed export of kindpack's own: the outputs are taken as they are, two small metadata objects
/// are written beside them.
struct NewExport<'a> {
    export: ManagedExport,
    /// The folder around it.
    folder: String,
    kinds: &'a [&'a KindInfo],
    outputs: Vec<&'a EntryInfo>,
}

impl<'a> NewExport<'a> {
    /// The export of kinds that share outputs; none of no kind.
    fn from_kinds(kinds: &'a [&'a KindInfo]) -> Option<Self> {
        let first = kinds.first()?;
        let pairs: Vec<KindRef> = kinds.iter().map(|kind| kind.pair()).collect();
        let export = ManagedExport::from_pairs(&pairs, first.started, first.finished);
        Some(NewExport {
            folder: format!("{}/{}", folder_of(&pairs, first), export.name()),
            export,
            kinds,
            outputs: first.outputs().collect(),
        })
    }

    /// The outputs, each with its new name.
    fn outputs(&self) -> impl Iterator<Item = (EntryInfo, String)> {
        let outputs = self.outputs.iter().enumerate();
        outputs.map(|(number, output)| {
            let name = self.name_of(self.export.output_path(number));
            ((*output).clone(), name)
        })
    }

    fn metadata(&self) -> GeneratedObject {
        GeneratedObject {
            name: self.name_of(self.export.metadata_path()),
            bytes: self.export.metadata(self.outputs.len()),
            is_mark: false,
        }
    }

    fn mark(&self) -> GeneratedObject {
        let entities = self.kinds.iter().map(|kind| kind.entities).sum();
        let bytes = self.kinds.iter().map(|kind| kind.bytes).sum();
        GeneratedObject {
            name: self.name_of(self.export.overall_path()),
            bytes: self.export.overall(entities, bytes),
            is_mark: true,
        }
    }

    fn name_of(&self, path: impl std::fmt::Display) -> String {
        format!("{}/{path}", self.folder)
    }
}

/// The folders that say which namespace and kind an export is of.
fn folder_of(pairs: &[KindRef], first: &KindInfo) -> String {
    let namespace = match is_one(pairs, |a, b| a.namespace == b.namespace) {
        true if first.namespace.is_default() => "default".to_owned(),
        true => file_name(first.namespace.as_str()),
        false => "all".to_owned(),
    };
    let kind = match is_one(pairs, |a, b| a.kind == b.kind) {
        true => file_name(first.kind.as_str()),
        false => "all_kinds".to_owned(),
    };
    format!("{namespace}/{kind}")
}

fn is_one(pairs: &[KindRef], same: fn(&KindRef, &KindRef) -> bool) -> bool {
    let mut neighbours = pairs.windows(2);
    neighbours.all(|two| matches!(two, [a, b] if same(a, b)))
}

impl ExtractPlan {
    fn original<'a>(&mut self, kinds: impl Iterator<Item = &'a KindInfo>) {
        let mut seen = BTreeSet::new();
        let entries = kinds.flat_map(|kind| &kind.entries);
        let entries = entries.filter(|item| seen.insert(&item.name));
        self.entries.extend(entries.map(with_original_name));
    }

    /// Kinds as managed exports of kindpack's own: the outputs are taken as they are, two small
    /// metadata objects are written beside them.
    fn managed(&mut self, kinds: &[&KindInfo]) {
        for kinds in by_outputs(kinds).into_values() {
            if let Some(export) = NewExport::from_kinds(&kinds) {
                self.entries.extend(export.outputs());
                self.made.extend([export.metadata(), export.mark()]);
            }
        }
    }

    /// Adds what is of no kind: exports without entities, and companions.
    fn add_rest(&mut self, manifest: &Manifest) -> Result<(), ExtractError> {
        let empty = manifest.empty_exports.iter();
        let empty = empty.flat_map(|export| &export.entries);
        self.entries.extend(empty.map(with_original_name));
        if !manifest.companions.is_empty() {
            self.check_outside_companions()?;
        }
        let companions = manifest.companions.iter();
        self.entries
            .extend(companions.map(|item| (item.clone(), item.name.clone())));
        Ok(())
    }

    fn check_outside_companions(&self) -> Result<(), ExtractError> {
        let is_among_companions = |name: &&str| name.starts_with(COMPANIONS_FOLDER);
        match self.names().find(is_among_companions) {
            Some(name) => Err(ExtractError::AmongCompanions(name.to_owned())),
            None => Ok(()),
        }
    }

    fn entry_bytes(&self) -> u64 {
        self.entries.iter().map(|(item, _)| item.bytes).sum()
    }

    /// Checks that each object gets a name of its own, and one that `dest` can hold.
    async fn check_names(&self, dest: &dyn Store) -> Result<(), ExtractError> {
        self.check_unique_names()?;
        let names: Vec<&str> = self.names().collect();
        let checked = dest.check_names(&names).await;
        checked.map_err(ExtractError::Dest)
    }

    fn into_load(self, vouched_for: Vec<String>) -> UnpackPlan {
        UnpackPlan {
            entries: self.entries,
            made: self.made,
            vouched_for,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let entries = self.entries.iter().map(|(_, name)| name.as_str());
        entries.chain(self.made.iter().map(|made| made.name.as_str()))
    }

    /// Leaves out what an earlier run has laid down already; anything else under a name that is
    /// needed is refused. Gives the number of objects left out.
    async fn skip_existing(
        &mut self,
        dest: &dyn Store,
        workers: &Workers,
    ) -> Result<u64, ExtractError> {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        let is_free = free_names(dest, &names, self.expected_objects(), workers).await;
        let is_free = is_free.map_err(ExtractError::Dest)?;
        let already_there = is_free.iter().filter(|is_free| !**is_free).count();
        let mut is_missing = is_free.into_iter();
        self.entries.retain(|_| is_missing.next() == Some(true));
        self.made.retain(|_| is_missing.next() == Some(true));
        Ok(already_there as u64)
    }

    fn expected_objects(&self) -> impl Iterator<Item = ExpectedObject> {
        let of_entries = self.entries.iter();
        let of_entries = of_entries.map(|(item, _)| ExpectedObject::from(item));
        of_entries.chain(self.made.iter().map(expected_of))
    }

    /// The names of all that completion markers stand for.
    fn covered_by_marker(&self) -> Vec<String> {
        let is_data = |item: &EntryInfo| item.role != EntryRole::ExportMetadata;
        let entries = self.entries.iter().filter(|(item, _)| is_data(item));
        let made = self.made.iter().filter(|made| !made.is_mark);
        let names = entries.map(|(_, name)| name);
        names.chain(made.map(|made| &made.name)).cloned().collect()
    }

    fn check_unique_names(&self) -> Result<(), ExtractError> {
        let mut seen = BTreeSet::new();
        match self.names().find(|name| !seen.insert(*name)) {
            Some(name) => Err(ExtractError::SameName(name.to_owned())),
            None => Ok(()),
        }
    }
}
