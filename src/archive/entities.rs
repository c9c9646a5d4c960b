//! Entities of one kind, read from an archive piece by piece: looked at or encoded on the workers,
//! in order.
//!
//! Knows archives, logs and who looks at records; must not know who takes what comes of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_compression::tokio::bufread::GzipDecoder;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use crate::archive::{Archive, ArchiveError, Piece, PieceReading};
use crate::entity::ProtoError;
use crate::export::gzip::{GZIP, MAGIC};
use crate::export::inspect::RecordError;
use crate::export::log::{self, PieceBoundary, RecordJoiner};
use crate::model::{EntryInfo, PIECE_LEN_BYTES};
use crate::runtime::workers::Workers;
use crate::transform::{Encoded, Encoder};

/// What is made of the records of a piece, on the workers.
pub trait RecordCollector: Clone + Send + Sync + 'static {
    /// What comes of a piece.
    type Piece: Default + Send + 'static;

    /// Adds a record.
    ///
    /// # Errors
    /// [`ProtoError`] when the record is no entity.
    fn push(&self, record: &[u8], piece: &mut Self::Piece) -> Result<(), ProtoError>;

    /// Puts what came of later records behind what came of earlier ones.
    fn merge(piece: &mut Self::Piece, later: Self::Piece);

    /// Sees the pieces in their order, when they come from the workers. Says whether any more is
    /// wanted.
    fn finish_piece(&mut self, piece: &mut Self::Piece) -> bool {
        let _ = piece;
        true
    }
}

impl RecordCollector for Encoder {
    type Piece = Encoded;

    fn push(&self, record: &[u8], piece: &mut Encoded) -> Result<(), ProtoError> {
        Encoder::add(self, record, piece)
    }

    fn merge(piece: &mut Encoded, later: Encoded) {
        piece.append(later);
    }

    fn finish_piece(&mut self, piece: &mut Encoded) -> bool {
        Encoder::finish_piece(self, piece)
    }
}

struct GatheredPiece<T> {
    ends: PieceBoundary,
    gathered: T,
    crc32: crc32fast::Hasher,
}

/// What is made of the entities of a step that stand in `outputs`, one answer a piece, after the
/// first `skip` pieces.
///
/// A record that spans pieces comes with the piece in which it ends. At the end of each entry its
/// checksum is held against the directory. Where [`has_random_access`] says no, all is read from the
/// beginning, whatever `skip` is.
pub fn read<'a, G: RecordCollector>(
    archive: &'a Arc<Archive>,
    outputs: &'a [EntryInfo],
    gather: G,
    skip: u64,
    workers: &'a Workers,
) -> BoxStream<'a, Result<G::Piece, ArchiveError>> {
    let mut in_order = gather.clone();
    let pieces = read_all(archive, outputs, gather, skip, workers);
    let pieces = pieces.scan(true, move |more, piece| {
        let piece = more.then(|| {
            piece.map(|mut piece| {
                *more = in_order.finish_piece(&mut piece);
                piece
            })
        });
        std::future::ready(piece)
    });
    pieces.boxed()
}

fn read_all<'a, G: RecordCollector>(
    archive: &'a Arc<Archive>,
    outputs: &'a [EntryInfo],
    gather: G,
    skip: u64,
    workers: &'a Workers,
) -> BoxStream<'a, Result<G::Piece, ArchiveError>> {
    if !has_random_access(outputs) {
        let each = move |output| read_in_order(archive, output, gather.clone(), workers);
        return stream::iter(outputs).flat_map(each).boxed();
    }
    let for_workers = gather.clone();
    // The piece before the first one is read again: a record may begin in it.
    let lead = skip.min(1);
    let pieces = archive.read(outputs, skip - lead, workers, move |piece, raw| {
        gather_piece(&for_workers, piece.offset, &raw).into()
    });
    let mut joiner = PieceJoiner {
        archive,
        outputs,
        gather,
        to_pass: lead,
        begun: false,
        stitch: RecordJoiner::default(),
        crc32: None,
    };
    pieces
        .filter_map(move |(piece, part)| std::future::ready(joiner.join(piece, part).transpose()))
        .boxed()
}

/// Whether any piece of these outputs can be read by itself. Of what is gzip-encoded none can.
pub fn has_random_access(outputs: &[EntryInfo]) -> bool {
    !outputs.iter().any(is_gzipped)
}

fn is_gzipped(output: &EntryInfo) -> bool {
    output.content_encoding.as_deref() == Some(GZIP)
}

