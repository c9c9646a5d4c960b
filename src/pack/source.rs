//! Entries to be: objects or bytes in memory, cut into pieces.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::PackError;
use crate::archive::zip::EntryHead;
use crate::export::discover::{Export, ExportObject};
use crate::export::inspect::{ContentKind, ObjectDigest};
use crate::model::{EntryRole, Method, PIECE_LEN_BYTES, Timestamp};
use crate::store::{ObjectInfo, ReadRange, Store, StoreError};

/// An entry whose kept form is at most this long is held back until it is whole, so that its local
/// header can carry its lengths. Part of the format: another number gives other bytes.
pub(super) const MAX_HELD_BYTES: u64 = 4 << 20;

/// An entry to be.
#[derive(Debug, Clone)]
pub(super) struct Source {
    bytes: SourceBytes,
    pub(super) name: String,
    pub(super) role: EntryRole,
    modified: Option<Timestamp>,
    /// How its bytes are kept.
    pub(super) method: Method,
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

    /// An output that is only read.
    pub(super) fn output(object: ObjectInfo) -> Self {
        let (name, role) = (String::new(), EntryRole::Output);
        Source::object(object, None, name, role, None, Method::Deflate)
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

    pub(super) fn len(&self) -> u64 {
        match &self.bytes {
            SourceBytes::Object(object, _) => object.len,
            SourceBytes::Memory(bytes) => bytes.len() as u64,
        }
    }

    pub(super) fn content(&self) -> ContentKind {
        ContentKind::from_role(self.role, self.encoding())
    }

    pub(super) fn encoding(&self) -> Option<&str> {
        match &self.bytes {
            SourceBytes::Object(object, _) => object.content_encoding.as_deref(),
            SourceBytes::Memory(_) => None,
        }
    }

    /// What its bytes are, where it is a companion and its store says so. Of exports it says
    /// nothing, and would make the same set other bytes in a bucket than in a folder.
    pub(super) fn content_type(&self) -> Option<&str> {
        match &self.bytes {
            SourceBytes::Object(object, _) if self.role == EntryRole::Companion => {
                object.content_type.as_deref()
            }
            _ => None,
        }
    }

    /// Holds what was read against the store's own checksum.
    pub(super) fn check_crc32c(
        &self,
        inspected: &ObjectDigest,
        store: &dyn Store,
    ) -> Result<(), PackError> {
        let SourceBytes::Object(object, _) = &self.bytes else {
            return Ok(());
        };
        let found = inspected.crc32c.0;
        match object.crc32c.filter(|expected| *expected != found) {
            Some(expected) => Err(PackError::Source(StoreError::Corrupt {
                name: store.display_name(&object.name),
                expected,
                found,
            })),
            None => Ok(()),
        }
    }

    /// Where the bytes of a piece come from.
    pub(super) fn piece(&self, job: &PieceJob) -> PieceBytes {
        match &self.bytes {
            SourceBytes::Object(object, None) => PieceBytes::InStore(ReadRange {
                object: object.clone(),
                offset: job.offset,
                len: job.len,
            }),
            SourceBytes::Object(_, Some(bytes)) | SourceBytes::Memory(bytes) => {
                // Both ends are cut to what there is: an object may have become shorter.
                let len = bytes.len();
                let start = usize::try_from(job.offset).map_or(len, |start| start.min(len));
                PieceBytes::InMemory(bytes.slice(start..start.saturating_add(job.len).min(len)))
            }
        }
    }

    pub(super) fn head(&self) -> EntryHead<'_> {
        EntryHead {
            name: &self.name,
            method: self.method,
            modified: self.modified,
        }
    }
}

/// The bytes of a piece, or where they are.
#[derive(Debug)]
pub(super) enum PieceBytes {
    /// They are to be read.
    InStore(ReadRange),
    /// They were read before.
    InMemory(Bytes),
}

impl PieceBytes {
    /// What is to be read.
    pub(super) fn range(&self) -> Option<ReadRange> {
        match self {
            PieceBytes::InStore(range) => Some(range.clone()),
            PieceBytes::InMemory(_) => None,
        }
    }

    /// The bytes: of what was to be read, the next of `read`.
    pub(super) fn into_bytes(
        self,
        read: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Bytes, PackError> {
        let name = String::new();
        let lacking = || PackError::reading(StoreError::Changed { name });
        match self {
            PieceBytes::InStore(_) => read.next().ok_or_else(lacking),
            PieceBytes::InMemory(bytes) => Ok(bytes),
        }
    }
}

/// The objects of exports as entries to be, in order.
pub(super) fn sources_of(
    exports: &[Export],
    objects: &BTreeMap<String, ObjectInfo>,
    contents: &BTreeMap<String, Bytes>,
    method: Method,
) -> Vec<Source> {
    let of_export = |export: &Export| {
        let modified = export.finished.or(export.started);
        let source = |object: ExportObject<'_>| {
            let info = objects.get(object.name)?.clone();
            let content = contents.get(object.name).cloned();
            Some(Source::object(
                info,
                content,
                format!("exports/{}", object.name),
                object.role,
                modified,
                method,
            ))
        };
        export
            .objects()
            .into_iter()
            .filter_map(source)
            .collect::<Vec<_>>()
    };
    exports.iter().flat_map(of_export).collect()
}

/// What is done with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It is inspected and written.
    Write,
    /// It is only inspected: its entry is stored and so large that its checksum must be known before
    /// its first byte is written.
    InspectOnly,
    /// It is written, after it was inspected in an earlier pass.
    CopyOnly,
}

/// A piece that is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct PieceJob {
    /// The number of its source.
    pub(super) source: usize,
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) last: bool,
    pub(super) pass: Pass,
}

impl PieceJob {
    /// How much of it counts as read: each byte of an object counts once.
    pub(super) fn counted_len(&self) -> u64 {
        match self.pass {
            Pass::CopyOnly => 0,
            Pass::Write | Pass::InspectOnly => self.len as u64,
        }
    }

    /// What is looked for in the piece; nothing more where it was inspected before.
    pub(super) fn content(&self, source: &Source) -> ContentKind {
        if self.pass == Pass::CopyOnly {
            ContentKind::Opaque
        } else {
            source.content()
        }
    }
}

/// The pieces of an object, in order; an empty object has one empty piece.
pub(super) fn jobs_of(source: usize, len: u64, method: Method) -> impl Iterator<Item = PieceJob> {
    let twice = method == Method::Store && len > MAX_HELD_BYTES;
    let passes: &[Pass] = if twice {
        &[Pass::InspectOnly, Pass::CopyOnly]
    } else {
        &[Pass::Write]
    };
    let piece = PIECE_LEN_BYTES as u64;
    let pieces = len.div_ceil(piece).max(1);
    passes.iter().flat_map(move |pass| {
        (0..pieces).map(move |index| {
            let offset = index * piece;
            PieceJob {
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
pub(super) fn batches(jobs: impl Iterator<Item = PieceJob>) -> impl Iterator<Item = Vec<PieceJob>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_batched_in_order() {
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
