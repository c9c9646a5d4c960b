//! Verifying: an archive is read to its last byte, and every problem is reported, not only the
//! first.

mod entries;
mod error;
mod report;
mod second_reader;
mod set;
mod sidecar;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use error::VerifyError;
pub use report::VerifyReport;

use crate::archive::zip::Strictness;
use crate::archive::{Archive, ArchiveError, Container};
use crate::model::{EntryInfo, KindRef, Selector};
use crate::progress::Observer;
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store};
use entries::{EntryReader, metadata_of};
use second_reader::check_second_reader;
use set::{check_kinds, check_missing, check_set, check_totals};
use sidecar::{ArchiveDigest, ExpectedDigests};

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
    let mut report = VerifyReport::default();
    let archive = match Archive::open(store, object, title).await {
        Ok(archive) => Arc::new(archive),
        Err(error) => {
            report.is_foreign = matches!(error, ArchiveError::NoManifest { .. });
            report.add_problem(observer, "", VerifyError::into_problem(error)?);
            return Ok(report);
        }
    };
    let title = archive.container().title();
    if let Some(problem) = check_second_reader(archive.container()) {
        report.add_problem(observer, title, problem);
    }
    let manifest = archive.manifest();
    report.accepted_counts = manifest.accepted_counts();
    report.missing.clone_from(&manifest.missing);
    report.snapshot_time = manifest.backup.snapshot_time;
    let verification = Verification {
        archive: &archive,
        workers,
        observer,
    };
    let problems = match scope {
        VerifyScope::Quick => verification.quick(&mut report),
        VerifyScope::Full => verification.full(&mut report).await?,
        VerifyScope::Only(selectors) => verification.only(&selectors, &mut report).await?,
    };
    for problem in problems {
        report.add_problem(observer, title, problem);
    }
    observer.finish_phase();
    Ok(report)
}

/// The verification of one archive. Each way adds to the report what it reads, and gives the
/// problems of the set.
struct Verification<'a> {
    archive: &'a Arc<Archive>,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

impl Verification<'_> {
    fn quick(&self, report: &mut VerifyReport) -> Vec<String> {
        report.entries = self.archive.container().entries().len() as u64;
        report.companions = self.archive.manifest().companions.len() as u64;
        report.entities = self.archive.manifest().totals.entities;
        let mut problems = check_totals(self.archive);
        problems.extend(check_missing(self.archive));
        problems
    }

    async fn full(&self, report: &mut VerifyReport) -> Result<Vec<String>, VerifyError> {
        let archive = self.archive;
        let manifest = archive.manifest();
        report.companions = manifest.companions.len() as u64;
        let objects = manifest.objects().into_iter().chain([&manifest.sums]);
        let items = archive.in_order(objects.cloned().collect());
        self.begin(&items);
        let expected = ExpectedDigests::read(archive)
            .await
            .map_err(VerifyError::Store)?;
        let mut digest = ArchiveDigest::default();
        let wanted = (!expected.is_empty()).then_some(&mut digest);
        let mut kept = metadata_of(&items, self.workers.memory());
        let reader = EntryReader {
            archive,
            workers: self.workers,
            observer: self.observer,
            report,
            kept: Some(&mut kept),
        };
        let reports = reader.read(items, wanted).await?;
        // The manifest was read when the archive was opened.
        report.entries += 1;
        let mut problems = check_totals(archive);
        problems.extend(check_missing(archive));
        problems.extend(check_kinds(archive, &reports, |_| true));
        match check_set(archive, &reports, &kept) {
            // What is known to be damaged is damaged, whatever else cannot be checked.
            Err(_) if !(report.problems.is_empty() && problems.is_empty()) => {}
            of_set => problems.extend(of_set?),
        }
        problems.extend(expected.check(archive, digest).await?);
        Ok(problems)
    }

    async fn only(
        &self,
        selectors: &[Selector],
        report: &mut VerifyReport,
    ) -> Result<Vec<String>, VerifyError> {
        let chosen = self
            .archive
            .choose(selectors)
            .map_err(|selector| VerifyError::NoMatch(selector.clone()))?;
        let pairs: BTreeSet<KindRef> = chosen.iter().map(|kind| kind.pair()).collect();
        let names: BTreeSet<&str> = chosen
            .iter()
            .flat_map(|kind| &kind.entries)
            .map(|item| item.name.as_str())
            .collect();
        let objects = self.archive.manifest().objects().into_iter();
        let items: Vec<EntryInfo> = objects
            .filter(|item| names.contains(item.name.as_str()))
            .cloned()
            .collect();
        self.begin(&items);
        let reader = EntryReader {
            archive: self.archive,
            workers: self.workers,
            observer: self.observer,
            report,
            kept: None,
        };
        let reports = reader.read(items, None).await?;
        Ok(check_kinds(self.archive, &reports, |pair| {
            pairs.contains(pair)
        }))
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
    observer.start_phase(
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
            let problem = VerifyError::into_problem(error)?;
            report.add_problem(observer, container.title(), problem);
        }
        observer.advance(entry.compressed_len, 0);
    }
    observer.finish_phase();
    Ok(report)
}