/// The entities of one output, read from its beginning to its end.
fn read_in_order<'a, G: RecordCollector>(
    archive: &'a Arc<Archive>,
    output: &'a EntryInfo,
    gather: G,
    workers: &'a Workers,
) -> BoxStream<'a, Result<G::Piece, ArchiveError>> {
    let pieces = stream::try_unfold(Some(ReadPosition::default()), move |position| {
        let gather = gather.clone();
        async move {
            match position {
                Some(position) => {
                    let next = next_piece(archive, output, position, &gather, workers);
                    next.await.map(Some)
                }
                None => Ok(None),
            }
        }
    });
    pieces.boxed()
}

/// How far an output is read that can only be read in order.
#[derive(Default)]
struct ReadPosition<'a> {
    content: Option<ContentReader<'a>>,
    offset: u64,
    stitch: RecordJoiner,
}

/// What comes of the next piece, and the position after it; none after the last one.
async fn next_piece<'a, G: RecordCollector>(
    archive: &'a Arc<Archive>,
    output: &'a EntryInfo,
    position: ReadPosition<'a>,
    gather: &G,
    workers: &'a Workers,
) -> Result<(G::Piece, Option<ReadPosition<'a>>), ArchiveError> {
    let fault = |error: RecordError| fault_of(&output.name, error);
    let ReadPosition {
        content,
        offset,
        mut stitch,
    } = position;
    let (content, part, len) =
        match next_part(archive, output, content, offset, gather, workers).await {
            // Bytes may have been damaged on their way. What came before was sound.
            Err(error) if error.is_damage() && archive.container().store().is_remote() => {
                next_part(archive, output, None, offset, gather, workers).await?
            }
            part => part?,
        };
    let gathered = join_part(&mut stitch, part.ends, part.gathered, gather).map_err(fault)?;
    if len < PIECE_LEN_BYTES {
        stitch.finish().map_err(|error| fault(error.into()))?;
        return Ok((gathered, None));
    }
    let next = ReadPosition {
        content: Some(content),
        offset: offset + len as u64,
        stitch,
    };
    Ok((gathered, Some(next)))
}

/// What a content is read from.
type ContentReader<'a> = Pin<Box<dyn AsyncRead + Send + 'a>>;

/// The next piece of a content, how long it is, and what it came from; where there is none yet,
/// that is opened and passed over up to `offset`.
async fn next_part<'a, G: RecordCollector>(
    archive: &'a Arc<Archive>,
    output: &'a EntryInfo,
    content: Option<ContentReader<'a>>,
    offset: u64,
    gather: &G,
    workers: &'a Workers,
) -> Result<(ContentReader<'a>, GatheredPiece<G::Piece>, usize), ArchiveError> {
    let failed = |error| stream_fault(&output.name, error);
    let mut content = match content {
        Some(content) => content,
        None => content_from(archive, output, offset, workers)
            .await
            .map_err(failed)?,
    };
    let raw = take_piece(&mut content).await.map_err(failed)?;
    let (len, for_worker) = (raw.len(), gather.clone());
    let part = workers
        .run(move || gather_piece(&for_worker, offset, &raw))
        .await?
        .map_err(|error| fault_of(&output.name, error))?;
    Ok((content, part, len))
}

/// The content of an output from `offset` on.
async fn content_from<'a>(
    archive: &'a Arc<Archive>,
    output: &'a EntryInfo,
    offset: u64,
    workers: &'a Workers,
) -> io::Result<ContentReader<'a>> {
    let mut content = content_of(archive, output, workers).await?;
    let mut passed = (&mut content).take(offset);
    tokio::io::copy(&mut passed, &mut tokio::io::sink()).await?;
    Ok(content)
}

async fn take_piece(content: &mut ContentReader<'_>) -> io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    let mut piece = content.take(PIECE_LEN_BYTES as u64);
    piece.read_to_end(&mut raw).await?;
    Ok(raw)
}

/// An error of an entry whose records are not what they should be.
fn fault_of(entry: &str, error: RecordError) -> ArchiveError {
    ArchiveError::Data {
        entry: entry.to_owned(),
        fault: error.to_string(),
    }
}

/// An error of a content: the archive's own, or that of its encoding.
fn stream_fault(entry: &str, error: io::Error) -> ArchiveError {
    match error.downcast::<ArchiveError>() {
        Ok(error) => error,
        Err(error) => ArchiveError::Data {
            entry: entry.to_owned(),
            fault: format!("the gzip stream is damaged: {error}"),
        },
    }
}

