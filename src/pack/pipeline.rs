//! The pipeline of a pack: objects are read ahead, inspected and deflated side by side, and written
//! in order.
//!
//! Only a bounded window of pieces is ever in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, pin_mut, stream};

use super::error::PackError;
use super::output::{ArchiveOutput, NullWriter, OutputDigest};
use super::source::{HELD_MAX_BYTES, Pass, PieceBytes, PieceJob, Source, batches, jobs_of};
use crate::archive::deflate::{DataError, STREAM_END, deflate_piece, deflate_room};
use crate::archive::zip::ZipWriter;
use crate::export::inspect::{self, Inspector, ObjectDigest, PieceSummary, join_crc32c};
use crate::model::{Crc32c, EntryInfo, EntryRole, Method, PIECE_LEN_BYTES, PackOptions};
use crate::progress::Observer;
use crate::runtime::buffers::Buffer;
use crate::runtime::workers::{InOrder, WorkerPanicked, Workers};
use crate::store::{ObjectWriter, ReadRange, Store, StoreError};

/// What a piece in flight may weigh: itself and its deflated form, which can be a little longer.
pub(super) const PIECE_FOOTPRINT_BYTES: u64 =
    2 * PIECE_LEN_BYTES as u64 + (PIECE_LEN_BYTES as u64 >> 3);

/// What an entry turned out to be.
#[derive(Debug)]
pub(super) struct InspectedEntry {
    /// Its name in the zip.
    pub(super) name: String,
    /// What it is for.
    pub(super) role: EntryRole,
    /// How its bytes are encoded, where the store says so.
    pub(super) content_encoding: Option<String>,
    /// What its bytes are, where it is a companion and its store says so.
    pub(super) content_type: Option<String>,
    /// What its bytes hold.
    pub(super) inspected: ObjectDigest,
    /// CRC-32C of its data as they were written, if deflated.
    pub(super) packed_crc32c: Option<Crc32c>,
    /// Deflated lengths of its pieces.
    pub(super) pieces: Vec<u32>,
}

impl InspectedEntry {
    /// The entry as the manifest lists it.
    pub(super) fn item(&self) -> EntryInfo {
        EntryInfo {
            name: self.name.clone(),
            role: self.role,
            listed_as: None,
            content_encoding: self.content_encoding.clone(),
            content_type: self.content_type.clone(),
            bytes: self.inspected.len,
            sha256: self.inspected.sha256,
            crc32c: self.inspected.crc32c,
            packed_crc32c: self.packed_crc32c,
            pieces: self.pieces.clone(),
        }
    }
}

/// A piece that a worker is done with.
struct FinishedPiece {
    job: PieceJob,
    raw: Bytes,
    /// Whether it is no part of what its object should be.
    is_faulty: bool,
    result: PieceResult,
    compressed: Option<CompressedPiece>,
}

/// A piece in the form in which it is written.
struct CompressedPiece {
    bytes: Bytes,
    crc32c: u32,
}

impl CompressedPiece {
    fn new(bytes: Bytes) -> Self {
        CompressedPiece {
            crc32c: crc32c::crc32c(&bytes),
            bytes,
        }
    }
}

enum PieceResult {
    /// A part of an object; its bytes are still to be hashed in order.
    Part(PieceSummary),
    /// An object of one piece needs no order.
    Whole(Box<Inspector>),
}

/// The entry that is being written.
#[derive(Default)]
struct EntryInProgress {
    inspection: InOrder<Inspector>,
    pieces: Vec<u32>,
    packed_crc32c: u32,
    held: Vec<Bytes>,
    held_bytes: u64,
    /// Whether its local header is written.
    is_started: bool,
    /// What the first of two passes found.
    first_pass: Option<ObjectDigest>,
}

impl EntryInProgress {
    fn hold(&mut self, piece: CompressedPiece) {
        self.packed_crc32c =
            join_crc32c(self.packed_crc32c, piece.crc32c, piece.bytes.len() as u64);
        self.held_bytes += piece.bytes.len() as u64;
        self.held.push(piece.bytes);
    }
}

