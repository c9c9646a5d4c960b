//! Packing: the finished exports of a SOURCE, proved and sealed into one archive.
//!
//! Asks for the archive's name, lists SOURCE, lets the gate judge, streams every object through the
//! workers into the sealing writer, publishes under the final name in one act. Must not know
//! arguments, progress bars or exit codes.

mod manifest;
mod metadata;
mod place;
mod select;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use select::{StaleExport, Wanted};

use crate::archive::checksums::{self, SHA256_ATTRIBUTE};
use crate::archive::deflate::DataError;
use crate::archive::zip::SealError;
use crate::export::discover::{self, Discovery, Export, Fault, FaultClass};
use crate::model::{
    EntryRole, Kind, Manifest, Method, Namespace, PIECE_LEN_BYTES, PackOptions, Pair, Selector,
    Sha256, Timestamp,
};
use crate::progress::{Event, Observer};
use crate::runtime::workers::{WorkerLost, Workers};
use crate::store::{About, Making, ObjectInfo, Store, StoreError};
use manifest::assemble;
use metadata::MetadataCache;
use place::Place;
use select::{Pairs, Verdict, known_pairs};
use stream::{Digest, Sealing, Source};

/// How often a pack is begun where bytes get lost or damaged on their way. What did not change is
/// not sent twice.
const TRIES: u32 = 2;

/// How a set is packed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which exports are wanted.
    pub wanted: Wanted,
    /// Pairs of which the entities may be more or fewer than the metadata count.
    pub accept_count: Vec<Selector>,
    /// How long to wait for what is expected; zero looks once.
    pub wait: Duration,
    /// Whether entries are deflated or stored.
    pub method: Method,
    /// Deflate level, 1 to 9.
    pub level: u32,
    /// Whether an archive of that name may be replaced.
    pub overwrite: bool,
    /// Whether to stop before any data is read.
    pub dry_run: bool,
    /// Whether the data of an incomplete set in a bucket is read all the same, so that all of its
    /// faults are found.
    pub all_faults: bool,
}

impl Options {
    /// As the manifest records them.
    fn recorded(&self) -> PackOptions {
        let level = (self.method == Method::Deflate).then_some(self.level);
        PackOptions {
            method: self.method,
            level,
            piece_bytes: PIECE_LEN_BYTES as u64,
        }
    }
}

/// The name that the archive gets.
#[derive(Debug, Clone)]
pub enum ArchiveName {
    /// This one.
    Given(String),
    /// `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`.
    Chosen,
}

/// What was packed.
#[derive(Debug)]
pub struct Packed {
    /// The archive's name in its store.
    pub name: String,
    /// What was written; none after a dry run.
    pub sealed: Option<Sealed>,
    /// After a dry run: whether an archive of that name exists which may be the same.
    pub exists: bool,
    /// Pairs (after a dry run: as far as the metadata declares them).
    pub kinds: u64,
    /// Entities (after a dry run: as far as the metadata counts them).
    pub entities: u64,
    /// Objects packed.
    pub objects: u64,
    /// Bytes of those objects.
    pub object_bytes: u64,
}

/// What stands under the archive's name.
#[derive(Debug)]
pub struct Sealed {
    /// SHA-256 of the archive.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether the archive was there already, the same to the byte.
    pub was_there: bool,
    /// Whether its sidecar was written.
    pub sidecar_written: bool,
}

/// A fault with the export that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFault {
    /// The export's title.
    pub export: String,
    /// What is wrong.
    pub fault: Fault,
}

