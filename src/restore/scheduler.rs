//! All steps of a plan: which one may start, what is asked before the first and done after the
//! last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    CompanionStats, EntityTransform, ImportOptions, RestoreError, RestoreOptions, RestoreRequest,
    RestoreStats, StepOutcome,
};
use crate::archive::{Archive, ArchiveError, entities};
use crate::model::{EntryInfo, Sha256, Timestamp};
use crate::plan::{Plan, Step, StepQueue, WaitGraph};
use crate::progress::{Event, Observer};
use crate::restore::hooks::Hook;
use crate::restore::journal::file::JournalFile;
use crate::restore::journal::{self, StepState, StepStatus};
use crate::runtime::workers::Workers;
use crate::store::Store;
use crate::targets::{Lease, Target};
use crate::transform::{Encoded, Encoder, Encoding};

/// What this run does after earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumption {
    /// It begins, or goes on where the last one stopped.
    Continue,
    /// It begins anew, whatever was done.
    Restart,
    /// Nothing: all is done, and the target holds it.
    Nothing,
}

/// How long what was begun may go on after a stop.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A plan, bound to its archive and target.
pub(super) struct RestoreRun<'a> {
    /// The plan as it is to be run.
    pub plan: Plan,
    /// The plan as the journal calls it.
    pub plan_sha256: Sha256,
    waits: WaitGraph,
    opened: journal::JournalEvent,
    pub archive: &'a Arc<Archive>,
    pub target: Arc<dyn Target>,
    /// Who imports; without it entities are written by ourselves.
    pub import: Option<ImportOptions>,
    /// Where the companions are copied after the last step.
    pub companions: Option<Arc<dyn Store>>,
    /// Those that it does not hold yet, with their names there.
    pub missing_companions: Vec<(EntryInfo, String)>,
    brought: EntityTransform,
    pub lease: Option<Lease>,
    /// Steps that run side by side write it one after the other.
    pub journal: tokio::sync::Mutex<&'a mut JournalFile>,
    pub options: &'a RestoreOptions,
    /// As many as there are, with a part of the memory for each step that may run at once.
    pub workers: Workers,
    pub observer: &'a dyn Observer,
    /// Stops what runs: with the restore, and when a step fails that ends it.
    halt: CancellationToken,
    tallies: Mutex<BTreeMap<u32, StepOutcome>>,
}

impl<'a> RestoreRun<'a> {
    pub fn new(
        plan: Plan,
        waits: WaitGraph,
        opened: journal::JournalEvent,
        brought: EntityTransform,
        job: RestoreRequest<'a>,
        observer: &'a dyn Observer,
    ) -> Self {
        let RestoreRequest {
            archive,
            target,
            import,
            companions,
            journal,
            options,
            workers,
            ..
        } = job;
        let tallies = plan
            .steps
            .iter()
            .map(|step| (step.id, StepOutcome::planned(step)))
            .collect();
        RestoreRun {
            plan_sha256: job.plan.sha256(),
            plan,
            waits,
            opened,
            archive,
            target,
            import,
            companions,
            missing_companions: Vec::new(),
            brought,
            lease: None,
            journal: tokio::sync::Mutex::new(journal),
            options,
            workers: workers.split(options.parallel),
            observer,
            halt: options.stop.child_token(),
            tallies: Mutex::new(tallies),
        }
    }

    /// Runs what is left of the plan.
    pub async fn run_all(&mut self) -> Result<RestoreStats, RestoreError> {
        self.check_companions().await?;
        self.load_previous_outcomes();
        match self.resumption().await? {
            Resumption::Continue => {}
            Resumption::Restart => self.restart(),
            Resumption::Nothing => return self.finish_done_restore().await,
        }
        self.take_target().await?;
        self.open_journal().await?;
        self.report_progress();
        self.run_steps().await?;
        self.finish_restore().await
    }

    fn restart(&mut self) {
        self.journal.get_mut().restart();
        self.load_previous_outcomes();
    }

    /// Ends a restore that an earlier run has finished.
    async fn finish_done_restore(&mut self) -> Result<RestoreStats, RestoreError> {
        self.report_progress();
        let companions = self.copy_companions().await?;
        Ok(RestoreStats {
            left: 0,
            was_done: true,
            ..self.stats(companions)
        })
    }