/// The archive that is being written.
pub(super) struct ArchiveWriter {
    store: Arc<dyn Store>,
    out: ArchiveOutput,
    sealer: ZipWriter,
    options: PackOptions,
    workers: Workers,
    /// Set at the first fault: from then on everything is only inspected.
    broken: Arc<AtomicBool>,
}

impl ArchiveWriter {
    pub(super) fn new(
        store: Arc<dyn Store>,
        writer: Box<dyn ObjectWriter>,
        options: PackOptions,
        workers: Workers,
    ) -> Self {
        let out = ArchiveOutput::new(writer);
        ArchiveWriter {
            store,
            out,
            sealer: ZipWriter::default(),
            options,
            workers,
            broken: Arc::default(),
        }
    }

    /// Makes only the digest: for an archive that is there already.
    pub(super) fn unwritten(store: Arc<dyn Store>, options: PackOptions, workers: Workers) -> Self {
        ArchiveWriter::new(store, Box::new(NullWriter), options, workers)
    }

    /// Inspects entries and writes nothing: for a set that is known to be incomplete, of which all
    /// faults are to be reported.
    pub(super) fn inspect_only(store: Arc<dyn Store>, workers: Workers) -> Self {
        let options = PackOptions {
            method: Method::Store,
            level: None,
            piece_bytes: PIECE_LEN_BYTES as u64,
        };
        let writer = ArchiveWriter::unwritten(store, options, workers);
        writer.broken.store(true, Ordering::Relaxed);
        writer
    }

    /// Goes on with objects of another store.
    pub(super) fn read_from(&mut self, store: &Arc<dyn Store>) {
        self.store = store.clone();
    }

    /// Writes entries in order, and gives what each of them is.
    pub(super) async fn entries(
        &mut self,
        sources: Vec<Source>,
        observer: &dyn Observer,
    ) -> Result<Vec<InspectedEntry>, PackError> {
        let sources: Arc<[Source]> = sources.into();
        let pieces = self.finished_pieces(&sources);
        pin_mut!(pieces);
        let mut entries = Vec::with_capacity(sources.len());
        let mut entry = EntryInProgress::default();
        while let Some(piece) = pieces.try_next().await? {
            let Some(source) = sources.get(piece.job.source) else {
                continue;
            };
            let job = piece.job;
            add_piece(source, piece, &mut entry, observer).await?;
            self.flush_large(source, &mut entry).await?;
            if job.last
                && let Some(inspected) = self.end_pass(source, job.pass, &mut entry).await?
            {
                entries.push(inspected);
                entry = EntryInProgress::default();
            }
        }
        Ok(entries)
    }

