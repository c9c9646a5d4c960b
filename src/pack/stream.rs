//! The stream of pieces: objects in, read ahead and worked on side by side, sealed in order.
//!
//! Only a bounded window of pieces is ever in memory. Knows stores and the sealing writer; must not
//! know what an export is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::Digest as _;

use super::PackError;
use crate::archive::deflate::{DataError, STREAM_END, deflate_piece, deflate_room};
use crate::archive::zip::{EntryHead, Sealer};
use crate::export::inspect::{self, Content, Inspected, Inspection, PieceReport, join_crc32c};
use crate::model::{
    Crc32c, EntryItem, EntryRole, Method, PIECE_LEN_BYTES, PackOptions, Pair, Sha256, Timestamp,
};
use crate::progress::Observer;
use crate::runtime::buffers::Buffer;
use crate::runtime::workers::{Aside, WorkerLost, Workers};
use crate::store::{About, ObjectInfo, ObjectWriter, Part, Store, StoreError};

/// An entry whose kept form is at most this long is held back until it is whole, so that its local
/// header can carry its lengths. Part of the format: another number gives other bytes.
const HELD_MAX_BYTES: u64 = 4 << 20;

/// What a piece in flight may weigh: itself and its deflated form, which can be a little longer.
const PIECE_FOOTPRINT_BYTES: u64 = 2 * PIECE_LEN_BYTES as u64 + (PIECE_LEN_BYTES as u64 >> 3);

/// An entry to be.
#[derive(Debug, Clone)]
pub(super) struct Source {
    bytes: SourceBytes,
    name: String,
    role: EntryRole,
    modified: Option<Timestamp>,
    /// How its bytes are kept.
    method: Method,
}

#[derive(Debug, Clone)]
enum SourceBytes {
    /// An object, and its bytes where they were read before.
    Object(ObjectInfo, Option<Bytes>),
    Memory(Bytes),
}

impl Source {
    /// An entry from an object of the store, of which the whole content may be known. Nothing
    /// deflates to more than nothing, so an empty one is stored.
    pub(super) fn object(
        object: ObjectInfo,
        content: Option<Bytes>,
        name: String,
        role: EntryRole,
        modified: Option<Timestamp>,
        method: Method,
    ) -> Self {
        let method = if object.len == 0 {
            Method::Store
        } else {
            method
        };
        Source {
            bytes: SourceBytes::Object(object, content),
            name,
            role,
            modified,
            method,
        }
    }

    /// An entry from memory, stored.
    pub(super) fn memory(
        bytes: Bytes,
        name: &str,
        role: EntryRole,
        modified: Option<Timestamp>,
    ) -> Self {
        Source {
            bytes: SourceBytes::Memory(bytes),
            name: name.to_owned(),
            role,
            modified,
            method: Method::Store,
        }
    }

    fn len(&self) -> u64 {
        match &self.bytes {
            SourceBytes::Object(object, _) => object.len,
            SourceBytes::Memory(bytes) => bytes.len() as u64,
        }
    }

    fn content(&self) -> Content {
        Content::of(self.role, self.encoding())
    }

    fn encoding(&self) -> Option<&str> {
        match &self.bytes {
            SourceBytes::Object(object, _) => object.content_encoding.as_deref(),
            SourceBytes::Memory(_) => None,
        }
    }

    /// Holds what was read against the store's own checksum.
    fn check_crc32c(&self, inspected: &Inspected, store: &dyn Store) -> Result<(), PackError> {
        let SourceBytes::Object(object, _) = &self.bytes else {
            return Ok(());
        };
        let found = inspected.crc32c.0;
        match object.crc32c.filter(|expected| *expected != found) {
            Some(expected) => Err(PackError::Source(StoreError::Corrupt {
                name: store.shown(&object.name),
                expected,
                found,
            })),
            None => Ok(()),
        }
    }

