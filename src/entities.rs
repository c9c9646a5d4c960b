//! Entities of one kind, read from an archive piece by piece and encoded on the workers, in order.
//!
//! Knows archives, logs and encoders; must not know who takes the entities.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_compression::tokio::bufread::GzipDecoder;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use crate::archive_file::{ArchiveError, ArchiveFile, PieceRef};
use crate::entity::log::{self, PieceEnds, Stitch};
use crate::gzipped::{GZIP, MAGIC};
use crate::inspect::RecordError;
use crate::model::{EntryItem, PIECE_LEN_BYTES};
use crate::target::{Encoded, Encoder};
use crate::workers::Workers;

struct Part {
    ends: PieceEnds,
    encoded: Encoded,
    crc32: crc32fast::Hasher,
}

/// The entities of a step that stand in `outputs`, one answer a piece, after the first `skip` pieces.
///
/// A record that spans pieces comes with the piece in which it ends. At the end of each entry its checksum is held against the directory.
/// Where [`are_in_pieces`] says no, all is read from the beginning, whatever `skip` is.
pub fn read<'a>(
    archive: &'a Arc<ArchiveFile>,
    outputs: &'a [EntryItem],
    encoder: Encoder,
    skip: u64,
    workers: &'a Workers,
) -> BoxStream<'a, Result<Encoded, ArchiveError>> {
    if !are_in_pieces(outputs) {
        let each = move |output| read_in_order(archive, output, encoder.clone(), workers);
        return stream::iter(outputs).flat_map(each).boxed();
    }
    let for_workers = encoder.clone();
    // The piece before the first one is read again: a record may begin in it.
    let lead = skip.min(1);
    let pieces = archive.read(outputs, skip - lead, workers, move |piece, raw| encode(&for_workers, piece.offset, &raw));
    let mut joiner = Joiner { archive, outputs, encoder, to_pass: lead, begun: false, stitch: Stitch::default(), crc32: None };
    pieces.filter_map(move |(piece, part)| std::future::ready(joiner.join(piece, part).transpose())).boxed()
}

/// Whether any piece of these outputs can be read by itself. Of what is gzip-encoded none can.
pub fn are_in_pieces(outputs: &[EntryItem]) -> bool {
    !outputs.iter().any(is_gzipped)
}

fn is_gzipped(output: &EntryItem) -> bool {
    output.content_encoding.as_deref() == Some(GZIP)
}

/// The entities of one output, read from its beginning to its end.
fn read_in_order<'a>(
    archive: &'a Arc<ArchiveFile>,
    output: &'a EntryItem,
    encoder: Encoder,
    workers: &'a Workers,
) -> BoxStream<'a, Result<Encoded, ArchiveError>> {
    struct Reading<R> {
        content: R,
        offset: u64,
        stitch: Option<Stitch>,
    }
    let fault = |fault: String| ArchiveError::Data { entry: output.name.clone(), fault };
    let failed = move |error: io::Error| match error.downcast::<ArchiveError>() {
        Ok(error) => error,
        Err(error) => fault(format!("expected a sound gzip stream, found {error}")),
    };
    let begun = Reading { content: None, offset: 0, stitch: Some(Stitch::default()) };
    let pieces = stream::try_unfold(begun, move |mut reading| {
        let encoder = encoder.clone();
        async move {
            let Some(mut stitch) = reading.stitch.take() else { return Ok(None) };
            let mut content = match reading.content.take() {
                Some(content) => content,
                None => content_of(archive, output, workers).await.map_err(failed)?,
            };
            let mut raw = Vec::new();
            (&mut content).take(PIECE_LEN_BYTES as u64).read_to_end(&mut raw).await.map_err(failed)?;
            let (offset, len) = (reading.offset, raw.len());
            let for_worker = encoder.clone();
            let part = workers.run(move || encode(&for_worker, offset, &raw)).await?.map_err(|error| fault(error.to_string()))?;
            let mut encoded = Encoded::default();
            if let Some(record) = stitch.push(part.ends).map_err(|error| fault(error.to_string()))? {
                encoder.add(&record, &mut encoded).map_err(|error| fault(error.to_string()))?;
            }
            encoded.append(part.encoded);
            if len < PIECE_LEN_BYTES {
                stitch.finish().map_err(|error| fault(error.to_string()))?;
                return Ok(Some((encoded, Reading { content: None, offset, stitch: None })));
            }
            Ok(Some((encoded, Reading { content: Some(content), offset: offset + len as u64, stitch: Some(stitch) })))
        }
    });
    pieces.boxed()
}

