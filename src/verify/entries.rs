//! Reads entries to their last byte, and compares each with directory and manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut};

use super::error::VerifyError;
use super::report::VerifyReport;
use super::sidecar::ArchiveDigest;
use crate::archive::{Archive, ArchiveError, Piece, PieceReading, RawBytes};
use crate::export::inspect::{self, ContentKind, Inspector, ObjectDigest, PieceSummary};
use crate::export::stored_metadata::MetadataStore;
use crate::model::{EntryInfo, EntryRole};
use crate::progress::Observer;
use crate::runtime::workers::{InOrder, Workers};

/// What was read of an entry.
pub(super) struct EntryReport {
    pub(super) item: EntryInfo,
    pub(super) inspected: ObjectDigest,
}

/// A piece that a worker is done with.
enum InspectedPiece {
    Part(Box<PieceSummary>, Bytes, ContentKind),
    Whole(Box<Inspector>, Bytes),
}

impl InspectedPiece {
    fn new(piece: Piece, raw: Bytes, content: ContentKind) -> PieceReading<Self> {
        let report = inspect::piece(&raw, piece.offset, content);
        let is_faulty = report.is_faulty();
        let inspected = if piece.is_whole() {
            let whole = Inspector::default().update(&raw, content, report);
            InspectedPiece::Whole(Box::new(whole), raw)
        } else {
            InspectedPiece::Part(Box::new(report), raw, content)
        };
        if is_faulty {
            PieceReading::Suspect(inspected)
        } else {
            PieceReading::Sound(inspected)
        }
    }

    fn raw(&self) -> &Bytes {
        match self {
            InspectedPiece::Part(_, raw, _) | InspectedPiece::Whole(_, raw) => raw,
        }
    }
}

/// Reads the entries of an archive.
pub(super) struct EntryReader<'a> {
    pub(super) archive: &'a Arc<Archive>,
    pub(super) workers: &'a Workers,
    pub(super) observer: &'a dyn Observer,
    pub(super) report: &'a mut VerifyReport,
    /// Takes the metadata, where the set is to be proved.
    pub(super) kept: Option<&'a mut MetadataStore>,
}

/// What is read of the entry that is being read.
#[derive(Default)]
struct EntryCheckState {
    inspection: InOrder<Inspector>,
    /// Its bytes, where it is metadata.
    bytes: Vec<u8>,
    /// Why it cannot be read.
    unreadable: Option<String>,
}