    fn part(&self, job: &Job) -> Result<Part, Bytes> {
        match &self.bytes {
            SourceBytes::Object(object, None) => Ok(Part {
                object: object.clone(),
                offset: job.offset,
                len: job.len,
            }),
            SourceBytes::Object(_, Some(bytes)) | SourceBytes::Memory(bytes) => {
                let start = usize::try_from(job.offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                Err(bytes.slice(start..start.saturating_add(job.len).min(bytes.len())))
            }
        }
    }
}

/// What an entry turned out to be.
#[derive(Debug)]
pub(super) struct Looked {
    /// Its name in the zip.
    pub(super) name: String,
    /// What it is for.
    pub(super) role: EntryRole,
    /// How its bytes are encoded, where the store says so.
    pub(super) content_encoding: Option<String>,
    /// What its bytes told.
    pub(super) inspected: Inspected,
    /// CRC-32C of its data as they were written, if deflated.
    pub(super) packed_crc32c: Option<Crc32c>,
    /// Deflated lengths of its pieces.
    pub(super) pieces: Vec<u32>,
}

impl Looked {
    /// The entry as the manifest lists it.
    pub(super) fn item(&self) -> EntryItem {
        EntryItem {
            name: self.name.clone(),
            role: self.role,
            listed_as: None,
            content_encoding: self.content_encoding.clone(),
            bytes: self.inspected.len,
            sha256: self.inspected.sha256,
            crc32c: self.inspected.crc32c,
            packed_crc32c: self.packed_crc32c,
            pieces: self.pieces.clone(),
        }
    }
}

/// What is done with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Looked at and kept.
    Seal,
    /// Looked at: its entry is stored and so large that its checksum must be known before its first
    /// byte is written.
    Look,
    /// Kept, after it was looked at in an earlier pass.
    Copy,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    source: usize,
    offset: u64,
    len: usize,
    last: bool,
    pass: Pass,
}

impl Job {
    /// What is looked for in the piece; nothing more where it was looked at before.
    fn content(&self, source: &Source) -> Content {
        if self.pass == Pass::Copy {
            Content::Opaque
        } else {
            source.content()
        }
    }
}

/// A piece that a worker is done with.
struct Done {
    job: Job,
    raw: Bytes,
    /// Whether it is no part of what its object should be.
    is_faulty: bool,
    told: Told,
    kept: Option<Kept>,
}

/// A piece in the form in which it is written.
struct Kept {
    bytes: Bytes,
    crc32c: u32,
}

impl Kept {
    fn new(bytes: Bytes) -> Self {
        Kept {
            crc32c: crc32c::crc32c(&bytes),
            bytes,
        }
    }
}

enum Told {
    /// A part of an object; its bytes are still to be hashed in order.
    Part(PieceReport),
    /// An object of one piece needs no order.
    Whole(Box<Inspection>),
}

/// The entry that is being written.
#[derive(Default)]
struct Entry {
    inspection: Aside<Inspection>,
    pieces: Vec<u32>,
    packed_crc32c: u32,
    held: Vec<Bytes>,
    held_bytes: u64,
    /// Whether its local header is written.
    begun: bool,
    /// What the first of two passes told.
    looked: Option<Inspected>,
}

/// The archive that is being written.
pub(super) struct Sealing {
    store: Arc<dyn Store>,
    out: Output,
    sealer: Sealer,
    options: PackOptions,
    workers: Workers,
    /// Set at the first fault: from then on everything is only looked at.
    broken: Arc<AtomicBool>,
}

impl Sealing {
    pub(super) fn new(
        store: Arc<dyn Store>,
        writer: Box<dyn ObjectWriter>,
        options: PackOptions,
        workers: Workers,
    ) -> Self {
        let out = Output::new(writer);
        Sealing {
            store,
            out,
            sealer: Sealer::default(),
            options,
            workers,
            broken: Arc::default(),
        }
    }

    /// Seals as ever, and keeps nothing but the digest: for an archive that is there already.
    pub(super) fn unwritten(store: Arc<dyn Store>, options: PackOptions, workers: Workers) -> Self {
        Sealing::new(store, Box::new(Nowhere), options, workers)
    }

    /// Looks at entries and writes nothing: for a set that is known not to be whole, of which all
    /// faults are to be told.
    pub(super) fn looking(store: Arc<dyn Store>, workers: Workers) -> Self {
        let options = PackOptions {
            method: Method::Store,
            level: None,
            piece_bytes: PIECE_LEN_BYTES as u64,
        };
        let sealing = Sealing::unwritten(store, options, workers);
        sealing.broken.store(true, Ordering::Relaxed);
        sealing
    }

    /// The choices that shape the bytes.
    pub(super) fn options(&self) -> &PackOptions {
        &self.options
    }

