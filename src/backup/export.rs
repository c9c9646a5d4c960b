//! Carries out the exports of a run: each is started, followed to its end, and tried again where
//! that may help.
//!
//! What is about to happen is in the journal before it happens, so that another process can find
//! out what became of it.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{Mutex, SemaphorePermit};

use super::error::BackupError;
use super::exports::{ExportsFolder, attempt_folder};
use super::journal::{BackupEvent, BackupJournal, ExportState, ExportStatus};
use super::queue::StartQueue;
use super::request::QueueOptions;
use crate::datastore::admin::{
    ExportError, ExportErrorClass, ExportLabel, ExportRequest, Exporter, OperationFailure,
    OperationState, StartedExport,
};
use crate::datastore::status::Code;
use crate::google::retry::Backoff;
use crate::model::{KindRef, Timestamp};
use crate::progress::{Event, Observer};

/// Exports that may wait for their turn or for another attempt at the same time.
const MAX_OPEN_EXPORTS: usize = 1_000;

/// The exports of one run.
#[derive(Debug)]
pub(super) struct ExportRun<'a> {
    /// Where the exports are started.
    pub exporter: &'a dyn Exporter,
    /// Where they are written.
    pub exports: &'a ExportsFolder,
    /// When they may be started.
    pub queue: &'a StartQueue,
    /// How often they are tried.
    pub options: &'a QueueOptions,
    /// How long each operation is waited for.
    pub operation_timeout: Duration,
    /// What has happened.
    pub journal: &'a Mutex<BackupJournal>,
    /// The run's id.
    pub id: String,
    /// The instant that they show.
    pub snapshot_time: Option<Timestamp>,
}

/// What one attempt has come to.
enum AttemptResult {
    Finished,
    Failed(AttemptFailure),
}

/// Why an attempt has failed.
struct AttemptFailure {
    code: Code,
    message: String,
    advice: Option<String>,
    is_transient: bool,
    retry_after: Option<Duration>,
}

impl AttemptFailure {
    /// A failure of which nothing is known but that another attempt may help.
    fn unknown(message: &str) -> Self {
        AttemptFailure {
            code: Code::Other,
            message: message.to_owned(),
            advice: None,
            is_transient: true,
            retry_after: None,
        }
    }
}

impl From<ExportError> for AttemptFailure {
    fn from(error: ExportError) -> Self {
        AttemptFailure {
            code: error.code,
            is_transient: error.is_transient(),
            retry_after: error.retry_after(),
            message: error.message,
            advice: error.advice,
        }
    }
}

impl From<OperationFailure> for AttemptFailure {
    fn from(failure: OperationFailure) -> Self {
        AttemptFailure {
            code: failure.code,
            message: failure.message,
            advice: failure.advice,
            is_transient: failure.is_transient,
            retry_after: None,
        }
    }
}

