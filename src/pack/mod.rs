//! Packing: the finished exports of a SOURCE, proved and written into one archive.
//!
//! The store is asked about the archive's name, SOURCE is listed and selected, every object goes through the
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

use crate::archive::checksums::{self, CONTENTS_ATTRIBUTE, SHA256_ATTRIBUTE, contents_mark};
use crate::encryption::{ArchiveEncryptor, max_encrypted_len};
use crate::export::discover::{Export, ExportPart};
use crate::model::{
    EntryInfo, EntryRole, Kind, KindCounts, KindRef, MANIFEST_NAME, Manifest, Namespace, SUMS_NAME,
    Sha256,
};
use crate::progress::{Event, Observer};
use crate::runtime::workers::Workers;
use crate::signature::{KeyId, Signer};
use crate::store::{ObjectInfo, ObjectMetadata, Store, StoreError, WriteOptions};
use companions::Companions;
use manifest::assemble;
use output::{FinishedOutput, OutputDigest, OutputTransforms};
use pipeline::{ArchiveWriter, InspectedEntry};
use place::Destination;
use select::known_pairs;
use set::{PackSet, SetFinder};
use source::{Source, sources_of};

/// The attribute of an archive's object that says where its manifest is.
const MANIFEST_ATTRIBUTE: &str = "kindpack-manifest";

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
    /// The same, counted in exports.
    pub counts: KindCounts,
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
    /// The key that signed it.
    pub signed_by: Option<KeyId>,
    /// The text of its signature, where it was made with the archive.
    signature: Option<String>,
    /// The digest of the archive before it was encrypted, where it was.
    contents: Option<Sha256>,
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
    let place = explicit_place(dest, &name, options).await?;
    let finder = SetFinder {
        source,
        name: &name,
        place: place.as_ref(),
        options,
        workers,
        observer,
    };
    let set = find_with_companions(&finder).await?;
    set.check_places()?;
    let place = match place {
        Some(place) => place,
        None => match automatic_place(dest, &set, options).await? {
            Some(place) => place,
            None => {
                let name = options.object_name(&set.archive_name().name);
                return Ok(would_pack(&set, name, false));
            }
        },
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
    Ok(PackResult::packed(job.place.name, sealed, &set))
}

/// What stands under the archive's name, where that is given.
async fn explicit_place(
    dest: &Arc<dyn Store>,
    name: &ArchiveName,
    options: &PackRequest,
) -> Result<Option<Destination>, PackError> {
    match name {
        ArchiveName::Explicit(name) => Destination::find(dest, options.object_name(name), options)
            .await
            .map(Some),
        ArchiveName::Automatic => Ok(None),
    }
}

/// What stands under the name that the set itself gives its archive; none where a dry run does not
/// find out that name.
async fn automatic_place(
    dest: &Arc<dyn Store>,
    set: &PackSet,
    options: &PackRequest,
) -> Result<Option<Destination>, PackError> {
    let automatic = set.archive_name();
    // Which namespace it is stands in data that a dry run does not read.
    if automatic.is_open && options.dry_run {
        return Ok(None);
    }
    let name = options.object_name(&automatic.name);
    let place = Destination::find(dest, name, options).await?;
    Ok(Some(place))
}

/// Finds the set, with its companions.
async fn find_with_companions(finder: &SetFinder<'_>) -> Result<PackSet, PackError> {
    let options = finder.options;
    // A folder of companions that is not there is found before anything is waited for.
    let mut companions = Companions::list(&options.companions).await?;
    let mut set = finder.find().await?;
    if !options.wait.is_zero() {
        companions = Companions::list(&options.companions).await?;
    }
    set.companions = companions;
    Ok(set)
}

impl PackResult {
    fn packed(name: String, sealed: PackedArchive, set: &PackSet) -> Self {
        let totals = &sealed.manifest.totals;
        PackResult {
            name,
            exists: true,
            kinds: totals.kinds,
            counts: KindCounts::from_manifest(&sealed.manifest),
            entities: totals.entities,
            objects: totals.entries,
            object_bytes: totals.bytes,
            companions: set.companions.count(),
            sealed: Some(sealed),
        }
    }
}