/// Why a set was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something of the set is missing, unfinished or damaged. All of it is told.
    #[error("the set is not whole")]
    NotWhole {
        /// All faults of single exports.
        faults: Vec<ExportFault>,
        /// Unfinished exports of unknown kinds, by title: no selector can exclude them.
        unnamed: Vec<String>,
        /// Pairs that were exported twice.
        duplicates: Vec<ExportFault>,
        /// Expected selectors that nothing answers.
        missing: Vec<Selector>,
        /// Exports that are too old for the others.
        stale: Vec<StaleExport>,
        /// Whether the latest of several exports was asked for.
        is_latest: bool,
    },
    /// SOURCE is there, without a single export.
    #[error("expected at least one export, found none")]
    NoExport,
    /// There are exports, but the selectors leave none.
    #[error("expected selectors that leave at least one export, found that they leave none")]
    NothingChosen,
    /// An export cannot be divided.
    #[error(
        "{export}: expected an export of which all or nothing is chosen, found that it holds {wanted} and {unwanted} together"
    )]
    Indivisible {
        /// The export's title.
        export: String,
        /// What of it is chosen.
        wanted: String,
        /// What of it is not.
        unwanted: String,
    },
    /// The exports come from several projects or databases.
    #[error("expected exports of one project and database, found {}", .0.join(", "))]
    SeveralOrigins(Vec<String>),
    /// The name of the archive is taken.
    #[error("{0}: expected a free name, found another object there")]
    Taken(String),
    /// An object changed while it was packed.
    #[error("{0}")]
    SourceChanged(StoreError),
    /// SOURCE cannot be read.
    #[error(transparent)]
    Source(StoreError),
    /// ARCHIVE cannot be written.
    #[error(transparent)]
    Dest(StoreError),
    /// The container cannot hold it.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A fault was found and not told: a fault of kindpack's own.
    #[error("expected every entry sealed, found that some were only looked at")]
    Torso,
    /// The metadata of the exports does not fit into memory.
    #[error("{name}: the metadata of all exports needs more memory than --memory allows")]
    MemoryTooSmall {
        /// The metadata object that does not fit.
        name: String,
    },
    /// A selector chooses nothing that is there.
    #[error("selector {0}: expected a kind below SOURCE, found none")]
    ChoosesNothing(Selector),
    /// A piece cannot be deflated: a fault of kindpack's own.
    #[error("cannot deflate a piece: {0}")]
    Deflate(DataError),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerLost),
}

impl PackError {
    fn source(error: StoreError) -> Self {
        match error {
            StoreError::Changed { .. } => PackError::SourceChanged(error),
            error => PackError::Source(error),
        }
    }

    /// What was listed and is gone has changed.
    fn reading(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { name, .. } => {
                PackError::SourceChanged(StoreError::Changed { name })
            }
            error => PackError::source(error),
        }
    }

    /// Whether anything is damaged, and not only missing.
    pub fn is_damage(&self) -> bool {
        matches!(self, PackError::NotWhole { faults, .. } if faults.iter().any(|fault| fault.fault.class == FaultClass::Damaged))
    }
}

/// What may be packed: the exports, where each object is, what was read of them, and the pairs of
/// exports that do not declare them.
struct Chosen {
    exports: Vec<Export>,
    objects: BTreeMap<String, ObjectInfo>,
    contents: BTreeMap<String, Bytes>,
    pairs: Pairs,
}

