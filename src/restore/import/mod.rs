//! A step carried out by Google's own import: its export is written unchanged where the importer
//! reads, imported, and removed again. Only an export with names that cannot be written there gets
//! other names.
//!
//! Knows archives, stores and importers. Must not know journals: [`start`] ends when there is an
//! operation, so that its name can be written down before [`RunningImport::finish`] asks what becomes of
//! it. Dropped anywhere, both leave an operation that goes on, and the same call finds it.
//!
//! ```text
//! let started = imports::start(&job, &importer, &staging, workers, observer).await?;
//! // written to the journal: started.operation()
//! let imported = started.finish(timeout, observer).await?;
//! ```

mod export;
mod importer;
mod staging;
pub(crate) mod step;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::archive::unpack::UnpackError;
use crate::archive::{Archive, ArchiveError};
use crate::datastore::admin::{
    ImportRequest, Importer, Label, OperationProgress, OperationState, StartedImport,
};
use crate::datastore::error::DatastoreError;
use crate::model::{KindRef, Sha256, Timestamp, spelled_duration};
use crate::plan::Step;
use crate::progress::Observer;
use crate::runtime::workers::{WorkerPanicked, Workers};
use crate::store::StoreError;
use export::StagedExport;

/// Who imports, and from where.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Who starts imports.
    pub importer: Arc<dyn Importer>,
    /// Where exports are laid down for it.
    pub staging: Staging,
    /// How long an operation is waited for.
    pub operation_timeout: Duration,
}

pub use importer::open_importer;
pub use staging::Staging;

/// A step that is to be imported.
#[derive(Debug, Clone)]
pub struct StepImport<'a> {
    /// The archive.
    pub archive: &'a Arc<Archive>,
    /// The step.
    pub step: &'a Step,
    /// The plan's digest.
    pub plan: Sha256,
    /// When the journal of the restore was opened: the same in every run that goes on with it.
    pub run: Timestamp,
    /// Whether an earlier run has begun the step. Then an operation may be under way that no
    /// journal names.
    pub begun_before: bool,
    /// The operation that the journal names for the step.
    pub operation: Option<String>,
}

impl StepImport<'_> {
    /// The export as it is staged: renamed where its names cannot be written, and in a folder of
    /// this run where the importer tells operations apart by that.
    async fn staged_export(
        &self,
        importer: &dyn Importer,
        staging: &Staging,
        folder: &str,
    ) -> Result<StagedExport, ImportError> {
        let mut export = StagedExport::from_step(self.archive, self.step)?;
        if let Err(StoreError::UnsupportedName { .. }) = staging.check_names(folder, &export).await
        {
            export = StagedExport::renamed(self.archive, self.step)?;
        }
        if importer.matches_by_folder() {
            export = export.below(&format!("run-{}", self.run.micros()));
        }
        Ok(export)
    }

    fn request(&self, input_url: String, export: &StagedExport) -> ImportRequest {
        let entries = export.entries.iter();
        ImportRequest {
            label: Label::new(self.plan, self.step.id, self.run),
            input_url,
            bytes: entries.map(|(item, _)| item.bytes).sum(),
        }
    }
}

/// A step whose import goes on, or is done.
#[must_use = "what becomes of the import is only known when it is finished"]
#[derive(Debug)]
pub struct RunningImport {
    pair: KindRef,
    entities: u64,
    importer: Arc<dyn Importer>,
    staging: Staging,
    folder: String,
    operation: Option<String>,
    taken_up: bool,
    /// Held until the import is over.
    _place: Option<OwnedSemaphorePermit>,
}

/// A step that is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportResult {
    /// Entities of its export.
    pub entities: u64,
    /// Why what was staged could not be taken away, where that is so.
    pub left: Option<String>,
}

