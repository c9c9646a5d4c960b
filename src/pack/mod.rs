//! Packing: the finished exports of a SOURCE, proved and written into one archive.
//!
//! The archive's name is asked for, SOURCE is listed and selected, every object goes through the
//! workers into the archive, which gets its name in one act.

mod companions;
mod error;
mod kinds;
mod manifest;
mod metadata;
mod options;
mod output;
mod pipeline;
mod place;
mod select;
mod set;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

pub use error::{ExportFault, PackError, StaleExport};
pub use options::{ArchiveName, PackRequest, SelectionOptions};

use crate::archive::checksums::{self, SHA256_ATTRIBUTE};
use crate::model::{
    EntryInfo, EntryRole, Kind, MANIFEST_NAME, Manifest, Namespace, SUMS_NAME, Sha256,
};
use crate::progress::{Event, Observer};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, ObjectMetadata, Store, StoreError, WriteOptions};
use companions::Companions;
use manifest::assemble;
use output::OutputDigest;
use pipeline::{ArchiveWriter, InspectedEntry};
use place::Destination;
use select::known_pairs;
use set::{PackSet, SetFinder};
use source::{Source, sources_of};

/// What was packed.
#[derive(Debug)]
pub struct PackResult {
    /// The archive's name in its store.
    pub name: String,
    /// What was written; none after a dry run.
    pub sealed: Option<PackedArchive>,
    /// After a dry run: whether an archive of that name exists which may be the same.
    pub exists: bool,
    /// Pairs (after a dry run: as far as the metadata declares them).
    pub kinds: u64,
    /// Entities (after a dry run: as far as the metadata counts them).
    pub entities: u64,
    /// Objects packed, companions included.
    pub objects: u64,
    /// Bytes of those objects.
    pub object_bytes: u64,
    /// How many of those objects are companions.
    pub companions: u64,
}

/// What stands under the archive's name.
#[derive(Debug)]
pub struct PackedArchive {
    /// SHA-256 of the archive.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether the archive was there already, the same to the byte.
    pub already_existed: bool,
    /// Whether its sidecar was written.
    pub sidecar_written: bool,
}

