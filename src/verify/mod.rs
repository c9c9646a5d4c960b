//! Verifying: an archive is read to its last byte, and every problem is reported, not only the
//! first.

mod entries;
mod error;
mod report;
mod second_reader;
mod set;
mod sidecar;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

pub use error::VerifyError;
pub use report::VerifyReport;

use crate::archive::zip::{DirectoryEntry, Strictness};
use crate::archive::{Archive, ArchiveError, Container};
use crate::export::stored_metadata::MetadataStore;
use crate::model::{EntryInfo, KindInfo, KindRef, Manifest, Selector};
use crate::progress::Observer;
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store};
use entries::{EntryReader, EntryReports, metadata_of};
use second_reader::check_second_reader;
use set::{check_kinds, check_missing, check_set, check_totals};
use sidecar::{ArchiveDigest, ExpectedDigests, is_decrypted};

/// How much is read.
#[derive(Debug, Clone)]
pub enum VerifyScope {
    /// Structure and manifest; no entry's data but the manifest's.
    Quick,
    /// Everything.
    Full,
    /// The entries of the pairs that these choose.
    Only(Vec<Selector>),
}

/// Verifies an archive of kindpack.
///
/// # Errors
/// [`VerifyError`] when it cannot be read; what is wrong with it stands in the report.
pub async fn verify(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    title: String,
    scope: VerifyScope,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<VerifyReport, VerifyError> {
    let archive = match Archive::open(store, object, title).await {
        Ok(archive) => Arc::new(archive),
        Err(error) => return report_unopened(error, observer),
    };
    let verification = Verification {
        archive: &archive,
        workers,
        observer,
    };
    let mut report = report_of(archive.manifest());
    verification.add_problems(check_second_reader(archive.container()), &mut report);
    let problems = verification.run(scope, &mut report).await?;
    verification.add_problems(problems, &mut report);
    observer.finish_phase();
    Ok(report)
}

/// The report of an archive that cannot be opened.
fn report_unopened(
    error: ArchiveError,
    observer: &dyn Observer,
) -> Result<VerifyReport, VerifyError> {
    let mut report = VerifyReport {
        is_foreign: matches!(error, ArchiveError::NoManifest { .. }),
        ..VerifyReport::default()
    };
    report.add_problem(observer, "", VerifyError::into_problem(error)?);
    Ok(report)
}

/// What a report says by the manifest's word.
fn report_of(manifest: &Manifest) -> VerifyReport {
    VerifyReport {
        accepted_counts: manifest.accepted_counts(),
        missing: manifest.missing.clone(),
        snapshot_time: manifest.backup.snapshot_time,
        ..VerifyReport::default()
    }
}

/// The verification of one archive. Each way adds to the report what it reads, and gives the
/// problems of the set.
struct Verification<'a> {
    archive: &'a Arc<Archive>,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

impl Verification<'_> {
    async fn run(
        &self,
        scope: VerifyScope,
        report: &mut VerifyReport,
    ) -> Result<Vec<String>, VerifyError> {
        match scope {
            VerifyScope::Quick => Ok(self.quick(report)),
            VerifyScope::Full => self.full(report).await,
            VerifyScope::Only(selectors) => self.only(&selectors, report).await,
        }
    }

    fn add_problems(&self, problems: impl IntoIterator<Item = String>, report: &mut VerifyReport) {
        let title = self.archive.container().title();
        for problem in problems {
            report.add_problem(self.observer, title, problem);
        }
    }

    fn quick(&self, report: &mut VerifyReport) -> Vec<String> {
        let manifest = self.archive.manifest();
        report.entries = self.archive.container().entries().len() as u64;
        report.companions = manifest.companions.len() as u64;
        report.entities = manifest.totals.entities;
        self.check_manifest()
    }

    /// What is wrong with the manifest by itself.
    fn check_manifest(&self) -> Vec<String> {
        let mut problems = check_totals(self.archive);
        problems.extend(check_missing(self.archive));
        problems
    }

    async fn full(&self, report: &mut VerifyReport) -> Result<Vec<String>, VerifyError> {
        let items = self.all_items();
        report.companions = self.archive.manifest().companions.len() as u64;
        self.begin(&items);
        let expected = ExpectedDigests::read(self.archive).await;
        let expected = expected.map_err(VerifyError::Store)?;
        let mut digest = ArchiveDigest::default();
        // The digest of an encrypted archive is that of its encrypted bytes, which are read apart.
        let is_wanted = !expected.is_empty() && !is_decrypted(self.archive.container());
        let wanted = is_wanted.then_some(&mut digest);
        let mut kept = metadata_of(&items, self.workers.memory());
        let reader = self.reader(report, Some(&mut kept));
        let reports = reader.read(items, wanted).await?;
        // The manifest was read when the archive was opened.
        report.entries += 1;
        let is_damaged = !report.problems.is_empty();
        let mut problems = self.check_all(&reports, &kept, is_damaged)?;
        let container = self.archive.container();
        report.sha256 = expected.find(container, digest).await?;
        problems.extend(expected.check(container.title(), report.sha256));
        Ok(problems)
    }

    /// All entries but the manifest, as they follow each other in the archive.
    fn all_items(&self) -> Vec<EntryInfo> {
        let manifest = self.archive.manifest();
        let objects = manifest.objects().into_iter();
        let items = objects.chain([&manifest.sums]).cloned();
        self.archive.in_order(items.collect())
    }

    /// What is wrong with the set.
    fn check_all(
        &self,
        reports: &EntryReports,
        metadata: &MetadataStore,
        is_damaged: bool,
    ) -> Result<Vec<String>, VerifyError> {
        let mut problems = self.check_manifest();
        problems.extend(check_kinds(self.archive, reports, |_| true));
        match check_set(self.archive, reports, metadata) {
            // What is known to be damaged is damaged, whatever else cannot be checked.
            Err(_) if is_damaged || !problems.is_empty() => {}
            of_set => problems.extend(of_set?),
        }
        Ok(problems)
    }

    fn reader<'r>(
        &'r self,
        report: &'r mut VerifyReport,
        kept: Option<&'r mut MetadataStore>,
    ) -> EntryReader<'r> {
        EntryReader {
            archive: self.archive,
            workers: self.workers,
            observer: self.observer,
            report,
            kept,
            owners: OnceLock::new(),
        }
    }

    async fn only(
        &self,
        selectors: &[Selector],
        report: &mut VerifyReport,
    ) -> Result<Vec<String>, VerifyError> {
        let chosen = self.archive.choose(selectors)?;
        let pairs: BTreeSet<KindRef> = chosen.iter().map(|kind| kind.pair()).collect();
        let items = self.items_of(&chosen);
        self.begin(&items);
        let reports = self.reader(report, None).read(items, None).await?;
        let is_chosen = |pair: &KindRef| pairs.contains(pair);
        Ok(check_kinds(self.archive, &reports, is_chosen))
    }

    /// The entries of kinds, each once.
    fn items_of(&self, kinds: &[&KindInfo]) -> Vec<EntryInfo> {
        let entries = kinds.iter().flat_map(|kind| &kind.entries);
        let names: BTreeSet<&str> = entries.map(|item| item.name.as_str()).collect();
        let objects = self.archive.manifest().objects().into_iter();
        let wanted = objects.filter(|item| names.contains(item.name.as_str()));
        wanted.cloned().collect()
    }

    fn begin(&self, items: &[EntryInfo]) {
        let bytes = items.iter().map(|item| item.bytes).sum();
        self.observer.start_phase("verifying", bytes);
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
) -> Result<VerifyReport, VerifyError> {
    let mut report = VerifyReport::default();
    let container = match Container::open(store, object, title, Strictness::AnyZip).await {
        Ok(container) => container,
        Err(error) => {
            report.add_problem(observer, "", VerifyError::into_problem(error)?);
            return Ok(report);
        }
    };
    let lens = container.entries().iter().map(|entry| entry.compressed_len);
    observer.start_phase("verifying", lens.sum());
    for entry in container.entries() {
        report.entries += 1;
        observer.start_entry(&entry.name);
        if let Err(error) = read_foreign(&container, entry).await {
            let problem = VerifyError::into_problem(error)?;
            report.add_problem(observer, container.title(), problem);
        }
        observer.advance(entry.compressed_len, 0);
    }
    observer.finish_phase();
    Ok(report)
}

/// Reads an entry to its end. What a service gave damaged is read once more.
async fn read_foreign(container: &Container, entry: &DirectoryEntry) -> Result<(), ArchiveError> {
    let read = container.read_entry(entry, &mut |_| ()).await;
    match read {
        Err(error) if error.is_damage() && container.store().is_remote() => {
            container.read_entry(entry, &mut |_| ()).await
        }
        read => read,
    }
}