impl ExportRun<'_> {
    /// Exports everything that is not finished. Failed exports are in the journal.
    ///
    /// # Errors
    /// [`BackupError`] where the run cannot go on; what was started goes on in the service.
    pub(super) async fn run(&self, observer: &dyn Observer) -> Result<(), BackupError> {
        let open = self.open_exports().await;
        observer.start_phase("exporting", open.len() as u64);
        // What is running already holds its place before anything else is started.
        let exports = open.into_iter().map(|(export, is_running)| {
            let permit = is_running.then(|| self.queue.try_admit_running()).flatten();
            self.export(export, permit, observer)
        });
        let exports: Vec<_> = exports.collect();
        let ended = stream::iter(exports)
            .buffer_unordered(MAX_OPEN_EXPORTS)
            .try_collect::<()>()
            .await;
        observer.finish_phase();
        ended
    }

    /// The exports that are not finished, those first that an earlier process has started.
    async fn open_exports(&self) -> Vec<(u32, bool)> {
        let journal = self.journal.lock().await;
        let exports = (0..).zip(journal.state().exports());
        let mut open: Vec<(u32, bool)> = exports
            .filter(|(_, export)| export.state != ExportState::Done)
            .map(|(number, export)| {
                let is_running = matches!(export.state, ExportState::Running { .. });
                (number, is_running)
            })
            .collect();
        open.sort_by_key(|(_, is_running)| !is_running);
        open
    }

    /// Exports one kind, however often that takes.
    async fn export(
        &self,
        export: u32,
        permit: Option<SemaphorePermit<'_>>,
        observer: &dyn Observer,
    ) -> Result<(), BackupError> {
        let mut backoff = Backoff::new(self.options.min_backoff, self.options.max_backoff);
        let mut result = self.resume(export, permit, observer).await?;
        for attempt in 1.. {
            let last = match result.take() {
                Some(last) => last,
                None => self.attempt(export, observer).await?,
            };
            let AttemptResult::Failed(failure) = last else {
                break;
            };
            if !failure.is_transient || attempt >= self.options.max_attempts.get() {
                return self.give_up(export, failure, observer).await;
            }
            let delay = self.fail_attempt(export, failure, &mut backoff, observer);
            tokio::time::sleep(delay.await?).await;
        }
        self.finish(export, observer).await
    }

    /// Finds out what became of an export that an earlier process has started; none where there is
    /// none.
    async fn resume(
        &self,
        export: u32,
        permit: Option<SemaphorePermit<'_>>,
        observer: &dyn Observer,
    ) -> Result<Option<AttemptResult>, BackupError> {
        let status = self.status(export).await;
        let ExportState::Running { operation } = &status.state else {
            return Ok(None);
        };
        let _permit = match permit {
            Some(permit) => permit,
            None => self.queue.admit_running().await,
        };
        self.report_start(&status, observer);
        let operation = match operation {
            Some(operation) => Some(operation.clone()),
            None => self.find(export, &status).await?,
        };
        match operation {
            Some(operation) => self.follow(&status, &operation).await.map(Some),
            None => self.look_for(&status).await.map(Some),
        }
    }

    /// The operation of an earlier process whose name never came into the journal.
    async fn find(
        &self,
        export: u32,
        status: &ExportStatus,
    ) -> Result<Option<String>, BackupError> {
        let found = self.exporter.find(&self.request(export, status)).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        self.record_operation(export, &found.name).await?;
        Ok(Some(found.name))
    }

    /// Starts an export once and follows it.
    async fn attempt(
        &self,
        export: u32,
        observer: &dyn Observer,
    ) -> Result<AttemptResult, BackupError> {
        let _permit = self.queue.admit().await;
        let status = self.begin(export, observer).await?;
        let request = self.request(export, &status);
        let error = match self.exporter.start(&request).await {
            Ok(StartedExport::Done) => return Ok(AttemptResult::Finished),
            Ok(StartedExport::Operation(operation)) => {
                self.record_operation(export, &operation).await?;
                return self.follow(&status, &operation).await;
            }
            Err(error) => error,
        };
        if !matches!(error.class, ExportErrorClass::MaybeStarted { .. }) {
            return Ok(AttemptResult::Failed(error.into()));
        }
        // Nothing is started twice: the operation may be there.
        match self.exporter.find_after_start(&request).await? {
            Some(found) => {
                self.record_operation(export, &found.name).await?;
                self.follow(&status, &found.name).await
            }
            None if self.is_written(&status).await? => Ok(AttemptResult::Finished),
            None => Ok(AttemptResult::Failed(error.into())),
        }
    }

    /// Waits for an operation, for a limited time. The same command then goes on with it.
    async fn follow(
        &self,
        status: &ExportStatus,
        operation: &str,
    ) -> Result<AttemptResult, BackupError> {
        let limit = self.operation_timeout;
        let ended = tokio::time::timeout(limit, self.poll_until_end(status, operation)).await;
        ended.unwrap_or_else(|_| {
            Err(BackupError::OperationTimeout {
                operation: operation.to_owned(),
                timeout: limit,
            })
        })
    }

    /// Asks after an operation until it has ended.
    async fn poll_until_end(
        &self,
        status: &ExportStatus,
        operation: &str,
    ) -> Result<AttemptResult, BackupError> {
        let mut delays = self.exporter.poll_delays();
        loop {
            match self.exporter.poll(operation).await? {
                OperationState::Running(_) => {
                    tokio::time::sleep(delays.next_delay(None)).await;
                }
                OperationState::Succeeded => return Ok(AttemptResult::Finished),
                OperationState::Failed(failure) => {
                    return Ok(AttemptResult::Failed(failure.into()));
                }
                OperationState::Unknown => return self.look_for(status).await,
            }
        }
    }

    /// What became of an attempt that no operation stands for.
    async fn look_for(&self, status: &ExportStatus) -> Result<AttemptResult, BackupError> {
        if self.is_written(status).await? {
            return Ok(AttemptResult::Finished);
        }
        let failure = AttemptFailure::unknown("the export was started and is not there");
        Ok(AttemptResult::Failed(failure))
    }

    async fn is_written(&self, status: &ExportStatus) -> Result<bool, BackupError> {
        let is_finished = self.exports.is_finished(&self.id, &status.folder).await;
        is_finished.map_err(BackupError::Exports)
    }

    /// Records that the export is about to be started.
    async fn begin(
        &self,
        export: u32,
        observer: &dyn Observer,
    ) -> Result<ExportStatus, BackupError> {
        let status = self.status(export).await;
        let attempt = status.attempts.saturating_add(1);
        let folder = attempt_folder(&status.pair, attempt);
        self.record(BackupEvent::ExportStarted {
            export,
            attempt,
            folder,
        })
        .await?;
        let status = self.status(export).await;
        self.report_start(&status, observer);
        Ok(status)
    }

    async fn record_operation(&self, export: u32, operation: &str) -> Result<(), BackupError> {
        let operation = operation.to_owned();
        self.record(BackupEvent::OperationStarted { export, operation })
            .await
    }

    /// Records a failed attempt; gives the delay before the next one.
    async fn fail_attempt(
        &self,
        export: u32,
        failure: AttemptFailure,
        backoff: &mut Backoff,
        observer: &dyn Observer,
    ) -> Result<Duration, BackupError> {
        let status = self.status(export).await;
        let delay = backoff.next_delay(failure.retry_after);
        if failure.code == Code::ResourceExhausted {
            // The other exports need not try meanwhile.
            self.queue.pause(delay);
        }
        observer.event(Event::Retry {
            call: format!("export of {}", status.pair),
            attempt: status.attempts,
            reason: failure.message.clone(),
            pause_seconds: delay.as_secs_f64(),
        });
        let error = failure.message;
        self.record(BackupEvent::AttemptFailed { export, error })
            .await?;
        Ok(delay)
    }

    async fn finish(&self, export: u32, observer: &dyn Observer) -> Result<(), BackupError> {
        self.record(BackupEvent::ExportFinished { export }).await?;
        let status = self.status(export).await;
        observer.advance(1, 0);
        observer.event(Event::ExportFinished {
            seconds: status.duration().as_secs_f64(),
            attempts: status.attempts,
            namespace: status.pair.namespace,
            kind: status.pair.kind,
        });
        Ok(())
    }

    /// Records that the export has failed for good. The others go on.
    async fn give_up(
        &self,
        export: u32,
        failure: AttemptFailure,
        observer: &dyn Observer,
    ) -> Result<(), BackupError> {
        let is_refused = self.is_snapshot_refused(&failure).await;
        let AttemptFailure {
            message, advice, ..
        } = failure;
        self.record(BackupEvent::ExportFailed {
            export,
            error: message.clone(),
            advice: advice.clone(),
        })
        .await?;
        if is_refused {
            return Err(BackupError::SnapshotRefused {
                reason: message,
                advice,
            });
        }
        let KindRef { namespace, kind } = self.status(export).await.pair;
        observer.advance(1, 0);
        observer.event(Event::ExportFailed {
            namespace,
            kind,
            error: message,
            advice,
        });
        Ok(())
    }

    /// Whether a failure means that the service does not export this instant: as long as it has
    /// exported nothing, one kind is refused like another.
    async fn is_snapshot_refused(&self, failure: &AttemptFailure) -> bool {
        let is_refusal = !failure.is_transient && failure.code != Code::PermissionDenied;
        self.snapshot_time.is_some()
            && is_refusal
            && self
                .journal
                .lock()
                .await
                .state()
                .finished()
                .next()
                .is_none()
    }

    fn report_start(&self, status: &ExportStatus, observer: &dyn Observer) {
        observer.event(Event::ExportStarted {
            namespace: status.pair.namespace.clone(),
            kind: status.pair.kind.clone(),
            attempt: status.attempts,
        });
    }

    fn request(&self, export: u32, status: &ExportStatus) -> ExportRequest {
        ExportRequest {
            label: ExportLabel::new(&self.id, export),
            namespace: status.pair.namespace.clone(),
            kind: status.pair.kind.clone(),
            output_prefix: self.exports.output_prefix(&self.id, &status.folder),
            snapshot_time: self.snapshot_time,
        }
    }

    async fn status(&self, export: u32) -> ExportStatus {
        let journal = self.journal.lock().await;
        let status = journal.state().exports().get(export as usize);
        status.cloned().expect("exports are numbered by the list")
    }

    async fn record(&self, event: BackupEvent) -> Result<(), BackupError> {
        Ok(self.journal.lock().await.append(event).await?)
    }
}

#[cfg(test)]
mod tests;
