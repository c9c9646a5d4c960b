//! Packing: the finished exports of a SOURCE, proved and sealed into one archive.
//!
//! Lists once, lets the gate judge, streams every object through the workers into the sealing writer, publishes under the final name in
//! one act. Must not know arguments, progress bars or exit codes.

mod assemble;
mod gate;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use gate::{Pairs, Verdict, Wanted};

use crate::archive::{DataError, SealError, check_name};
use crate::archive_file::{ArchiveFile, digest_of};
use crate::model::{EntryRole, Manifest, Method, Pair, Selector, Sha256, Timestamp};
use crate::observe::{Event, Observer};
use crate::set::{self, Discovery, Export, Fault, FaultClass, Listed};
use crate::store::{About, Making, ObjectInfo, Store, StoreError, write_whole};
use crate::sums;
use crate::workers::{WorkerLost, Workers};
use assemble::assemble;
use stream::{Sealing, Source};

/// The attribute of an archive's object that holds its SHA-256.
pub const SHA256_ATTRIBUTE: &str = "kindpack-sha256";

/// How often a pack is begun where bytes get lost or damaged on their way. What did not change is not sent twice.
const TRIES: u32 = 2;

/// How a set is packed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which exports are wanted.
    pub wanted: Wanted,
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
    /// Whether the archive was there already, the same to the byte, and only its sidecar was made.
    pub was_there: bool,
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
        /// Pairs that were exported twice.
        duplicates: Vec<ExportFault>,
        /// Expected selectors that nothing answers.
        missing: Vec<Selector>,
    },
    /// SOURCE is there, without a single export.
    #[error("expected at least one export, found none")]
    NoExport,
    /// There are exports, but the selectors leave none.
    #[error("expected selectors that leave at least one export, found that they leave none")]
    NothingChosen,
    /// An export cannot be divided.
    #[error("{export}: expected an export of which all or nothing is chosen, found that it holds {wanted} and {unwanted} together")]
    Indivisible {
        /// The export's title.
        export: String,
        /// A pair that is chosen.
        wanted: Pair,
        /// A pair that is not.
        unwanted: Pair,
    },
    /// The exports come from several projects or databases.
    #[error("expected exports of one project and database, found {}", .0.join(", "))]
    SeveralOrigins(Vec<String>),
    /// The name of the archive is taken.
    #[error("{0}: expected a free name, found an archive there")]
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
            StoreError::NotFound { name, .. } => PackError::SourceChanged(StoreError::Changed { name }),
            error => PackError::source(error),
        }
    }

    /// Whether anything is damaged, and not only missing.
    pub fn is_damage(&self) -> bool {
        matches!(self, PackError::NotWhole { faults, .. } if faults.iter().any(|fault| fault.fault.class == FaultClass::Damaged))
    }
}

/// What may be packed: the exports, where each object is, and the pairs of exports that do not declare them.
struct Chosen {
    exports: Vec<Export>,
    objects: BTreeMap<String, ObjectInfo>,
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
    let chosen = choose(source, &name, options, workers, observer).await?;
    let name = match name {
        ArchiveName::Given(name) => name,
        ArchiveName::Chosen => chosen_name(&chosen),
    };
    let sidecar = sidecar_of(&name);
    let there = match dest.stat(&name).await {
        Ok(there) if !options.overwrite => Some(there),
        // Whoever may only create finds out when the archive gets its name: that is create-only, too.
        Ok(_) | Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => None,
        Err(error) => return Err(PackError::Dest(error)),
    };
    let stale = match dest.stat(&sidecar).await {
        Ok(_) if there.is_some() => return Err(PackError::Taken(name)),
        Ok(stale) => Some(stale),
        Err(StoreError::NotFound { .. }) => None,
        Err(StoreError::Denied { .. }) if there.is_none() => None,
        Err(error) => return Err(PackError::Dest(error)),
    };
    let bytes: u64 = chosen.exports.iter().flat_map(Export::objects).map(|object| object.len).sum();
    let objects = chosen.exports.iter().map(|export| export.objects().len() as u64).sum();
    if options.dry_run {
        let groups = || chosen.exports.iter().flat_map(|export| &export.groups);
        let kinds = chosen.exports.iter().flat_map(|export| known_pairs(export, &chosen.pairs)).collect::<BTreeSet<_>>().len() as u64;
        let entities = groups().filter_map(|group| group.entities).sum();
        return Ok(Packed { name, sealed: None, kinds, entities, objects, object_bytes: bytes });
    }

