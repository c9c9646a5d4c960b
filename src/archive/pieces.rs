//! Pieces of an archive's entries, read and worked on side by side, in order.
//!
//! Every read is strict: local headers, descriptors and pieces are held against directory and
//! manifest, whoever reads them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use crate::archive::container::Container;
use crate::archive::deflate::{self, DataError, STREAM_END};
use crate::archive::error::ArchiveError;
use crate::archive::read_ahead::ReadAhead;
use crate::archive::zip::{self, DirectoryEntry, Strictness};
use crate::export::inspect::join_crc32c;
use crate::model::{Crc32c, EntryInfo, Method, PIECE_LEN_BYTES};
use crate::runtime::buffers::Buffer;
use crate::runtime::workers::{WorkerPanicked, Workers};
use crate::store::StoreError;

/// What a piece in flight may weigh: inflated, deflated, and what is made of it.
const PIECE_FOOTPRINT_BYTES: u64 = 4 * PIECE_LEN_BYTES as u64;

/// Small pieces that follow each other are read and worked on together up to this length: by itself
/// each costs more to hand over than to read.
const BATCH_BYTES: u64 = 1 << 20;

/// What may lie between two pieces of a batch, and is read in vain.
const BATCH_GAP_BYTES: u64 = 16 << 10;

/// Which part of the memory for buffers may hold what was read ahead.
const AHEAD_SHARE: u64 = 8;

/// A piece that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which of the entries that were requested.
    pub entry: usize,
    /// Where the piece begins in its entry, inflated.
    pub offset: u64,
    /// Its length, inflated.
    pub len: usize,
    /// Whether it ends its entry.
    pub last: bool,
    compressed_offset: u64,
    compressed_len: u64,
    /// The checksum of the entry's data in the zip, where the manifest has one.
    packed_crc32c: Option<Crc32c>,
    /// The number of its entry in the directory.
    directory_index: usize,
}

impl Piece {
    /// Whether it is all of its entry.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && self.last
    }
}

/// What is made of a piece, and whether the piece itself is sound as far as that shows.
#[derive(Debug)]
pub enum PieceReading<T> {
    /// Nothing is wrong with the piece.
    Sound(T),
    /// The piece is not what it must be. From a service it is read once more: it may have been
    /// damaged on its way.
    Suspect(T),
}

impl<T> PieceReading<T> {
    fn is_sound(&self) -> bool {
        matches!(self, PieceReading::Sound(_))
    }

    fn into_inner(self) -> T {
        match self {
            PieceReading::Sound(inner) | PieceReading::Suspect(inner) => inner,
        }
    }
}

impl<T, E> From<Result<T, E>> for PieceReading<Result<T, E>> {
    fn from(result: Result<T, E>) -> Self {
        if result.is_ok() {
            PieceReading::Sound(result)
        } else {
            PieceReading::Suspect(result)
        }
    }
}

/// A piece with what came of it, and the checksum of what it was made of.
type PieceResponse<T> = (Piece, Result<(T, u32), ArchiveError>);

