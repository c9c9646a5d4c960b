//! One step: its entities from the archive into the target, a checkpoint behind each batch, checks
//! and hooks around it.

use std::time::Instant;

use futures_util::{StreamExt as _, pin_mut};

use super::position::{position_of, progress_at};
use super::scheduler::RestoreRun;
use super::{Check, RestoreError};
use crate::archive::entities;
use crate::model::EntryInfo;
use crate::plan::{OnExisting, Step};
use crate::progress::Event;
use crate::restore::journal::{self, StepState, StepStatus};
use crate::targets::{StepContext, StepProgress};

/// Entities that are handed over at once: what a kill may leave in doubt, once for each connection.
pub(super) const BATCH_MAX: usize = 500;

/// Bytes of them, unless one is larger: small enough to keep several connections busy.
const BATCH_MAX_BYTES: usize = 1 << 20;

impl RestoreRun<'_> {
    /// Runs a step, or what is left of it.
    pub(super) async fn run_step(&self, step: &Step) -> Result<(), RestoreError> {
        let begun = Instant::now();
        let ended = self.run_with_hooks(step).await;
        self.note(step, |tally| tally.seconds = begun.elapsed().as_secs_f64());
        ended
    }

    async fn run_with_hooks(&self, step: &Step) -> Result<(), RestoreError> {
        self.check_cancelled().await?;
        let status = self.status(step).await;
        if status.state != StepState::Done {
            if let Some(command) = self
                .plan
                .head
                .choices
                .hooks
                .before_step
                .as_deref()
                .filter(|_| !self.options.dry_run)
            {
                self.hook(
                    "--before-step",
                    command,
                    Some(step),
                    step.entities,
                    status.state,
                )
                .await?;
            }
            self.run_journaled(step, &status).await?;
        }
        let status = self.status(step).await;
        if let Some(command) = self
            .plan
            .head
            .choices
            .hooks
            .after_step
            .as_deref()
            .filter(|_| self.hook_pending(&status))
        {
            self.hook(
                "--after-step",
                command,
                Some(step),
                status.entities,
                status.state,
            )
            .await?;
            self.append(journal::JournalEvent::HookFinished {
                step: Some(step.id),
            })
            .await?;
        }
        Ok(())
    }

    /// Runs a step between its first and its last event in the journal.
    async fn run_journaled(&self, step: &Step, status: &StepStatus) -> Result<(), RestoreError> {
        let outputs = self.outputs(step);
        let done = match status.position.filter(|_| self.resumes_within(&outputs)) {
            Some(position) => progress_at(&outputs, position, status.entities),
            None => StepProgress::default(),
        };
        let attempt = status.attempts + 1;
        let (namespace, kind) = (step.namespace.clone(), step.kind.clone());
        self.append(journal::JournalEvent::StepStarted {
            step: step.id,
            namespace,
            kind,
            attempt,
        })
        .await?;
        let (namespace, kind) = (step.to_namespace.clone(), step.kind.clone());
        self.observer.event(Event::StepStarted {
            step: step.id,
            namespace,
            kind,
            entities: step.entities,
            resumed: done.entities,
        });
        self.observer.advance(done.entities, 0);
        self.note(step, |tally| {
            tally.end = StepState::Running;
            tally.error = None;
            tally.already_there = done.entities;
        });
        let (namespace, kind) = (step.to_namespace.clone(), step.kind.clone());
        match self.execute(step, &outputs, done, attempt > 1).await {
            Ok((entities, counted)) => {
                self.append(journal::JournalEvent::StepFinished {
                    step: step.id,
                    entities,
                    counted,
                })
                .await?;
                self.note(step, |tally| {
                    (tally.end, tally.counted) = (StepState::Done, counted)
                });
                self.observer.event(Event::StepFinished {
                    step: step.id,
                    namespace,
                    kind,
                    entities,
                    counted,
                });
                Ok(())
            }
            // A step that was stopped goes on later. Of a journal that cannot be written nothing
            // more can be told.
            Err(error) if error.ends_all() => Err(error),
            Err(error) => {
                self.fail(step, &error).await?;
                Err(error)
            }
        }
    }

    /// Writes down that a step failed.
    async fn fail(&self, step: &Step, error: &RestoreError) -> Result<(), RestoreError> {
        let error = error.to_string();
        self.note(step, |tally| {
            (tally.end, tally.error) = (StepState::Failed, Some(error.clone()))
        });
        self.append(journal::JournalEvent::StepFailed {
            step: step.id,
            error: error.clone(),
        })
        .await?;
        self.observer.event(Event::StepFailed {
            step: step.id,
            namespace: step.to_namespace.clone(),
            kind: step.kind.clone(),
            error,
        });
        Ok(())
    }

    /// Carries one step out. Gives the entities that it brought, over all runs, and what the target
    /// counts.
    async fn execute(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        done: StepProgress,
        begun_before: bool,
    ) -> Result<(u64, Option<u64>), RestoreError> {
        let brought = match &self.import {
            Some(by) if !self.options.dry_run => self.import(step, by, begun_before).await?,
            _ => self.transfer(step, outputs, done, begun_before).await?,
        };
        // How many a sample takes is not known before.
        if brought != step.entities && self.plan.head.choices.sample.is_none() {
            return Err(RestoreError::WrongCount {
                pair: step.pair(),
                expected: step.entities,
                found: brought,
                place: "in the archive",
            });
        }
        if self.plan.head.choices.on_existing == OnExisting::Replace && !self.options.dry_run {
            self.delete_others(step, outputs, brought).await?;
        }
        // What was looked up entity by entity, an emulator counts as well.
        if self.options.check == Check::Entities {
            self.compare(step, outputs).await?;
        }
        let counted = match self.options.check {
            Check::None => None,
            Check::Counts | Check::Entities => Some(self.count(step, brought).await?),
        };
        Ok((brought, counted))
    }

    /// Brings the entities behind `done` into the target. Gives how many there are in all.
    async fn transfer(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        done: StepProgress,
        begun_before: bool,
    ) -> Result<u64, RestoreError> {
        let info = self.info(step, begun_before);
        let mut sink = self.until_cancelled(self.target.open(&info, done)).await?;
        let pieces = entities::read(
            self.archive,
            outputs,
            self.encoder(self.target.encoding(), step, done.entities - done.records),
            done.pieces,
            &self.workers,
        );
        pin_mut!(pieces);
        let mut safe = done;
        let mut behind = done.records;
        while let Some(piece) = pieces.next().await {
            let mut piece = piece?;
            piece.drop_first(usize::try_from(std::mem::take(&mut behind)).unwrap_or(usize::MAX));
            for batch in piece.split(BATCH_MAX, BATCH_MAX_BYTES) {
                if let Err(stop) = self.check_cancelled().await {
                    let progress = self.until_cancelled(sink.flush()).await?;
                    self.checkpoint(step, outputs, &mut safe, progress).await?;
                    self.note(step, |tally| tally.restored = safe.entities - done.entities);
                    return Err(stop);
                }
                self.observer.advance(batch.len() as u64, 0);
                let progress = self.until_cancelled(sink.write(batch)).await?;
                self.checkpoint(step, outputs, &mut safe, progress).await?;
                self.note(step, |tally| tally.restored = safe.entities - done.entities);
            }
            sink.end_piece();
        }
        let brought = self.until_cancelled(sink.finish()).await?.entities;
        self.note(step, |tally| tally.restored = brought - done.entities);
        Ok(brought)
    }

    /// What the target needs to know of a step.
    pub(super) fn info(&self, step: &Step, begun_before: bool) -> StepContext {
        let item = self.archive.kind(&step.pair());
        let (started, finished) = (
            item.and_then(|item| item.started),
            item.and_then(|item| item.finished),
        );
        StepContext {
            pair: step.to_pair(),
            begun_before,
            started,
            finished,
        }
    }

    /// Writes down what has become safe, before anything more is sent.
    async fn checkpoint(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        safe: &mut StepProgress,
        now: StepProgress,
    ) -> Result<(), RestoreError> {
        if now <= *safe || !self.resumes_within(outputs) {
            return Ok(());
        }
        *safe = now;
        self.append(journal::JournalEvent::Checkpoint {
            step: step.id,
            entities: now.entities,
            position: position_of(outputs, now),
        })
        .await
    }

    /// Whether a step of these outputs can go on in its middle.
    fn resumes_within(&self, outputs: &[EntryInfo]) -> bool {
        self.target.resumes_within_steps() && entities::has_random_access(outputs)
    }
}
