//! Where a restore stands, as a function of its events.
//!
//! What cannot have happened is an error, not a guess.

use std::collections::BTreeMap;

use serde_with::SerializeDisplay;

use super::{JOURNAL_FORMAT, JournalError, JournalEvent, StepPosition};
use crate::model::{Kind, KindRef, Namespace, Sha256, Timestamp};

/// Where a step stands.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::IntoStaticStr,
    SerializeDisplay,
)]
#[strum(serialize_all = "lowercase")]
pub enum StepState {
    /// Never started.
    #[default]
    Pending,
    /// Started; at the end of a journal this means that it was cut, and it goes on from its last
    /// checkpoint.
    Running,
    /// In the target as a whole.
    Done,
    /// It gave up; started again, it goes on from its last checkpoint.
    Failed,
}

impl StepState {
    /// The state that an event leads to, or `None` where the event cannot happen.
    fn after(self, event: &JournalEvent) -> Option<StepState> {
        match (self, event) {
            (StepState::Done, JournalEvent::HookFinished { .. }) => Some(StepState::Done),
            (StepState::Done, _) => None,
            // Also after a crash: how far it came is unknown.
            (_, JournalEvent::StepStarted { .. }) => Some(StepState::Running),
            (
                StepState::Running,
                JournalEvent::Checkpoint { .. }
                | JournalEvent::OperationStarted { .. }
                | JournalEvent::OthersDeleted { .. },
            ) => Some(StepState::Running),
            (StepState::Running, JournalEvent::StepFinished { .. }) => Some(StepState::Done),
            (StepState::Running, JournalEvent::StepFailed { .. }) => Some(StepState::Failed),
            (StepState::Pending | StepState::Failed | StepState::Running, _) => None,
        }
    }

    /// What an event expects that cannot happen in this state.
    fn mismatch(self, event: &JournalEvent) -> Mismatch {
        let expected = match event {
            JournalEvent::StepStarted { .. } => "a step that is not done",
            _ => "a running step",
        };
        (expected.to_owned(), self.to_string())
    }
}

/// How far a step has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepStatus {
    /// Where it stands.
    pub state: StepState,
    /// What it restores; known once it was started.
    pub pair: Option<KindRef>,
    /// Entities in the target at the last checkpoint or at the end.
    pub entities: u64,
    /// The last checkpoint.
    pub position: Option<StepPosition>,
    /// How often it was started.
    pub attempts: u32,
    /// What a count of the target said at the end.
    pub counted: Option<u64>,
    /// Why it gave up; only while it stands as failed.
    pub error: Option<String>,
    /// The target's own import that was started last for it.
    pub operation: Option<String>,
    /// Entities deleted because the archive does not hold them, once that was done.
    pub deleted: Option<u64>,
    /// Whether the user's command behind it has succeeded.
    pub hook_finished: bool,
    /// When it was first started.
    pub started: Option<Timestamp>,
    /// When it was done.
    pub finished: Option<Timestamp>,
}

/// The journal's first event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOpened {
    /// When.
    pub at: Timestamp,
    /// The plan that is carried out.
    pub plan_sha256: Sha256,
    /// Where to.
    pub target: String,
    /// The ids of the plan's steps, in order.
    pub steps: Vec<u32>,
    /// Program and version.
    pub tool: String,
}

impl JournalOpened {
    fn from_event(event: &JournalEvent, at: Timestamp) -> Result<Self, Mismatch> {
        let JournalEvent::Opened {
            format,
            plan_sha256,
            target,
            steps,
            tool,
        } = event
        else {
            return Err(impossible("the event opened", "another"));
        };
        check_format(format)?;
        Ok(JournalOpened {
            at,
            plan_sha256: *plan_sha256,
            target: target.clone(),
            steps: steps.clone(),
            tool: tool.clone(),
        })
    }

    fn other_target(&self, expected: &str) -> JournalError {
        JournalError::OtherTarget {
            expected: expected.to_owned(),
            found: self.target.clone(),
        }
    }
}

fn check_format(format: &str) -> Result<(), Mismatch> {
    if format == JOURNAL_FORMAT {
        return Ok(());
    }
    Err((format!("format {JOURNAL_FORMAT}"), format!("{format:?}")))
}

