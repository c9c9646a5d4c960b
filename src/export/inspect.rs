//! What the bytes of one object tell: digests, and for an output the records, their pairs, parents
//! and references.
//!
//! Pieces are looked at side by side and joined in order. Knows bytes and logs; must not know
//! stores, zips or threads. Packing and verifying look through the same glass, so that what is
//! sealed is what is verified.

use sha2::Digest as _;

use crate::entity::ProtoError;
use crate::entity::scan::{Scan, ScanResult};
use crate::export::discover::{ExportPart, Problem, invalid_namespace};
use crate::export::gzip::{self, Gunzip};
use crate::export::log::{self, LogError, PieceBoundary, RecordJoiner};
use crate::model::{Crc32c, EntryRole, Selector, Sha256};

/// What an object is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// A log of entities.
    Entities,
    /// A log of entities, gzip-encoded: it can only be read in order.
    GzippedEntities,
    /// Anything else.
    Opaque,
}

/// Why an object is no log of entities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum RecordError {
    /// The framing is broken.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record is no entity.
    #[error(transparent)]
    Entity(#[from] ProtoError),
    /// An object that is gzip-encoded is not.
    #[error("the gzip stream is damaged: {0}")]
    Gzip(String),
}

/// What one piece told.
#[derive(Debug)]
pub struct PieceSummary {
    len: u64,
    crc32: crc32fast::Hasher,
    crc32c: u32,
    log: Option<Result<(PieceBoundary, Scan), RecordError>>,
}

impl ContentKind {
    /// What an object holds, by its role and how it is encoded.
    pub fn from_role(role: EntryRole, encoding: Option<&str>) -> ContentKind {
        match role {
            EntryRole::Output if encoding == Some(gzip::GZIP) => ContentKind::GzippedEntities,
            EntryRole::Output => ContentKind::Entities,
            _ => ContentKind::Opaque,
        }
    }
}

impl PieceSummary {
    /// Whether the piece is no part of a log of entities, though it should be.
    pub fn is_faulty(&self) -> bool {
        matches!(self.log, Some(Err(_)))
    }
}

/// Looks at one piece by itself. `offset` is where it begins in its object.
pub fn piece(raw: &[u8], offset: u64, content: ContentKind) -> PieceSummary {
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(raw);
    let log = (content == ContentKind::Entities).then(|| read_log(raw, offset));
    PieceSummary {
        len: raw.len() as u64,
        crc32,
        crc32c: crc32c::crc32c(raw),
        log,
    }
}

fn read_log(raw: &[u8], offset: u64) -> Result<(PieceBoundary, Scan), RecordError> {
    let mut scan = Scan::default();
    let ends = log::read_piece(raw, offset, |record| {
        scan.add(record).map_err(RecordError::from)
    })?;
    Ok((ends, scan))
}

/// The CRC-32C of bytes with that of the `len` bytes that follow them.
pub fn join_crc32c(before: u32, following: u32, len: u64) -> u32 {
    // Joining costs as much as the checksum of some kilobytes; before the first piece of an entry,
    // and most have one, there is nothing to join.
    if before == 0 {
        following
    } else {
        crc32c::crc32c_combine(
            before,
            following,
            usize::try_from(len).expect("a piece is in memory"),
        )
    }
}

/// An object of which some pieces have been seen, in order.
#[derive(Debug)]
pub struct Inspector {
    sha256: sha2::Sha256,
    crc32: crc32fast::Hasher,
    crc32c: u32,
    len: u64,
    stitch: RecordJoiner,
    scan: Scan,
    fault: Option<RecordError>,
    /// What is gzip-encoded, and how much of its content was seen.
    gunzip: Option<(Gunzip, u64)>,
}

/// What a whole object told.
#[derive(Debug)]
pub struct ObjectDigest {
    /// Its length in bytes.
    pub len: u64,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its CRC-32, which zips carry.
    pub crc32: u32,
    /// Its CRC-32C.
    pub crc32c: Crc32c,
    /// The entities in it; none for opaque objects.
    pub scan: ScanResult,
    /// The first thing that is wrong with it as a log of entities.
    pub fault: Option<RecordError>,
}

