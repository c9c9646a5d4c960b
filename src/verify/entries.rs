//! Reads entries to their last byte, and compares each with directory and manifest.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut};

use super::error::VerifyError;
use super::report::VerifyReport;
use super::sidecar::ArchiveDigest;
use crate::archive::{Archive, ArchiveError, Piece, PieceReading, RawBytes};
use crate::export::inspect::{self, ContentKind, Inspector, ObjectDigest, PieceSummary};
use crate::export::stored_metadata::MetadataStore;
use crate::model::{EntryInfo, EntryRole, KindRef, Manifest};
use crate::progress::Observer;
use crate::runtime::workers::{InOrder, WorkerPanicked, Workers};

/// What was read of an entry.
pub(super) struct EntryReport {
    pub(super) item: EntryInfo,
    pub(super) inspected: ObjectDigest,
}

/// What was read of entries, by name.
pub(super) type EntryReports = BTreeMap<String, EntryReport>;

/// A piece that a worker is done with.
enum InspectedPiece {
    Part(Box<PieceSummary>, Bytes, ContentKind),
    Whole(Box<Inspector>, Bytes),
}

impl InspectedPiece {
    fn new(piece: Piece, raw: Bytes, content: ContentKind) -> PieceReading<Self> {
        let report = inspect::piece(&raw, piece.offset, content);
        let is_faulty = report.is_faulty();
        let inspected = match piece.is_whole() {
            true => InspectedPiece::whole(raw, content, report),
            false => InspectedPiece::Part(Box::new(report), raw, content),
        };
        match is_faulty {
            true => PieceReading::Suspect(inspected),
            false => PieceReading::Sound(inspected),
        }
    }