    /// Seals entries in order, and tells what each of them is.
    pub(super) async fn entries(
        &mut self,
        sources: Vec<Source>,
        observer: &dyn Observer,
    ) -> Result<Vec<Looked>, PackError> {
        let sources: Arc<[Source]> = sources.into();
        let window = self.workers.window(PIECE_FOOTPRINT_BYTES);
        let (level, store, workers, broken) = (
            self.options.level.unwrap_or_default(),
            self.store.clone(),
            self.workers.clone(),
            self.broken.clone(),
        );
        let jobs = sources
            .iter()
            .enumerate()
            .flat_map(|(index, source)| jobs_of(index, source.len(), source.method));
        let mut done = stream::iter(batches(jobs).map(|batch| {
            let (sources, store, workers, broken) = (
                sources.clone(),
                store.clone(),
                workers.clone(),
                broken.clone(),
            );
            tokio::spawn(async move {
                work(sources, batch, store.as_ref(), level, &workers, &broken).await
            })
        }))
        .buffered(window)
        .map(|batch| {
            batch
                .map_err(WorkerLost)?
                .map(|batch| stream::iter(batch).map(Ok::<_, PackError>))
        })
        .try_flatten();

        let mut all = Vec::with_capacity(sources.len());
        let mut entry = Entry::default();
        while let Some(piece) = done.next().await {
            let piece: Done = piece?;
            let Some(source) = sources.get(piece.job.source) else {
                continue;
            };
            let job = piece.job;
            let kept = piece
                .kept
                .as_ref()
                .map_or(0, |kept| kept.bytes.len() as u64);
            match piece.told {
                Told::Whole(whole) => entry.inspection = Aside::Idle(*whole),
                Told::Part(report) => {
                    let (raw, content) = (piece.raw, job.content(source));
                    let look = move |inspection: Inspection| {
                        let mut inspection = inspection.hashed(&raw, content);
                        inspection.join(report);
                        inspection
                    };
                    entry.inspection.then(look).await?;
                }
            }
            observer.advance(
                if job.pass == Pass::Copy {
                    0
                } else {
                    job.len as u64
                },
                kept,
            );
            if let Some(kept) = piece.kept {
                if source.method == Method::Deflate {
                    entry
                        .pieces
                        .push(u32::try_from(kept.bytes.len()).unwrap_or(u32::MAX));
                }
                entry.hold(kept);
            }
            self.flush_large(source, &mut entry).await?;
            if job.last
                && let Some(looked) = self.end_pass(source, job.pass, &mut entry).await?
            {
                all.push(looked);
                entry = Entry::default();
            }
        }
        Ok(all)
    }

    /// Writes what is held of an entry that is known to be large, or already begun.
    async fn flush_large(&mut self, source: &Source, entry: &mut Entry) -> Result<(), PackError> {
        if self.broken.load(Ordering::Relaxed) {
            // Nothing is written any more; the container may be left in the middle of an entry.
            entry.held.clear();
            return Ok(());
        }
        if !entry.begun && entry.held_bytes > HELD_MAX_BYTES {
            let header = self.sealer.begin_streamed(source.head(), source.len())?;
            self.out.write(header.into()).await?;
            entry.begun = true;
        }
        if entry.begun {
            self.write_held(entry).await?;
        }
        Ok(())
    }

    async fn write_held(&mut self, entry: &mut Entry) -> Result<(), PackError> {
        for bytes in std::mem::take(&mut entry.held) {
            self.sealer.data(bytes.len() as u64)?;
            self.out.write(bytes).await?;
        }
        entry.held_bytes = 0;
        Ok(())
    }