/// The content of an output, out of its encoding.
async fn content_of<'a>(
    archive: &'a Arc<ArchiveFile>,
    output: &'a EntryItem,
    workers: &'a Workers,
) -> io::Result<Pin<Box<dyn AsyncRead + Send + 'a>>> {
    let stored = archive.read(std::slice::from_ref(output), 0, workers, |_, raw| raw);
    let mut stored = StreamReader::new(stored.map(|(_, raw)| raw.map_err(io::Error::other)).boxed());
    if is_gzipped(output) && stored.fill_buf().await?.starts_with(&MAGIC) {
        let mut content = GzipDecoder::new(stored);
        content.multiple_members(true);
        return Ok(Box::pin(content));
    }
    Ok(Box::pin(stored))
}

fn encode(encoder: &Encoder, offset: u64, raw: &[u8]) -> Result<Part, RecordError> {
    let mut encoded = Encoded::default();
    let ends = log::read_piece(raw, offset, |record| encoder.add(record, &mut encoded).map_err(RecordError::from))?;
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(raw);
    Ok(Part { ends, encoded, crc32 })
}

/// Joins the pieces of the entries, one entry after the other.
struct Joiner<'a> {
    archive: &'a Arc<ArchiveFile>,
    outputs: &'a [EntryItem],
    encoder: Encoder,
    /// Pieces of which only the open end is wanted.
    to_pass: u64,
    begun: bool,
    stitch: Stitch,
    /// The checksum so far; none where the entry's beginning was not read.
    crc32: Option<crc32fast::Hasher>,
}

impl Joiner<'_> {
    fn join(&mut self, piece: PieceRef, part: Result<Result<Part, RecordError>, ArchiveError>) -> Result<Option<Encoded>, ArchiveError> {
        let name = self.outputs.get(piece.entry).map_or("", |item| item.name.as_str());
        let fault = |fault: String| ArchiveError::Data { entry: name.to_owned(), fault };
        let part = part?.map_err(|error| fault(error.to_string()))?;
        if piece.offset == 0 {
            self.stitch = Stitch::default();
            self.crc32 = Some(crc32fast::Hasher::new());
        } else if !self.begun {
            self.stitch = Stitch::resumed(piece.offset);
        }
        self.begun = true;
        let mut encoded = Encoded::default();
        if let Some(record) = self.stitch.push(part.ends).map_err(|error| fault(error.to_string()))? {
            self.encoder.add(&record, &mut encoded).map_err(|error| fault(error.to_string()))?;
        }
        if encoded.is_empty() {
            encoded = part.encoded;
        } else {
            encoded.append(part.encoded);
        }
        if let Some(crc32) = &mut self.crc32 {
            crc32.combine(&part.crc32);
        }
        if piece.last {
            std::mem::take(&mut self.stitch).finish().map_err(|error| fault(error.to_string()))?;
            let found = self.crc32.take().map(crc32fast::Hasher::finalize);
            let expected = self.archive.crc32(name);
            if let (Some(found), Some(expected)) = (found, expected)
                && found != expected
            {
                return Err(fault(format!("expected crc32 {expected:08x}, found {found:08x}")));
            }
        }
        if self.to_pass > 0 {
            self.to_pass -= 1;
            return Ok(None);
        }
        Ok(Some(encoded))
    }
}