/// Bytes of an archive as they lie there.
#[derive(Debug)]
pub struct RawBytes {
    /// Where they begin.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// What reads the entries of one archive.
#[derive(Debug)]
pub(super) struct PieceReader {
    pub(super) container: Container,
    by_name: HashMap<String, usize>,
    ahead: ReadAhead,
}

impl PieceReader {
    pub(super) fn new(container: Container) -> Self {
        let by_name = container
            .entries()
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.name.clone(), index))
            .collect();
        let ahead = ReadAhead::new(container.store().clone(), container.object().clone());
        PieceReader {
            container,
            by_name,
            ahead,
        }
    }

    /// The directory's entry of that name.
    pub(super) fn entry(&self, name: &str) -> Option<&DirectoryEntry> {
        self.container.entries().get(*self.by_name.get(name)?)
    }

    fn entry_of(&self, piece: Piece) -> &DirectoryEntry {
        self.container
            .entries()
            .get(piece.directory_index)
            .expect("a piece is of an entry in this directory")
    }

    fn pieces(&self, index: usize, item: &EntryInfo) -> Vec<Piece> {
        let directory_index = self.by_name.get(&item.name).copied();
        let entry = directory_index.and_then(|index| self.container.entries().get(index));
        let (Some(directory_index), Some(entry)) = (directory_index, entry) else {
            return Vec::new();
        };
        let count = item.bytes.div_ceil(PIECE_LEN_BYTES as u64).max(1);
        let mut compressed_offset = entry.sealed_data_offset();
        (0..count)
            .map(|number| {
                let offset = number * PIECE_LEN_BYTES as u64;
                let len = (item.bytes - offset).min(PIECE_LEN_BYTES as u64);
                let piece = Piece {
                    entry: index,
                    offset,
                    len: len as usize,
                    last: number + 1 == count,
                    compressed_offset,
                    compressed_len: compressed_len_of(entry.method, item, number, len),
                    packed_crc32c: item.packed_crc32c,
                    directory_index,
                };
                compressed_offset += piece.compressed_len;
                piece
            })
            .collect()
    }

    fn pieces_of<'a>(
        &'a self,
        items: impl IntoIterator<Item = &'a EntryInfo> + 'a,
    ) -> impl Iterator<Item = Piece> + 'a {
        items
            .into_iter()
            .enumerate()
            .flat_map(|(index, item)| self.pieces(index, item))
    }

    /// As `Archive::read_with`.
    pub(super) fn read<'a, T: Send + 'static>(
        self: &'a Arc<Self>,
        items: &'a [EntryInfo],
        skip: u64,
        workers: &'a Workers,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T> + Clone + Send + Sync + 'static,
    ) -> impl Stream<Item = (Piece, Result<T, ArchiveError>)> + 'a {
        let pieces = self.pieces_of(items);
        // No archive has as many pieces as memory has addresses: whoever skips more, skips all.
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let jobs = self.batches(pieces.skip(skip)).map(move |batch| {
            let (reader, workers, work) = (self.clone(), workers.clone(), work.clone());
            let first = batch.first().copied();
            let task = tokio::spawn(async move { reader.read_batch(batch, &workers, work).await });
            async move {
                let lost = |lost| {
                    first
                        .map(|piece| (piece, Err(ArchiveError::Worker(WorkerPanicked(lost)))))
                        .into_iter()
                        .collect()
                };
                task.await.unwrap_or_else(lost)
            }
        });
        let mut packed = PackedChecksum::default();
        stream::iter(jobs)
            .buffered(workers.window(PIECE_FOOTPRINT_BYTES))
            .flat_map(stream::iter)
            .map(move |(piece, read)| {
                let mut join = |crc32c| {
                    items
                        .get(piece.entry)
                        .map_or(Ok(()), |item| packed.join(item, piece, crc32c))
                };
                (
                    piece,
                    read.and_then(|(done, crc32c)| join(crc32c).map(|()| done)),
                )
            })
    }

    /// Begins to read the first bytes of each group of entries, those of several groups where they
    /// follow each other. From this machine nothing is read ahead.
    pub(super) fn read_ahead<'a, G: IntoIterator<Item = &'a EntryInfo> + 'a>(
        &'a self,
        groups: impl IntoIterator<Item = G>,
        workers: &Workers,
    ) {
        let spans = groups.into_iter().filter_map(|items| {
            let batch = self.batches(self.pieces_of(items)).next()?;
            Some(self.span(*batch.first()?).0..self.span(*batch.last()?).1)
        });
        let ranges = join_ranges(spans);
        self.ahead.start(ranges, workers.memory() / AHEAD_SHARE);
    }

    /// Pieces as they are read together: those that are small and follow each other, and each
    /// other one alone.
    fn batches<'a>(
        &'a self,
        pieces: impl Iterator<Item = Piece> + 'a,
    ) -> impl Iterator<Item = Vec<Piece>> + 'a {
        let mut pieces = pieces.peekable();
        std::iter::from_fn(move || {
            let first = pieces.next()?;
            let (start, mut end) = self.span(first);
            let (mut batch, mut inflated) = (vec![first], first.len as u64);
            while let Some(next) = pieces.next_if(|next| {
                let (next_start, next_end) = self.span(*next);
                is_close(next_start, end)
                    && next_end
                        .saturating_sub(start)
                        .max(inflated + next.len as u64)
                        <= BATCH_BYTES
            }) {
                (end, inflated) = (self.span(next).1, inflated + next.len as u64);
                batch.push(next);
            }
            Some(batch)
        })
    }

    /// Where a piece is stored in the archive. The first one brings its entry's header along, the
    /// last one what comes after the data: no byte of the archive is passed over.
    fn span(&self, piece: Piece) -> (u64, u64) {
        let entry = self.entry_of(piece);
        let start = if piece.offset == 0 {
            entry.header_offset
        } else {
            piece.compressed_offset
        };
        let end = if piece.last {
            entry.end_offset
        } else {
            piece.compressed_offset + piece.compressed_len
        };
        (start, end)
    }

    /// Reads pieces at once, and works on them one after the other. What a service gives damaged is
    /// read once more.
    async fn read_batch<T: Send + 'static>(
        self: Arc<Self>,
        batch: Vec<Piece>,
        workers: &Workers,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T> + Clone + Send + 'static,
    ) -> Vec<PieceResponse<T>> {
        let (Some(first), Some(last)) = (batch.first().copied(), batch.last().copied()) else {
            return Vec::new();
        };
        let (start, end) = (self.span(first).0, self.span(last).1);
        let len = usize::try_from(end - start).expect("a batch is of bounded length");
        let read = match self.ahead.take(start, len).await {
            Some(read) => read,
            None => self.read_range(start, len).await,
        };
        let read = match read {
            Ok(read) => read,
            // A file that cannot be read in one place may be read in the others: each piece has its
            // own answer.
            Err(StoreError::Io { .. }) if batch.len() > 1 => {
                return self.read_one_by_one(batch, workers, work).await;
            }
            Err(error) => return vec![(first, Err(error.into()))],
        };
        let mut answers = self
            .work_on(batch, start, read, workers, work.clone())
            .await;
        if self.container.store().is_remote() {
            self.read_doubtful_again(&mut answers, (start, len), workers, work)
                .await;
        }
        answers
            .into_iter()
            .map(|(piece, answer)| {
                (
                    piece,
                    answer.map(|(reading, crc32c)| (reading.into_inner(), crc32c)),
                )
            })
            .collect()
    }

    async fn read_range(&self, start: u64, len: usize) -> Result<Bytes, StoreError> {
        let (store, object) = (self.container.store(), self.container.object());
        store.read(object, start, len).await
    }

    async fn read_one_by_one<T: Send + 'static>(
        self: Arc<Self>,
        batch: Vec<Piece>,
        workers: &Workers,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T> + Clone + Send + 'static,
    ) -> Vec<PieceResponse<T>> {
        let mut answers = Vec::new();
        for piece in batch {
            answers.extend(
                Box::pin(self.clone().read_batch(vec![piece], workers, work.clone())).await,
            );
        }
        answers
    }

    /// Reads the range of a batch once more where some of its pieces are doubtful, and replaces
    /// their answers.
    async fn read_doubtful_again<T: Send + 'static>(
        self: &Arc<Self>,
        answers: &mut Vec<PieceResponse<PieceReading<T>>>,
        (start, len): (u64, usize),
        workers: &Workers,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T> + Send + 'static,
    ) {
        let Some(first) = answers.iter().position(is_doubtful) else {
            return;
        };
        let doubtful = doubtful_pieces(answers);
        let failed = doubtful.first().copied();
        let failed = |error: StoreError| failed.map(|piece| (piece, Err(error.into())));
        let read = match self.read_range(start, len).await {
            Ok(read) => read,
            Err(error) => {
                answers.truncate(first);
                answers.extend(failed(error));
                return;
            }
        };
        let again = self.work_on(doubtful, start, read, workers, work).await;
        replace_answers(answers, again);
        if answers.iter().any(contradicts_directory)
            && let Err(error) = self.container.check_tail().await
        {
            answers.clear();
            answers.extend(failed(error));
        }
    }

    /// Works on pieces whose bytes were read from `start` on.
    async fn work_on<T: Send + 'static>(
        self: &Arc<Self>,
        pieces: Vec<Piece>,
        start: u64,
        read: Bytes,
        workers: &Workers,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T> + Send + 'static,
    ) -> Vec<PieceResponse<PieceReading<T>>> {
        let (reader, first) = (self.clone(), pieces.first().copied());
        let worked = workers.run(move || {
            pieces
                .into_iter()
                .map(|piece| (piece, reader.work_on_piece(piece, start, &read, &work)))
                .collect()
        });
        worked.await.unwrap_or_else(|lost| {
            first
                .map(|piece| (piece, Err(lost.into())))
                .into_iter()
                .collect()
        })
    }

    fn work_on_piece<T>(
        &self,
        piece: Piece,
        start: u64,
        read: &Bytes,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T>,
    ) -> Result<(PieceReading<T>, u32), ArchiveError> {
        let (offset, end) = self.span(piece);
        let within = |place: u64| {
            usize::try_from(place.checked_sub(start)?)
                .ok()
                .filter(|place| *place <= read.len())
        };
        // A store may give less than was requested: then the piece is too short.
        let bytes = within(offset)
            .zip(within(end))
            .filter(|(from, to)| from <= to)
            .map_or_else(Bytes::new, |(from, to)| read.slice(from..to));
        let (raw, crc32c) = self.unwrap_piece(piece, offset, &bytes)?;
        let is_as_packed = self.is_as_packed(piece, &raw, crc32c);
        Ok(match work(piece, raw, RawBytes { offset, bytes }) {
            PieceReading::Sound(reading) if !is_as_packed => {
                (PieceReading::Suspect(reading), crc32c)
            }
            reading => (reading, crc32c),
        })
    }

    /// Whether a piece that is all of its entry has the checksum of its entry. Whoever reads the
    /// entry compares the checksums, and reports what differs; this only shows whether it is worth
    /// to read once more.
    fn is_as_packed(&self, piece: Piece, raw: &[u8], crc32c: u32) -> bool {
        if !piece.is_whole() || !self.container.store().is_remote() {
            return true;
        }
        match piece.packed_crc32c {
            Some(expected) => expected.0 == crc32c,
            None => crc32fast::hash(raw) == self.entry_of(piece).crc32,
        }
    }

    /// From the bytes that were read to the bytes of the piece, and the CRC-32C of what they were
    /// made of.
    fn unwrap_piece(
        &self,
        piece: Piece,
        start: u64,
        read: &Bytes,
    ) -> Result<(Bytes, u32), ArchiveError> {
        let entry = self.entry_of(piece);
        if piece.offset == 0 {
            self.check_header(piece, entry, read)?;
        }
        let short = DataError::TooShort {
            expected: piece.compressed_len,
            found: read.len() as u64,
        };
        let data = |error| ArchiveError::data(&entry.name, error);
        let range = range_in(piece, start, read.len()).ok_or_else(|| data(short))?;
        if piece.last {
            self.check_ending(entry, &read.slice(range.end..))?;
        }
        let compressed = read.slice(range);
        match entry.method {
            Method::Store => Ok((compressed, 0)),
            Method::Deflate => inflate(piece, &compressed).map_err(data),
        }
    }

    /// Checks the local header before the first piece of an entry.
    fn check_header(
        &self,
        piece: Piece,
        entry: &DirectoryEntry,
        read: &[u8],
    ) -> Result<(), ArchiveError> {
        let local = zip::check_local_header(entry, read, Strictness::OwnFormat)
            .map_err(|violation| self.container.broken(violation))?;
        if local.data_offset == piece.compressed_offset {
            return Ok(());
        }
        let fault = format!(
            "expected its data at byte {}, found them at {}",
            piece.compressed_offset, local.data_offset
        );
        Err(ArchiveError::Data {
            entry: entry.name.clone(),
            fault,
        })
    }

    /// Checks what comes after the last piece of an entry.
    fn check_ending(&self, entry: &DirectoryEntry, after: &[u8]) -> Result<(), ArchiveError> {
        let stream_end: &[u8] = if entry.method == Method::Deflate && entry.len > 0 {
            &STREAM_END
        } else {
            &[]
        };
        let Some(descriptor) = after.strip_prefix(stream_end) else {
            return Err(ArchiveError::data(
                &entry.name,
                DataError::NoStreamEnd {
                    compressed_len: entry.compressed_len,
                },
            ));
        };
        zip::check_descriptor(entry, descriptor, Strictness::OwnFormat)
            .map_err(|violation| self.container.broken(violation))
    }
}

