//! The pipeline of a pack: objects are read ahead, inspected and deflated side by side, and written
//! in order.
//!
//! Only a bounded window of pieces is ever in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, pin_mut, stream};
use tokio::task::JoinError;

use super::error::PackError;
use super::output::{ArchiveOutput, FinishedOutput, NullWriter, OutputTransforms};
use super::source::{MAX_HELD_BYTES, Pass, PieceBytes, PieceJob, Source, batches, jobs_of};
use crate::archive::deflate::{DataError, STREAM_END, deflate_piece, deflate_room};
use crate::archive::zip::ZipWriter;
use crate::export::inspect::{
    self, ContentKind, Inspector, ObjectDigest, PieceSummary, join_crc32c,
};
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

impl FinishedPiece {
    fn written_len(&self) -> u64 {
        let compressed = self.compressed.as_ref();
        compressed.map_or(0, |piece| piece.bytes.len() as u64)
    }
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

impl PieceResult {
    fn new(job: PieceJob, raw: &Bytes, content: ContentKind, report: PieceSummary) -> Self {
        if !(job.last && job.offset == 0) {
            return PieceResult::Part(report);
        }
        let whole = Inspector::default().update(raw, content, report);
        PieceResult::Whole(Box::new(whole))
    }
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
    /// Adds a piece: to the digests, and to what is to be written.
    async fn add(&mut self, source: &Source, piece: FinishedPiece) -> Result<(), WorkerPanicked> {
        let content = piece.job.content(source);
        self.inspect(piece.result, piece.raw, content).await?;
        if let Some(compressed) = piece.compressed {
            self.add_compressed(source.method, compressed);
        }
        Ok(())
    }

    async fn inspect(
        &mut self,
        result: PieceResult,
        raw: Bytes,
        content: ContentKind,
    ) -> Result<(), WorkerPanicked> {
        match result {
            PieceResult::Whole(whole) => self.inspection = InOrder::Ready(*whole),
            PieceResult::Part(report) => {
                let add = move |inspection: Inspector| inspection.update(&raw, content, report);
                self.inspection.enqueue(add).await?;
            }
        }
        Ok(())
    }

    fn add_compressed(&mut self, method: Method, piece: CompressedPiece) {
        if method == Method::Deflate {
            let len = u32::try_from(piece.bytes.len()).expect("a piece has a few MiB");
            self.pieces.push(len);
        }
        self.hold(piece);
    }

    /// What counts of the inspections of an entry: that of the first pass. The second reading must
    /// have been of the same bytes.
    fn resolve(
        &mut self,
        source: &Source,
        pass: Pass,
        inspected: ObjectDigest,
    ) -> Result<ObjectDigest, PackError> {
        if pass != Pass::CopyOnly {
            return Ok(inspected);
        }
        let name = source.name.clone();
        let first = self.first_pass.take();
        first
            .filter(|first| first.sha256 == inspected.sha256)
            .ok_or(PackError::SourceChanged(StoreError::Changed { name }))
    }