/// Packs the set below `source` as `name` into `dest`.
///
/// # Errors
/// [`PackError`]; nothing stands under the archive's name then that was not there before.
pub async fn pack(
    source: &Arc<dyn Store>,
    dest: &Arc<dyn Store>,
    name: ArchiveName,
    options: &Options,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<Packed, PackError> {
    // A name that another archive has is found before anything of SOURCE is read.
    let place = match &name {
        ArchiveName::Given(name) => Some(Place::find(dest, name.clone(), options).await?),
        ArchiveName::Chosen => None,
    };
    let chosen = Chooser {
        source,
        name: &name,
        place: place.as_ref(),
        options,
        workers,
        observer,
    }
    .choose()
    .await?;
    let bytes: u64 = chosen
        .exports
        .iter()
        .flat_map(Export::objects)
        .map(|object| object.len)
        .sum();
    let objects = chosen
        .exports
        .iter()
        .map(|export| export.objects().len() as u64)
        .sum();
    let mut place = match place {
        Some(place) => place,
        None => match chosen_name(&chosen) {
            // Which namespace it is stands in data that a dry run does not read.
            ChosenName {
                name,
                is_open: true,
            } if options.dry_run => return Ok(would_pack(&chosen, name, false, objects, bytes)),
            ChosenName { name, .. } => Place::find(dest, name, options).await?,
        },
    };
    place.refuse_other(&chosen)?;
    if options.dry_run {
        let exists = place.existing().is_some();
        return Ok(would_pack(&chosen, place.name, exists, objects, bytes));
    }

    observer.begin("packing", bytes);
    let mut tries = 1;
    let mut sealed = loop {
        let job = Job {
            source,
            dest: dest.as_ref(),
            place: &place,
            chosen: &chosen,
            options,
            workers,
            observer,
        };
        let sealed = match place.existing() {
            Some(existing) => job.find_same(existing).await,
            None => job.make(expected_len(bytes, objects)).await,
        };
        match sealed {
            Err(PackError::Source(error) | PackError::Dest(error))
                if tries < TRIES && error.is_of_the_way() =>
            {
                tries += 1;
                observer.event(Event::Again {
                    reason: error.to_string(),
                });
                observer.begin("packing again", bytes);
                // What was lost may have been taken away by another pack of the same set, which is
                // done by now.
                place = Place::find(dest, place.name, options).await?;
            }
            sealed => break sealed?,
        }
    };
    if !(sealed.was_there && place.has_sidecar(sealed.sha256).await) {
        place.write_sidecar(sealed.sha256).await?;
        sealed.sidecar_written = true;
    }
    observer.end();
    let totals = &sealed.manifest.totals;
    let (kinds, entities, objects, object_bytes) =
        (totals.kinds, totals.entities, totals.entries, totals.bytes);
    Ok(Packed {
        name: place.name,
        exists: true,
        kinds,
        entities,
        objects,
        object_bytes,
        sealed: Some(sealed),
    })
}

/// What a dry run says of a set: as far as its metadata tell.
fn would_pack(
    chosen: &Chosen,
    name: String,
    exists: bool,
    objects: u64,
    object_bytes: u64,
) -> Packed {
    let mut kinds: BTreeSet<(Option<Namespace>, Option<Kind>)> = BTreeSet::new();
    for export in &chosen.exports {
        match known_pairs(export, &chosen.pairs) {
            Some(pairs) => kinds.extend(
                pairs
                    .into_iter()
                    .map(|pair| (Some(pair.namespace), Some(pair.kind))),
            ),
            None => kinds.extend(
                export
                    .groups
                    .iter()
                    .map(|group| (group.namespace.clone(), group.kind.clone())),
            ),
        }
    }
    let groups = chosen.exports.iter().flat_map(|export| &export.groups);
    let entities = groups
        .filter_map(|group| group.entities)
        .fold(0, u64::saturating_add);
    Packed {
        name,
        sealed: None,
        exists,
        kinds: kinds.len() as u64,
        entities,
        objects,
        object_bytes,
    }
}

/// What is to be sealed, and where.
struct Job<'a> {
    source: &'a Arc<dyn Store>,
    dest: &'a dyn Store,
    place: &'a Place,
    chosen: &'a Chosen,
    options: &'a Options,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

impl Job<'_> {
    /// Makes the archive stand under its name.
    async fn make(&self, expected_len: u64) -> Result<Sealed, PackError> {
        let making = Making {
            overwrite: self.options.overwrite,
            expected_len,
            ..Making::default()
        };
        let writer = self
            .dest
            .create(&self.place.name, making)
            .await
            .map_err(PackError::Dest)?;
        let mut sealing = Sealing::new(
            self.source.clone(),
            writer,
            self.options.recorded(),
            self.workers.clone(),
        );
        let (manifest, manifest_place) = seal_set(
            &mut sealing,
            self.chosen,
            &self.options.accept_count,
            self.observer,
        )
        .await?;
        let (writer, digest) = sealing.finish().await?;
        self.place.remove_orphan().await?;
        match writer
            .publish(about(&manifest, digest.sha256, manifest_place))
            .await
        {
            Ok(()) => Ok(Sealed::new(digest, manifest, false)),
            // Another pack was faster, maybe one of the same set.
            Err(StoreError::Exists { .. }) => {
                self.place.recognise(&digest).await?;
                Ok(Sealed::new(digest, manifest, true))
            }
            Err(error) => Err(PackError::Dest(error)),
        }
    }

    /// Finds that the archive which is there is the one that would be made.
    async fn find_same(&self, existing: &ObjectInfo) -> Result<Sealed, PackError> {
        let mut sealing = Sealing::unwritten(
            self.source.clone(),
            self.options.recorded(),
            self.workers.clone(),
        );
        let (manifest, _) = seal_set(
            &mut sealing,
            self.chosen,
            &self.options.accept_count,
            self.observer,
        )
        .await?;
        let (_, digest) = sealing.finish().await?;
        self.place.recognise(&digest).await?;
        self.dest.tidy(existing).await;
        Ok(Sealed::new(digest, manifest, true))
    }
}

