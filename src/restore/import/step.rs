//! One step by the target's own import.
//!
//! Knows what the journal must hold before anything is waited for. How an import is staged and
//! started is for the module above.

use futures_util::{StreamExt as _, pin_mut};

use crate::archive::entities;
use crate::plan::Step;
use crate::progress::Event;
use crate::restore::import::{self, ImportOptions, StepImport};
use crate::restore::scheduler::RestoreRun;
use crate::restore::step::BATCH_MAX;
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
        let known = self.status(step).await.operation;
        let run = self.started_at().await;
        let job = StepImport {
            archive: self.archive,
            step,
            plan: self.plan_sha256,
            run,
            begun_before,
            operation: known.clone(),
        };
        let started = import::start(
            &job,
            &by.importer,
            &by.staging,
            &self.workers,
            self.observer,
        )
        .await?;
        if let Some(operation) = started
            .operation()
            .filter(|operation| known.as_deref() != Some(operation))
        {
            self.append(journal::JournalEvent::OperationStarted {
                step: step.id,
                operation: operation.to_owned(),
            })
            .await?;
        }
        let imported = tokio::select! {
            biased;
            stopped = self.cancelled() => return Err(stopped),
            imported = started.finish(by.operation_timeout, self.observer) => imported?,
        };
        if let Some(reason) = imported.left {
            self.observer.event(Event::StagingLeft {
                step: step.id,
                reason,
            });
        }
        self.note(step, |tally| tally.restored = imported.entities);
        if !by.importer.reserves_ids() {
            self.reserve_ids(step).await?;
        }
        Ok(imported.entities)
    }

    /// Reads the step's entities once more, and has their ids reserved.
    async fn reserve_ids(&self, step: &Step) -> Result<(), RestoreError> {
        let outputs = self.outputs(step);
        let pieces = entities::read(
            self.archive,
            &outputs,
            self.encoder(self.target.encoding(), step, 0),
            0,
            &self.workers,
        );
        pin_mut!(pieces);
        while let Some(piece) = pieces.next().await.transpose()? {
            self.check_cancelled().await?;
            for batch in piece.split(BATCH_MAX, usize::MAX) {
                self.until_cancelled(self.target.reserve_ids(&step.to_pair(), batch))
                    .await?;
            }
        }
        Ok(())
    }
}
