//! Verifying: an archive is read to its last byte, and all that is wrong is told, not the first
//! thing only.
//!
//! Holds container, manifest, `SHA256SUMS`, digests, logs, counts and finish marks against one
//! another. Must not know how problems are shown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut};
use sha2::Digest as _;

use crate::archive::checksums::{self, SHA256_ATTRIBUTE};
use crate::archive::zip::Profile;
use crate::archive::{ArchiveError, ArchiveFile, Container, Reading, Stored, digest_of};
use crate::entity::scan::{PairScan, Scanned};
use crate::export::discover::{self, Discovery, Group, Listed};
use crate::export::inspect::{self, Content, Inspected, Inspection, PieceReport};
use crate::export::stored_metadata::KeptMetadata;
use crate::model::{
    AcceptedCount, EntryItem, EntryRole, Pair, SUMS_NAME, Selector, Sha256, Timestamp,
};
use crate::progress::{Event, Observer};
use crate::runtime::workers::{Aside, WorkerLost, Workers};
use crate::store::{ObjectInfo, Store, StoreError, read_whole};

/// How much is read.
#[derive(Debug, Clone)]
pub enum Depth {
    /// Structure and manifest; no entry's data but the manifest's.
    Quick,
    /// Everything.
    Full,
    /// The entries of the pairs that these choose.
    Only(Vec<Selector>),
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct Report {
    /// Entries read (quick: seen).
    pub entries: u64,
    /// Entities counted (quick: by the manifest).
    pub entities: u64,
    /// All that is wrong, one sentence each.
    pub problems: Vec<String>,
    /// What contradicts the exports' metadata and was accepted when the archive was packed.
    pub accepted_counts: Vec<AcceptedCount>,
    /// Whether this is a zip that kindpack did not make.
    pub is_foreign: bool,
}

/// Why an archive could not be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// The metadata of the exports does not fit into memory.
    #[error("{name}: the metadata of all exports needs more memory than --memory allows")]
    MemoryTooSmall {
        /// The metadata object that does not fit.
        name: String,
    },
    /// A selector chooses nothing.
    #[error("selector {0}: expected a kind of the archive, found none")]
    ChoosesNothing(Selector),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerLost),
}

/// Verifies an archive of kindpack.
///
/// # Errors
/// [`VerifyError`] when it cannot be read; what is wrong with it stands in the report.
pub async fn verify(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    title: String,
    depth: Depth,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let archive = match ArchiveFile::open(store, object, title).await {
        Ok(archive) => Arc::new(archive),
        Err(error) => {
            report.is_foreign = matches!(error, ArchiveError::NoManifest { .. });
            note(&mut report, observer, "", tell(error)?);
            return Ok(report);
        }
    };
    let title = archive.container().title().to_owned();
    if let Some(problem) = second_opinion(archive.container()) {
        note(&mut report, observer, &title, problem);
    }
    let manifest = archive.manifest();
    report.accepted_counts = manifest.accepted_counts();
    match depth {
        Depth::Quick => {
            report.entries = archive.container().entries().len() as u64;
            report.entities = manifest.totals.entities;
            for problem in totals(&archive) {
                note(&mut report, observer, &title, problem);
            }
        }
        Depth::Full => {
            let items = archive.in_order(
                manifest
                    .objects()
                    .into_iter()
                    .chain([&manifest.sums])
                    .cloned()
                    .collect(),
            );
            observer.begin("verifying", items.iter().map(|item| item.bytes).sum());
            let claims = Claims::of(&archive).await.map_err(VerifyError::Store)?;
            let mut digest = WholeDigest::default();
            let wanted = (!claims.digests.is_empty()).then_some(&mut digest);
            let mut kept = metadata_of(&items, workers.memory());
            let told = read(
                &archive,
                items,
                workers,
                observer,
                &mut report,
                wanted,
                Some(&mut kept),
            )
            .await?;
            // The manifest was read when the archive was opened.
            report.entries += 1;
            let mut problems = totals(&archive);
            problems.extend(judge_kinds(&archive, &told, |_| true));
            match judge_set(&archive, &told, &kept) {
                // What is known to be damaged is damaged, whatever else cannot be told.
                Err(_) if !(report.problems.is_empty() && problems.is_empty()) => {}
                of_set => problems.extend(of_set?),
            }
            problems.extend(claims.judge(&archive, digest).await?);
            for problem in problems {
                note(&mut report, observer, &title, problem);
            }
        }
        Depth::Only(selectors) => {
            let chosen = archive
                .choose(&selectors)
                .map_err(|selector| VerifyError::ChoosesNothing(selector.clone()))?;
            let pairs: BTreeSet<Pair> = chosen.iter().map(|kind| kind.pair()).collect();
            let names: BTreeSet<&str> = chosen
                .iter()
                .flat_map(|kind| &kind.entries)
                .map(|item| item.name.as_str())
                .collect();
            let items: Vec<EntryItem> = manifest
                .objects()
                .into_iter()
                .filter(|item| names.contains(item.name.as_str()))
                .cloned()
                .collect();
            observer.begin("verifying", items.iter().map(|item| item.bytes).sum());
            let told = read(&archive, items, workers, observer, &mut report, None, None).await?;
            for problem in judge_kinds(&archive, &told, |pair| pairs.contains(pair)) {
                note(&mut report, observer, &title, problem);
            }
        }
    }
    observer.end();
    Ok(report)
}

