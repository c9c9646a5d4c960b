//! One step by the target's own import.
//!
//! Knows what the journal must hold before anything is waited for. How an import is staged and
//! started is for the module above.

use futures_util::StreamExt as _;

use crate::plan::Step;
use crate::progress::Event;
use crate::restore::import::{self, ImportOptions, ImportResult, RunningImport, StepImport};
use crate::restore::scheduler::RestoreRun;
use crate::restore::step::MAX_BATCH_LEN;
use crate::restore::{RestoreError, journal};

impl RestoreRun<'_> {
    /// Imports a step. Gives how many entities its export holds. A stop leaves the operation alone:
    /// the next run finds it.
    pub(crate) async fn import(
        &self,
        step: &Step,
        by: &ImportOptions,
        begun_before: bool,
    ) -> Result<u64, RestoreError> {
        self.check_cancelled().await?;
        let started = self.start_import(step, by, begun_before).await?;
        let imported = self.finish_import(started, by).await?;
        self.report_import(step, &imported);
        if !by.importer.reserves_ids() {
            self.reserve_ids(step).await?;
        }
        Ok(imported.entities)
    }

    /// Starts the import of a step, or takes it up, and writes its operation down.
    async fn start_import(
        &self,
        step: &Step,
        by: &ImportOptions,
        begun_before: bool,
    ) -> Result<RunningImport, RestoreError> {
        let job = StepImport {
            archive: self.archive,
            step,
            plan: self.plan_sha256,
            run: self.started_at().await,
            begun_before,
            operation: self.status(step).await.operation,
        };
        let (importer, staging) = (&by.importer, &by.staging);
        let started = import::start(&job, importer, staging, &self.workers, self.observer).await?;
        self.save_operation(&job, started.operation()).await?;
        Ok(started)
    }

    /// Writes an operation down, unless the journal names it already.
    async fn save_operation(
        &self,
        job: &StepImport<'_>,
        operation: Option<&str>,
    ) -> Result<(), RestoreError> {
        let known = job.operation.as_deref();
        let Some(operation) = operation.filter(|operation| known != Some(*operation)) else {
            return Ok(());
        };
        self.append(journal::JournalEvent::OperationStarted {
            step: job.step.id,
            operation: operation.to_owned(),
        })
        .await
    }

    async fn finish_import(
        &self,
        started: RunningImport,
        by: &ImportOptions,
    ) -> Result<ImportResult, RestoreError> {
        tokio::select! {
            biased;
            stopped = self.cancelled() => Err(stopped),
            imported = started.finish(by.operation_timeout, self.observer) => Ok(imported?),
        }
    }

    fn report_import(&self, step: &Step, imported: &ImportResult) {
        if let Some(reason) = imported.left.clone() {
            let step = step.id;
            self.observer.event(Event::StagingLeft { step, reason });
        }
        self.note(step, |tally| tally.restored = imported.entities);
    }

    /// Reads the step's entities once more, and has their ids reserved.
    async fn reserve_ids(&self, step: &Step) -> Result<(), RestoreError> {
        let (pair, outputs) = (step.to_pair(), self.outputs(step));
        let mut pieces = self.read_entities(step, &outputs, self.target.encoding());
        while let Some(piece) = pieces.next().await.transpose()? {
            self.check_cancelled().await?;
            for batch in piece.split(MAX_BATCH_LEN, usize::MAX) {
                self.until_cancelled(self.target.reserve_ids(&pair, batch))
                    .await?;
            }
        }
        Ok(())
    }
}
