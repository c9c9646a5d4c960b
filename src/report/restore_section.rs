//! What became of a restore: each step in time, how fast it was, and what went wrong.

use std::collections::HashMap;

use super::axis::{Bar, Tick, TimeAxis};
use super::values::{KindName, Percent, count, counted, duration, percent_of, text};
use crate::model::Timestamp;
use crate::plan::{Plan, Step};
use crate::restore::StepOutcome;
use crate::restore::journal::{Journal, StepState, StepStatus};

/// A restore, by its journal.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreSection {
    pub done: Percent,
    pub failed: Percent,
    pub facts: Vec<String>,
    pub ticks: Vec<Tick>,
    pub rows: Vec<RestoreRow>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreRow {
    pub step: u32,
    /// The kind in the target.
    pub name: KindName,
    pub state: StepState,
    pub entities: String,
    /// When it ran; none where the journal does not say.
    pub bar: Option<Bar>,
    pub took: String,
    pub rate: String,
    /// What somebody should look at.
    pub remarks: Vec<String>,
}

/// A step with all that is known of it.
struct StepHistory<'a> {
    step: &'a Step,
    status: StepStatus,
    outcome: Option<&'a StepOutcome>,
}

impl<'a> StepHistory<'a> {
    fn new(step: &'a Step, journal: &Journal, outcome: Option<&'a StepOutcome>) -> Self {
        StepHistory {
            step,
            status: journal.steps.get(&step.id).cloned().unwrap_or_default(),
            outcome,
        }
    }

    fn state(&self) -> StepState {
        self.outcome
            .map_or(self.status.state, |outcome| outcome.end)
    }

    /// Entities that are in the target.
    fn restored(&self) -> u64 {
        self.outcome.map_or(self.status.entities, |outcome| {
            outcome.restored.saturating_add(outcome.already_there)
        })
    }

    /// Entities that were written, and in how many seconds, where that is known: a journal does not
    /// say how long a step rested between two runs.
    fn speed(&self) -> Option<(u64, f64)> {
        if let Some(outcome) = self.outcome.filter(|outcome| outcome.seconds > 0.0) {
            return Some((outcome.restored, outcome.seconds));
        }
        let StepStatus {
            started,
            finished,
            attempts,
            entities,
            ..
        } = &self.status;
        let took = (*finished)?.since((*started)?);
        (*attempts == 1).then_some((*entities, took.as_secs_f64()))
    }

    fn bar(&self, axis: Option<TimeAxis>, last: Option<Timestamp>) -> Option<Bar> {
        let started = self.status.started?;
        let end = match self.state() {
            StepState::Running => last,
            StepState::Done => self.status.finished,
            StepState::Pending | StepState::Failed => None,
        };
        Some(axis?.bar(started, end.unwrap_or(started)))
    }

    fn row(&self, axis: Option<TimeAxis>, last: Option<Timestamp>) -> RestoreRow {
        let speed = self.speed();
        RestoreRow {
            step: self.step.id,
            name: KindName::new(&self.step.to_namespace, &self.step.kind),
            state: self.state(),
            entities: entities(self.restored(), self.step.entities),
            bar: self.bar(axis, last),
            took: speed
                .map(|(_, seconds)| seconds_text(seconds))
                .unwrap_or_default(),
            rate: speed
                .and_then(|(written, seconds)| rate(written, seconds))
                .unwrap_or_default(),
            remarks: self.remarks(),
        }
    }

    fn remarks(&self) -> Vec<String> {
        let error = self
            .outcome
            .map_or(&self.status.error, |outcome| &outcome.error);
        let mut remarks: Vec<String> = error.iter().map(|error| text(error)).collect();
        remarks.extend(self.counted_otherwise());
        let differing = self.outcome.and_then(|outcome| outcome.differing);
        remarks.extend(
            differing
                .filter(|count| *count > 0)
                .map(|differing| format!("{} differ from the archive", entities_text(differing))),
        );
        let deleted = self
            .outcome
            .map(|outcome| outcome.deleted)
            .or(self.status.deleted);
        remarks.extend(deleted.filter(|count| *count > 0).map(|deleted| {
            format!(
                "{} that the archive does not hold deleted",
                entities_text(deleted)
            )
        }));
        let attempts = self.status.attempts;
        remarks.extend((attempts > 1).then(|| format!("{attempts} attempts")));
        remarks
    }