fn note(report: &mut Report, observer: &dyn Observer, of: &str, problem: String) {
    observer.event(Event::Problem {
        class: "damaged",
        of: of.to_owned(),
        problem: problem.clone(),
    });
    report.problems.push(problem);
}

/// What an archive's error amounts to: a problem of the archive, or no answer at all.
fn tell(error: ArchiveError) -> Result<String, VerifyError> {
    match error {
        ArchiveError::Store(error) => Err(VerifyError::Store(error)),
        ArchiveError::Worker(error) => Err(VerifyError::Worker(error)),
        error => Ok(error.to_string()),
    }
}

/// What was read of an entry.
struct Told {
    item: EntryItem,
    inspected: Inspected,
}

enum Looked {
    Part(Box<PieceReport>, Bytes, Content),
    Whole(Box<Inspection>, Bytes),
}

/// SHA-256 of the whole archive, made while its entries are read in order.
#[derive(Default)]
struct WholeDigest {
    sha256: Aside<sha2::Sha256>,
    next_offset: u64,
    /// Whether some bytes were not seen.
    torn: bool,
}

/// What is hashed sooner than handed to another thread.
const HASHED_AT_ONCE_BYTES: usize = 64 << 10;

impl WholeDigest {
    async fn push(&mut self, stored: Option<Stored>) -> Result<(), WorkerLost> {
        let Some(stored) = stored.filter(|stored| stored.offset == self.next_offset && !self.torn)
        else {
            self.torn = true;
            return Ok(());
        };
        self.next_offset += stored.bytes.len() as u64;
        if stored.bytes.len() > HASHED_AT_ONCE_BYTES {
            return self
                .sha256
                .then(move |sha256| sha256.chain_update(&stored.bytes))
                .await;
        }
        self.sha256 = Aside::Idle(self.sha256.take().await?.chain_update(&stored.bytes));
        Ok(())
    }

    /// The digest, the archive's end included; none where anything was not read.
    async fn finish(mut self, container: &Container) -> Result<Option<Sha256>, VerifyError> {
        let mut sha256 = self.sha256.take().await?;
        if self.torn {
            return Ok(None);
        }
        container
            .read_from(self.next_offset, |rest| sha256.update(&rest))
            .await
            .map_err(VerifyError::Store)?;
        Ok(Some(Sha256(sha256.finalize().into())))
    }
}