/// What a dry run says of a set: as far as its metadata tell.
fn would_pack(set: &PackSet, name: String, exists: bool) -> PackResult {
    let pairs = set.exports.iter();
    let pairs: BTreeSet<OpenPair> = pairs.flat_map(|export| pairs_of(export, set)).collect();
    let groups = set.exports.iter().flat_map(|export| &export.groups);
    let entities = groups.filter_map(|group| group.entities);
    PackResult {
        name,
        sealed: None,
        exists,
        kinds: pairs.len() as u64,
        counts: KindCounts::new(set.exports.len(), pairs),
        entities: entities.fold(0, u64::saturating_add),
        objects: set.object_count(),
        object_bytes: set.object_bytes(),
        companions: set.companions.count(),
    }
}

/// Namespace and kind of a group, as far as they are known.
type OpenPair = (Option<Namespace>, Option<Kind>);

/// The pairs of an export, where they are known, else what its groups leave open.
fn pairs_of(export: &Export, set: &PackSet) -> Vec<OpenPair> {
    let known = |pair: KindRef| (Some(pair.namespace), Some(pair.kind));
    let open = |group: &ExportPart| (group.namespace.clone(), group.kind.clone());
    match known_pairs(export, &set.pairs) {
        Some(pairs) => pairs.into_iter().map(known).collect(),
        None => export.groups.iter().map(open).collect(),
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
        self.start_phase("packing");
        let mut sealed = match self.try_once().await {
            // What was lost may have been taken away by another pack of the same set, which is
            // done by now.
            Err(PackError::Source(error) | PackError::Dest(error)) if error.is_transfer_error() => {
                self.try_again(&error).await?
            }
            sealed => sealed?,
        };
        sealed.sidecar_written = self.complete_sidecar(&sealed).await?;
        sealed.signed_by = self.complete_signature(&sealed).await?;
        Ok(sealed)
    }

    async fn try_again(&mut self, lost: &StoreError) -> Result<PackedArchive, PackError> {
        let reason = lost.to_string();
        self.observer.event(Event::UploadRestarted { reason });
        self.start_phase("packing again");
        let name = self.place.name.clone();
        self.place = Destination::find(self.dest, name, self.options).await?;
        self.try_once().await
    }

    fn start_phase(&self, name: &'static str) {
        self.observer.start_phase(name, self.set.object_bytes());
    }

    /// Writes the sidecar unless it is there. Says whether it wrote it.
    async fn complete_sidecar(&self, sealed: &PackedArchive) -> Result<bool, PackError> {
        let sha256 = sealed.sha256;
        if sealed.already_existed && self.place.has_sidecar(sha256).await {
            return Ok(false);
        }
        self.place.write_sidecar(sha256, sealed.mark()).await?;
        Ok(true)
    }

    /// Writes the signature unless a good one is there. Gives the key that signed.
    async fn complete_signature(&self, sealed: &PackedArchive) -> Result<Option<KeyId>, PackError> {
        let Some(key) = &self.options.signing_key else {
            return Ok(None);
        };
        let signature = match sealed.already_existed {
            false => sealed.signature.clone(),
            true if self.place.has_signature(key, self.observer).await? => {
                return Ok(Some(key.id()));
            }
            true => self.place.sign(key, self.trusted_comment()).await?,
        };
        let not_signed = || PackError::NotSigned(self.place.name.clone());
        let signature = signature.ok_or_else(not_signed)?;
        self.place.write_signature(signature).await?;
        Ok(Some(key.id()))
    }

    async fn try_once(&self) -> Result<PackedArchive, PackError> {
        match self.place.existing() {
            Some(existing) => self.match_existing(existing).await,
            None => self.make().await,
        }
    }

    /// Makes the archive stand under its name.
    async fn make(&self) -> Result<PackedArchive, PackError> {
        let mut archive = self.begin_archive().await?;
        let (manifest, range) = self.write_set(&mut archive).await?;
        let output = archive.finish().await?;
        self.place.remove_outdated(output.digest.sha256).await?;
        let about = about_output(&manifest, &output, range);
        let (digest, contents) = (output.digest, output.contents);
        let sealed = PackedArchive::new(digest, contents, manifest, false);
        let is_announced = self.write_early_sidecar(&sealed).await?;
        let published = output.writer.publish(about).await;
        if let (true, Err(error)) = (is_announced, &published) {
            self.withdraw_sidecar(sealed.sha256, error).await;
        }
        match published {
            Ok(()) => Ok(PackedArchive {
                signature: output.signature,
                ..sealed
            }),
            // Another pack was faster, maybe one of the same set.
            Err(StoreError::AlreadyExists { .. }) => {
                let digest = self.recognise(&digest, contents).await?;
                Ok(PackedArchive::new(digest, contents, sealed.manifest, true))
            }
            Err(error) => Err(PackError::Dest(error)),
        }
    }

    /// Writes the sidecar of an encrypted archive before the archive gets its name in a folder: only
    /// the mark in it says, after a crash, that the archive holds this set. Objects in buckets have
    /// the mark themselves. Gives whether it wrote one.
    async fn write_early_sidecar(&self, sealed: &PackedArchive) -> Result<bool, PackError> {
        match sealed.mark() {
            Some(mark) if self.place.is_free() && !self.dest.is_remote() => {
                let written = self.place.write_sidecar(sealed.sha256, Some(mark)).await;
                if written.is_err() {
                    self.place.remove_sidecar(sealed.sha256).await;
                }
                written.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Removes the sidecar of an archive that did not get its name, unless the archive is there all
    /// the same.
    async fn withdraw_sidecar(&self, sha256: Sha256, error: &StoreError) {
        let is_of_another = matches!(error, StoreError::AlreadyExists { .. });
        let is_missing = || async {
            let object = self.dest.stat(&self.place.name).await;
            matches!(object, Err(StoreError::NotFound { .. }))
        };
        if is_of_another || is_missing().await {
            self.place.remove_sidecar(sha256).await;
        }
    }

    /// Finds that the archive which is there holds the same; gives its digest. `contents` is the
    /// digest before the encryption.
    async fn recognise(
        &self,
        digest: &OutputDigest,
        contents: Option<Sha256>,
    ) -> Result<OutputDigest, PackError> {
        match contents {
            Some(contents) => self.place.recognise_contents(contents).await,
            None => self.place.recognise(digest).await.map(|()| *digest),
        }
    }

    /// What becomes of the archive's bytes on their way.
    fn transforms(&self) -> Result<OutputTransforms, PackError> {
        let recipients = self.options.recipients.as_ref();
        let encryptor = recipients.map(ArchiveEncryptor::new).transpose();
        let key = self.options.signing_key.as_ref();
        Ok(OutputTransforms {
            encryptor: encryptor.map_err(|_| PackError::NotEncrypted(self.place.name.clone()))?,
            signer: key.map(|key| Signer::start(key, self.trusted_comment())),
        })
    }

    /// What a signature says of the archive: the same each time.
    fn trusted_comment(&self) -> String {
        format!(
            "file:{}\tbackup:{}\thashed",
            self.place.base_name().replace(char::is_control, "?"),
            self.set.backup_id()
        )
    }

    /// Begins an archive under the name.
    async fn begin_archive(&self) -> Result<ArchiveWriter, PackError> {
        let making = WriteOptions {
            overwrite: self.options.overwrite,
            expected_len: self.expected_len(),
            ..WriteOptions::default()
        };
        let writer = self.dest.create(&self.place.name, making).await;
        let writer = writer.map_err(PackError::Dest)?;
        let (source, workers) = (self.source.clone(), self.workers.clone());
        let options = self.options.recorded();
        let transforms = self.transforms()?;
        Ok(ArchiveWriter::new(
            source, writer, transforms, options, workers,
        ))
    }

    /// How long the archive may become.
    fn expected_len(&self) -> u64 {
        let len = expected_len(self.set);
        match self.options.recipients {
            Some(_) => max_encrypted_len(len),
            None => len,
        }
    }

    /// Finds that the archive which is there is the one that would be made.
    async fn match_existing(&self, existing: &ObjectInfo) -> Result<PackedArchive, PackError> {
        let (source, workers) = (self.source.clone(), self.workers.clone());
        let mut archive = ArchiveWriter::unwritten(source, self.options.recorded(), workers);
        let (manifest, _) = self.write_set(&mut archive).await?;
        let made = archive.finish().await?.digest;
        let contents = self.options.recipients.as_ref().map(|_| made.sha256);
        let digest = self.recognise(&made, contents).await?;
        self.dest.remove_leftovers(existing).await;
        Ok(PackedArchive::new(digest, contents, manifest, true))
    }

    /// Writes objects, `SHA256SUMS` and the manifest, in this order.
    async fn write_set(
        &self,
        archive: &mut ArchiveWriter,
    ) -> Result<(Manifest, ManifestRange), PackError> {
        let mut manifest = self.write_exports(archive).await?;
        self.write_companions(archive, &mut manifest).await?;
        self.write_sums(archive, &mut manifest).await?;
        let range = self.write_manifest(archive, &manifest).await?;
        Ok((manifest, range))
    }

    async fn write_exports(&self, archive: &mut ArchiveWriter) -> Result<Manifest, PackError> {
        let (set, method) = (self.set, self.options.method);
        let sources = sources_of(&set.exports, &set.objects, &set.contents, method);
        let entries = archive.entries(sources, self.observer).await?;
        assemble(&set.exports, entries, self.options)
    }

    async fn write_sums(
        &self,
        archive: &mut ArchiveWriter,
        manifest: &mut Manifest,
    ) -> Result<(), PackError> {
        let sums = Bytes::from(checksums::from_entries(manifest));
        let written = self.write_document(archive, SUMS_NAME, sums, manifest);
        if let Some(sums) = written.await? {
            manifest.sums = sums;
        }
        Ok(())
    }

    async fn write_manifest(
        &self,
        archive: &mut ArchiveWriter,
        manifest: &Manifest,
    ) -> Result<ManifestRange, PackError> {
        let document = Bytes::from(manifest.to_json());
        let len = document.len() as u64;
        self.write_document(archive, MANIFEST_NAME, document, manifest)
            .await?;
        // The manifest is stored, and nothing comes after the data of an entry that is.
        let offset = archive.offset() - len;
        Ok(ManifestRange { offset, len })
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
    fn new(
        digest: OutputDigest,
        contents: Option<Sha256>,
        manifest: Manifest,
        was_there: bool,
    ) -> Self {
        PackedArchive {
            sha256: digest.sha256,
            bytes: digest.len,
            manifest,
            already_existed: was_there,
            sidecar_written: false,
            signed_by: None,
            signature: None,
            contents,
        }
    }

    /// The mark of what it holds, where it is encrypted.
    fn mark(&self) -> Option<Sha256> {
        let contents = self.contents.as_ref()?;
        Some(contents_mark(&self.sha256, contents))
    }
}

/// Where the manifest's JSON is in the archive.
struct ManifestRange {
    offset: u64,
    len: u64,
}

/// What the archive's object says of itself, where its store can say it.
fn about(manifest: &Manifest, sha256: Sha256, range: ManifestRange) -> ObjectMetadata {
    let range = format!("{}+{}", range.offset, range.len);
    let attributes = [
        (SHA256_ATTRIBUTE, sha256.to_string()),
        ("kindpack-backup-id", manifest.backup.id.clone()),
        (MANIFEST_ATTRIBUTE, range),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    ObjectMetadata {
        sha256: Some(sha256),
        attributes: attributes.into(),
    }
}

/// What the object of an archive says of itself. Nobody can read a manifest in an encrypted one by its
/// place.
fn about_output(
    manifest: &Manifest,
    output: &FinishedOutput,
    range: ManifestRange,
) -> ObjectMetadata {
    let sha256 = output.digest.sha256;
    let mut about = about(manifest, sha256, range);
    if let Some(contents) = &output.contents {
        about.attributes.remove(MANIFEST_ATTRIBUTE);
        let mark = contents_mark(&sha256, contents).to_string();
        about.attributes.insert(CONTENTS_ATTRIBUTE.to_owned(), mark);
    }
    about
}

/// How long the archive may become: deflated data can be a little longer than they were, and each
/// entry is named three times.
fn expected_len(set: &PackSet) -> u64 {
    let (bytes, objects) = (set.object_bytes(), set.object_count());
    bytes
        .saturating_add(bytes >> 8)
        .saturating_add(objects.saturating_mul(4096))
}
