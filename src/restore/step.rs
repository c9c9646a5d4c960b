//! One step: its entities from the archive into the target, a checkpoint behind each batch, checks
//! and hooks around it.

use std::time::Instant;

use futures_util::StreamExt as _;

use super::position::{position_of, progress_at};
use super::scheduler::RestoreRun;
use super::{Check, RestoreError};
use crate::archive::entities;
use crate::model::EntryInfo;
use crate::plan::{OnExisting, Step};
use crate::progress::Event;
use crate::restore::journal::{self, StepState, StepStatus};
use crate::targets::{StepContext, StepProgress, StepWriter};
use crate::transform::Encoded;

/// Entities that are handed over at once: what a kill may leave in doubt, once for each connection.
pub(super) const MAX_BATCH_LEN: usize = 500;

/// Bytes of them, unless one is larger: small enough to keep several connections busy.
const MAX_BATCH_BYTES: usize = 1 << 20;

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
            self.run_before_hook(step, status.state).await?;
            self.run_journaled(step, &status).await?;
        }
        self.run_after_hook(step).await
    }

    async fn run_before_hook(&self, step: &Step, state: StepState) -> Result<(), RestoreError> {
        let command = self.plan.head.choices.hooks.before_step.as_deref();
        let Some(command) = command.filter(|_| !self.options.dry_run) else {
            return Ok(());
        };
        let (option, entities) = ("--before-step", step.entities);
        self.hook(option, command, Some(step), entities, state)
            .await
    }

    async fn run_after_hook(&self, step: &Step) -> Result<(), RestoreError> {
        let status = self.status(step).await;
        let command = self.plan.head.choices.hooks.after_step.as_deref();
        let Some(command) = command.filter(|_| self.hook_pending(&status)) else {
            return Ok(());
        };
        let (option, entities) = ("--after-step", status.entities);
        self.hook(option, command, Some(step), entities, status.state)
            .await?;
        let step = Some(step.id);
        self.append(journal::JournalEvent::HookFinished { step })
            .await
    }

    /// Runs a step between its first and its last event in the journal.
    async fn run_journaled(&self, step: &Step, status: &StepStatus) -> Result<(), RestoreError> {
        let outputs = self.outputs(step);
        let done = self.resumed_progress(&outputs, status);
        let attempt = status.attempts + 1;
        self.append(started_event(step, attempt)).await?;
        self.report_start(step, done.entities);
        match self.execute(step, &outputs, done, attempt > 1).await {
            Ok((entities, counted)) => self.finish(step, entities, counted).await,
            // A step that was stopped goes on later. Of a journal that cannot be written nothing
            // more can be told.
            Err(error) if error.ends_all() => Err(error),
            Err(error) => {
                self.fail(step, &error).await?;
                Err(error)
            }
        }
    }

    /// How far earlier runs have come with a step, where it can go on there.
    fn resumed_progress(&self, outputs: &[EntryInfo], status: &StepStatus) -> StepProgress {
        match status.position.filter(|_| self.resumes_within(outputs)) {
            Some(position) => progress_at(outputs, position, status.entities),
            None => StepProgress::default(),
        }
    }

    fn report_start(&self, step: &Step, resumed: u64) {
        self.observer.event(Event::StepStarted {
            step: step.id,
            namespace: step.to_namespace.clone(),
            kind: step.kind.clone(),
            entities: step.entities,
            resumed,
            number: self.number(step),
            steps: self.plan.steps.len() as u64,
        });
        self.observer.skip(resumed);
        self.note_start(step, resumed);
    }

    /// The place of a step in the plan, from 1.
    fn number(&self, step: &Step) -> u64 {
        let before = self.plan.steps.iter().take_while(|one| one.id != step.id);
        before.count() as u64 + 1
    }

    fn note_start(&self, step: &Step, resumed: u64) {
        self.note(step, |tally| {
            tally.end = StepState::Running;
            tally.error = None;
            tally.already_there = resumed;
        });
    }

    /// Writes down that a step is done.
    async fn finish(
        &self,
        step: &Step,
        entities: u64,
        counted: Option<u64>,
    ) -> Result<(), RestoreError> {
        let finished = journal::JournalEvent::StepFinished {
            step: step.id,
            entities,
            counted,
        };
        self.append(finished).await?;
        self.report_finish(step, entities, counted);
        Ok(())
    }

    fn report_finish(&self, step: &Step, entities: u64, counted: Option<u64>) {
        self.note(step, |tally| {
            (tally.end, tally.counted) = (StepState::Done, counted)
        });
        self.observer.event(Event::StepFinished {
            step: step.id,
            namespace: step.to_namespace.clone(),
            kind: step.kind.clone(),
            entities,
            counted,
        });
    }

    /// Writes down that a step failed.
    async fn fail(&self, step: &Step, error: &RestoreError) -> Result<(), RestoreError> {
        let error = error.to_string();
        self.note(step, |tally| {
            (tally.end, tally.error) = (StepState::Failed, Some(error.clone()))
        });
        let (id, why) = (step.id, error.clone());
        self.append(journal::JournalEvent::StepFailed {
            step: id,
            error: why,
        })
        .await?;
        self.report_failure(step, error);
        Ok(())
    }

    fn report_failure(&self, step: &Step, error: String) {
        self.observer.event(Event::StepFailed {
            step: step.id,
            namespace: step.to_namespace.clone(),
            kind: step.kind.clone(),
            error,
        });
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
        let (brought, written) = match &self.import {
            Some(by) if !self.options.dry_run => (self.import(step, by, begun_before).await?, None),
            _ => {
                let written = self.transfer(step, outputs, done, begun_before).await?;
                (written.entities, Some(written))
            }
        };
        let checked = self.check_step(step, outputs, brought).await;
        if let (Err(RestoreError::Stopped { .. }), Some(written)) = (&checked, written) {
            // All of the step is written: the next run has only to check it.
            self.append_checkpoint(step, outputs, written).await?;
        }
        Ok((brought, checked?))
    }

    /// Checks a step that is written, and deletes what is to be replaced. Gives the target's count,
    /// if one was made.
    async fn check_step(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        brought: u64,
    ) -> Result<Option<u64>, RestoreError> {
        self.check_brought(step, brought)?;
        if self.plan.head.choices.on_existing == OnExisting::Replace && !self.options.dry_run {
            self.delete_others(step, outputs, brought).await?;
        }
        self.check_target(step, outputs, brought).await
    }

    /// Writes down how far a step has come, where it can go on there.
    async fn append_checkpoint(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        written: StepProgress,
    ) -> Result<(), RestoreError> {
        if !self.resumes_within(outputs) {
            return Ok(());
        }
        self.append(journal::JournalEvent::Checkpoint {
            step: step.id,
            entities: written.entities,
            position: position_of(outputs, written),
        })
        .await
    }

    /// Refuses a step that brought another number than the plan says. How many a sample takes is
    /// not known before.
    fn check_brought(&self, step: &Step, found: u64) -> Result<(), RestoreError> {
        if found == step.entities || self.plan.head.choices.sample.is_some() {
            return Ok(());
        }
        Err(RestoreError::WrongCount {
            pair: step.pair(),
            expected: step.entities,
            found,
            place: "in the archive",
        })
    }

    /// Asks the target what the options say. Gives its count, if one was made.
    async fn check_target(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        brought: u64,
    ) -> Result<Option<u64>, RestoreError> {
        // What was looked up entity by entity, an emulator counts as well.
        if self.options.check == Check::Entities {
            self.compare(step, outputs).await?;
        }
        match self.options.check {
            Check::None => Ok(None),
            Check::Counts | Check::Entities => self.count(step, brought).await.map(Some),
        }
    }

    /// Brings the entities after `done` into the target. Gives how far the step has come.
    async fn transfer(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        done: StepProgress,
        begun_before: bool,
    ) -> Result<StepProgress, RestoreError> {
        let info = self.info(step, begun_before);
        let mut transfer = StepTransfer {
            run: self,
            step,
            outputs,
            sink: self.until_cancelled(self.target.open(&info, done)).await?,
            done,
            safe: done,
        };
        let encoder = self.encoder(self.target.encoding(), step, done.entities - done.records);
        let mut pieces = entities::read(self.archive, outputs, encoder, done.pieces, &self.workers);
        let mut behind = usize::try_from(done.records).unwrap_or(usize::MAX);
        while let Some(mut piece) = pieces.next().await.transpose()? {
            piece.drop_first(std::mem::take(&mut behind));
            transfer.write_piece(&piece).await?;
        }
        transfer.finish().await
    }

    /// What the target needs to know of a step.
    pub(super) fn info(&self, step: &Step, begun_before: bool) -> StepContext {
        let item = self.archive.kind(&step.pair());
        StepContext {
            pair: step.to_pair(),
            begun_before,
            started: item.and_then(|item| item.started),
            finished: item.and_then(|item| item.finished),
        }
    }

    /// Whether a step of these outputs can go on in its middle.
    fn resumes_within(&self, outputs: &[EntryInfo]) -> bool {
        self.target.resumes_within_steps() && entities::has_random_access(outputs)
    }
}