    observer.begin("packing", bytes);
    let making = Making { overwrite: options.overwrite, expected_len: expected_len(bytes, objects), ..Making::default() };
    let job = Job { source, dest: dest.as_ref(), name: &name, stale, chosen: &chosen, options, workers, observer };
    let mut tries = 1;
    let sealed = loop {
        let sealed = match &there {
            Some(there) => job.find_same(dest, there).await,
            None => job.make(making.clone()).await,
        };
        match sealed {
            Err(PackError::Source(error) | PackError::Dest(error)) if tries < TRIES && error.is_of_the_way() => {
                tries += 1;
                // What was lost may have been taken away by another pack of the same set, which is done by now.
                if there.is_none() && !options.overwrite && dest.stat(&name).await.is_ok() {
                    return Err(PackError::Taken(name));
                }
                observer.event(Event::Again { reason: error.to_string() });
                observer.begin("packing again", bytes);
            }
            sealed => break sealed?,
        }
    };
    let line = Bytes::from(sums::line(&sealed.sha256, base(&name)));
    write_whole(dest.as_ref(), &sidecar, line, true).await.map_err(PackError::Dest)?;
    observer.end();
    let totals = &sealed.manifest.totals;
    let (kinds, entities, objects, object_bytes) = (totals.kinds, totals.entities, totals.entries, totals.bytes);
    Ok(Packed { name, kinds, entities, objects, object_bytes, sealed: Some(sealed) })
}

/// What is to be sealed, and where.
struct Job<'a> {
    source: &'a Arc<dyn Store>,
    dest: &'a dyn Store,
    name: &'a str,
    /// A sidecar that was there before, of an archive that is not or will not be.
    stale: Option<ObjectInfo>,
    chosen: &'a Chosen,
    options: &'a Options,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

impl Job<'_> {
    /// Makes the archive stand under its name.
    async fn make(&self, making: Making) -> Result<Sealed, PackError> {
        let writer = self.dest.create(self.name, making).await.map_err(PackError::Dest)?;
        let mut sealing = Sealing::new(self.source.clone(), writer, self.options.method, self.options.level, self.workers.clone());
        let (manifest, place) = seal_set(&mut sealing, self.chosen, self.observer).await?;
        let (writer, sha256, bytes) = sealing.finish().await?;
        // Between the two acts there must never be a sidecar that lies. One that another pack has made meanwhile is true, and stays.
        if let Some(stale) = &self.stale {
            self.dest.remove(stale).await.map_err(PackError::Dest)?;
        }
        writer.publish(about(&manifest, sha256, place)).await.map_err(|error| match error {
            StoreError::Exists { .. } => PackError::Taken(self.name.to_owned()),
            error => PackError::Dest(error),
        })?;
        Ok(Sealed { sha256, bytes, manifest, was_there: false })
    }

    /// Finds that the archive which is there holds the same set; that it lacks its sidecar is all that is wrong with it.
    async fn find_same(&self, dest: &Arc<dyn Store>, there: &ObjectInfo) -> Result<Sealed, PackError> {
        let mut sealing = Sealing::unwritten(self.source.clone(), self.options.method, self.options.level, self.workers.clone());
        let (mut manifest, _) = seal_set(&mut sealing, self.chosen, self.observer).await?;
        let (_, sha256, _) = sealing.finish().await?;
        let digest = digest_of(self.dest, there).await.map_err(PackError::Dest)?;
        if digest != sha256 {
            // The same set may have been packed with other options: what is there counts then.
            let other = ArchiveFile::open(dest.clone(), there.clone(), self.name.to_owned()).await.ok();
            manifest = other
                .map(|other| other.manifest().clone())
                .filter(|other| same_set(other, &manifest))
                .ok_or_else(|| PackError::Taken(self.name.to_owned()))?;
        }
        self.dest.tidy(there).await;
        Ok(Sealed { sha256: digest, bytes: there.len, manifest, was_there: true })
    }
}

fn sidecar_of(name: &str) -> String {
    format!("{name}.sha256")
}

/// Whether two archives hold the same objects.
fn same_set(one: &Manifest, other: &Manifest) -> bool {
    let objects = |manifest: &Manifest| manifest.objects().iter().map(|item| (item.name.clone(), item.sha256)).collect::<BTreeSet<_>>();
    objects(one) == objects(other)
}