/// Every step by its id, none begun.
fn pending_steps(ids: &[u32]) -> Result<BTreeMap<u32, StepStatus>, Mismatch> {
    let pending = ids.iter().map(|&id| (id, StepStatus::default()));
    let steps: BTreeMap<u32, StepStatus> = pending.collect();
    if steps.len() == ids.len() {
        return Ok(steps);
    }
    Err(impossible("an id of its own for each step", "one id twice"))
}

/// The journal's last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFinished {
    /// When.
    pub at: Timestamp,
    /// How many steps.
    pub steps: u64,
    /// Entities of all steps.
    pub entities: u64,
}

/// Where a restore stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// The first event; `None` where nothing was written yet.
    pub opened: Option<JournalOpened>,
    /// Every step of the plan by its id.
    pub steps: BTreeMap<u32, StepStatus>,
    /// Whether the user's command behind all steps has succeeded.
    pub hook_finished: bool,
    /// The last event, once all is done.
    pub finished: Option<JournalFinished>,
    /// Whether a torn last line was dropped.
    pub torn: bool,
    /// Bytes of the lines that count.
    pub valid_len: u64,
}

/// What a journal must say of a step once it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Its id.
    pub id: u32,
    /// What it restores.
    pub pair: KindRef,
    /// How many entities, where the plan knows it.
    pub entities: Option<u64>,
}

/// An event that cannot have happened where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} is not possible here: expected {expected}, found {found}")]
pub struct InvalidTransition {
    /// The event's name.
    pub event: &'static str,
    /// What must hold there.
    pub expected: String,
    /// What holds.
    pub found: String,
}

/// What must hold for an event, and what holds.
type Mismatch = (String, String);

fn event_after_end() -> Mismatch {
    impossible("nothing more", "an event after the end")
}

fn impossible(expected: &str, found: &str) -> Mismatch {
    (expected.to_owned(), found.to_owned())
}

impl Journal {
    /// Takes in one event, as it is written. Leaves everything as it is when the event cannot
    /// happen now.
    ///
    /// Whoever runs a restore applies each event before it is appended, so that what would be an
    /// impossible journal is never written.
    pub fn apply(&mut self, event: &JournalEvent, at: Timestamp) -> Result<(), InvalidTransition> {
        let checked = self.check_order(event);
        let changed = checked.and_then(|()| self.apply_in_order(event, at));
        changed.map_err(|(expected, found)| InvalidTransition {
            event: event.name(),
            expected,
            found,
        })
    }

    /// One event opens the journal, before all others; one ends it.
    fn check_order(&self, event: &JournalEvent) -> Result<(), Mismatch> {
        let is_opening = matches!(event, JournalEvent::Opened { .. });
        match (self.opened.is_some(), is_opening) {
            _ if self.finished.is_some() => Err(event_after_end()),
            (true, true) => Err(impossible("one beginning", "another")),
            (false, false) => Err(impossible("the event opened first", "no event")),
            (true, false) | (false, true) => Ok(()),
        }
    }

    fn apply_in_order(&mut self, event: &JournalEvent, at: Timestamp) -> Result<(), Mismatch> {
        match event {
            JournalEvent::Opened { .. } => self.open(event, at),
            &JournalEvent::Finished { steps, entities } => self.finish(steps, entities, at),
            JournalEvent::HookFinished { step: None } => self.finish_hook(),
            JournalEvent::CompanionsCopied { .. } => self.check_complete(),
            JournalEvent::StepStarted { step, .. }
            | JournalEvent::Checkpoint { step, .. }
            | JournalEvent::OperationStarted { step, .. }
            | JournalEvent::OthersDeleted { step, .. }
            | JournalEvent::StepFinished { step, .. }
            | JournalEvent::StepFailed { step, .. }
            | JournalEvent::HookFinished { step: Some(step) } => {
                self.apply_to_step(*step, event, at)
            }
        }
    }

    fn open(&mut self, event: &JournalEvent, at: Timestamp) -> Result<(), Mismatch> {
        let opened = JournalOpened::from_event(event, at)?;
        self.steps = pending_steps(&opened.steps)?;
        self.opened = Some(opened);
        Ok(())
    }

    fn finish(&mut self, steps: u64, entities: u64, at: Timestamp) -> Result<(), Mismatch> {
        self.check_totals(steps, entities)?;
        self.finished = Some(JournalFinished {
            at,
            steps,
            entities,
        });
        Ok(())
    }

    fn check_totals(&self, steps: u64, entities: u64) -> Result<(), Mismatch> {
        let (done, restored) = (self.done(), self.entities());
        if self.is_complete() && (steps, entities) == (done, restored) {
            return Ok(());
        }
        let expected = format!("{} steps done and {entities} entities", self.steps.len());
        Err((
            expected,
            format!("{done} steps done and {restored} entities"),
        ))
    }