    /// After the last piece of a pass: the entry's end, or between two passes its header.
    async fn end_pass(
        &mut self,
        source: &Source,
        pass: Pass,
        entry: &mut Entry,
    ) -> Result<Option<Looked>, PackError> {
        let mut inspected = entry.inspection.take().await?.finish();
        source.check_crc32c(&inspected, self.store.as_ref())?;
        if inspected.fault.is_some() {
            self.broken.store(true, Ordering::Relaxed);
        }
        let whole = !self.broken.load(Ordering::Relaxed);
        match pass {
            Pass::Look => {
                if whole {
                    let header = self.sealer.begin_known(
                        source.head(),
                        inspected.crc32,
                        inspected.len,
                        inspected.len,
                    )?;
                    self.out.write(header.into()).await?;
                    entry.begun = true;
                }
                entry.looked = Some(inspected);
                return Ok(None);
            }
            // What was looked at is what counts; the second reading must have been of the same
            // bytes.
            Pass::Copy => match entry.looked.take() {
                Some(looked) if looked.sha256 == inspected.sha256 => inspected = looked,
                _ => {
                    return Err(PackError::SourceChanged(StoreError::Changed {
                        name: source.name.clone(),
                    }));
                }
            },
            Pass::Seal => {}
        }
        if whole {
            if source.method == Method::Deflate {
                entry.hold(Kept::new(Bytes::from_static(&STREAM_END)));
            }
            if !entry.begun {
                let header = self.sealer.begin_known(
                    source.head(),
                    inspected.crc32,
                    inspected.len,
                    entry.held_bytes,
                )?;
                self.out.write(header.into()).await?;
            }
            self.write_held(entry).await?;
            let descriptor = self.sealer.end(inspected.crc32, inspected.len)?;
            self.out.write(descriptor.into()).await?;
        }
        let packed_crc32c =
            (source.method == Method::Deflate).then_some(Crc32c(entry.packed_crc32c));
        Ok(Some(Looked {
            name: source.name.clone(),
            role: source.role,
            content_encoding: source.encoding().map(str::to_owned),
            inspected,
            packed_crc32c,
            pieces: std::mem::take(&mut entry.pieces),
        }))
    }

    /// How long the archive is so far.
    pub(super) fn offset(&self) -> u64 {
        self.sealer.offset()
    }

    /// Writes the directory; gives back the writer, to be published, and what tells that which was
    /// written from all else.
    pub(super) async fn finish(mut self) -> Result<(Box<dyn ObjectWriter>, Digest), PackError> {
        if self.broken.load(Ordering::Relaxed) {
            // Whoever finishes must have looked at what was told; an archive with gaps is never
            // made.
            return Err(PackError::Torso);
        }
        let directory = self.sealer.finish()?;
        self.out.write(directory.into()).await?;
        self.out.flush().await?;
        let Hashes { sha256, crc32c } = self.out.hashes.take().await?;
        Ok((
            self.out.writer,
            Digest {
                sha256: Sha256(sha256.finalize().into()),
                crc32c,
                len: self.out.len,
            },
        ))
    }
}

impl Entry {
    fn hold(&mut self, kept: Kept) {
        self.packed_crc32c = join_crc32c(self.packed_crc32c, kept.crc32c, kept.bytes.len() as u64);
        self.held_bytes += kept.bytes.len() as u64;
        self.held.push(kept.bytes);
    }
}

impl Source {
    fn head(&self) -> EntryHead<'_> {
        EntryHead {
            name: &self.name,
            method: self.method,
            modified: self.modified,
        }
    }
}

/// The pieces of an object, in order; an empty object has one empty piece.
fn jobs_of(source: usize, len: u64, method: Method) -> impl Iterator<Item = Job> {
    let twice = method == Method::Store && len > HELD_MAX_BYTES;
    let passes: &[Pass] = if twice {
        &[Pass::Look, Pass::Copy]
    } else {
        &[Pass::Seal]
    };
    let piece = PIECE_LEN_BYTES as u64;
    let pieces = len.div_ceil(piece).max(1);
    passes.iter().flat_map(move |pass| {
        (0..pieces).map(move |index| {
            let offset = index * piece;
            Job {
                source,
                offset,
                len: (len - offset).min(piece) as usize,
                last: index + 1 == pieces,
                pass: *pass,
            }
        })
    })
}

/// Small pieces are read and worked on together up to this length: by itself each costs more to
/// hand over than to read.
const BATCH_BYTES: usize = 1 << 20;

/// Pieces of one batch at the most.
const BATCH_PIECES: usize = 64;

/// Pieces as they are read together: small ones that follow each other, and each other one alone.
fn batches(jobs: impl Iterator<Item = Job>) -> impl Iterator<Item = Vec<Job>> {
    let mut jobs = jobs.peekable();
    std::iter::from_fn(move || {
        let first = jobs.next()?;
        let (mut bytes, mut batch) = (first.len, vec![first]);
        while let Some(next) =
            jobs.next_if(|next| bytes + next.len <= BATCH_BYTES && batch.len() < BATCH_PIECES)
        {
            bytes += next.len;
            batch.push(next);
        }
        Some(batch)
    })
}

