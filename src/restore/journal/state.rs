//! Where a restore stands, as a function of its events.
//!
//! What cannot have happened is an error, not a guess.

use std::collections::BTreeMap;

use serde_with::SerializeDisplay;

use super::{JOURNAL_FORMAT, JournalError, JournalEvent, StepPosition};
use crate::model::{KindRef, Sha256, Timestamp};

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
#[error("event {event}: expected {expected}, found {found}")]
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
        let changed = match (event, self.opened.is_some()) {
            _ if self.finished.is_some() => {
                Err(impossible("nothing more", "an event after the end"))
            }
            (JournalEvent::Opened { .. }, true) => Err(impossible("one beginning", "another")),
            (JournalEvent::Opened { .. }, false) => self.open(event, at),
            (_, false) => Err(impossible("the event opened first", "no event")),
            (&JournalEvent::Finished { steps, entities }, true) => self.finish(steps, entities, at),
            (JournalEvent::HookFinished { step: None }, true) => self.finish_hook(),
            (JournalEvent::CompanionsCopied { .. }, true) => self.check_complete(),
            (
                JournalEvent::StepStarted { step, .. }
                | JournalEvent::Checkpoint { step, .. }
                | JournalEvent::OperationStarted { step, .. }
                | JournalEvent::OthersDeleted { step, .. }
                | JournalEvent::StepFinished { step, .. }
                | JournalEvent::StepFailed { step, .. }
                | JournalEvent::HookFinished { step: Some(step) },
                true,
            ) => self.apply_to_step(*step, event, at),
        };
        changed.map_err(|(expected, found)| InvalidTransition {
            event: event.name(),
            expected,
            found,
        })
    }

    fn open(&mut self, event: &JournalEvent, at: Timestamp) -> Result<(), Mismatch> {
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
        if format != JOURNAL_FORMAT {
            return Err((format!("format {JOURNAL_FORMAT}"), format!("{format:?}")));
        }
        let pending: BTreeMap<u32, StepStatus> = steps
            .iter()
            .map(|&step| (step, StepStatus::default()))
            .collect();
        if pending.len() != steps.len() {
            return Err(impossible(
                "an id of its own for each step",
                "one that stands twice",
            ));
        }
        self.steps = pending;
        self.opened = Some(JournalOpened {
            at,
            plan_sha256: *plan_sha256,
            target: target.clone(),
            steps: steps.clone(),
            tool: tool.clone(),
        });
        Ok(())
    }

    fn finish(&mut self, steps: u64, entities: u64, at: Timestamp) -> Result<(), Mismatch> {
        let sums = (self.done(), self.entities());
        if !self.is_complete() || (steps, entities) != sums {
            return Err((
                format!("{} steps done and {entities} entities", self.steps.len()),
                format!("{} steps done and {} entities", sums.0, sums.1),
            ));
        }
        self.finished = Some(JournalFinished {
            at,
            steps,
            entities,
        });
        Ok(())
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
            return Err((
                "every step done, and no such command before".to_owned(),
                format!("{} done", self.done()),
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
            Some(opened) if opened.plan_sha256 != plan_sha256 => Err(JournalError::OtherPlan {
                plan_sha256: opened.plan_sha256,
                target: opened.target.clone(),
                began: opened.at,
                done: self.done(),
                steps: self.steps.len() as u64,
            }),
            Some(opened) if opened.target != target => Err(JournalError::OtherTarget {
                expected: target.to_owned(),
                found: opened.target.clone(),
            }),
            _ => Ok(()),
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
        if self.steps.len() != planned.len() {
            return Err(JournalError::OtherSteps {
                found: format!(
                    "{} steps where the plan has {}",
                    self.steps.len(),
                    planned.len()
                ),
            });
        }
        for step in planned {
            let Some(status) = self.steps.get(&step.id) else {
                return Err(JournalError::OtherSteps {
                    found: format!("no step {}", step.id),
                });
            };
            if let Some(pair) = status.pair.as_ref().filter(|pair| **pair != step.pair) {
                return Err(JournalError::OtherSteps {
                    found: format!("step {} as {pair}", step.id),
                });
            }
            // How many a sample takes is not known before.
            let Some(expected) = step.entities else {
                continue;
            };
            if status.entities > expected
                || (status.state == StepState::Done && status.entities != expected)
            {
                return Err(JournalError::WrongStep {
                    step: step.id,
                    pair: step.pair.clone(),
                    expected,
                    found: status.entities,
                });
            }
        }
        Ok(())
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
        let state = self.state.after(event).ok_or_else(|| {
            let expected = if matches!(event, JournalEvent::StepStarted { .. }) {
                "a step that is not done"
            } else {
                "a running step"
            };
            (expected.to_owned(), self.state.to_string())
        })?;
        let mut next = StepStatus {
            state,
            error: None,
            ..self.clone()
        };
        match event {
            JournalEvent::StepStarted {
                namespace,
                kind,
                attempt,
                ..
            } => {
                let pair = KindRef {
                    namespace: namespace.clone(),
                    kind: kind.clone(),
                };
                self.check_start(&pair, *attempt)?;
                (next.pair, next.attempts) = (Some(pair), *attempt);
                next.started = self.started.or(Some(at));
            }
            JournalEvent::Checkpoint {
                entities, position, ..
            } => {
                if *entities < self.entities || self.position.is_some_and(|last| *position < last) {
                    return Err((
                        "progress".to_owned(),
                        format!("at {entities} entities, behind its last checkpoint"),
                    ));
                }
                (next.entities, next.position) = (*entities, Some(*position));
            }
            JournalEvent::StepFinished {
                entities, counted, ..
            } => {
                if *entities < self.entities {
                    return Err((
                        format!("at least {} entities", self.entities),
                        format!("with {entities}"),
                    ));
                }
                (next.entities, next.counted, next.finished) = (*entities, *counted, Some(at));
            }
            JournalEvent::StepFailed { error, .. } => next.error = Some(error.clone()),
            JournalEvent::OperationStarted { operation, .. } => {
                next.operation = Some(operation.clone())
            }
            JournalEvent::OthersDeleted { deleted, .. } => {
                if let Some(before) = self.deleted.filter(|before| deleted < before) {
                    return Err((
                        format!("at least {before} deleted"),
                        format!("with {deleted}"),
                    ));
                }
                next.deleted = Some(*deleted);
            }
            JournalEvent::HookFinished { .. } if self.hook_finished => {
                return Err((
                    "one end of its command".to_owned(),
                    "with another".to_owned(),
                ));
            }
            JournalEvent::HookFinished { .. } => next.hook_finished = true,
            JournalEvent::Opened { .. }
            | JournalEvent::CompanionsCopied { .. }
            | JournalEvent::Finished { .. } => {}
        }
        Ok(next)
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