fn is_doubtful<T>((_, answer): &PieceResponse<PieceReading<T>>) -> bool {
    match answer {
        Ok((reading, _)) => !reading.is_sound(),
        Err(error) => error.is_damage(),
    }
}

fn contradicts_directory<T>((_, answer): &PieceResponse<T>) -> bool {
    matches!(answer, Err(ArchiveError::Structure { .. }))
}

fn doubtful_pieces<T>(answers: &[PieceResponse<PieceReading<T>>]) -> Vec<Piece> {
    let doubtful = answers.iter().filter(|answer| is_doubtful(answer));
    doubtful.map(|(piece, _)| *piece).collect()
}

/// Puts the answers of another reading in the place of those that they are again.
fn replace_answers<T>(answers: &mut [PieceResponse<T>], again: Vec<PieceResponse<T>>) {
    let mut again = again.into_iter().peekable();
    for answer in answers {
        if let Some(other) = again.next_if(|other| other.0 == answer.0) {
            *answer = other;
        }
    }
}

/// The length of a piece's data in the zip, as the manifest says it.
fn compressed_len_of(method: Method, item: &EntryInfo, number: u64, len: u64) -> u64 {
    let deflated = item.pieces.get(number as usize).copied();
    match method {
        Method::Store => len,
        Method::Deflate => deflated.map_or(0, u64::from),
    }
}

