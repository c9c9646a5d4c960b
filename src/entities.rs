//! Entities of one kind, read from an archive piece by piece and encoded on the workers, in order.
//!
//! Knows archives, logs and encoders; must not know who takes the entities.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use crate::archive_file::{ArchiveError, ArchiveFile, PieceRef};
use crate::entity::log::{self, PieceEnds, Stitch};
use crate::inspect::RecordError;
use crate::model::EntryItem;
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
pub fn read<'a>(
    archive: &'a Arc<ArchiveFile>,
    outputs: &'a [EntryItem],
    encoder: Encoder,
    skip: u64,
    workers: &'a Workers,
) -> impl Stream<Item = Result<Encoded, ArchiveError>> + 'a {
    let for_workers = encoder.clone();
    // The piece before the first one is read again: a record may begin in it.
    let lead = skip.min(1);
    let pieces = archive.read(outputs, skip - lead, workers, move |piece, raw| encode(&for_workers, piece, &raw));
    let mut joiner = Joiner { archive, outputs, encoder, to_pass: lead, begun: false, stitch: Stitch::default(), crc32: None };
    pieces.filter_map(move |(piece, part)| std::future::ready(joiner.join(piece, part).transpose()))
}

fn encode(encoder: &Encoder, piece: PieceRef, raw: &Bytes) -> Result<Part, RecordError> {
    let mut encoded = Encoded::default();
    let ends = log::read_piece(raw, piece.offset, |record| encoder.add(record, &mut encoded).map_err(RecordError::from))?;
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