    fn whole(raw: Bytes, content: ContentKind, report: PieceSummary) -> Self {
        let whole = Inspector::default().update(&raw, content, report);
        InspectedPiece::Whole(Box::new(whole), raw)
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
    /// The kinds that each entry belongs to, once one is damaged.
    pub(super) owners: OnceLock<HashMap<&'a str, Vec<KindRef>>>,
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

impl EntryCheckState {
    async fn add(&mut self, inspected: InspectedPiece) -> Result<(), WorkerPanicked> {
        match inspected {
            InspectedPiece::Whole(whole, _) => self.inspection = InOrder::Ready(*whole),
            InspectedPiece::Part(part, raw, content) => {
                let add = move |inspection: Inspector| inspection.update(&raw, content, *part);
                self.inspection.enqueue(add).await?;
            }
        }
        Ok(())
    }

    /// Notes why the entry cannot be read; the first reason counts.
    fn add_error(&mut self, error: ArchiveError) -> Result<(), VerifyError> {
        let problem = VerifyError::into_problem(error)?;
        self.unreadable.get_or_insert(problem);
        Ok(())
    }
}

impl EntryReader<'_> {
    /// Reads entries and compares each with its description. What a service gave damaged is read
    /// once more.
    pub(super) async fn read(
        mut self,
        items: Vec<EntryInfo>,
        digest: Option<&mut ArchiveDigest>,
    ) -> Result<EntryReports, VerifyError> {
        let mut reports = BTreeMap::new();
        let is_remote = self.archive.container().store().is_remote();
        let first = self.read_once(items, digest, is_remote, &mut reports);
        let damaged = first.await?;
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
        reports: &mut EntryReports,
    ) -> Result<Vec<EntryInfo>, VerifyError> {
        let contents: Arc<[ContentKind]> = items.iter().map(content_of).collect();
        let inspect = move |piece, raw, stored| inspect_stored(&contents, piece, raw, stored);
        let pieces = self.archive.read_with(&items, 0, self.workers, inspect);
        pin_mut!(pieces);
        let mut entry = EntryCheckState::default();
        let mut damaged = Vec::new();
        while let Some((piece, read)) = pieces.next().await {
            let Some(item) = items.get(piece.entry) else {
                continue;
            };
            if piece.offset == 0 {
                self.observer.start_entry(&item.name);
            }
            let (inspected, stored) = split_reading(read);
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
                let finished = self.finish_entry(item, entry, may_come_again, reports);
                damaged.extend((!finished.await?).then(|| item.clone()));
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
        match inspected {
            Ok(inspected) => {
                if self.wanted_as(item).is_some() {
                    entry.bytes.extend_from_slice(inspected.raw());
                }
                Ok(entry.add(inspected).await?)
            }
            Err(error) => entry.add_error(error),
        }
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
        reports: &mut EntryReports,
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
        self.add_problems(&item.name, problems);
        if is_readable {
            self.keep_metadata(item, entry.bytes);
            self.add_report(item.clone(), inspected, reports);
        }
        Ok(true)
    }

    /// Counts an entry, and reports what is wrong with it.
    fn add_problems(&mut self, entry: &str, problems: Vec<String>) {
        self.report.entries += 1;
        if problems.is_empty() {
            return;
        }
        let archive = self.archive;
        let owners = self.owners.get_or_init(|| owners_in(archive.manifest()));
        let kinds = owners.get(entry).map_or(&[][..], Vec::as_slice);
        for problem in problems {
            let problem = of_kinds(kinds, &problem);
            let title = archive.container().title();
            self.report.add_problem(self.observer, title, problem);
        }
        self.report.damaged_kinds.extend(kinds.iter().cloned());
    }

    /// Keeps the bytes of an entry where they are metadata that is wanted.
    fn keep_metadata(&mut self, item: &EntryInfo, bytes: Vec<u8>) {
        let name = self.wanted_as(item);
        if let (Some(name), Some(kept)) = (name, &mut self.kept) {
            kept.insert(name, bytes, item.content_encoding.as_deref());
        }
    }

    fn add_report(&mut self, item: EntryInfo, inspected: ObjectDigest, reports: &mut EntryReports) {
        self.report.entities += inspected.scan.entities();
        reports.insert(item.name.clone(), EntryReport { item, inspected });
    }
}

/// The kinds that each entry belongs to.
fn owners_in(manifest: &Manifest) -> HashMap<&str, Vec<KindRef>> {
    let mut owners: HashMap<&str, Vec<KindRef>> = HashMap::new();
    for kind in &manifest.kinds {
        for entry in &kind.entries {
            owners.entry(&entry.name).or_default().push(kind.pair());
        }
    }
    owners
}

/// A problem of an entry, after the kinds that the entry belongs to.
fn of_kinds(kinds: &[KindRef], problem: &str) -> String {
    match kinds {
        [] => problem.to_owned(),
        [kind] => format!("{kind}: {problem}"),
        [first, others @ ..] => format!("{first} and {} more: {problem}", others.len()),
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
    let named = |item| Some((metadata_name(item)?, item.bytes));
    MetadataStore::new(items.iter().filter_map(named), memory)
}

fn content_of(item: &EntryInfo) -> ContentKind {
    ContentKind::from_role(item.role, item.content_encoding.as_deref())
}

/// A piece that a worker is done with, and the archive's own bytes of it.
type StoredPiece = (InspectedPiece, RawBytes);

fn inspect_stored(
    contents: &[ContentKind],
    piece: Piece,
    raw: Bytes,
    stored: RawBytes,
) -> PieceReading<StoredPiece> {
    let content = contents.get(piece.entry).copied();
    let content = content.expect("a piece is of one of the entries");
    match InspectedPiece::new(piece, raw, content) {
        PieceReading::Sound(inspected) => PieceReading::Sound((inspected, stored)),
        PieceReading::Suspect(inspected) => PieceReading::Suspect((inspected, stored)),
    }
}

fn split_reading(
    read: Result<StoredPiece, ArchiveError>,
) -> (Result<InspectedPiece, ArchiveError>, Option<RawBytes>) {
    match read {
        Ok((inspected, stored)) => (Ok(inspected), Some(stored)),
        Err(error) => (Err(error), None),
    }
}

/// Compares an entry's bytes with directory and manifest.
fn check_entry(archive: &Archive, item: &EntryInfo, inspected: &ObjectDigest) -> Vec<String> {
    let damage = |what: &str, expected: &dyn Display, found: &dyn Display| {
        let name = &item.name;
        format!("entry {name} is damaged: expected {what} {expected}, found {found}")
    };
    let hex = |crc32: u32| format!("{crc32:08x}");
    let crc32 = archive.crc32(&item.name);
    let crc32 = crc32.filter(|crc32| *crc32 != inspected.crc32);
    let fault = inspected.fault.as_ref();
    let differences = [
        (item.sha256 != inspected.sha256)
            .then(|| damage("sha256", &item.sha256, &inspected.sha256)),
        (item.crc32c != inspected.crc32c)
            .then(|| damage("crc32c", &item.crc32c, &inspected.crc32c)),
        crc32.map(|crc32| damage("crc32", &hex(crc32), &hex(inspected.crc32))),
        fault.map(|fault| format!("entry {} is damaged: {fault}", item.name)),
    ];
    differences.into_iter().flatten().collect()
}