impl Default for Inspector {
    fn default() -> Self {
        Inspector {
            sha256: sha2::Sha256::new(),
            crc32: crc32fast::Hasher::new(),
            crc32c: 0,
            len: 0,
            stitch: RecordJoiner::default(),
            scan: Scan::default(),
            fault: None,
            gunzip: None,
        }
    }
}

impl Inspector {
    /// Adds the next piece: its bytes, and what was found in them.
    #[must_use]
    pub fn update(mut self, raw: &[u8], content: ContentKind, piece: PieceSummary) -> Self {
        self.sha256.update(raw);
        self.update_without_digest(raw, content, piece)
    }

    /// As [`Inspector::update`], where only the records are wanted and not the SHA-256.
    #[must_use]
    pub fn update_without_digest(
        mut self,
        raw: &[u8],
        content: ContentKind,
        piece: PieceSummary,
    ) -> Self {
        if content == ContentKind::GzippedEntities {
            let (mut gunzip, mut seen) = self.gunzip.take().unwrap_or_default();
            let read = gunzip.push(raw, &mut |piece| self.inspect_bytes(piece, &mut seen));
            self.gzip_fault(read);
            self.gunzip = Some((gunzip, seen));
        }
        self.join(piece);
        self
    }

    /// Looks at the next piece of a content that came out of its encoding.
    fn inspect_bytes(&mut self, content: &[u8], seen: &mut u64) {
        if self.fault.is_none() {
            self.fault = read_log(content, *seen)
                .and_then(|(ends, scan)| self.join_log(ends, scan))
                .err();
        }
        *seen += content.len() as u64;
    }

    fn gzip_fault(&mut self, read: std::io::Result<()>) {
        if let (None, Err(error)) = (&self.fault, read) {
            self.fault = Some(RecordError::Gzip(error.to_string()));
        }
    }

    fn join(&mut self, piece: PieceSummary) {
        if self.len == 0 {
            self.crc32 = piece.crc32;
        } else {
            self.crc32.combine(&piece.crc32);
        }
        self.crc32c = join_crc32c(self.crc32c, piece.crc32c, piece.len);
        self.len += piece.len;
        // After the first fault the log can no longer be followed.
        if let (None, Some(log)) = (&self.fault, piece.log) {
            self.fault = log.and_then(|(ends, scan)| self.join_log(ends, scan)).err();
        }
    }

    fn join_log(&mut self, ends: PieceBoundary, scan: Scan) -> Result<(), RecordError> {
        if let Some(record) = self.stitch.push(ends)? {
            self.scan.add(&record)?;
        }
        self.scan.merge(scan);
        Ok(())
    }

    /// All that the object told.
    pub fn finish(mut self) -> ObjectDigest {
        if let Some((gunzip, mut seen)) = self.gunzip.take() {
            let read = gunzip.finish(&mut |piece| self.inspect_bytes(piece, &mut seen));
            self.gzip_fault(read);
        }
        let fault = self
            .fault
            .or_else(|| self.stitch.finish().err().map(RecordError::from));
        ObjectDigest {
            len: self.len,
            sha256: Sha256(self.sha256.finalize().into()),
            crc32: self.crc32.finalize(),
            crc32c: Crc32c(self.crc32c),
            scan: self.scan.finish(),
            fault,
        }
    }
}

/// Holds what an output told against the group that lists it: readable, and of no other kind or
/// namespace.
pub fn output_faults(name: &str, inspected: &ObjectDigest, group: &ExportPart) -> Vec<Problem> {
    let mut faults: Vec<Problem> = inspected
        .fault
        .iter()
        .map(|fault| Problem::damaged(name, fault.to_string()))
        .collect();
    let strange = inspected
        .scan
        .pairs
        .iter()
        .filter(|(pair, _)| !group.admits(pair));
    faults.extend(strange.map(|(pair, told)| {
        Problem::damaged(
            name,
            format!(
                "expected entities of {}, found {} of {pair}",
                group.path(),
                told.entities
            ),
        )
    }));
    let impossible = inspected
        .scan
        .pairs
        .keys()
        .filter(|pair| !pair.namespace.is_valid());
    faults
        .extend(impossible.map(|pair| Problem::damaged(name, invalid_namespace(&pair.namespace))));
    faults
}