/// Seals objects, `SHA256SUMS` and the manifest, in this order.
async fn seal_set(sealing: &mut Sealing, chosen: &Chosen, observer: &dyn Observer) -> Result<(Manifest, Place), PackError> {
    let sources = sources_of(&chosen.exports, &chosen.objects, sealing.options().method);
    let looked = sealing.entries(sources, observer).await?;
    let mut manifest = assemble(&chosen.exports, looked, sealing.options())?;
    let modified = manifest.backup.finished;
    let sums = Bytes::from(sums::of_objects(&manifest));
    let mut told = sealing.entries(vec![Source::memory(sums, crate::model::SUMS_NAME, EntryRole::Sums, modified)], observer).await?;
    if let Some(sums) = told.pop() {
        manifest.sums = sums.item();
    }
    let document = Bytes::from(manifest.to_json());
    let len = document.len() as u64;
    sealing.entries(vec![Source::memory(document, crate::model::MANIFEST_NAME, EntryRole::Sums, modified)], observer).await?;
    // The manifest is stored, and nothing stands behind the data of an entry that is.
    Ok((manifest, Place { offset: sealing.offset() - len, len }))
}

/// Where the manifest's JSON lies in the archive.
struct Place {
    offset: u64,
    len: u64,
}

/// What the archive's object says of itself, where its store can say it.
fn about(manifest: &Manifest, sha256: Sha256, place: Place) -> About {
    let attributes = [
        (SHA256_ATTRIBUTE, sha256.to_string()),
        ("kindpack-backup-id", manifest.backup.id.clone()),
        ("kindpack-manifest", format!("{}+{}", place.offset, place.len)),
    ];
    About { sha256: Some(sha256), attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into() }
}

/// How long the archive may become: deflated data can be a little longer than they were, and each entry is told of three times.
fn expected_len(bytes: u64, objects: u64) -> u64 {
    bytes.saturating_add(bytes >> 8).saturating_add(objects.saturating_mul(4096))
}

/// The objects of exports as entries to be, in order.
fn sources_of(exports: &[Export], objects: &BTreeMap<String, ObjectInfo>, method: Method) -> Vec<Source> {
    let of_export = |export: &Export| {
        let modified = export.finished.or(export.started);
        let source = |object: set::ExportObject<'_>| {
            let info = objects.get(object.name)?.clone();
            Some(Source::object(info, format!("exports/{}", object.name), object.role, modified, method))
        };
        export.objects().into_iter().filter_map(source).collect::<Vec<_>>()
    };
    exports.iter().flat_map(of_export).collect()
}