    /// Keeps others from the target, which must hold nothing that the restore would meet.
    async fn take_target(&mut self) -> Result<(), RestoreError> {
        self.check_target_empty().await?;
        if self.options.dry_run {
            return Ok(());
        }
        let lease = self.target.lease(&self.options.lock_owner);
        self.lease = self.until_cancelled(lease).await?;
        match self.lease {
            // Whoever held it a moment ago may have filled the target meanwhile.
            Some(_) => self.check_target_empty().await,
            None => Ok(()),
        }
    }

    async fn open_journal(&mut self) -> Result<(), RestoreError> {
        let journal = self.journal.get_mut();
        if journal.journal().opened.is_none() {
            journal.append(self.opened.clone()).await?;
        }
        Ok(())
    }

    async fn run_steps(&mut self) -> Result<(), RestoreError> {
        let waits = std::mem::take(&mut self.waits);
        let ended = self.steps(waits).await;
        self.report_unreserved_ids();
        ended
    }

    fn report_unreserved_ids(&self) {
        let kinds = self.target.unreserved_kinds() as u64;
        if kinds > 0 {
            self.observer.event(Event::IdsNotReserved { kinds });
        }
    }

    /// Does what follows the last step, where no step is left.
    async fn finish_restore(&mut self) -> Result<RestoreStats, RestoreError> {
        let outcome = self.stats(CompanionStats::default());
        if outcome.left > 0 {
            return Ok(outcome);
        }
        let companions = self.copy_companions().await?;
        self.after_all().await?;
        let (steps, entities) = (outcome.steps, outcome.entities);
        self.append(journal::JournalEvent::Finished { steps, entities })
            .await?;
        Ok(self.stats(companions))
    }

    /// Where the restore stands by its journal.
    fn stats(&mut self, companions: CompanionStats) -> RestoreStats {
        let journal = self.journal.get_mut().journal();
        let steps = journal.done();
        RestoreStats {
            steps,
            entities: journal.entities(),
            left: (self.plan.steps.len() as u64).saturating_sub(steps),
            was_done: false,
            companions,
        }
    }

    /// Ends the run: what became of each step, in the plan's order.
    pub fn into_tallies(self) -> Vec<StepOutcome> {
        let tallies = self.tallies.into_inner();
        let mut tallies = tallies.unwrap_or_else(PoisonError::into_inner);
        let steps = self.plan.steps.iter();
        steps.filter_map(|step| tallies.remove(&step.id)).collect()
    }

    fn report_progress(&mut self) {
        if self.options.tells_place {
            let journal = self.journal.get_mut().path().display().to_string();
            let plan = self.options.plan_name.clone();
            self.observer.event(Event::CopyKept { plan, journal });
        }
    }

    fn load_previous_outcomes(&mut self) {
        let tallies = self.tallies.get_mut();
        let journal = self.journal.get_mut().journal();
        for (id, tally) in tallies.unwrap_or_else(PoisonError::into_inner) {
            tally.load(journal.steps.get(id).cloned().unwrap_or_default());
        }
    }

    /// Starts each step when all that it waits for is over, in the plan's order, until none is left
    /// or one ends all.
    async fn steps(&self, waits: WaitGraph) -> Result<(), RestoreError> {
        let is_over = self.prepare_steps().await;
        let mut turns = waits.into_queue(|at| is_over.get(at) == Some(&true));
        let mut startable = self.max_steps();
        let mut running = FuturesUnordered::new();
        let mut failures = StepFailures::default();
        loop {
            while self.may_start(running.len(), startable)
                && let Some((at, step)) = self.next_step(&mut turns)
            {
                startable -= 1;
                running.push(async move { (at, step, self.run_step(step).await) });
            }
            let Some((at, step, ended)) = running.next().await else {
                break;
            };
            turns.finish(at);
            if let Err(error) = ended
                && failures.add(step, error, self.options.keep_going)
            {
                self.halt.cancel();
            }
        }
        self.observer.finish_phase();
        if failures.ending.is_none() && self.options.stop.is_cancelled() && turns.is_any_left() {
            return Err(self.cancellation_error().await);
        }
        failures.into_result()
    }

    fn max_steps(&self) -> usize {
        let max_steps = self.options.max_steps;
        max_steps.map_or(usize::MAX, |most| most as usize)
    }

    fn may_start(&self, running: usize, startable: usize) -> bool {
        running < self.options.parallel.get() && startable > 0 && !self.halt.is_cancelled()
    }