/// Compares what the outputs of a group hold with the counts in its metadata: entities, and bytes
/// by either way of counting.
pub fn sum_fault(name: &str, group: &ExportPart, found: &ScanResult) -> Option<Problem> {
    let entities = found.entities();
    if let Some(expected) = group.entities.filter(|expected| *expected != entities) {
        let reason = format!(
            "expected {expected} entities of {} as in the metadata, found {entities}",
            group.path()
        );
        // Where nothing is left of a kind, more than its count is wrong.
        let fault = Problem::count(name, group, reason);
        return Some(if entities == 0 {
            Problem {
                count_of: None,
                ..fault
            }
        } else {
            fault
        });
    }
    let (files, records) = (group.file_bytes(), found.bytes());
    let expected = group
        .bytes
        .filter(|expected| ![files, records].contains(expected))?;
    Some(Problem::damaged(
        name,
        format!(
            "expected outputs of {expected} bytes as in the completion marker, found {files} bytes, with records of {records} bytes"
        ),
    ))
}

/// Whether all pairs of a group are accepted with a wrong count: nobody can tell which of them
/// lacks entities.
pub fn accepts(accepted: &[Selector], scan: &ScanResult) -> bool {
    scan.pairs
        .keys()
        .all(|pair| accepted.iter().any(|selector| selector.matches(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::scan::KindStats;
    use crate::entity::testing::objects;
    use crate::export::discover::ListedObject;
    use crate::model::{Kind, KindRef, Namespace, Selector};

    #[test]
    fn digests_of_pieces_join() {
        let whole: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
        let mut inspection = Inspector::default();
        let mut offset = 0;
        for part in whole.chunks(32_768) {
            let report = piece(part, offset as u64, ContentKind::Opaque);
            inspection = inspection.update(part, ContentKind::Opaque, report);
            offset += part.len();
        }
        let told = inspection.finish();
        assert_eq!(
            (told.len, told.crc32, told.crc32c.0),
            (100_000, crc32fast::hash(&whole), crc32c::crc32c(&whole))
        );
        assert_eq!(told.sha256.0[..], sha2::Sha256::digest(&whole)[..]);
    }

    #[test]
    fn scan_counts_every_record_of_an_output() {
        for (_, output) in objects("legacy", |path| path.contains("output-")) {
            let mut scan = Scan::default();
            log::read_log(&output, |record| {
                scan.add(record).map_err(RecordError::from)
            })
            .unwrap();
            let records = log::read_all(&output).unwrap();
            assert_eq!(scan.finish().entities(), records.len() as u64);
        }
    }

    #[test]
    fn bytes_are_right_by_either_way_of_counting() {
        let mut group = ExportPart {
            kind: Some(Kind::new("User")),
            namespace: Some(Namespace::default()),
            entities: Some(2),
            bytes: None,
            metadata: None,
            outputs: vec![ListedObject {
                name: "output-0".to_owned(),
                len: 32_768,
                is_encoded: false,
            }],
        };
        let scanned = |entities, bytes| ScanResult {
            pairs: [(
                KindRef::new("", "User"),
                KindStats {
                    entities,
                    bytes,
                    ..KindStats::default()
                },
            )]
            .into(),
            ..ScanResult::default()
        };
        for (bytes, is_right) in [
            (None, true),
            (Some(32_768), true),
            (Some(90), true),
            (Some(91), false),
            (Some(32_767), false),
        ] {
            group.bytes = bytes;
            assert_eq!(
                sum_fault("m", &group, &scanned(2, 90)).is_none(),
                is_right,
                "{bytes:?}"
            );
        }
        // A wrong sum of bytes is none that a count could explain.
        assert_eq!(
            sum_fault("m", &group, &scanned(2, 90)).unwrap().count_of,
            None
        );
        assert_eq!(
            sum_fault("m", &group, &scanned(1, 45)).unwrap().count_of,
            Some(Box::new(Selector::from(&KindRef::new("", "User"))))
        );
        assert_eq!(
            sum_fault("m", &group, &ScanResult::default())
                .unwrap()
                .count_of,
            None
        );
    }
}
