//! The journal of one restore: an event a line, appended and flushed before and after each act.
//!
//! Pure: it turns events into lines, and lines into where each step stands. It knows steps by id,
//! and nothing of plans, zips or targets. Left out on purpose: undo, which no target offers.
//!
//! A line is a JSON object whose first field is the CRC-32C over all that follows the comma behind
//! it:
//!
//! ```json
//! {"crc":"86ed1faf","at":"2025-11-22T10:00:01Z","event":"step-started","step":1,"namespace":"acme","kind":"Product","attempt":1}
//! ```
//!
//! A crash may tear the last line, so a last line without its line feed or of a wrong checksum is
//! dropped. Anything else that is wrong is an error: a journal is believed or refused, never
//! guessed at.

pub mod file;
mod line;
mod state;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::model::{Kind, KindRef, Namespace, Sha256, Timestamp};
#[cfg(any(test, feature = "test-util"))]
pub use line::read;
pub use line::{JournalReplay, encode};
pub use state::{
    InvalidTransition, Journal, JournalFinished, JournalOpened, PlannedStep, StepState, StepStatus,
};

/// The value of `format` in every journal of this version.
pub const JOURNAL_FORMAT: &str = "kindpack-journal/1";

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum JournalEvent {
    /// The restore begins. Always the first event, and once only: a restore that goes on writes on.
    Opened {
        /// Always [`JOURNAL_FORMAT`].
        format: String,
        /// The plan that is carried out.
        plan_sha256: Sha256,
        /// Where to, as the plan spells it.
        target: String,
        /// The ids of the plan's steps, in order.
        steps: Vec<u32>,
        /// Program and version.
        tool: String,
    },
    /// A step is about to write, for the first time or again.
    StepStarted {
        /// Its id.
        step: u32,
        /// Its namespace in the archive.
        namespace: Namespace,
        /// Its kind.
        kind: Kind,
        /// Counts from 1, over crashes and failures.
        attempt: u32,
    },
    /// All that stands before a position is safely in the target.
    Checkpoint {
        /// The step's id.
        step: u32,
        /// Entities of this step that are in the target, over all attempts.
        entities: u64,
        /// Where to go on.
        position: StepPosition,
    },
    /// A step is done.
    StepFinished {
        /// Its id.
        step: u32,
        /// Entities of this step that are in the target.
        entities: u64,
        /// What a count of the target said, if one was made.
        counted: Option<u64>,
    },
    /// A step gave up; it may be started again.
    StepFailed {
        /// Its id.
        step: u32,
        /// Why, in a sentence without values of properties.
        error: String,
    },
    /// The target's own import of a step is about to run, or runs: whoever goes on asks after it
    /// and starts no second one.
    OperationStarted {
        /// The step's id.
        step: u32,
        /// The operation's name in the service.
        operation: String,
    },
    /// What the target held of a step's kind and the archive does not is deleted.
    OthersDeleted {
        /// The step's id.
        step: u32,
        /// How many entities, over all attempts.
        deleted: u64,
    },
    /// A command of the user's that follows a step, or all of them, has succeeded: it is not run
    /// again.
    HookFinished {
        /// The step that it followed; none for the one that follows all.
        step: Option<u32>,
    },
    /// All steps are done and the companions are copied.
    CompanionsCopied {
        /// How many there are, those of earlier runs included.
        objects: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// All steps are done. Always the last event.
    Finished {
        /// How many steps.
        steps: u64,
        /// Entities of all steps.
        entities: u64,
    },
}

impl JournalEvent {
    /// The event's name in the journal.
    pub fn name(&self) -> &'static str {
        match self {
            JournalEvent::Opened { .. } => "opened",
            JournalEvent::StepStarted { .. } => "step-started",
            JournalEvent::Checkpoint { .. } => "checkpoint",
            JournalEvent::StepFinished { .. } => "step-finished",
            JournalEvent::StepFailed { .. } => "step-failed",
            JournalEvent::OperationStarted { .. } => "operation-started",
            JournalEvent::OthersDeleted { .. } => "others-deleted",
            JournalEvent::HookFinished { .. } => "hook-finished",
            JournalEvent::CompanionsCopied { .. } => "companions-copied",
            JournalEvent::Finished { .. } => "finished",
        }
    }
}

/// Where in a step's export to go on. Positions order as the data lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepPosition {
    /// The entry: its number among the outputs of the step's export, from 0.
    pub entry: u32,
    /// The piece of the entry from which to read, from 0.
    pub piece: u32,
    /// How many records that begin in that piece are done.
    pub records: u64,
}

/// A journal that cannot be believed, or not for this plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum JournalError {
    /// A line before the last has a wrong checksum, or does not begin as a line must.
    #[error("line {line} is damaged: expected {expected}, found {found}")]
    Damaged {
        /// Its number, from 1.
        line: u64,
        /// The checksum of what stands there.
        expected: String,
        /// The checksum that the line names, if it names one.
        found: String,
    },
    /// A line that was written whole but is no event of this version.
    #[error("line {line} is not an event of {JOURNAL_FORMAT}: {fault}")]
    NotAnEvent {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        fault: String,
    },
    /// An event that cannot have happened where it stands.
    #[error("line {line}: {source}")]
    InvalidTransition {
        /// Its number, from 1.
        line: u64,
        /// Why not.
        source: InvalidTransition,
    },
    /// A line that is longer than any that kindpack writes.
    #[error("line {line} is longer than {max_bytes} bytes")]
    TooLong {
        /// Its number, from 1.
        line: u64,
        /// How long a line may be.
        max_bytes: u64,
    },
    /// The journal of another plan, whose restore has not finished.
    #[error(
        "this is the journal of another plan, begun {began}: {done} of {steps} steps into {target} are done (plan sha256 {plan_sha256})"
    )]
    OtherPlan {
        /// The plan that the journal names.
        plan_sha256: Sha256,
        /// Its target.
        target: String,
        /// When its restore began.
        began: Timestamp,
        /// How many of its steps are done.
        done: u64,
        /// How many it has.
        steps: u64,
    },
    /// The journal says of a step what cannot be true.
    #[error("step {step} ({pair}): expected {expected} entities, found {found}")]
    WrongStep {
        /// Its id.
        step: u32,
        /// What the plan restores by it.
        pair: KindRef,
        /// Entities by the plan.
        expected: u64,
        /// Entities by the journal.
        found: u64,
    },
    /// The journal knows other steps than the plan.
    #[error("the journal has other steps than the plan: {difference}")]
    OtherSteps {
        /// What it knows instead.
        difference: String,
    },
    /// The journal of another target.
    #[error("this is the journal of another target: expected {expected}, found {found}")]
    OtherTarget {
        /// The target of the plan.
        expected: String,
        /// The target that the journal names.
        found: String,
    },
}