fn is_close(next_start: u64, end: u64) -> bool {
    let gap = next_start.checked_sub(end);
    gap.is_some_and(|gap| gap <= BATCH_GAP_BYTES)
}

/// Joins ranges that follow each other, up to the length of a batch.
fn join_ranges(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if is_close(range.start, last.end) && is_short(last.start, range.end) => {
                last.end = range.end;
            }
            _ => joined.push(range),
        }
    }
    joined
}

fn is_short(start: u64, end: u64) -> bool {
    end - start <= BATCH_BYTES
}

/// The bytes of a deflated piece, and the CRC-32C of its data in the zip.
fn inflate(piece: Piece, compressed: &[u8]) -> Result<(Bytes, u32), DataError> {
    let mut crc32c = crc32c::crc32c(compressed);
    if piece.last {
        crc32c = crc32c::crc32c_append(crc32c, &STREAM_END);
    }
    let mut raw = Buffer::with_len(piece.len + deflate::INFLATE_ROOM_BYTES);
    deflate::inflate_piece(compressed, piece.len, &mut raw)?;
    raw.truncate(piece.len);
    Ok((raw.freeze(), crc32c))
}

/// Where the data of a piece are in `len` bytes that were read from `start` on.
fn range_in(piece: Piece, start: u64, len: usize) -> Option<Range<usize>> {
    let skip = usize::try_from(piece.compressed_offset - start).ok()?;
    let end = skip.checked_add(usize::try_from(piece.compressed_len).ok()?)?;
    (end <= len).then_some(skip..end)
}