    /// The next step that waits for nothing, with its place in the plan.
    fn next_step(&self, turns: &mut StepQueue) -> Option<(usize, &Step)> {
        let at = turns.next_ready()?;
        Some((at, self.plan.steps.get(at)?))
    }

    /// Which steps are over, by their places; begins to read what the others need.
    async fn prepare_steps(&self) -> Vec<bool> {
        let mut is_over = Vec::with_capacity(self.plan.steps.len());
        for step in &self.plan.steps {
            is_over.push(!self.is_left(&self.status(step).await));
        }
        let steps = self.plan.steps.iter().zip(&is_over);
        let (over, left): (Vec<_>, Vec<_>) = steps.partition(|(_, is_over)| **is_over);
        let left_pairs = left.iter().map(|(step, _)| step.pair());
        self.archive.read_ahead(left_pairs, &self.workers);
        if !left.is_empty() {
            self.observer
                .start_phase("restoring", self.plan.totals.entities);
            let done = over.iter().map(|(step, _)| step.entities);
            self.observer.skip(done.fold(0, u64::saturating_add));
        }
        is_over
    }

    /// Whether this run has something to do for a step.
    fn is_left(&self, status: &StepStatus) -> bool {
        match status.state {
            StepState::Done => self.hook_pending(status),
            StepState::Failed => true,
            StepState::Pending | StepState::Running => !self.options.retry_failed,
        }
    }

    /// Whether the user's command behind a step that is done has not succeeded yet.
    pub fn hook_pending(&self, status: &StepStatus) -> bool {
        self.plan.head.choices.hooks.after_step.is_some()
            && !status.hook_finished
            && !self.options.dry_run
    }

    async fn after_all(&self) -> Result<(), RestoreError> {
        let Some(command) = self.pending_final_hook().await else {
            return Ok(());
        };
        let entities = self.journal.lock().await.journal().entities();
        self.hook("--after-all", command, None, entities, StepState::Done)
            .await?;
        self.append(journal::JournalEvent::HookFinished { step: None })
            .await
    }

    /// The user's command behind all steps, where it has not succeeded yet.
    async fn pending_final_hook(&self) -> Option<&str> {
        let command = self.plan.head.choices.hooks.after_all.as_deref()?;
        let is_over = self.options.dry_run || self.journal.lock().await.journal().hook_finished;
        (!is_over).then_some(command)
    }

    /// Runs a command of the user's.
    pub async fn hook(
        &self,
        option: &'static str,
        command: &str,
        step: Option<&Step>,
        entities: u64,
        state: StepState,
    ) -> Result<(), RestoreError> {
        let mut variables = step_variables(step);
        variables.extend(self.run_variables(entities, state));
        let hook = Hook {
            option,
            command,
            variables,
            limit: self.options.hook_timeout,
        };
        Ok(hook.run().await?)
    }

