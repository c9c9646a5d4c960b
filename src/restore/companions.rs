//! The companions of an archive, copied after the last step. Nothing there is overwritten; what an
//! earlier run has copied is left as it is, so that the same command goes on.

use std::sync::Arc;

use super::scheduler::RestoreRun;
use super::{CompanionStats, RestoreError};
use crate::archive::Archive;
use crate::archive::existing::{ExpectedObject, free_names};
use crate::archive::unpack::{UnpackError, UnpackEvent, UnpackOptions, UnpackPlan, lay};
use crate::model::{COMPANIONS_FOLDER, EntryInfo};
use crate::progress::Observer;
use crate::restore::journal::JournalEvent;
use crate::runtime::workers::Workers;
use crate::store::Store;

impl RestoreRun<'_> {
    /// Refuses companions that DEST cannot name, and those whose names other bytes have taken,
    /// before anything is restored.
    pub(super) async fn check_companions(&mut self) -> Result<(), RestoreError> {
        let Some(dest) = &self.companions else {
            return Ok(());
        };
        let names = names(self.archive);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let checked = dest.check_names(&names).await;
        checked.map_err(UnpackError::Dest)?;
        let missing = missing_objects(self.archive, dest.as_ref(), &self.workers);
        self.missing_companions = self.until_cancelled(missing).await?;
        Ok(())
    }

    /// Copies the companions where that was requested, and writes so in the journal.
    pub(super) async fn copy_companions(&mut self) -> Result<CompanionStats, RestoreError> {
        let missing = std::mem::take(&mut self.missing_companions);
        let Some(dest) = &self.companions else {
            return Ok(CompanionStats::default());
        };
        let stats = stats_of(self.archive, &missing);
        if self.options.dry_run {
            return Ok(stats);
        }
        self.observer.start_phase("copying companions", stats.bytes);
        let (dest, workers) = (dest.as_ref(), &self.workers);
        let copied = copy(self.archive, dest, missing, workers, self.observer);
        self.until_cancelled(copied).await?;
        self.observer.finish_phase();
        self.save_companions(stats).await?;
        Ok(stats)
    }

    /// Writes down that the companions are copied, unless the journal has ended.
    async fn save_companions(&self, stats: CompanionStats) -> Result<(), RestoreError> {
        let mut journal = self.journal.lock().await;
        if journal.journal().finished.is_some() {
            return Ok(());
        }
        let companions = self.archive.manifest().companions.iter();
        let copied = JournalEvent::CompanionsCopied {
            objects: stats.copied + stats.already_there,
            bytes: companions.map(|item| item.bytes).sum(),
        };
        Ok(journal.append(copied).await?)
    }
}

/// The names of all companions below DEST.
fn names(archive: &Archive) -> Vec<String> {
    let companions = archive.manifest().companions.iter();
    companions.map(name_below_dest).collect()
}

fn name_below_dest(item: &EntryInfo) -> String {
    let name = item.name.strip_prefix(COMPANIONS_FOLDER);
    name.unwrap_or(&item.name).to_owned()
}

/// The companions that DEST does not hold yet, with their names there.
async fn missing_objects(
    archive: &Archive,
    dest: &dyn Store,
    workers: &Workers,
) -> Result<Vec<(EntryInfo, String)>, UnpackError> {
    let (items, names) = (&archive.manifest().companions, names(archive));
    let expected = items.iter().map(ExpectedObject::from);
    let is_free = free_names(dest, &names, expected, workers)
        .await
        .map_err(UnpackError::Dest)?;
    let all = items.iter().cloned().zip(names).zip(is_free);
    Ok(all
        .filter_map(|(object, is_free)| is_free.then_some(object))
        .collect())
}

fn stats_of(archive: &Archive, missing: &[(EntryInfo, String)]) -> CompanionStats {
    let all = archive.manifest().companions.len() as u64;
    let copied = missing.len() as u64;
    CompanionStats {
        copied,
        already_there: all - copied,
        bytes: missing.iter().map(|(item, _)| item.bytes).sum(),
    }
}

async fn copy(
    archive: &Arc<Archive>,
    dest: &dyn Store,
    missing: Vec<(EntryInfo, String)>,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<(), UnpackError> {
    let plan = UnpackPlan {
        entries: missing,
        made: Vec::new(),
        vouched_for: names(archive),
    };
    let mut report = |event: UnpackEvent<'_>| {
        if let UnpackEvent::Bytes(bytes) = event {
            observer.advance(bytes, bytes);
        }
    };
    let options = UnpackOptions::AS_THEY_ARE;
    lay(archive, dest, plan, options, workers, &mut report).await
}