/// Reads pieces and looks at them on a worker.
async fn work(
    sources: Arc<[Source]>,
    batch: Vec<Job>,
    store: &dyn Store,
    level: u32,
    workers: &Workers,
    broken: &Arc<AtomicBool>,
) -> Result<Vec<Done>, PackError> {
    let try_once = || async {
        let raws = read(&sources, &batch, store).await?;
        let (sources, batch, broken) = (sources.clone(), batch.clone(), broken.clone());
        let done = workers.run(move || {
            let pieces = batch
                .into_iter()
                .zip(raws)
                .filter_map(|(job, raw)| Some((sources.get(job.source)?, job, raw)));
            pieces
                .map(|(source, job, raw)| look(source, job, raw, level, &broken))
                .collect::<Result<Vec<Done>, _>>()
        });
        done.await?.map_err(PackError::Deflate)
    };
    let is_faulty = |done: &[Done]| done.iter().any(|done| done.is_faulty);
    let mut done = try_once().await?;
    if is_faulty(&done) && store.is_remote() {
        // Bytes may have been damaged on their way.
        done = try_once().await?;
    }
    if is_faulty(&done) {
        broken.store(true, Ordering::Relaxed);
    }
    Ok(done)
}

async fn read(
    sources: &[Source],
    batch: &[Job],
    store: &dyn Store,
) -> Result<Vec<Bytes>, PackError> {
    let parts: Vec<Result<Part, Bytes>> = batch
        .iter()
        .filter_map(|job| Some(sources.get(job.source)?.part(job)))
        .collect();
    let wanted: Vec<Part> = parts
        .iter()
        .filter_map(|part| part.as_ref().ok())
        .cloned()
        .collect();
    let read = match wanted.as_slice() {
        [] => Ok(Vec::new()),
        // One read needs no batch.
        [
            Part {
                object,
                offset,
                len,
            },
        ] => store
            .read(object, *offset, *len)
            .await
            .map(|bytes| vec![bytes]),
        wanted => store.read_all(wanted).await,
    };
    let mut read = read.map_err(PackError::reading)?.into_iter();
    let lacking = || {
        PackError::reading(StoreError::Changed {
            name: String::new(),
        })
    };
    parts
        .into_iter()
        .map(|part| part.map_or_else(Ok, |_| read.next().ok_or_else(lacking)))
        .collect()
}

/// Looks at one piece, and brings it into the form in which it is written.
fn look(
    source: &Source,
    job: Job,
    raw: Bytes,
    level: u32,
    broken: &AtomicBool,
) -> Result<Done, DataError> {
    let content = job.content(source);
    let report = inspect::piece(&raw, job.offset, content);
    let is_faulty = report.is_faulty();
    let told = if job.last && job.offset == 0 {
        let mut whole = Inspection::default().hashed(&raw, content);
        whole.join(report);
        Told::Whole(Box::new(whole))
    } else {
        Told::Part(report)
    };
    let keep = job.pass != Pass::Look && !is_faulty && !broken.load(Ordering::Relaxed);
    let kept = match source.method {
        _ if !keep => None,
        Method::Deflate if !raw.is_empty() => Some(Kept::new(deflate(
            &raw,
            level,
            job.offset / PIECE_LEN_BYTES as u64,
        )?)),
        _ => Some(Kept::new(raw.clone())),
    };
    Ok(Done {
        job,
        raw,
        is_faulty,
        told,
        kept,
    })
}

fn deflate(raw: &[u8], level: u32, number: u64) -> Result<Bytes, DataError> {
    let mut room = Buffer::of_len(deflate_room(raw.len()));
    let len = deflate_piece(level, number, raw, &mut room)?;
    room.truncate(len);
    Ok(room.freeze())
}

/// What tells an archive's bytes from all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest {
    pub(super) sha256: Sha256,
    pub(super) crc32c: u32,
    pub(super) len: u64,
}

/// The hashes of what was written so far.
#[derive(Default)]
struct Hashes {
    sha256: sha2::Sha256,
    crc32c: u32,
}

impl Hashes {
    fn chain_update(self, bytes: &[u8]) -> Self {
        Hashes {
            crc32c: crc32c::crc32c_append(self.crc32c, bytes),
            sha256: self.sha256.chain_update(bytes),
        }
    }
}

/// The archive's bytes on their way out, hashed as they go.
struct Output {
    writer: Box<dyn ObjectWriter>,
    hashes: Aside<Hashes>,
    len: u64,
    /// Headers and small entries: each on its own would take longer to hand over than to hash and
    /// to write.
    gathered: Vec<u8>,
}