    /// Companions come after all steps; a run that was killed after them copies what is missing
    /// again.
    fn check_complete(&self) -> Result<(), Mismatch> {
        if self.is_complete() {
            return Ok(());
        }
        let found = format!("{} of {} done", self.done(), self.steps.len());
        Err(("every step done".to_owned(), found))
    }

    fn finish_hook(&mut self) -> Result<(), Mismatch> {
        if !self.is_complete() || self.hook_finished {
            let found = format!("{} done", self.done());
            return Err(impossible(
                "every step done, and no such command before",
                &found,
            ));
        }
        self.hook_finished = true;
        Ok(())
    }

    fn apply_to_step(
        &mut self,
        step: u32,
        event: &JournalEvent,
        at: Timestamp,
    ) -> Result<(), Mismatch> {
        let Some(status) = self.steps.get_mut(&step) else {
            return Err(("a step of the plan".to_owned(), format!("step {step}")));
        };
        *status = status
            .after(event, at)
            .map_err(|(expected, found)| (expected, format!("step {step} {found}")))?;
        Ok(())
    }

    /// Refuses the journal of another plan or target. A journal that has not begun is for any.
    pub fn check(&self, plan_sha256: Sha256, target: &str) -> Result<(), JournalError> {
        match &self.opened {
            Some(opened) if opened.plan_sha256 != plan_sha256 => Err(self.other_plan(opened)),
            Some(opened) if opened.target != target => Err(opened.other_target(target)),
            _ => Ok(()),
        }
    }

    fn other_plan(&self, opened: &JournalOpened) -> JournalError {
        JournalError::OtherPlan {
            plan_sha256: opened.plan_sha256,
            target: opened.target.clone(),
            began: opened.at,
            done: self.done(),
            steps: self.steps.len() as u64,
        }
    }

    /// Whether this is the journal of another plan than this one.
    pub fn is_of_other_plan(&self, plan_sha256: Sha256) -> bool {
        self.opened
            .as_ref()
            .is_some_and(|opened| opened.plan_sha256 != plan_sha256)
    }

    /// Refuses a journal that knows other steps than the plan, or that says of one what cannot be
    /// true. A journal that has not begun is right.
    pub fn check_steps(&self, planned: &[PlannedStep]) -> Result<(), JournalError> {
        if self.opened.is_none() {
            return Ok(());
        }
        self.check_step_count(planned.len())?;
        planned.iter().try_for_each(|step| self.check_step(step))
    }

    fn check_step_count(&self, planned: usize) -> Result<(), JournalError> {
        let known = self.steps.len();
        if known == planned {
            return Ok(());
        }
        let difference = format!("expected {planned} steps, found {known}");
        Err(JournalError::OtherSteps { difference })
    }

    fn check_step(&self, planned: &PlannedStep) -> Result<(), JournalError> {
        let Some(status) = self.steps.get(&planned.id) else {
            let difference = format!("step {} is missing", planned.id);
            return Err(JournalError::OtherSteps { difference });
        };
        status.check_pair(planned)?;
        status.check_entities(planned)
    }

    /// Whether the restore has begun and every step is done, be the last event written or not.
    pub fn is_complete(&self) -> bool {
        self.opened.is_some()
            && self
                .steps
                .values()
                .all(|status| status.state == StepState::Done)
    }

    /// How many steps are done.
    pub fn done(&self) -> u64 {
        self.steps
            .values()
            .filter(|status| status.state == StepState::Done)
            .count() as u64
    }

    /// Entities known to be in the target.
    pub fn entities(&self) -> u64 {
        self.steps
            .values()
            .fold(0, |sum, status| sum.saturating_add(status.entities))
    }
}