impl Sealed {
    fn new(digest: Digest, manifest: Manifest, was_there: bool) -> Self {
        Sealed {
            sha256: digest.sha256,
            bytes: digest.len,
            manifest,
            was_there,
            sidecar_written: false,
        }
    }
}

/// Seals objects, `SHA256SUMS` and the manifest, in this order.
async fn seal_set(
    sealing: &mut Sealing,
    chosen: &Chosen,
    accepted: &[Selector],
    observer: &dyn Observer,
) -> Result<(Manifest, ManifestPlace), PackError> {
    let sources = sources_of(
        &chosen.exports,
        &chosen.objects,
        &chosen.contents,
        sealing.options().method,
    );
    let looked = sealing.entries(sources, observer).await?;
    let mut manifest = assemble(&chosen.exports, looked, sealing.options(), accepted)?;
    let modified = manifest.backup.finished;
    let sums = Bytes::from(checksums::of_objects(&manifest));
    let mut told = sealing
        .entries(
            vec![Source::memory(
                sums,
                crate::model::SUMS_NAME,
                EntryRole::Sums,
                modified,
            )],
            observer,
        )
        .await?;
    if let Some(sums) = told.pop() {
        manifest.sums = sums.item();
    }
    let document = Bytes::from(manifest.to_json());
    let len = document.len() as u64;
    sealing
        .entries(
            vec![Source::memory(
                document,
                crate::model::MANIFEST_NAME,
                EntryRole::Sums,
                modified,
            )],
            observer,
        )
        .await?;
    // The manifest is stored, and nothing stands behind the data of an entry that is.
    Ok((
        manifest,
        ManifestPlace {
            offset: sealing.offset() - len,
            len,
        },
    ))
}

/// Where the manifest's JSON is in the archive.
struct ManifestPlace {
    offset: u64,
    len: u64,
}

/// What the archive's object says of itself, where its store can say it.
fn about(manifest: &Manifest, sha256: Sha256, place: ManifestPlace) -> About {
    let attributes = [
        (SHA256_ATTRIBUTE, sha256.to_string()),
        ("kindpack-backup-id", manifest.backup.id.clone()),
        (
            "kindpack-manifest",
            format!("{}+{}", place.offset, place.len),
        ),
    ];
    About {
        sha256: Some(sha256),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    }
}

/// How long the archive may become: deflated data can be a little longer than they were, and each
/// entry is told of three times.
fn expected_len(bytes: u64, objects: u64) -> u64 {
    bytes
        .saturating_add(bytes >> 8)
        .saturating_add(objects.saturating_mul(4096))
}

/// The objects of exports as entries to be, in order.
fn sources_of(
    exports: &[Export],
    objects: &BTreeMap<String, ObjectInfo>,
    contents: &BTreeMap<String, Bytes>,
    method: Method,
) -> Vec<Source> {
    let of_export = |export: &Export| {
        let modified = export.finished.or(export.started);
        let source = |object: discover::ExportObject<'_>| {
            let info = objects.get(object.name)?.clone();
            let content = contents.get(object.name).cloned();
            Some(Source::object(
                info,
                content,
                format!("exports/{}", object.name),
                object.role,
                modified,
                method,
            ))
        };
        export
            .objects()
            .into_iter()
            .filter_map(source)
            .collect::<Vec<_>>()
    };
    exports.iter().flat_map(of_export).collect()
}

/// Looks at SOURCE until the gate opens.
struct Chooser<'a> {
    source: &'a Arc<dyn Store>,
    name: &'a ArchiveName,
    place: Option<&'a Place>,
    options: &'a Options,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

/// What one look at SOURCE came to.
enum Look {
    /// The gate is open.
    Open(Chosen),
    /// Only time can help.
    Waiting {
        waiting_for: Vec<String>,
        error: PackError,
    },
}