/// Why a step is not imported.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum ImportError {
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What is staged cannot be written.
    #[error(transparent)]
    Staging(#[from] StoreError),
    /// The importer failed or refused.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// The emulator refused what lies in a folder: it may not see that folder.
    #[error("{error}; the emulator must be able to read the export, which is in {folder}")]
    EmulatorCannotRead {
        /// What it said.
        error: DatastoreError,
        /// Where the export is.
        folder: String,
    },
    /// The operation has ended without success.
    #[error("import {operation} failed: {reason}")]
    Failed {
        /// The operation.
        operation: String,
        /// Its own words.
        reason: String,
    },
    /// The operation goes on for longer than it is waited for.
    #[error("import {operation} is still running after {}", spelled_duration(*.timeout))]
    OperationTimeout {
        /// The operation.
        operation: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// No import can do this step.
    #[error("{pair} cannot be imported: {reason}")]
    NotImportable {
        /// The step.
        pair: KindRef,
        /// Why not.
        reason: String,
    },
    /// There is no place to stage for this importer.
    #[error("--staging: {fault}")]
    InvalidStaging {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

impl From<UnpackError> for ImportError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Archive(error) => ImportError::Archive(error),
            UnpackError::Dest(error) => ImportError::Staging(error),
            UnpackError::Worker(error) => ImportError::Worker(error),
        }
    }
}

impl ImportError {
    /// Whether what was staged for a start is of no more use: nothing reads it, and the same again
    /// would fail again.
    fn refuses(&self) -> bool {
        matches!(
            self,
            ImportError::Datastore(
                DatastoreError::Refused { .. } | DatastoreError::NoImport { .. }
            ) | ImportError::EmulatorCannotRead { .. }
                | ImportError::Archive(_)
        )
    }
}