/// What is gathered before it is handed on.
const GATHERED_BYTES: usize = 1 << 20;

/// What is handed on by itself.
const LARGE_BYTES: usize = 256 << 10;

impl Output {
    fn new(writer: Box<dyn ObjectWriter>) -> Self {
        Output {
            writer,
            hashes: Aside::default(),
            len: 0,
            gathered: Vec::new(),
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), PackError> {
        self.len += bytes.len() as u64;
        if bytes.len() >= LARGE_BYTES {
            self.flush().await?;
            return self.hand_on(bytes).await;
        }
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() >= GATHERED_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), PackError> {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            Ok(())
        } else {
            self.hand_on(gathered.into()).await
        }
    }

    async fn hand_on(&mut self, bytes: Bytes) -> Result<(), PackError> {
        let copy = bytes.clone();
        self.hashes
            .then(move |hashes| hashes.chain_update(&copy))
            .await?;
        self.writer.write(bytes).await.map_err(PackError::Dest)
    }
}

/// An archive that is never made.
#[derive(Debug)]
struct Nowhere;

impl ObjectWriter for Nowhere {
    fn write<'a>(&'a mut self, _: Bytes) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn publish(self: Box<Self>, _: About) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The pairs that stand in outputs, read for nothing else. What is wrong with them shows when they
/// are packed.
pub(super) async fn pairs_of(
    store: &Arc<dyn Store>,
    outputs: Vec<ObjectInfo>,
    workers: &Workers,
) -> Result<BTreeSet<Pair>, PackError> {
    let sources: Vec<Source> = outputs
        .into_iter()
        .map(|object| {
            Source::object(
                object,
                None,
                String::new(),
                EntryRole::Output,
                None,
                Method::Deflate,
            )
        })
        .collect();
    let jobs = sources
        .iter()
        .enumerate()
        .flat_map(|(index, source)| jobs_of(index, source.len(), Method::Deflate));
    let looks = jobs
        .filter_map(|job| sources.get(job.source).map(|source| (source, job)))
        .map(|(source, job)| async move {
            let content = source.content();
            let look_once = || async {
                let raw = match source.part(&job) {
                    Ok(Part {
                        object,
                        offset,
                        len,
                    }) => store
                        .read(&object, offset, len)
                        .await
                        .map_err(PackError::reading)?,
                    Err(bytes) => bytes,
                };
                Ok::<_, PackError>(
                    workers
                        .run(move || (inspect::piece(&raw, job.offset, content), raw))
                        .await?,
                )
            };
            let (mut report, mut raw) = look_once().await?;
            if report.is_faulty() && store.is_remote() {
                (report, raw) = look_once().await?;
            }
            Ok::<_, PackError>((
                job.last,
                report,
                (content == Content::GzippedEntities).then_some(raw),
            ))
        });
    let mut looks = stream::iter(looks).buffered(workers.window(PIECE_FOOTPRINT_BYTES));
    let mut pairs = BTreeSet::new();
    let mut inspection = Inspection::default();
    while let Some((last, report, gzipped)) = looks.try_next().await? {
        if let Some(raw) = gzipped {
            inspection =
                Workers::aside(move || inspection.hashed(&raw, Content::GzippedEntities)).await?;
        }
        inspection.join(report);
        if last {
            pairs.extend(
                std::mem::take(&mut inspection)
                    .finish()
                    .scan
                    .pairs
                    .into_keys(),
            );
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_batched_in_order_and_large_ones_stand_alone() {
        let lens = [1_000, 0, BATCH_BYTES - 1_000, 1, PIECE_LEN_BYTES, 5, 5];
        let jobs = lens
            .iter()
            .enumerate()
            .flat_map(|(source, len)| jobs_of(source, *len as u64, Method::Deflate));
        let batches: Vec<Vec<usize>> = batches(jobs)
            .map(|batch| batch.iter().map(|job| job.source).collect())
            .collect();
        assert_eq!(batches, [vec![0, 1, 2], vec![3], vec![4], vec![5, 6]]);
        let many = (0..200).flat_map(|source| jobs_of(source, 1, Method::Deflate));
        assert_eq!(
            super::batches(many)
                .map(|batch| batch.len())
                .collect::<Vec<_>>(),
            [64, 64, 64, 8]
        );
    }
}