    /// That the target was found to hold another number of entities.
    fn counted_otherwise(&self) -> Option<String> {
        let counted = self
            .outcome
            .map_or(self.status.counted, |outcome| outcome.counted)?;
        let restored = self.restored();
        (counted != restored).then(|| {
            format!(
                "expected {} in the target, found {}",
                count(restored),
                count(counted)
            )
        })
    }
}

impl RestoreSection {
    /// What became of each step of a plan: by the journal, and by the outcomes of the run that has
    /// just ended.
    pub fn new(plan: &Plan, journal: &Journal, outcomes: &[StepOutcome]) -> Self {
        let outcomes = outcomes.iter().map(|outcome| (outcome.step, outcome));
        let outcomes: HashMap<u32, &StepOutcome> = outcomes.collect();
        let outcome = |step: &Step| outcomes.get(&step.id).copied();
        let history = plan.steps.iter();
        let history = history.map(|step| StepHistory::new(step, journal, outcome(step)));
        let history: Vec<StepHistory<'_>> = history.collect();
        let times = times(journal, &history);
        let axis = TimeAxis::from_times(times.iter().copied());
        let last = times.iter().max().copied();
        let of_state = |state| history.iter().filter(|step| step.state() == state).count() as u64;
        let steps = history.len() as u64;
        RestoreSection {
            done: percent_of(of_state(StepState::Done), steps),
            failed: percent_of(of_state(StepState::Failed), steps),
            facts: facts(&history, &times),
            ticks: axis.map(|axis| axis.ticks()).unwrap_or_default(),
            rows: history.iter().map(|step| step.row(axis, last)).collect(),
        }
    }
}

/// All points in time that the journal names.
fn times(journal: &Journal, history: &[StepHistory<'_>]) -> Vec<Timestamp> {
    let ends = [
        journal.opened.as_ref().map(|opened| opened.at),
        journal.finished.as_ref().map(|finished| finished.at),
    ];
    let steps = history
        .iter()
        .flat_map(|step| [step.status.started, step.status.finished]);
    steps.chain(ends).flatten().collect()
}

/// What can be said of all steps together.
fn facts(history: &[StepHistory<'_>], times: &[Timestamp]) -> Vec<String> {
    let sum = |of: fn(&StepHistory<'_>) -> u64| history.iter().map(of).fold(0, u64::saturating_add);
    let restored = entities(sum(|step| step.restored()), sum(|step| step.step.entities));
    let repeated = sum(|step| u64::from(step.status.attempts > 1));
    let elapsed = times.iter().max().zip(times.iter().min());
    let mut facts = state_facts(history);
    facts.push(format!("{restored} entities restored"));
    facts.extend((repeated > 0).then(|| match repeated {
        1 => "1 step was started again".to_owned(),
        many => format!("{} steps were started again", count(many)),
    }));
    facts.extend(elapsed.map(|(last, first)| {
        let took = duration(last.since(*first));
        format!("{took} from the first event to the last")
    }));
    facts
}

/// How many steps are in each state.
fn state_facts(history: &[StepHistory<'_>]) -> Vec<String> {
    let of_state = |state| history.iter().filter(|step| step.state() == state).count();
    let steps = counted(history.len(), "step", "steps");
    let done = of_state(StepState::Done) as u64;
    let others = [StepState::Failed, StepState::Running]
        .into_iter()
        .map(|state| (of_state(state), state))
        .filter(|(number, _)| *number > 0)
        .map(|(number, state)| format!("{} {state}", count(number as u64)));
    std::iter::once(format!("{} of {steps} done", count(done)))
        .chain(others)
        .collect()
}

fn entities(restored: u64, planned: u64) -> String {
    if restored == planned {
        count(restored)
    } else {
        format!("{} of {}", count(restored), count(planned))
    }
}

fn entities_text(number: u64) -> String {
    counted(
        usize::try_from(number).unwrap_or(usize::MAX),
        "entity",
        "entities",
    )
}

fn seconds_text(seconds: f64) -> String {
    std::time::Duration::try_from_secs_f64(seconds)
        .map(duration)
        .unwrap_or_default()
}

/// Entities a second; none where too little was written to say.
fn rate(written: u64, seconds: f64) -> Option<String> {
    let rate = written as f64 / seconds;
    (written > 0 && rate.is_finite()).then(|| format!("{}/s", count(rate.round() as u64)))
}