impl Chooser<'_> {
    /// Looks until the gate opens, or the time is over, or no time can help.
    async fn choose(&self) -> Result<Chosen, PackError> {
        let deadline = Instant::now().checked_add(self.options.wait);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut pause = Duration::from_secs(1);
        let mut reported = Vec::new();
        let mut metadata = MetadataCache::default();
        let mut pairs = Pairs::new();
        loop {
            let is_last = left().is_some_and(|left| left.is_zero());
            let waiting_for = match self.look(&mut metadata, &mut pairs, is_last).await {
                Ok(Look::Open(chosen)) => return Ok(chosen),
                Ok(Look::Waiting { error, .. }) if is_last => return Err(error),
                Ok(Look::Waiting { waiting_for, .. }) => waiting_for,
                // Whoever waits lets others write there.
                Err(PackError::SourceChanged(error)) if !is_last => vec![error.to_string()],
                Err(error) => return Err(error),
            };
            if waiting_for != reported {
                self.observer.event(Event::Waiting {
                    waiting_for: waiting_for.clone(),
                });
                reported = waiting_for;
            }
            tokio::time::sleep(left().map_or(pause, |left| pause.min(left))).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(30));
        }
    }

    /// Lists SOURCE, reads what is new of its metadata, and judges.
    async fn look(
        &self,
        metadata: &mut MetadataCache,
        pairs: &mut Pairs,
        is_last: bool,
    ) -> Result<Look, PackError> {
        let (source, wanted) = (self.source, &self.options.wanted);
        let listed = match source.list().await {
            // Whoever waits may come before the first export: in a bucket a folder is there once
            // something lies in it.
            Err(StoreError::NotFound { .. })
                if source.is_remote() && self.options.wait > Duration::ZERO =>
            {
                Vec::new()
            }
            listed => listed.map_err(PackError::source)?,
        };
        let objects: BTreeMap<String, ObjectInfo> = listed
            .into_iter()
            .map(|object| (object.name.clone(), object))
            .collect();
        if let Some(place) = self.place.filter(|_| is_last) {
            place.refuse_foreign(&objects)?;
        }
        let mut discovery = metadata
            .discover(source, &objects, self.workers.memory())
            .await?;
        discovery
            .exports
            .iter_mut()
            .for_each(|export| export.accept_counts(&self.options.accept_count));
        let mut verdict = select::judge(&discovery, wanted, pairs)?;
        // The data of a set that is known to be incomplete is not read for that.
        while !self.options.dry_run && verdict.is_whole() {
            let open = self.open_exports(&discovery, &verdict, pairs);
            if open.is_empty() {
                break;
            }
            learn_pairs(source, &objects, &open, self.workers, pairs).await?;
            verdict = select::judge(&discovery, wanted, pairs)?;
        }
        if !verdict.is_whole() {
            let waiting_for = verdict.waiting_for();
            let may_ripen = verdict.may_ripen();
            if is_last || !may_ripen {
                let is_asked = self.options.all_faults || !source.is_remote();
                if is_asked && !self.options.dry_run {
                    let whole = verdict
                        .exports
                        .iter()
                        .filter_map(|index| discovery.exports.get(*index))
                        .cloned()
                        .collect();
                    let contents = metadata.contents_of(&objects);
                    verdict.faults.extend(
                        more_faults(
                            whole,
                            source,
                            &objects,
                            &contents,
                            &self.options.accept_count,
                            self.workers,
                            self.observer,
                        )
                        .await?,
                    );
                }
            }
            let error = verdict.into_error(wanted.latest);
            return if may_ripen {
                Ok(Look::Waiting { waiting_for, error })
            } else {
                Err(error)
            };
        }
        if !verdict.undecided.is_empty() {
            let open = verdict
                .undecided
                .iter()
                .filter_map(|index| discovery.exports.get(*index))
                .map(|export| export.title.as_str());
            let open = open.collect::<Vec<_>>().join(", ");
            verdict.warnings.push(format!("only the data, which a dry run does not read, tells the kinds and namespaces of {open}"));
        }
        for warning in verdict.warnings {
            self.observer.event(Event::Warning { warning });
        }
        let (exports, foreign) = (
            discovery.exports.len() as u64,
            discovery.foreign.len() as u64,
        );
        let chosen = verdict.exports.len() as u64;
        self.observer.event(Event::Set {
            exports,
            chosen,
            foreign,
            superseded: verdict.superseded,
        });
        let mut all: BTreeMap<usize, Export> = discovery.exports.into_iter().enumerate().collect();
        let exports = verdict
            .exports
            .iter()
            .filter_map(|index| all.remove(index))
            .collect();
        let contents = metadata.contents_of(&objects);
        Ok(Look::Open(Chosen {
            exports,
            objects,
            contents,
            pairs: std::mem::take(pairs),
        }))
    }

    /// The exports whose data must be read before the set can be judged or named.
    fn open_exports<'d>(
        &self,
        discovery: &'d Discovery,
        verdict: &Verdict,
        pairs: &Pairs,
    ) -> Vec<&'d Export> {
        let unnamed = verdict
            .exports
            .iter()
            .filter(|_| matches!(self.name, ArchiveName::Chosen));
        let indices: BTreeSet<usize> = unnamed.chain(&verdict.undecided).copied().collect();
        let exports = indices
            .into_iter()
            .filter_map(|index| discovery.exports.get(index));
        exports
            .filter(|export| known_pairs(export, pairs).is_none())
            .collect()
    }
}