/// The checksum over the pieces of an entry as they lie in the zip, joined in order.
#[derive(Debug, Default)]
struct PackedChecksum {
    crc32c: u32,
    /// Where the next piece begins if nothing was left out.
    next_offset: u64,
}

impl PackedChecksum {
    fn join(&mut self, item: &EntryInfo, piece: Piece, crc32c: u32) -> Result<(), ArchiveError> {
        if piece.offset == 0 {
            *self = PackedChecksum::default();
        } else if piece.offset != self.next_offset {
            // The entry's beginning was not read: there is nothing to compare.
            return Ok(());
        }
        self.add(piece, crc32c);
        if piece.last {
            return self.check(item);
        }
        Ok(())
    }

    fn add(&mut self, piece: Piece, crc32c: u32) {
        let ending = if piece.last { STREAM_END.len() } else { 0 };
        let len = piece.compressed_len + ending as u64;
        self.crc32c = join_crc32c(self.crc32c, crc32c, len);
        self.next_offset = piece.offset + piece.len as u64;
    }

    /// Compares the checksum of a whole entry with the manifest's, where that has one.
    fn check(&self, item: &EntryInfo) -> Result<(), ArchiveError> {
        let found = Crc32c(self.crc32c);
        match item.packed_crc32c {
            Some(expected) if expected != found => Err(ArchiveError::Data {
                entry: item.name.clone(),
                fault: format!("expected crc32c {expected} of the deflated data, found {found}"),
            }),
            _ => Ok(()),
        }
    }
}