/// Reads entries and compares each with its description. What a service gave damaged is read once
/// more.
async fn read(
    archive: &Arc<ArchiveFile>,
    items: Vec<EntryItem>,
    workers: &Workers,
    observer: &dyn Observer,
    report: &mut Report,
    digest: Option<&mut WholeDigest>,
    kept: Option<&mut KeptMetadata>,
) -> Result<BTreeMap<String, Told>, VerifyError> {
    let mut pass = Pass {
        archive,
        workers,
        observer,
        report,
        told: BTreeMap::new(),
        kept,
    };
    let damaged = pass
        .read(items, digest, archive.container().store().is_remote())
        .await?;
    pass.read(damaged, None, false).await?;
    Ok(pass.told)
}

/// What reads entries.
struct Pass<'a> {
    archive: &'a Arc<ArchiveFile>,
    workers: &'a Workers,
    observer: &'a dyn Observer,
    report: &'a mut Report,
    told: BTreeMap<String, Told>,
    /// Takes the metadata, where the set is to be proved.
    kept: Option<&'a mut KeptMetadata>,
}

impl Pass<'_> {
    /// Reads entries. Gives those back that are damaged, where another reading may help: where they
    /// have several pieces, for a single one is read again at once.
    async fn read(
        &mut self,
        items: Vec<EntryItem>,
        mut digest: Option<&mut WholeDigest>,
        may_come_again: bool,
    ) -> Result<Vec<EntryItem>, VerifyError> {
        let contents: Arc<[Content]> = items
            .iter()
            .map(|item| Content::of(item.role, item.content_encoding.as_deref()))
            .collect();
        let pieces = self
            .archive
            .read_with(&items, 0, self.workers, move |piece, raw, stored| {
                let content = contents
                    .get(piece.entry)
                    .copied()
                    .unwrap_or(Content::Opaque);
                let report = inspect::piece(&raw, piece.offset, content);
                let is_faulty = report.is_faulty();
                let looked = if piece.is_whole() {
                    let whole = Inspection::default().update(&raw, content, report);
                    Looked::Whole(Box::new(whole), raw)
                } else {
                    Looked::Part(Box::new(report), raw, content)
                };
                if is_faulty {
                    Reading::Doubtful((looked, stored))
                } else {
                    Reading::Sound((looked, stored))
                }
            });
        pin_mut!(pieces);
        let mut inspection = Aside::<Inspection>::default();
        let mut bytes = Vec::new();
        let mut unreadable = None;
        let mut damaged = Vec::new();
        while let Some((piece, looked)) = pieces.next().await {
            let Some(item) = items.get(piece.entry) else {
                continue;
            };
            let (looked, stored) = match looked {
                Ok((looked, stored)) => (Ok(looked), Some(stored)),
                Err(error) => (Err(error), None),
            };
            // The digests of entry and archive can only be made in order. They are made side by
            // side, while the next piece is waited for.
            if let Some(digest) = &mut digest {
                digest.push(stored).await?;
            }
            let wanted_as = metadata_name(item)
                .filter(|name| self.kept.as_ref().is_some_and(|kept| kept.is_wanted(name)));
            let keep = |raw: &Bytes, bytes: &mut Vec<u8>| {
                if wanted_as.is_some() {
                    bytes.extend_from_slice(raw);
                }
            };
            match looked {
                Ok(Looked::Whole(whole, raw)) => {
                    keep(&raw, &mut bytes);
                    inspection = Aside::Idle(*whole);
                }
                Ok(Looked::Part(part, raw, content)) => {
                    keep(&raw, &mut bytes);
                    let look =
                        move |inspection: Inspection| inspection.update(&raw, content, *part);
                    inspection.then(look).await?;
                }
                Err(error) => {
                    let problem = tell(error)?;
                    unreadable.get_or_insert(problem);
                }
            }
            self.observer.advance(piece.len as u64, 0);
            if !piece.last {
                continue;
            }
            let inspected = inspection.take().await?.finish();
            let bytes = std::mem::take(&mut bytes);
            let problems = match &unreadable {
                Some(problem) => vec![problem.clone()],
                None => judge_entry(self.archive, item, &inspected),
            };
            let is_readable = unreadable.take().is_none();
            if may_come_again && !problems.is_empty() && !piece.is_whole() {
                damaged.push(item.clone());
                continue;
            }
            self.report.entries += 1;
            for problem in problems {
                note(
                    self.report,
                    self.observer,
                    self.archive.container().title(),
                    problem,
                );
            }
            if is_readable {
                self.report.entities += inspected.scan.entities();
                if let (Some(name), Some(kept)) = (wanted_as, &mut self.kept) {
                    kept.insert(name, bytes, item.content_encoding.as_deref());
                }
                self.told.insert(
                    item.name.clone(),
                    Told {
                        item: item.clone(),
                        inspected,
                    },
                );
            }
        }
        Ok(damaged)
    }
}