/// What comes of a piece: a record that began before it comes first.
fn join_part<G: RecordCollector>(
    stitch: &mut RecordJoiner,
    ends: PieceBoundary,
    later: G::Piece,
    gather: &G,
) -> Result<G::Piece, RecordError> {
    let mut gathered = G::Piece::default();
    if let Some(record) = stitch.push(ends)? {
        gather.push(&record, &mut gathered)?;
    }
    G::merge(&mut gathered, later);
    Ok(gathered)
}

/// The content of an output, out of its encoding.
async fn content_of<'a>(
    archive: &'a Arc<Archive>,
    output: &'a EntryInfo,
    workers: &'a Workers,
) -> io::Result<ContentReader<'a>> {
    let stored = archive.read(std::slice::from_ref(output), 0, workers, |_, raw| {
        PieceReading::Sound(raw)
    });
    let mut stored =
        StreamReader::new(stored.map(|(_, raw)| raw.map_err(io::Error::other)).boxed());
    if is_gzipped(output) && stored.fill_buf().await?.starts_with(&MAGIC) {
        let mut content = GzipDecoder::new(stored);
        content.multiple_members(true);
        return Ok(Box::pin(content));
    }
    Ok(Box::pin(stored))
}

fn gather_piece<G: RecordCollector>(
    gather: &G,
    offset: u64,
    raw: &[u8],
) -> Result<GatheredPiece<G::Piece>, RecordError> {
    let mut gathered = G::Piece::default();
    let ends = log::read_piece(raw, offset, |record| {
        gather
            .push(record, &mut gathered)
            .map_err(RecordError::from)
    })?;
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(raw);
    Ok(GatheredPiece {
        ends,
        gathered,
        crc32,
    })
}

/// Joins the pieces of the entries, one entry after the other.
struct PieceJoiner<'a, G> {
    archive: &'a Arc<Archive>,
    outputs: &'a [EntryInfo],
    gather: G,
    /// Pieces of which only the open end is wanted.
    to_pass: u64,
    begun: bool,
    stitch: RecordJoiner,
    /// The checksum so far; none where the entry's beginning was not read.
    crc32: Option<crc32fast::Hasher>,
}

impl<G: RecordCollector> PieceJoiner<'_, G> {
    fn join(
        &mut self,
        piece: Piece,
        part: Result<Result<GatheredPiece<G::Piece>, RecordError>, ArchiveError>,
    ) -> Result<Option<G::Piece>, ArchiveError> {
        let name = self.outputs.get(piece.entry);
        let name = name.map_or("", |item| item.name.as_str());
        let fault = |error| fault_of(name, error);
        let part = part?.map_err(fault)?;
        self.begin(piece);
        let joined = join_part(&mut self.stitch, part.ends, part.gathered, &self.gather);
        let gathered = joined.map_err(fault)?;
        if let Some(crc32) = &mut self.crc32 {
            crc32.combine(&part.crc32);
        }
        if piece.last {
            self.end_entry(name)?;
        }
        Ok(self.pass_one().then_some(gathered))
    }

    /// Begins an entry, or goes on in the middle of the first one.
    fn begin(&mut self, piece: Piece) {
        if piece.offset == 0 {
            self.stitch = RecordJoiner::default();
            self.crc32 = Some(crc32fast::Hasher::new());
        } else if !self.begun {
            self.stitch = RecordJoiner::resumed(piece.offset);
        }
        self.begun = true;
    }

    /// Checks that no record is left open, and the checksum where the entry was read from its
    /// beginning.
    fn end_entry(&mut self, name: &str) -> Result<(), ArchiveError> {
        let finished = std::mem::take(&mut self.stitch).finish();
        finished.map_err(|error| fault_of(name, error.into()))?;
        let found = self.crc32.take().map(crc32fast::Hasher::finalize);
        match found.zip(self.archive.crc32(name)) {
            Some((found, expected)) if found != expected => Err(ArchiveError::Data {
                entry: name.to_owned(),
                fault: format!("expected crc32 {expected:08x}, found {found:08x}"),
            }),
            _ => Ok(()),
        }
    }

    /// Counts a piece. Says whether more than its open end is wanted.
    fn pass_one(&mut self) -> bool {
        let is_wanted = self.to_pass == 0;
        self.to_pass = self.to_pass.saturating_sub(1);
        is_wanted
    }
}