    /// The pieces of all sources, read and worked on side by side, in order.
    fn finished_pieces(
        &self,
        sources: &Arc<[Source]>,
    ) -> impl Stream<Item = Result<FinishedPiece, PackError>> + use<> {
        let of_jobs = sources.clone();
        let jobs = (0..sources.len()).flat_map(move |index| {
            let source = of_jobs.get(index);
            source
                .into_iter()
                .flat_map(|source| jobs_of(index, source.len(), source.method))
                .collect::<Vec<_>>()
        });
        let (sources, store, level, workers, broken) = (
            sources.clone(),
            self.store.clone(),
            self.options.level,
            self.workers.clone(),
            self.broken.clone(),
        );
        let window = workers.window(PIECE_FOOTPRINT_BYTES);
        stream::iter(batches(jobs).map(move |batch| {
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
                .map_err(WorkerPanicked)?
                .map(|batch| stream::iter(batch).map(Ok::<_, PackError>))
        })
        .try_flatten()
    }

    /// Writes what is held of an entry that is known to be large, or already started.
    async fn flush_large(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
    ) -> Result<(), PackError> {
        if self.broken.load(Ordering::Relaxed) {
            // Nothing is written any more; the container may be left in the middle of an entry.
            entry.held.clear();
            return Ok(());
        }
        if !entry.is_started && entry.held_bytes > HELD_MAX_BYTES {
            let header = self.sealer.begin_streamed(source.head(), source.len())?;
            self.out.write(header.into()).await?;
            entry.is_started = true;
        }
        if entry.is_started {
            self.write_held(entry).await?;
        }
        Ok(())
    }

    async fn write_held(&mut self, entry: &mut EntryInProgress) -> Result<(), PackError> {
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
        entry: &mut EntryInProgress,
    ) -> Result<Option<InspectedEntry>, PackError> {
        let mut inspected = entry.inspection.join().await?.finish();
        source.check_crc32c(&inspected, self.store.as_ref())?;
        if inspected.fault.is_some() {
            self.broken.store(true, Ordering::Relaxed);
        }
        let is_sound = !self.broken.load(Ordering::Relaxed);
        match pass {
            Pass::Write => {}
            Pass::InspectOnly => {
                if is_sound {
                    self.start_known(source, entry, &inspected, inspected.len)
                        .await?;
                }
                entry.first_pass = Some(inspected);
                return Ok(None);
            }
            // What was inspected is what counts; the second reading must have been of the same
            // bytes.
            Pass::CopyOnly => match entry.first_pass.take() {
                Some(first) if first.sha256 == inspected.sha256 => inspected = first,
                _ => {
                    return Err(PackError::SourceChanged(StoreError::Changed {
                        name: source.name.clone(),
                    }));
                }
            },
        }
        if is_sound {
            self.end_entry(source, entry, &inspected).await?;
        }
        let packed_crc32c =
            (source.method == Method::Deflate).then_some(Crc32c(entry.packed_crc32c));
        Ok(Some(InspectedEntry {
            name: source.name.clone(),
            role: source.role,
            content_encoding: source.encoding().map(str::to_owned),
            content_type: source.content_type().map(str::to_owned),
            inspected,
            packed_crc32c,
            pieces: std::mem::take(&mut entry.pieces),
        }))
    }

    /// Writes the local header of an entry of which everything is known.
    async fn start_known(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
        inspected: &ObjectDigest,
        compressed_len: u64,
    ) -> Result<(), PackError> {
        let header = self.sealer.begin_known(
            source.head(),
            inspected.crc32,
            inspected.len,
            compressed_len,
        )?;
        self.out.write(header.into()).await?;
        entry.is_started = true;
        Ok(())
    }

    /// Writes what is held of an entry, and its descriptor.
    async fn end_entry(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
        inspected: &ObjectDigest,
    ) -> Result<(), PackError> {
        if source.method == Method::Deflate {
            entry.hold(CompressedPiece::new(Bytes::from_static(&STREAM_END)));
        }
        if !entry.is_started {
            self.start_known(source, entry, inspected, entry.held_bytes)
                .await?;
        }
        self.write_held(entry).await?;
        let descriptor = self.sealer.end(inspected.crc32, inspected.len)?;
        self.out.write(descriptor.into()).await
    }

    /// How long the archive is so far.
    pub(super) fn offset(&self) -> u64 {
        self.sealer.offset()
    }

    /// Writes the directory; gives back the writer, to be published, and the digest of the archive.
    pub(super) async fn finish(
        mut self,
    ) -> Result<(Box<dyn ObjectWriter>, OutputDigest), PackError> {
        if self.broken.load(Ordering::Relaxed) {
            // The caller must have reported every fault; an archive with gaps is never made.
            return Err(PackError::IncompleteArchive);
        }
        let directory = self.sealer.finish()?;
        self.out.write(directory.into()).await?;
        self.out.finish().await
    }
}

/// Adds a piece to its entry: to the digests, and to what is to be written.
async fn add_piece(
    source: &Source,
    piece: FinishedPiece,
    entry: &mut EntryInProgress,
    observer: &dyn Observer,
) -> Result<(), PackError> {
    let (job, raw) = (piece.job, piece.raw);
    match piece.result {
        PieceResult::Whole(whole) => entry.inspection = InOrder::Ready(*whole),
        PieceResult::Part(report) => {
            let content = job.content(source);
            entry
                .inspection
                .enqueue(move |inspection: Inspector| inspection.update(&raw, content, report))
                .await?;
        }
    }
    let read_len = if job.pass == Pass::CopyOnly {
        0
    } else {
        job.len as u64
    };
    let written_len = piece
        .compressed
        .as_ref()
        .map_or(0, |piece| piece.bytes.len() as u64);
    observer.advance(read_len, written_len);
    if let Some(compressed) = piece.compressed {
        if source.method == Method::Deflate {
            let len = u32::try_from(compressed.bytes.len()).expect("a piece has a few MiB");
            entry.pieces.push(len);
        }
        entry.hold(compressed);
    }
    Ok(())
}

/// Reads pieces and inspects them on a worker.
async fn work(
    sources: Arc<[Source]>,
    batch: Vec<PieceJob>,
    store: &dyn Store,
    level: Option<u32>,
    workers: &Workers,
    broken: &Arc<AtomicBool>,
) -> Result<Vec<FinishedPiece>, PackError> {
    let try_once = || async {
        let raws = read(&sources, &batch, store).await?;
        let (sources, batch, broken) = (sources.clone(), batch.clone(), broken.clone());
        let finished = workers.run(move || {
            let pieces = batch
                .into_iter()
                .zip(raws)
                .filter_map(|(job, raw)| Some((sources.get(job.source)?, job, raw)));
            pieces
                .map(|(source, job, raw)| finish_piece(source, job, raw, level, &broken))
                .collect::<Result<Vec<FinishedPiece>, _>>()
        });
        finished.await?.map_err(PackError::Deflate)
    };
    let is_faulty = |pieces: &[FinishedPiece]| pieces.iter().any(|piece| piece.is_faulty);
    let mut finished = try_once().await?;
    if is_faulty(&finished) && store.is_remote() {
        // Bytes may have been damaged on their way.
        finished = try_once().await?;
    }
    if is_faulty(&finished) {
        broken.store(true, Ordering::Relaxed);
    }
    Ok(finished)
}

/// Reads the bytes of a batch, those of several objects in one call.
async fn read(
    sources: &[Source],
    batch: &[PieceJob],
    store: &dyn Store,
) -> Result<Vec<Bytes>, PackError> {
    let pieces: Vec<PieceBytes> = batch
        .iter()
        .filter_map(|job| Some(sources.get(job.source)?.piece(job)))
        .collect();
    let wanted: Vec<ReadRange> = pieces
        .iter()
        .filter_map(|piece| match piece {
            PieceBytes::InStore(part) => Some(part.clone()),
            PieceBytes::InMemory(_) => None,
        })
        .collect();
    let read = match wanted.as_slice() {
        [] => Ok(Vec::new()),
        // One read needs no batch.
        [
            ReadRange {
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
    pieces
        .into_iter()
        .map(|piece| match piece {
            PieceBytes::InStore(_) => read.next().ok_or_else(lacking),
            PieceBytes::InMemory(bytes) => Ok(bytes),
        })
        .collect()
}

/// Inspects one piece, and brings it into the form in which it is written.
fn finish_piece(
    source: &Source,
    job: PieceJob,
    raw: Bytes,
    level: Option<u32>,
    broken: &AtomicBool,
) -> Result<FinishedPiece, DataError> {
    let content = job.content(source);
    let report = inspect::piece(&raw, job.offset, content);
    let is_faulty = report.is_faulty();
    let result = if job.last && job.offset == 0 {
        let whole = Inspector::default().update(&raw, content, report);
        PieceResult::Whole(Box::new(whole))
    } else {
        PieceResult::Part(report)
    };
    let is_written = job.pass != Pass::InspectOnly && !is_faulty && !broken.load(Ordering::Relaxed);
    let compressed = match source.method {
        _ if !is_written => None,
        Method::Deflate if !raw.is_empty() => {
            let level = level.expect("an archive of deflated entries has a level");
            let number = job.offset / PIECE_LEN_BYTES as u64;
            Some(CompressedPiece::new(deflate(&raw, level, number)?))
        }
        _ => Some(CompressedPiece::new(raw.clone())),
    };
    Ok(FinishedPiece {
        job,
        raw,
        is_faulty,
        result,
        compressed,
    })
}

fn deflate(raw: &[u8], level: u32, number: u64) -> Result<Bytes, DataError> {
    let mut room = Buffer::with_len(deflate_room(raw.len()));
    let len = deflate_piece(level, number, raw, &mut room)?;
    room.truncate(len);
    Ok(room.freeze())
}