impl EntryReader<'_> {
    /// Reads entries and compares each with its description. What a service gave damaged is read
    /// once more.
    pub(super) async fn read(
        mut self,
        items: Vec<EntryInfo>,
        digest: Option<&mut ArchiveDigest>,
    ) -> Result<BTreeMap<String, EntryReport>, VerifyError> {
        let mut reports = BTreeMap::new();
        let is_remote = self.archive.container().store().is_remote();
        let damaged = self
            .read_once(items, digest, is_remote, &mut reports)
            .await?;
        self.read_once(damaged, None, false, &mut reports).await?;
        Ok(reports)
    }

    /// Reads entries. Gives those back that are damaged, where another reading may help: where they
    /// have several pieces, for a single one is read again at once.
    async fn read_once(
        &mut self,
        items: Vec<EntryInfo>,
        mut digest: Option<&mut ArchiveDigest>,
        may_come_again: bool,
        reports: &mut BTreeMap<String, EntryReport>,
    ) -> Result<Vec<EntryInfo>, VerifyError> {
        let contents: Arc<[ContentKind]> = items
            .iter()
            .map(|item| ContentKind::from_role(item.role, item.content_encoding.as_deref()))
            .collect();
        let inspect = move |piece: Piece, raw, stored: RawBytes| {
            let content = contents.get(piece.entry).copied();
            let content = content.expect("a piece is of one of the entries");
            match InspectedPiece::new(piece, raw, content) {
                PieceReading::Sound(inspected) => PieceReading::Sound((inspected, stored)),
                PieceReading::Suspect(inspected) => PieceReading::Suspect((inspected, stored)),
            }
        };
        let pieces = self.archive.read_with(&items, 0, self.workers, inspect);
        pin_mut!(pieces);
        let mut entry = EntryCheckState::default();
        let mut damaged = Vec::new();
        while let Some((piece, read)) = pieces.next().await {
            let Some(item) = items.get(piece.entry) else {
                continue;
            };
            let (inspected, stored) = match read {
                Ok((inspected, stored)) => (Ok(inspected), Some(stored)),
                Err(error) => (Err(error), None),
            };
            // The digests of entry and archive can only be made in order. They are made side by
            // side, while the next piece is waited for.
            if let Some(digest) = &mut digest {
                digest.push(stored).await?;
            }
            self.add_piece(item, inspected, &mut entry).await?;
            self.observer.advance(piece.len as u64, 0);
            if piece.last {
                let entry = std::mem::take(&mut entry);
                let may_come_again = may_come_again && !piece.is_whole();
                let is_done = self
                    .finish_entry(item, entry, may_come_again, reports)
                    .await?;
                if !is_done {
                    damaged.push(item.clone());
                }
            }
        }
        Ok(damaged)
    }

    /// Adds a piece to its entry.
    async fn add_piece(
        &self,
        item: &EntryInfo,
        inspected: Result<InspectedPiece, ArchiveError>,
        entry: &mut EntryCheckState,
    ) -> Result<(), VerifyError> {
        if let Ok(inspected) = &inspected
            && self.wanted_as(item).is_some()
        {
            entry.bytes.extend_from_slice(inspected.raw());
        }
        match inspected {
            Ok(InspectedPiece::Whole(whole, _)) => entry.inspection = InOrder::Ready(*whole),
            Ok(InspectedPiece::Part(part, raw, content)) => {
                entry
                    .inspection
                    .enqueue(move |inspection: Inspector| inspection.update(&raw, content, *part))
                    .await?;
            }
            Err(error) => {
                let problem = VerifyError::into_problem(error)?;
                entry.unreadable.get_or_insert(problem);
            }
        }
        Ok(())
    }

    /// The name under which an entry's metadata are kept, where they are wanted.
    fn wanted_as<'i>(&self, item: &'i EntryInfo) -> Option<&'i str> {
        metadata_name(item)
            .filter(|name| self.kept.as_ref().is_some_and(|kept| kept.is_wanted(name)))
    }

    /// Compares an entry with its description and reports what differs. Says no where it is damaged
    /// and may be read again.
    async fn finish_entry(
        &mut self,
        item: &EntryInfo,
        mut entry: EntryCheckState,
        may_come_again: bool,
        reports: &mut BTreeMap<String, EntryReport>,
    ) -> Result<bool, VerifyError> {
        let inspected = entry.inspection.join().await?.finish();
        let is_readable = entry.unreadable.is_none();
        let problems = match entry.unreadable {
            Some(problem) => vec![problem],
            None => check_entry(self.archive, item, &inspected),
        };
        if may_come_again && !problems.is_empty() {
            return Ok(false);
        }
        self.report.entries += 1;
        let title = self.archive.container().title();
        for problem in problems {
            self.report.add_problem(self.observer, title, problem);
        }
        if is_readable {
            self.report.entities += inspected.scan.entities();
            let name = self.wanted_as(item);
            if let (Some(name), Some(kept)) = (name, &mut self.kept) {
                kept.insert(name, entry.bytes, item.content_encoding.as_deref());
            }
            let item = item.clone();
            reports.insert(item.name.clone(), EntryReport { item, inspected });
        }
        Ok(true)
    }
}

/// What the set calls an entry that may be metadata.
fn metadata_name(item: &EntryInfo) -> Option<&str> {
    item.name
        .strip_prefix("exports/")
        .filter(|_| !matches!(item.role, EntryRole::Output | EntryRole::Sums))
}

/// Takes the metadata among entries.
pub(super) fn metadata_of(items: &[EntryInfo], memory: u64) -> MetadataStore {
    MetadataStore::new(
        items
            .iter()
            .filter_map(|item| Some((metadata_name(item)?, item.bytes))),
        memory,
    )
}

/// Compares an entry's bytes with directory and manifest.
fn check_entry(archive: &Archive, item: &EntryInfo, inspected: &ObjectDigest) -> Vec<String> {
    let mut problems = Vec::new();
    let mut differ =
        |what: &str, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            problems.push(format!(
                "entry {} is damaged: expected {what} {expected}, found {found}",
                item.name
            ));
        };
    if item.sha256 != inspected.sha256 {
        differ("sha256", &item.sha256, &inspected.sha256);
    }
    if item.crc32c != inspected.crc32c {
        differ("crc32c", &item.crc32c, &inspected.crc32c);
    }
    if let Some(crc32) = archive
        .crc32(&item.name)
        .filter(|crc32| *crc32 != inspected.crc32)
    {
        differ(
            "crc32",
            &format_args!("{crc32:08x}"),
            &format_args!("{:08x}", inspected.crc32),
        );
    }
    if let Some(fault) = &inspected.fault {
        differ("a log of entities,", &"whole", fault);
    }
    problems
}