impl StepStatus {
    /// The status that an event leads to, or what would have to hold for it and what holds.
    fn after(&self, event: &JournalEvent, at: Timestamp) -> Result<StepStatus, Mismatch> {
        let mut next = self.in_next_state(event)?;
        match event {
            JournalEvent::StepStarted {
                namespace,
                kind,
                attempt,
                ..
            } => next.start(namespace, kind, *attempt, at)?,
            JournalEvent::Checkpoint {
                entities, position, ..
            } => next.advance(*entities, *position)?,
            JournalEvent::StepFinished {
                entities, counted, ..
            } => next.finish(*entities, *counted, at)?,
            JournalEvent::StepFailed { error, .. } => next.error = Some(error.clone()),
            JournalEvent::OperationStarted { operation, .. } => {
                next.operation = Some(operation.clone())
            }
            JournalEvent::OthersDeleted { deleted, .. } => next.count_deleted(*deleted)?,
            JournalEvent::HookFinished { .. } => next.finish_hook()?,
            JournalEvent::Opened { .. }
            | JournalEvent::CompanionsCopied { .. }
            | JournalEvent::Finished { .. } => {}
        }
        Ok(next)
    }

    /// The same status in the state that an event leads to, without the error of an earlier try.
    fn in_next_state(&self, event: &JournalEvent) -> Result<StepStatus, Mismatch> {
        let after = self.state.after(event);
        Ok(StepStatus {
            state: after.ok_or_else(|| self.state.mismatch(event))?,
            error: None,
            ..self.clone()
        })
    }

    fn start(
        &mut self,
        namespace: &Namespace,
        kind: &Kind,
        attempt: u32,
        at: Timestamp,
    ) -> Result<(), Mismatch> {
        let pair = KindRef {
            namespace: namespace.clone(),
            kind: kind.clone(),
        };
        self.check_start(&pair, attempt)?;
        (self.pair, self.attempts) = (Some(pair), attempt);
        self.started = self.started.or(Some(at));
        Ok(())
    }

    fn advance(&mut self, entities: u64, position: StepPosition) -> Result<(), Mismatch> {
        if entities < self.entities || self.position.is_some_and(|last| position < last) {
            let found = format!("at {entities} entities, behind its last checkpoint");
            return Err(impossible("progress", &found));
        }
        (self.entities, self.position) = (entities, Some(position));
        Ok(())
    }

    fn finish(
        &mut self,
        entities: u64,
        counted: Option<u64>,
        at: Timestamp,
    ) -> Result<(), Mismatch> {
        if entities < self.entities {
            let expected = format!("at least {} entities", self.entities);
            return Err((expected, format!("with {entities}")));
        }
        (self.entities, self.counted, self.finished) = (entities, counted, Some(at));
        Ok(())
    }

    fn count_deleted(&mut self, deleted: u64) -> Result<(), Mismatch> {
        if let Some(before) = self.deleted.filter(|before| deleted < *before) {
            let expected = format!("at least {before} deleted");
            return Err((expected, format!("with {deleted}")));
        }
        self.deleted = Some(deleted);
        Ok(())
    }

    fn finish_hook(&mut self) -> Result<(), Mismatch> {
        if self.hook_finished {
            return Err(impossible("one end of its command", "with another"));
        }
        self.hook_finished = true;
        Ok(())
    }

    /// Whether the plan restores the same by this step.
    fn check_pair(&self, planned: &PlannedStep) -> Result<(), JournalError> {
        match &self.pair {
            Some(pair) if *pair != planned.pair => Err(JournalError::OtherSteps {
                difference: format!(
                    "step {}: expected {}, found {pair}",
                    planned.id, planned.pair
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Whether the plan can have brought this many entities. How many a sample takes is not known
    /// before.
    fn check_entities(&self, planned: &PlannedStep) -> Result<(), JournalError> {
        match planned.entities {
            Some(expected) if !self.can_be_of(expected) => Err(self.wrong_step(planned, expected)),
            _ => Ok(()),
        }
    }

    /// Whether a step of so many entities can stand like this.
    fn can_be_of(&self, entities: u64) -> bool {
        match self.state {
            StepState::Done => self.entities == entities,
            StepState::Pending | StepState::Running | StepState::Failed => {
                self.entities <= entities
            }
        }
    }

    fn wrong_step(&self, planned: &PlannedStep, expected: u64) -> JournalError {
        JournalError::WrongStep {
            step: planned.id,
            pair: planned.pair.clone(),
            expected,
            found: self.entities,
        }
    }

    /// Whether the step may start as this pair, for this attempt.
    fn check_start(&self, pair: &KindRef, attempt: u32) -> Result<(), Mismatch> {
        if let Some(known) = self.pair.as_ref().filter(|known| *known != pair) {
            return Err((known.to_string(), format!("as {pair}")));
        }
        let count = self.attempts.saturating_add(1);
        if attempt != count {
            return Err((format!("attempt {count}"), format!("at attempt {attempt}")));
        }
        Ok(())
    }
}