/// One step on its way into the target, batch by batch.
struct StepTransfer<'a, 'run> {
    run: &'a RestoreRun<'run>,
    step: &'a Step,
    outputs: &'a [EntryInfo],
    sink: Box<dyn StepWriter>,
    /// What earlier runs have brought.
    done: StepProgress,
    /// What the journal knows to be in the target.
    safe: StepProgress,
}

impl StepTransfer<'_, '_> {
    /// Writes the entities of one piece. After a stop it writes down what came so far.
    async fn write_piece(&mut self, piece: &Encoded) -> Result<(), RestoreError> {
        for batch in piece.split(MAX_BATCH_LEN, MAX_BATCH_BYTES) {
            if let Err(stop) = self.run.check_cancelled().await {
                self.flush().await?;
                return Err(stop);
            }
            self.write_batch(batch).await?;
        }
        self.sink.end_piece();
        Ok(())
    }

    async fn write_batch(&mut self, batch: Encoded) -> Result<(), RestoreError> {
        self.run.observer.advance(batch.len() as u64, 0);
        let written = self.run.until_cancelled(self.sink.write(batch)).await?;
        self.checkpoint(written).await?;
        self.note_restored();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), RestoreError> {
        let written = self.run.until_cancelled(self.sink.flush()).await?;
        self.checkpoint(written).await?;
        self.note_restored();
        Ok(())
    }

    /// Ends the step. Gives how far it has come, over all runs.
    async fn finish(self) -> Result<StepProgress, RestoreError> {
        let written = self.run.until_cancelled(self.sink.finish()).await?;
        let restored = written.entities - self.done.entities;
        self.run.note(self.step, |tally| tally.restored = restored);
        Ok(written)
    }

    fn note_restored(&self) {
        let restored = self.safe.entities - self.done.entities;
        self.run.note(self.step, |tally| tally.restored = restored);
    }

    /// Writes down what has become safe, before anything more is sent.
    async fn checkpoint(&mut self, now: StepProgress) -> Result<(), RestoreError> {
        if now <= self.safe || !self.run.resumes_within(self.outputs) {
            return Ok(());
        }
        self.safe = now;
        self.run
            .append_checkpoint(self.step, self.outputs, now)
            .await
    }
}

fn started_event(step: &Step, attempt: u32) -> journal::JournalEvent {
    journal::JournalEvent::StepStarted {
        step: step.id,
        namespace: step.namespace.clone(),
        kind: step.kind.clone(),
        attempt,
    }
}