/// Begins the import of a step, or takes up the one that an earlier run has begun. An emulator is
/// done with it when this ends.
///
/// # Errors
/// [`ImportError`]. What was staged by then stays only where it may still be of use, to the same call or to an operation that may go on.
pub async fn start(
    job: &StepImport<'_>,
    importer: &Arc<dyn Importer>,
    staging: &Staging,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<RunningImport, ImportError> {
    let folder = staging::folder(job.plan, job.step.id);
    let export = job
        .staged_export(importer.as_ref(), staging, &folder)
        .await?;
    // The semaphore is never closed.
    let place = importer.concurrency().clone().acquire_owned().await.ok();
    let address = staging.address(&format!("{folder}/{}", export.completion_marker));
    let import = job.request(address, &export);
    let operation = under_way(job, importer.as_ref(), &import).await?;
    let found = RunningImport {
        pair: job.step.to_pair(),
        entities: job.step.entities,
        importer: importer.clone(),
        staging: staging.clone(),
        folder,
        taken_up: operation.is_some(),
        operation,
        _place: place,
    };
    if found.taken_up {
        return Ok(found);
    }
    let load = (job.archive, &export);
    found
        .start_or_clean_up(load, &import, workers, observer)
        .await
}

/// The operation of an earlier run that goes on or has succeeded.
async fn under_way(
    job: &StepImport<'_>,
    importer: &dyn Importer,
    import: &ImportRequest,
) -> Result<Option<String>, DatastoreError> {
    if let Some(operation) = &job.operation
        && let OperationState::Running(_) | OperationState::Succeeded =
            importer.poll(operation).await?
    {
        return Ok(Some(operation.clone()));
    }
    if !job.begun_before {
        return Ok(None);
    }
    importer.find(import).await
}

impl RunningImport {
    /// The operation that imports the step; an emulator has none.
    pub fn operation(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    /// Starts the import. What was staged for one that cannot start goes again, where it is of no
    /// more use.
    async fn start_or_clean_up(
        mut self,
        load: (&Arc<Archive>, &StagedExport),
        import: &ImportRequest,
        workers: &Workers,
        observer: &dyn Observer,
    ) -> Result<Self, ImportError> {
        match self.start(load, import, workers, observer).await {
            Ok(operation) => self.operation = operation,
            Err(error) => {
                self.remove_staging(error.refuses()).await;
                return Err(error);
            }
        }
        Ok(self)
    }

    async fn start(
        &self,
        (archive, export): (&Arc<Archive>, &StagedExport),
        import: &ImportRequest,
        workers: &Workers,
        observer: &dyn Observer,
    ) -> Result<Option<String>, ImportError> {
        let (staging, folder) = (&self.staging, &self.folder);
        staging
            .lay(archive, folder, export, workers, observer)
            .await?;
        match self.importer.start(import).await {
            Ok(StartedImport::Done) => Ok(None),
            Ok(StartedImport::Operation(operation)) => Ok(Some(operation)),
            Err(error) => Err(self.start_error(error)),
        }
    }

    /// An emulator that refuses what lies in a folder may not see that folder.
    fn start_error(&self, error: DatastoreError) -> ImportError {
        if !matches!(error, DatastoreError::Refused { .. }) || !self.staging.is_local() {
            return error.into();
        }
        let folder = self.staging.address(&self.folder);
        ImportError::EmulatorCannotRead { error, folder }
    }

    /// Waits until the import is over, and takes away what was staged for it.
    ///
    /// # Errors
    /// [`ImportError::OperationTimeout`] after `timeout`. [`ImportError::Failed`] has the operation's own words. After anything else it may go on, and the same call finds it.
    pub async fn finish(
        self,
        timeout: Duration,
        observer: &dyn Observer,
    ) -> Result<ImportResult, ImportError> {
        let mut shown = 0;
        let waited = match &self.operation {
            Some(operation) => self.wait(operation, timeout, observer, &mut shown).await,
            None => Ok(()),
        };
        // After any other failure it may go on, and read.
        let is_over = matches!(waited, Ok(()) | Err(ImportError::Failed { .. }));
        let left = self.remove_staging(is_over).await;
        waited?;
        observer.advance(self.entities.saturating_sub(shown), 0);
        let entities = self.entities;
        Ok(ImportResult { entities, left })
    }

    /// Waits until an operation has succeeded. `shown` is how many entities the observer knows of.
    async fn wait(
        &self,
        operation: &str,
        timeout: Duration,
        observer: &dyn Observer,
        shown: &mut u64,
    ) -> Result<(), ImportError> {
        let (started, mut delays) = (Instant::now(), self.importer.poll_backoff());
        loop {
            let state = self.importer.poll(operation).await?;
            let Some(progress) = self.progress_of(operation, state)? else {
                return Ok(());
            };
            let now = done_of(self.entities, progress);
            observer.advance(now.saturating_sub(*shown), 0);
            *shown = now.max(*shown);
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                let operation = operation.to_owned();
                return Err(ImportError::OperationTimeout { operation, timeout });
            }
            tokio::time::sleep(delays.next_delay(None).min(left)).await;
        }
    }

    /// How far an operation is; none where it has succeeded.
    fn progress_of(
        &self,
        operation: &str,
        state: OperationState,
    ) -> Result<Option<OperationProgress>, ImportError> {
        match state {
            OperationState::Succeeded => Ok(None),
            OperationState::Running(progress) => Ok(Some(progress)),
            OperationState::Failed(failure) => Err(ImportError::Failed {
                operation: operation.to_owned(),
                reason: failure.message,
            }),
            OperationState::Unknown => Err(self.lost_operation().into()),
        }
    }

    fn lost_operation(&self) -> DatastoreError {
        DatastoreError::UnexpectedResponse {
            call: format!("import of {}", self.pair),
            missing: "operation that was started",
        }
    }

    /// Takes away what was staged, where that is over; what lies on this machine always, for it is
    /// laid down anew in no time.
    async fn remove_staging(&self, is_over: bool) -> Option<String> {
        if !is_over && !self.staging.is_local() {
            return None;
        }
        let removed = self.staging.remove(&self.folder).await;
        removed.err().map(|error| error.to_string())
    }
}

/// Entities that are done, by the service's own estimate; it may exceed itself.
fn done_of(entities: u64, work: OperationProgress) -> u64 {
    let share = u128::from(entities) * u128::from(work.done.min(work.total))
        / u128::from(work.total.max(1));
    u64::try_from(share).unwrap_or(entities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_progress_never_exceeds_total() {
        let done = |done, total| done_of(1_000, OperationProgress { done, total });
        assert_eq!(
            [
                done(0, 0),
                done(7, 0),
                done(0, 10),
                done(5, 10),
                done(12, 10)
            ],
            [0, 0, 0, 500, 1_000]
        );
        assert_eq!(
            done_of(
                u64::MAX,
                OperationProgress {
                    done: u64::MAX,
                    total: u64::MAX
                }
            ),
            u64::MAX
        );
    }
}