/// What else is wrong with a set that is not whole: the faults in the data of those exports of
/// which nothing is wrong so far.
async fn more_faults(
    exports: Vec<Export>,
    source: &Arc<dyn Store>,
    objects: &BTreeMap<String, ObjectInfo>,
    contents: &BTreeMap<String, Bytes>,
    accepted: &[Selector],
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<Vec<ExportFault>, PackError> {
    let exports: Vec<Export> = exports
        .into_iter()
        .filter(|export| export.faults.is_empty())
        .collect();
    let mut looking = Sealing::looking(source.clone(), workers.clone());
    let looked = looking
        .entries(
            sources_of(&exports, objects, contents, Method::Deflate),
            observer,
        )
        .await?;
    match assemble(&exports, looked, looking.options(), accepted) {
        Err(PackError::NotWhole { faults, .. }) => Ok(faults),
        // Whatever else there is to say comes when the set is whole.
        _ => Ok(Vec::new()),
    }
}

/// Reads the data of exports that leave kind or namespace open, once.
async fn learn_pairs(
    source: &Arc<dyn Store>,
    objects: &BTreeMap<String, ObjectInfo>,
    exports: &[&Export],
    workers: &Workers,
    known: &mut Pairs,
) -> Result<(), PackError> {
    for export in exports {
        let outputs = export
            .objects()
            .into_iter()
            .filter(|object| object.role == EntryRole::Output);
        let outputs: Vec<ObjectInfo> = outputs
            .filter_map(|object| objects.get(object.name))
            .cloned()
            .collect();
        let mut pairs = stream::pairs_of(source, outputs, workers).await?;
        // A kind of which nothing was exported is there all the same.
        for group in &export.groups {
            if let Some(kind) = group
                .kind
                .as_ref()
                .filter(|kind| !pairs.iter().any(|pair| pair.kind == **kind))
                .cloned()
            {
                pairs.insert(Pair {
                    namespace: group.namespace.clone().unwrap_or_default(),
                    kind,
                });
            }
        }
        known.insert(export.title.clone(), pairs);
    }
    Ok(())
}

/// The name that a set gives its archive.
struct ChosenName {
    name: String,
    /// Whether its namespace is still to be found in the data.
    is_open: bool,
}

/// `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`, as the set itself says.
fn chosen_name(chosen: &Chosen) -> ChosenName {
    let pairs = || {
        chosen
            .exports
            .iter()
            .map(|export| known_pairs(export, &chosen.pairs))
    };
    let is_open = pairs().any(|pairs| pairs.is_none());
    let namespaces: BTreeSet<Namespace> = pairs()
        .flatten()
        .flatten()
        .map(|pair| pair.namespace)
        .collect();
    let mut namespaces = namespaces.iter();
    let namespace = match (namespaces.next(), namespaces.next()) {
        _ if is_open => "NAMESPACE",
        (Some(only), None) if !only.is_default() => only.as_str(),
        (Some(_), Some(_)) => "all",
        _ => "default",
    };
    let id = backup_id(
        chosen
            .exports
            .iter()
            .filter_map(|export| export.started)
            .max(),
    );
    ChosenName {
        name: format!("{namespace}_backup_{id}.zip"),
        is_open,
    }
}

/// The id of a backup: when its newest export began.
fn backup_id(newest_start: Option<Timestamp>) -> String {
    newest_start.map_or_else(|| "19800101000000".to_owned(), Timestamp::compact)
}