/// Packs the set below `source` as `name` into `dest`.
///
/// # Errors
/// [`PackError`]; nothing stands under the archive's name then that was not there before.
pub async fn pack(
    source: &Arc<dyn Store>,
    dest: &Arc<dyn Store>,
    name: ArchiveName,
    options: &PackRequest,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<PackResult, PackError> {
    // A name that another archive has is found before anything of SOURCE is read.
    let place = match &name {
        ArchiveName::Explicit(name) => Some(Destination::find(dest, name.clone(), options).await?),
        ArchiveName::Automatic => None,
    };
    let finder = SetFinder {
        source,
        name: &name,
        place: place.as_ref(),
        options,
        workers,
        observer,
    };
    // A folder of companions that is not there is found before anything is waited for.
    let mut companions = Companions::list(&options.companions).await?;
    let mut set = finder.find().await?;
    if !options.wait.is_zero() {
        companions = Companions::list(&options.companions).await?;
    }
    set.companions = companions;
    let place = match place {
        Some(place) => place,
        None => {
            let automatic = set.archive_name();
            // Which namespace it is stands in data that a dry run does not read.
            if automatic.is_open && options.dry_run {
                return Ok(would_pack(&set, automatic.name, false));
            }
            Destination::find(dest, automatic.name, options).await?
        }
    };
    place.check_same_set(&set.entries())?;
    if options.dry_run {
        let exists = place.existing().is_some();
        return Ok(would_pack(&set, place.name, exists));
    }
    let mut job = PackJob {
        source,
        dest,
        place,
        set: &set,
        options,
        workers,
        observer,
    };
    let sealed = job.run().await?;
    observer.finish_phase();
    let totals = &sealed.manifest.totals;
    Ok(PackResult {
        name: job.place.name,
        exists: true,
        kinds: totals.kinds,
        entities: totals.entities,
        objects: totals.entries,
        object_bytes: totals.bytes,
        companions: set.companions.count(),
        sealed: Some(sealed),
    })
}

/// What a dry run says of a set: as far as its metadata tell.
fn would_pack(set: &PackSet, name: String, exists: bool) -> PackResult {
    let mut kinds: BTreeSet<(Option<Namespace>, Option<Kind>)> = BTreeSet::new();
    for export in &set.exports {
        match known_pairs(export, &set.pairs) {
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
    let groups = set.exports.iter().flat_map(|export| &export.groups);
    let entities = groups
        .filter_map(|group| group.entities)
        .fold(0, u64::saturating_add);
    PackResult {
        name,
        sealed: None,
        exists,
        kinds: kinds.len() as u64,
        entities,
        objects: set.object_count(),
        object_bytes: set.object_bytes(),
        companions: set.companions.count(),
    }
}

/// What is to be written, and where.
struct PackJob<'a> {
    source: &'a Arc<dyn Store>,
    dest: &'a Arc<dyn Store>,
    place: Destination,
    set: &'a PackSet,
    options: &'a PackRequest,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

impl PackJob<'_> {
    /// Makes the archive and its sidecar, or finds that they are there.
    async fn run(&mut self) -> Result<PackedArchive, PackError> {
        self.observer
            .start_phase("packing", self.set.object_bytes());
        let mut sealed = match self.try_once().await {
            // What was lost may have been taken away by another pack of the same set, which is
            // done by now.
            Err(PackError::Source(error) | PackError::Dest(error)) if error.is_transfer_error() => {
                self.observer.event(Event::UploadRestarted {
                    reason: error.to_string(),
                });
                self.observer
                    .start_phase("packing again", self.set.object_bytes());
                let name = self.place.name.clone();
                self.place = Destination::find(self.dest, name, self.options).await?;
                self.try_once().await?
            }
            sealed => sealed?,
        };
        if !(sealed.already_existed && self.place.has_sidecar(sealed.sha256).await) {
            self.place.write_sidecar(sealed.sha256).await?;
            sealed.sidecar_written = true;
        }
        Ok(sealed)
    }

    async fn try_once(&self) -> Result<PackedArchive, PackError> {
        match self.place.existing() {
            Some(existing) => self.match_existing(existing).await,
            None => self.make().await,
        }
    }

    /// Makes the archive stand under its name.
    async fn make(&self) -> Result<PackedArchive, PackError> {
        let making = WriteOptions {
            overwrite: self.options.overwrite,
            expected_len: expected_len(self.set),
            ..WriteOptions::default()
        };
        let writer = self
            .dest
            .create(&self.place.name, making)
            .await
            .map_err(PackError::Dest)?;
        let mut archive = ArchiveWriter::new(
            self.source.clone(),
            writer,
            self.options.recorded(),
            self.workers.clone(),
        );
        let (manifest, range) = self.write_set(&mut archive).await?;
        let (writer, digest) = archive.finish().await?;
        self.place.remove_orphan().await?;
        match writer.publish(about(&manifest, digest.sha256, range)).await {
            Ok(()) => Ok(PackedArchive::new(digest, manifest, false)),
            // Another pack was faster, maybe one of the same set.
            Err(StoreError::AlreadyExists { .. }) => {
                self.place.recognise(&digest).await?;
                Ok(PackedArchive::new(digest, manifest, true))
            }
            Err(error) => Err(PackError::Dest(error)),
        }
    }

    /// Finds that the archive which is there is the one that would be made.
    async fn match_existing(&self, existing: &ObjectInfo) -> Result<PackedArchive, PackError> {
        let mut archive = ArchiveWriter::unwritten(
            self.source.clone(),
            self.options.recorded(),
            self.workers.clone(),
        );
        let (manifest, _) = self.write_set(&mut archive).await?;
        let (_, digest) = archive.finish().await?;
        self.place.recognise(&digest).await?;
        self.dest.remove_leftovers(existing).await;
        Ok(PackedArchive::new(digest, manifest, true))
    }

    /// Writes objects, `SHA256SUMS` and the manifest, in this order.
    async fn write_set(
        &self,
        archive: &mut ArchiveWriter,
    ) -> Result<(Manifest, ManifestRange), PackError> {
        let set = self.set;
        let method = self.options.method;
        let sources = sources_of(&set.exports, &set.objects, &set.contents, method);
        let entries = archive.entries(sources, self.observer).await?;
        let mut manifest = assemble(&set.exports, entries, self.options)?;
        self.write_companions(archive, &mut manifest).await?;
        let sums = Bytes::from(checksums::from_entries(&manifest));
        if let Some(sums) = self
            .write_document(archive, SUMS_NAME, sums, &manifest)
            .await?
        {
            manifest.sums = sums;
        }
        let document = Bytes::from(manifest.to_json());
        let len = document.len() as u64;
        self.write_document(archive, MANIFEST_NAME, document, &manifest)
            .await?;
        // The manifest is stored, and nothing comes after the data of an entry that is.
        let offset = archive.offset() - len;
        Ok((manifest, ManifestRange { offset, len }))
    }

    /// Writes the companions after the exports, of which nothing is wrong by now.
    async fn write_companions(
        &self,
        archive: &mut ArchiveWriter,
        manifest: &mut Manifest,
    ) -> Result<(), PackError> {
        let (modified, method) = (self.set.finished(), self.options.method);
        for folder in &self.set.companions.folders {
            archive.read_from(&folder.store);
            let sources = folder.sources(modified, method);
            let entries = archive.entries(sources, self.observer).await?;
            let items = entries.iter().map(InspectedEntry::item);
            manifest.companions.extend(items);
        }
        manifest.totals.entries += self.set.companions.count();
        manifest.totals.bytes += self.set.companions.bytes();
        Ok(())
    }

    /// Writes an entry that is made, not read.
    async fn write_document(
        &self,
        archive: &mut ArchiveWriter,
        name: &str,
        bytes: Bytes,
        manifest: &Manifest,
    ) -> Result<Option<EntryInfo>, PackError> {
        let modified = manifest.backup.finished;
        let source = Source::memory(bytes, name, EntryRole::Sums, modified);
        let mut entries = archive.entries(vec![source], self.observer).await?;
        Ok(entries.pop().map(|entry| entry.item()))
    }
}

impl PackedArchive {
    fn new(digest: OutputDigest, manifest: Manifest, was_there: bool) -> Self {
        PackedArchive {
            sha256: digest.sha256,
            bytes: digest.len,
            manifest,
            already_existed: was_there,
            sidecar_written: false,
        }
    }
}

/// Where the manifest's JSON is in the archive.
struct ManifestRange {
    offset: u64,
    len: u64,
}

/// What the archive's object says of itself, where its store can say it.
fn about(manifest: &Manifest, sha256: Sha256, range: ManifestRange) -> ObjectMetadata {
    let attributes = [
        (SHA256_ATTRIBUTE, sha256.to_string()),
        ("kindpack-backup-id", manifest.backup.id.clone()),
        (
            "kindpack-manifest",
            format!("{}+{}", range.offset, range.len),
        ),
    ];
    ObjectMetadata {
        sha256: Some(sha256),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    }
}

/// How long the archive may become: deflated data can be a little longer than they were, and each
/// entry is named three times.
fn expected_len(set: &PackSet) -> u64 {
    let (bytes, objects) = (set.object_bytes(), set.object_count());
    bytes
        .saturating_add(bytes >> 8)
        .saturating_add(objects.saturating_mul(4096))
}