    fn run_variables(&self, entities: u64, state: StepState) -> [(&'static str, String); 4] {
        [
            ("KINDPACK_TARGET", self.plan.head.choices.target.to_string()),
            ("KINDPACK_ENTITIES", entities.to_string()),
            ("KINDPACK_PLAN", self.options.plan_name.clone()),
            ("KINDPACK_STATE", state.to_string()),
        ]
    }

    /// Writes an event down.
    pub async fn append(&self, event: journal::JournalEvent) -> Result<(), RestoreError> {
        Ok(self.journal.lock().await.append(event).await?)
    }

    /// Where a step stands.
    pub async fn status(&self, step: &Step) -> StepStatus {
        let journal = self.journal.lock().await;
        let status = journal.journal().steps.get(&step.id);
        status.cloned().unwrap_or_default()
    }

    /// Notes something for the report.
    pub fn note(&self, step: &Step, change: impl FnOnce(&mut StepOutcome)) {
        let tallies = self.tallies.lock();
        let mut tallies = tallies.unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = tallies.get_mut(&step.id) {
            change(tally);
        }
    }

    /// When the restore was begun, by whichever run.
    pub async fn started_at(&self) -> Timestamp {
        let journal = self.journal.lock().await;
        // Before the first step the journal is opened.
        let opened = journal.journal().opened.as_ref();
        opened.map_or(Timestamp::MAX, |opened| opened.at)
    }

    /// Waits until nothing more may be begun.
    pub async fn cancelled(&self) -> RestoreError {
        self.halt.cancelled().await;
        self.cancellation_error().await
    }

    /// Waits for the target's answer. What is not there [`STOP_GRACE`] after a stop is
    /// given up: a target that does not answer must not keep the restore.
    pub async fn until_cancelled<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, RestoreError>
    where
        RestoreError: From<E>,
    {
        let given_up = async {
            self.halt.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            answer = call => Ok(answer?),
            () = given_up => Err(self.cancellation_error().await),
        }
    }

    /// Says no as soon as nothing more may be begun.
    pub async fn check_cancelled(&self) -> Result<(), RestoreError> {
        if self.lease.as_ref().is_some_and(Lease::is_lost) {
            let target = self.plan.head.choices.target.to_string();
            return Err(RestoreError::LeaseLost { target });
        }
        if self.halt.is_cancelled() {
            return Err(self.cancellation_error().await);
        }
        Ok(())
    }

    async fn cancellation_error(&self) -> RestoreError {
        RestoreError::Stopped {
            done: self.journal.lock().await.journal().done(),
            steps: self.plan.steps.len() as u64,
        }
    }

    /// The entries of the archive that hold a step's entities.
    pub fn outputs(&self, step: &Step) -> Vec<EntryInfo> {
        self.archive
            .kind(&step.pair())
            .map(|kind| kind.outputs().cloned().collect())
            .unwrap_or_default()
    }

    /// What turns a step's entities into what they are to be in the target. `before` of them were
    /// in pieces that are not read.
    pub fn encoder(&self, encoding: Encoding, step: &Step, before: u64) -> Encoder {
        let transform = &self.brought;
        let mut encoder = Encoder::new(encoding, transform.rewrite.clone(), step.pair());
        if let Some(redactor) = &transform.redactor {
            encoder = encoder.redacting(redactor.clone());
        }
        if let Some(picker) = transform.pickers.get(&step.pair()) {
            encoder = encoder.picking(picker.clone(), before);
        }
        encoder
    }

    /// Reads a step's entities from the first on, as they are to be in the target.
    pub fn read_entities<'b>(
        &'b self,
        step: &Step,
        outputs: &'b [EntryInfo],
        encoding: Encoding,
    ) -> BoxStream<'b, Result<Encoded, ArchiveError>> {
        let encoder = self.encoder(encoding, step, 0);
        entities::read(self.archive, outputs, encoder, 0, &self.workers)
    }
}

/// The step's own failures name it; those of the whole restore do not.
fn with_step(step: &Step, error: RestoreError) -> RestoreError {
    match error {
        RestoreError::Journal(_)
        | RestoreError::LeaseLost { .. }
        | RestoreError::Stopped { .. } => error,
        error => RestoreError::Step {
            pair: step.to_pair(),
            error: Box::new(error),
        },
    }
}

/// What failed of the steps that ran.
#[derive(Default)]
struct StepFailures {
    /// Failures after which the other steps went on.
    failed: Vec<RestoreError>,
    /// The failure that ended all.
    ending: Option<RestoreError>,
}

impl StepFailures {
    /// Takes in the failure of a step. Gives whether it ends the restore.
    fn add(&mut self, step: &Step, error: RestoreError, keep_going: bool) -> bool {
        let ends_all = error.ends_all() || !keep_going;
        let error = with_step(step, error);
        if !ends_all {
            self.failed.push(error);
        } else if matches!(self.ending, None | Some(RestoreError::Stopped { .. })) {
            // A stop that another step's failure requested is no reason by itself.
            self.ending = Some(error);
        }
        ends_all
    }

    fn into_result(mut self) -> Result<(), RestoreError> {
        match self.ending {
            Some(error) => Err(error),
            None if self.failed.is_empty() => Ok(()),
            None => Err(RestoreError::StepsFailed {
                failed: self.failed.len() as u64,
                first: Box::new(self.failed.swap_remove(0)),
            }),
        }
    }
}

/// What a hook is told of the step that it runs for; empty texts where there is none.
fn step_variables(step: Option<&Step>) -> Vec<(&'static str, String)> {
    let of_step = |field: fn(&Step) -> String| step.map(field).unwrap_or_default();
    let namespace = |step: &Step| step.to_namespace.as_str().to_owned();
    vec![
        ("KINDPACK_STEP", of_step(|step| step.id.to_string())),
        ("KINDPACK_KIND", of_step(|step| step.kind.to_string())),
        ("KINDPACK_NAMESPACE", of_step(namespace)),
    ]
}