    fn into_entry(self, source: &Source, inspected: ObjectDigest) -> InspectedEntry {
        let is_deflated = source.method == Method::Deflate;
        InspectedEntry {
            name: source.name.clone(),
            role: source.role,
            content_encoding: source.encoding().map(str::to_owned),
            content_type: source.content_type().map(str::to_owned),
            inspected,
            packed_crc32c: is_deflated.then_some(Crc32c(self.packed_crc32c)),
            pieces: self.pieces,
        }
    }

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
        transforms: OutputTransforms,
        options: PackOptions,
        workers: Workers,
    ) -> Self {
        let out = ArchiveOutput::new(writer, transforms);
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
        let transforms = OutputTransforms::default();
        ArchiveWriter::new(store, Box::new(NullWriter), transforms, options, workers)
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
            if let Some(source) = sources.get(piece.job.source) {
                entries.extend(
                    self.write_piece(source, piece, &mut entry, observer)
                        .await?,
                );
            }
        }
        Ok(entries)
    }

    /// Adds a piece to the entry that is being written; gives the entry when it is whole.
    async fn write_piece(
        &mut self,
        source: &Source,
        piece: FinishedPiece,
        entry: &mut EntryInProgress,
        observer: &dyn Observer,
    ) -> Result<Option<InspectedEntry>, PackError> {
        let job = piece.job;
        let written_len = piece.written_len();
        if job.offset == 0 {
            observer.start_entry(&source.name);
        }
        entry.add(source, piece).await?;
        observer.advance(job.counted_len(), written_len);
        self.flush_large(source, entry).await?;
        if !job.last {
            return Ok(None);
        }
        self.end_pass(source, job.pass, entry).await
    }

    /// The pieces of all sources, read and worked on side by side, in order.
    fn finished_pieces(
        &self,
        sources: &Arc<[Source]>,
    ) -> impl Stream<Item = Result<FinishedPiece, PackError>> + use<> {
        let worker = PieceWorker {
            sources: sources.clone(),
            store: self.store.clone(),
            level: self.options.level,
            workers: self.workers.clone(),
            broken: self.broken.clone(),
        };
        let window = self.workers.window(PIECE_FOOTPRINT_BYTES);
        let batches = batches(all_jobs(sources.clone()));
        stream::iter(batches.map(move |batch| tokio::spawn(worker.clone().work(batch))))
            .buffered(window)
            .map(pieces_of_batch)
            .try_flatten()
    }

    /// Writes what is held of an entry that is known to be large, or already started.
    async fn flush_large(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
    ) -> Result<(), PackError> {
        if self.is_broken() {
            // Nothing is written any more; the container may be left in the middle of an entry.
            entry.held.clear();
            return Ok(());
        }
        if !entry.is_started && entry.held_bytes > MAX_HELD_BYTES {
            self.start_streamed(source, entry).await?;
        }
        if entry.is_started {
            self.write_held(entry).await?;
        }
        Ok(())
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Writes the local header of an entry of which the lengths are not known yet.
    async fn start_streamed(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
    ) -> Result<(), PackError> {
        let header = self.sealer.begin_streamed(source.head(), source.len())?;
        entry.is_started = true;
        self.out.write(header.into()).await
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
        let inspected = entry.inspection.join().await?.finish();
        source.check_crc32c(&inspected, self.store.as_ref())?;
        if inspected.fault.is_some() {
            self.broken.store(true, Ordering::Relaxed);
        }
        if pass == Pass::InspectOnly {
            self.end_inspection(source, entry, inspected).await?;
            return Ok(None);
        }
        let inspected = entry.resolve(source, pass, inspected)?;
        if !self.is_broken() {
            self.end_entry(source, entry, &inspected).await?;
        }
        Ok(Some(std::mem::take(entry).into_entry(source, inspected)))
    }

    /// Between two passes: writes the entry's header, of which everything is known now.
    async fn end_inspection(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
        inspected: ObjectDigest,
    ) -> Result<(), PackError> {
        if !self.is_broken() {
            let len = inspected.len;
            self.start_known(source, entry, &inspected, len).await?;
        }
        entry.first_pass = Some(inspected);
        Ok(())
    }

    /// Writes the local header of an entry of which everything is known.
    async fn start_known(
        &mut self,
        source: &Source,
        entry: &mut EntryInProgress,
        inspected: &ObjectDigest,
        compressed_len: u64,
    ) -> Result<(), PackError> {
        let (crc32, len) = (inspected.crc32, inspected.len);
        let head = source.head();
        let header = self.sealer.begin_known(head, crc32, len, compressed_len)?;
        entry.is_started = true;
        self.out.write(header.into()).await
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

    /// Writes the directory; gives what is to be published.
    pub(super) async fn finish(mut self) -> Result<FinishedOutput, PackError> {
        if self.is_broken() {
            // The caller must have reported every fault; an archive with gaps is never made.
            return Err(PackError::IncompleteArchive);
        }
        let directory = self.sealer.finish()?;
        self.out.write(directory.into()).await?;
        self.out.finish().await
    }
}

/// The pieces of all sources, in order.
fn all_jobs(sources: Arc<[Source]>) -> impl Iterator<Item = PieceJob> {
    (0..sources.len()).flat_map(move |index| {
        let source = sources.get(index).into_iter();
        let jobs = source.flat_map(|source| jobs_of(index, source.len(), source.method));
        jobs.collect::<Vec<_>>()
    })
}

/// What a worker was given as a batch, piece by piece.
fn pieces_of_batch(
    batch: Result<Result<Vec<FinishedPiece>, PackError>, JoinError>,
) -> Result<impl Stream<Item = Result<FinishedPiece, PackError>>, PackError> {
    let pieces = batch.map_err(WorkerPanicked)??;
    Ok(stream::iter(pieces).map(Ok))
}

/// What reads and inspects the pieces of sources.
#[derive(Clone)]
struct PieceWorker {
    sources: Arc<[Source]>,
    store: Arc<dyn Store>,
    level: Option<u32>,
    workers: Workers,
    /// Set at the first fault: from then on everything is only inspected.
    broken: Arc<AtomicBool>,
}

impl PieceWorker {
    /// Reads pieces and inspects them on a worker.
    async fn work(self, batch: Vec<PieceJob>) -> Result<Vec<FinishedPiece>, PackError> {
        let mut finished = self.work_once(&batch).await?;
        if has_fault(&finished) && self.store.is_remote() {
            // Bytes may have been damaged on their way.
            finished = self.work_once(&batch).await?;
        }
        if has_fault(&finished) {
            self.broken.store(true, Ordering::Relaxed);
        }
        Ok(finished)
    }

    async fn work_once(&self, batch: &[PieceJob]) -> Result<Vec<FinishedPiece>, PackError> {
        let raws = read(&self.sources, batch, self.store.as_ref()).await?;
        let (worker, batch) = (self.clone(), batch.to_vec());
        let finished = self.workers.run(move || worker.finish_pieces(batch, raws));
        finished.await?.map_err(PackError::Deflate)
    }

    fn finish_pieces(
        &self,
        batch: Vec<PieceJob>,
        raws: Vec<Bytes>,
    ) -> Result<Vec<FinishedPiece>, DataError> {
        let pieces = batch.into_iter().zip(raws);
        let pieces =
            pieces.filter_map(|(job, raw)| Some((self.sources.get(job.source)?, job, raw)));
        pieces
            .map(|(source, job, raw)| self.finish_piece(source, job, raw))
            .collect()
    }

    /// Inspects one piece, and brings it into the form in which it is written.
    fn finish_piece(
        &self,
        source: &Source,
        job: PieceJob,
        raw: Bytes,
    ) -> Result<FinishedPiece, DataError> {
        let content = job.content(source);
        let report = inspect::piece(&raw, job.offset, content);
        let is_faulty = report.is_faulty();
        let result = PieceResult::new(job, &raw, content, report);
        let is_skipped = job.pass == Pass::InspectOnly || is_faulty;
        let compressed = match is_skipped || self.broken.load(Ordering::Relaxed) {
            true => None,
            false => Some(self.compress(source.method, job, &raw)?),
        };
        Ok(FinishedPiece {
            job,
            raw,
            is_faulty,
            result,
            compressed,
        })
    }

    fn compress(
        &self,
        method: Method,
        job: PieceJob,
        raw: &Bytes,
    ) -> Result<CompressedPiece, DataError> {
        if method == Method::Store || raw.is_empty() {
            return Ok(CompressedPiece::new(raw.clone()));
        }
        let level = self.level;
        let level = level.expect("an archive of deflated entries has a level");
        let number = job.offset / PIECE_LEN_BYTES as u64;
        Ok(CompressedPiece::new(deflate(raw, level, number)?))
    }
}

fn has_fault(pieces: &[FinishedPiece]) -> bool {
    pieces.iter().any(|piece| piece.is_faulty)
}

/// Reads the bytes of a batch, those of several objects in one call.
async fn read(
    sources: &[Source],
    batch: &[PieceJob],
    store: &dyn Store,
) -> Result<Vec<Bytes>, PackError> {
    let pieces = batch.iter();
    let pieces = pieces.filter_map(|job| Some(sources.get(job.source)?.piece(job)));
    let pieces: Vec<PieceBytes> = pieces.collect();
    let wanted: Vec<ReadRange> = pieces.iter().filter_map(PieceBytes::range).collect();
    let read = read_ranges(store, &wanted).await;
    let mut read = read.map_err(PackError::reading)?.into_iter();
    pieces
        .into_iter()
        .map(|piece| piece.into_bytes(&mut read))
        .collect()
}

async fn read_ranges(store: &dyn Store, wanted: &[ReadRange]) -> Result<Vec<Bytes>, StoreError> {
    match wanted {
        [] => Ok(Vec::new()),
        // One read needs no batch.
        [one] => {
            let read = store.read(&one.object, one.offset, one.len).await;
            read.map(|bytes| vec![bytes])
        }
        wanted => store.read_all(wanted).await,
    }
}

fn deflate(raw: &[u8], level: u32, number: u64) -> Result<Bytes, DataError> {
    let mut room = Buffer::with_len(deflate_room(raw.len()));
    let len = deflate_piece(level, number, raw, &mut room)?;
    room.truncate(len);
    Ok(room.freeze())
}