/// What the set calls an entry that may be metadata.
fn metadata_name(item: &EntryItem) -> Option<&str> {
    item.name
        .strip_prefix("exports/")
        .filter(|_| !matches!(item.role, EntryRole::Output | EntryRole::Sums))
}

/// Takes the metadata among entries.
fn metadata_of(items: &[EntryItem], memory: u64) -> KeptMetadata {
    KeptMetadata::new(
        items
            .iter()
            .filter_map(|item| Some((metadata_name(item)?, item.bytes))),
        memory,
    )
}

/// Holds an entry's bytes against directory and manifest.
fn judge_entry(archive: &ArchiveFile, item: &EntryItem, inspected: &Inspected) -> Vec<String> {
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

/// Holds the manifest's sums against its items.
fn totals(archive: &ArchiveFile) -> Vec<String> {
    let manifest = archive.manifest();
    let objects = manifest.objects();
    let sums = [
        ("kinds", manifest.totals.kinds, manifest.kinds.len() as u64),
        (
            "entities",
            manifest.totals.entities,
            manifest
                .kinds
                .iter()
                .fold(0, |sum, kind| kind.entities.saturating_add(sum)),
        ),
        ("entries", manifest.totals.entries, objects.len() as u64),
        (
            "bytes",
            manifest.totals.bytes,
            objects
                .iter()
                .fold(0, |sum, item| item.bytes.saturating_add(sum)),
        ),
    ];
    let wrong = sums.into_iter().filter(|(_, total, sum)| total != sum);
    wrong
        .map(|(what, total, sum)| {
            format!("manifest.json: totals.{what}: expected {sum}, found {total}")
        })
        .collect()
}

/// Holds the manifest's words on each pair against what its outputs told.
fn judge_kinds(
    archive: &ArchiveFile,
    told: &BTreeMap<String, Told>,
    of: impl Fn(&Pair) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for kind in &archive.manifest().kinds {
        let pair = kind.pair();
        if !of(&pair)
            || kind
                .outputs()
                .any(|output| !told.contains_key(&output.name))
        {
            // What could not be read was told already.
            continue;
        }
        let mut found = PairScan::default();
        for output in kind.outputs().filter_map(|output| told.get(&output.name)) {
            if let Some(scan) = output.inspected.scan.pairs.get(&pair) {
                found.merge(scan);
            }
        }
        let mut differ = |what: &str, expected: String, found: String| {
            if expected != found {
                problems.push(format!(
                    "manifest.json: {what} of {pair}: expected {found}, found {expected}"
                ));
            }
        };
        differ(
            "entities",
            kind.entities.to_string(),
            found.entities.to_string(),
        );
        differ("bytes", kind.bytes.to_string(), found.bytes.to_string());
        differ("parents", spell(&kind.parents), spell(&found.parents));
        differ(
            "references",
            spell(&kind.reference_pairs),
            spell(&found.references),
        );
        differ(
            "references",
            spell(&kind.references),
            spell(
                found
                    .references
                    .iter()
                    .map(|pair| &pair.kind)
                    .collect::<BTreeSet<_>>(),
            ),
        );
    }
    problems
}

fn spell<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

fn listed(name: String, item: &EntryItem) -> Listed {
    Listed {
        name,
        len: item.bytes,
        is_encoded: item.content_encoding.is_some(),
    }
}

/// Proves the set anew, without the manifest's word: finish marks, listed objects, counts, kinds
/// and namespaces of the keys.
fn judge_set(
    archive: &ArchiveFile,
    told: &BTreeMap<String, Told>,
    metadata: &KeptMetadata,
) -> Result<Vec<String>, VerifyError> {
    let mut problems = Vec::new();
    let sums = || Sha256(sha2::Sha256::digest(checksums::of_objects(archive.manifest())).into());
    if told
        .get(SUMS_NAME)
        .is_some_and(|told| told.inspected.sha256 != sums())
    {
        problems.push(format!("{SUMS_NAME}: expected a line for each entry, with the manifest's digests, found other lines"));
    }
    let within = |name: &str| name.strip_prefix("exports/").map(str::to_owned);
    let listing: Vec<Listed> = told
        .values()
        .filter_map(|told| within(&told.item.name).map(|name| listed(name, &told.item)))
        .collect();
    if told.len() != archive.manifest().objects().len() + 1 {
        // Some entry could not be read: what is missing now is no news.
        return Ok(problems);
    }
    let mut discovery = discover::discover(&listing, metadata);
    let announced = archive
        .manifest()
        .kinds
        .iter()
        .filter(|kind| kind.announced_entities.is_some());
    let accepted: Vec<Selector> = announced.map(|kind| Selector::from(&kind.pair())).collect();
    discovery
        .exports
        .iter_mut()
        .for_each(|export| export.accept_counts(&accepted));
    if let Some(name) = metadata.lacking(&discovery) {
        return Err(VerifyError::MemoryTooSmall {
            name: format!("exports/{name}"),
        });
    }
    problems.extend(discovery.foreign.iter().map(|name| {
        format!("exports/{name}: expected objects of exports, found one that belongs to none")
    }));
    problems.extend(judge_backup(archive, &discovery, told));
    let mut pairs = BTreeSet::new();
    let mut announced: BTreeMap<Pair, u64> = BTreeMap::new();
    for export in &discovery.exports {
        problems.extend(export.faults.iter().map(|fault| format!("exports/{fault}")));
        for group in &export.groups {
            problems.extend(judge_group(
                group,
                &export.title,
                told,
                &accepted,
                &mut pairs,
                &mut announced,
            ));
        }
    }
    problems.extend(judge_names(archive, &discovery));
    for kind in &archive.manifest().kinds {
        let found = announced.remove(&kind.pair());
        if kind.announced_entities != found {
            let spelled = |count: Option<u64>| {
                count.map_or_else(|| "none".to_owned(), |count| count.to_string())
            };
            let (expected, found, pair) = (
                spelled(found),
                spelled(kind.announced_entities),
                kind.pair(),
            );
            problems.push(format!(
                "manifest.json: announced_entities of {pair}: expected {expected}, found {found}"
            ));
        }
    }
    let listed: BTreeSet<Pair> = archive
        .manifest()
        .kinds
        .iter()
        .map(|kind| kind.pair())
        .collect();
    problems.extend(
        pairs
            .difference(&listed)
            .map(|pair| format!("manifest.json: expected an item for {pair}, found none")),
    );
    Ok(problems)
}

/// Holds what the manifest says of the backup as a whole against keys and metadata.
fn judge_backup(
    archive: &ArchiveFile,
    discovery: &Discovery,
    told: &BTreeMap<String, Told>,
) -> Vec<String> {
    let backup = &archive.manifest().backup;
    let origins: BTreeSet<&(String, String)> = told
        .values()
        .flat_map(|told| &told.inspected.scan.origins)
        .collect();
    let origin = |(project, database): &(String, String)| {
        if database.is_empty() {
            project.clone()
        } else {
            format!("{project}/{database}")
        }
    };
    let time =
        |time: Option<Timestamp>| time.map_or_else(|| "none".to_owned(), |time| time.to_string());
    let starts = || discovery.exports.iter().filter_map(|export| export.started);
    let expected = [
        (
            "project",
            spell(origins.into_iter().map(origin)),
            origin(&(backup.project.clone(), backup.database.clone())),
        ),
        ("started", time(starts().min()), time(backup.started)),
        (
            "finished",
            time(
                discovery
                    .exports
                    .iter()
                    .filter_map(|export| export.finished)
                    .max(),
            ),
            time(backup.finished),
        ),
        (
            "id",
            starts()
                .max()
                .map_or_else(|| backup.id.clone(), Timestamp::compact),
            backup.id.clone(),
        ),
    ];
    let wrong = expected.into_iter().filter(|(_, expected, found)| {
        expected != found && !(expected == "none" && found.is_empty())
    });
    wrong
        .map(|(what, expected, found)| {
            format!("manifest.json: backup.{what}: expected {expected}, found {found}")
        })
        .collect()
}

/// Compares the names that the manifest says the metadata give with those that they do give.
fn judge_names(archive: &ArchiveFile, discovery: &Discovery) -> Vec<String> {
    let listed_as: BTreeMap<&String, &String> = discovery
        .exports
        .iter()
        .flat_map(|export| &export.listed_as)
        .collect();
    let mut problems = Vec::new();
    for item in archive.manifest().objects() {
        let name = item.name.strip_prefix("exports/").unwrap_or(&item.name);
        let expected = listed_as
            .get(&name.to_owned())
            .map(|name| format!("exports/{name}"));
        if item.listed_as != expected {
            let spelled = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            let (expected, found) = (spelled(&expected), spelled(&item.listed_as));
            problems.push(format!(
                "manifest.json: listed_as of {}: expected {expected}, found {found}",
                item.name
            ));
        }
    }
    problems
}

fn judge_group(
    group: &Group,
    title: &str,
    told: &BTreeMap<String, Told>,
    accepted: &[Selector],
    pairs: &mut BTreeSet<Pair>,
    announced: &mut BTreeMap<Pair, u64>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut scan = Scanned::default();
    for output in &group.outputs {
        let Some(told) = told.get(&format!("exports/{}", output.name)) else {
            continue;
        };
        scan.merge(&told.inspected.scan);
        pairs.extend(told.inspected.scan.pairs.keys().cloned());
        // That a log cannot be read was told with its entry.
        let strange = inspect::output_faults(&output.name, &told.inspected, group)
            .into_iter()
            .skip(usize::from(told.inspected.fault.is_some()));
        problems.extend(strange.map(|fault| format!("exports/{fault}")));
    }
    match inspect::sum_fault(group.metadata.as_deref().unwrap_or(title), group, &scan) {
        Some(fault) if fault.count_of.is_some() && inspect::accepts(accepted, &scan) => {
            for pair in scan.pairs.into_keys() {
                *announced.entry(pair).or_default() += group.entities.unwrap_or_default();
            }
        }
        fault => problems.extend(fault.map(|fault| format!("exports/{fault}"))),
    }
    problems
}

/// What is said of an archive's bytes beside the archive.
#[derive(Default)]
struct Claims {
    /// Who says it, and the SHA-256 that the archive should have.
    digests: Vec<(&'static str, Sha256)>,
    problems: Vec<String>,
}

impl Claims {
    async fn of(archive: &ArchiveFile) -> Result<Self, StoreError> {
        let container = archive.container();
        let mut claims = Claims::default();
        if let Some(told) = container.object().attributes.get(SHA256_ATTRIBUTE) {
            match told.parse() {
                Ok(sha256) => claims.digests.push(("its metadata", sha256)),
                Err(_) => claims.problems.push(format!(
                    "{}: {SHA256_ATTRIBUTE} in its metadata is not a SHA-256",
                    container.title()
                )),
            }
        }
        let mut wrong = |found: &str| {
            claims.problems.push(format!(
                "{}.sha256: expected one line of sha256sum, found {found}",
                container.title()
            ))
        };
        match container
            .store()
            .stat(&format!("{}.sha256", container.object().name))
            .await
        {
            Ok(there) if there.len <= discover::METADATA_MAX_BYTES => {
                let text =
                    String::from_utf8_lossy(&read_whole(container.store().as_ref(), &there).await?)
                        .into_owned();
                match checksums::parse_first(&text) {
                    Some((sha256, _)) => claims.digests.push(("its sidecar", sha256)),
                    None => wrong("something else"),
                }
            }
            Ok(_) => wrong("a large object"),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(claims)
    }

    /// Compares the whole archive with what is said of it.
    async fn judge(
        self,
        archive: &ArchiveFile,
        digest: WholeDigest,
    ) -> Result<Vec<String>, VerifyError> {
        let Claims {
            digests,
            mut problems,
        } = self;
        if digests.is_empty() {
            return Ok(problems);
        }
        let container = archive.container();
        let read = || async {
            digest_of(container.store().as_ref(), container.object())
                .await
                .map_err(VerifyError::Store)
        };
        let found = match digest.finish(container).await? {
            // A byte that was damaged on its way may stand where it is compared with nothing else.
            Some(found)
                if container.store().is_remote()
                    && digests.iter().any(|(_, expected)| *expected != found) =>
            {
                read().await?
            }
            Some(found) => found,
            None => read().await?,
        };
        let wrong = digests
            .into_iter()
            .filter(|(_, expected)| *expected != found);
        problems.extend(wrong.map(|(who, expected)| {
            format!(
                "{}: expected sha256 {expected}, as {who} says, found {found}",
                container.title()
            )
        }));
        Ok(problems)
    }
}

/// What the `zip` crate sees: it must be the same entries. Another reader's eyes, for the end of
/// the archive and the manifest.
fn second_opinion(container: &Container) -> Option<String> {
    let (offset, tail) = container.tail();
    let window = Window {
        offset,
        bytes: Cursor::new(tail.clone()),
    };
    let title = container.title();
    let archive = match zip::ZipArchive::new(window) {
        Ok(archive) => archive,
        Err(error) => {
            return Some(format!(
                "{title}: expected a zip that another reader opens, found that it says: {error}"
            ));
        }
    };
    let ours: BTreeSet<&str> = container
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    let theirs: Vec<Cow<'_, str>> = archive.file_names().filter_map(Result::ok).collect();
    let same = ours.len() == theirs.len() && theirs.iter().all(|name| ours.contains(name.as_ref()));
    (!same).then(|| {
        format!(
            "{title}: expected {} entries for every reader, found {} for another one",
            ours.len(),
            theirs.len()
        )
    })
}

/// The end of an archive as something that can be read and sought in; what lies before it cannot be
/// read.
struct Window {
    offset: u64,
    bytes: Cursor<Bytes>,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(start) => {
                let start = start
                    .checked_sub(self.offset)
                    .ok_or_else(|| io::Error::other("a place before the end of the archive"))?;
                SeekFrom::Start(start)
            }
            other => other,
        };
        Ok(self.bytes.seek(to)? + self.offset)
    }
}

/// Verifies a zip of anybody: structure, lengths and checksums.
///
/// # Errors
/// As [`verify`].
pub async fn any_zip(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    title: String,
    observer: &dyn Observer,
) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let container = match Container::open(store, object, title, Profile::AnyZip).await {
        Ok(container) => container,
        Err(error) => {
            note(&mut report, observer, "", tell(error)?);
            return Ok(report);
        }
    };
    observer.begin(
        "verifying",
        container
            .entries()
            .iter()
            .map(|entry| entry.compressed_len)
            .sum(),
    );
    for entry in container.entries() {
        report.entries += 1;
        let mut read = container.read_entry(entry, &mut |_| ()).await;
        if container.store().is_remote() && read.as_ref().is_err_and(ArchiveError::is_damage) {
            read = container.read_entry(entry, &mut |_| ()).await;
        }
        if let Err(error) = read {
            note(&mut report, observer, container.title(), tell(error)?);
        }
        observer.advance(entry.compressed_len, 0);
    }
    observer.end();
    Ok(report)
}