/// What else is wrong with a set that is not whole: the faults in the data of those exports of which nothing is wrong so far.
async fn more_faults(
    exports: Vec<Export>,
    source: &Arc<dyn Store>,
    objects: &BTreeMap<String, ObjectInfo>,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<Vec<ExportFault>, PackError> {
    let exports: Vec<Export> = exports.into_iter().filter(|export| export.faults.is_empty()).collect();
    let mut looking = Sealing::looking(source.clone(), workers.clone());
    let looked = looking.entries(sources_of(&exports, objects, Method::Deflate), observer).await?;
    match assemble(&exports, looked, looking.options()) {
        Err(PackError::NotWhole { faults, .. }) => Ok(faults),
        // Whatever else there is to say comes when the set is whole.
        _ => Ok(Vec::new()),
    }
}

/// Looks at SOURCE until the gate opens, or the time is over, or no time can help.
async fn choose(
    source: &Arc<dyn Store>,
    name: &ArchiveName,
    options: &Options,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<Chosen, PackError> {
    let deadline = Instant::now() + options.wait;
    let mut pause = Duration::from_secs(1);
    let mut told = Vec::new();
    let mut known = Pairs::new();
    loop {
        let listed = match source.list().await {
            // Whoever waits may come before the first export: in a bucket a folder is there once something lies in it.
            Err(StoreError::NotFound { .. }) if source.is_remote() && options.wait > Duration::ZERO => Vec::new(),
            listed => listed.map_err(PackError::source)?,
        };
        let objects: BTreeMap<String, ObjectInfo> = listed.into_iter().map(|object| (object.name.clone(), object)).collect();
        let discovery = discover(source, &objects).await?;
        if options.wanted.asks_for_pairs() || matches!(name, ArchiveName::Chosen) {
            learn_pairs(source, &objects, &discovery, workers, &mut known).await?;
        }
        let exports = discovery.exports.len() as u64;
        let foreign = discovery.foreign.len() as u64;
        let mut verdict = gate::judge(discovery, &options.wanted, &known)?;
        let waiting = verdict.waiting_for();
        if !verdict.may_ripen() || Instant::now() >= deadline {
            if !verdict.faults.is_empty() || !verdict.missing.is_empty() || !verdict.duplicates.is_empty() {
                let whole = std::mem::take(&mut verdict.exports);
                verdict.faults.extend(more_faults(whole, source, &objects, workers, observer).await?);
            }
            let (chosen, superseded) = verdict.into_exports()?;
            observer.event(Event::Set { exports, chosen: chosen.len() as u64, foreign, superseded });
            return Ok(Chosen { exports: chosen, objects, pairs: known });
        }
        if waiting != told {
            observer.event(Event::Waiting { waiting_for: waiting.clone() });
            told = waiting;
        }
        tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(30));
    }
}

/// Reads the metadata of a listing and groups it into exports.
async fn discover(source: &Arc<dyn Store>, objects: &BTreeMap<String, ObjectInfo>) -> Result<Discovery, PackError> {
    let listed = |object: &ObjectInfo| Listed { name: object.name.clone(), len: object.len, is_encoded: object.content_encoding.is_some() };
    let listing: Vec<Listed> = objects.values().map(listed).collect();
    let wanted: Vec<ObjectInfo> = set::metadata_objects(&listing).filter_map(|listed| objects.get(&listed.name)).cloned().collect();
    // Not every service can read what it lists under an odd name; that no zip can carry it is known before.
    for metadata in &wanted {
        check_name(&format!("exports/{}", metadata.name)).map_err(SealError::from)?;
    }
    let metadata: BTreeMap<String, Vec<u8>> = stream::read_all(source, wanted).await.map_err(PackError::reading)?;
    Ok(set::discover(&listing, &metadata))
}

/// Reads the data of exports that leave kind or namespace open, once.
async fn learn_pairs(
    source: &Arc<dyn Store>,
    objects: &BTreeMap<String, ObjectInfo>,
    discovery: &Discovery,
    workers: &Workers,
    known: &mut Pairs,
) -> Result<(), PackError> {
    for export in &discovery.exports {
        if !export.is_complete() || export.declared_pairs().is_some() || known.contains_key(&export.title) {
            continue;
        }
        let outputs = export.objects().into_iter().filter(|object| object.role == EntryRole::Output);
        let outputs: Vec<ObjectInfo> = outputs.filter_map(|object| objects.get(object.name)).cloned().collect();
        let mut pairs = stream::pairs_of(source, outputs, workers).await?;
        // A kind of which nothing was exported is there all the same.
        for group in &export.groups {
            if let Some(kind) = group.kind.as_ref().filter(|kind| !pairs.iter().any(|pair| pair.kind == **kind)).cloned() {
                pairs.insert(Pair { namespace: group.namespace.clone().unwrap_or_default(), kind });
            }
        }
        known.insert(export.title.clone(), pairs);
    }
    Ok(())
}

fn known_pairs(export: &Export, pairs: &Pairs) -> BTreeSet<Pair> {
    pairs.get(&export.title).cloned().or_else(|| export.declared_pairs()).unwrap_or_default()
}

/// `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`, as the set itself says.
fn chosen_name(chosen: &Chosen) -> String {
    let namespaces: BTreeSet<_> =
        chosen.exports.iter().flat_map(|export| known_pairs(export, &chosen.pairs)).map(|pair| pair.namespace).collect();
    let mut namespaces = namespaces.iter();
    let namespace = match (namespaces.next(), namespaces.next()) {
        (Some(only), None) if !only.is_default() => only.as_str(),
        (Some(_), Some(_)) => "all",
        _ => "default",
    };
    format!("{namespace}_backup_{}.zip", backup_id(chosen.exports.iter().filter_map(|export| export.started).max()))
}

/// The id of a backup: when its newest export began.
fn backup_id(newest_start: Option<Timestamp>) -> String {
    newest_start.map_or_else(|| "19800101000000".to_owned(), Timestamp::compact)
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
