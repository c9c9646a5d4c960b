//! Why a restore stopped.

use super::difference::Difference;
use crate::archive::ArchiveError;
use crate::archive::unpack::UnpackError;
use crate::model::{KindRef, TargetSpec};
use crate::plan::PlanError;
use crate::restore::dependencies::DependencyError;
use crate::restore::hooks::HookError;
use crate::restore::import::ImportError;
use crate::restore::journal::file::JournalFileError;
use crate::targets::TargetError;
use crate::transform::redact::RedactError;

/// Why a restore stopped.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum RestoreError {
    /// The plan does not fit the archive or the environment, or was edited.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalFileError),
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The target failed or refused.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// An import failed.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The companions cannot be copied.
    #[error(transparent)]
    Companions(#[from] UnpackError),
    /// The plan's rules cannot be followed.
    #[error(transparent)]
    Redact(#[from] RedactError),
    /// Another secret is there than the one that the plan was made with.
    #[error("KINDPACK_REDACT_KEY {fault}")]
    RedactKey {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The sample cannot be drawn.
    #[error(transparent)]
    Dependencies(#[from] DependencyError),
    /// A command of the user's failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A step failed.
    #[error("{pair}: {error}")]
    Step {
        /// Which, in the target.
        pair: KindRef,
        /// Why.
        error: Box<RestoreError>,
    },
    /// The target holds entities where it must be empty.
    #[error("{target} is not empty: it already has {}", join_counts(.found))]
    NotEmpty {
        /// The target.
        target: String,
        /// Which, and how many.
        found: Vec<(KindRef, u64)>,
    },
    /// The journal says that steps are done, the target does not hold their entities.
    #[error("{target} lacks entities that the journal says are restored: it has {}", join_counts(.found))]
    TargetLostData {
        /// The target.
        target: String,
        /// Which, and how many are there.
        found: Vec<(KindRef, u64)>,
    },
    /// The restore has finished, and the target has changed since.
    #[error("the restore has finished, but {target} has changed since: {}", list_differences(.differences))]
    TargetChanged {
        /// The target.
        target: TargetSpec,
        /// What is not as it was left.
        differences: Vec<Difference>,
    },
    /// A step brought another number of entities than planned.
    #[error("{pair}: expected {expected} entities {place}, found {found}")]
    WrongCount {
        /// Which.
        pair: KindRef,
        /// Entities by the plan.
        expected: u64,
        /// Entities that there are.
        found: u64,
        /// Where they were counted.
        place: &'static str,
    },
    /// The target holds fewer entities than a step brought.
    #[error("{pair}: expected {expected} entities in the target, found {found}")]
    TooFew {
        /// Which.
        pair: KindRef,
        /// Entities that were brought.
        expected: u64,
        /// Entities that are there.
        found: u64,
    },
    /// Entities in the target are not what they should be.
    #[error("{pair}: {differing} entities differ from the archive or are missing")]
    Mismatch {
        /// Which.
        pair: KindRef,
        /// How many.
        differing: u64,
    },
    /// Some steps failed, the others were run.
    #[error("{failed} {} failed", if *.failed == 1 { "step" } else { "steps" })]
    StepsFailed {
        /// How many.
        failed: u64,
        /// The one that failed first.
        first: Box<RestoreError>,
    },
    /// The right to be the only restore into the target was lost: nothing more was written.
    #[error("the lease of {target} is lost: it could not be renewed in time")]
    LeaseLost {
        /// The target.
        target: String,
    },
    /// Somebody requested a stop: what was under way is done, and the journal says how far it came.
    #[error("stopped after {done} of {steps} steps")]
    Stopped {
        /// Steps that are done.
        done: u64,
        /// Steps of the plan.
        steps: u64,
    },
}

impl RestoreError {
    /// Whether the other steps are not run either, whatever `--keep-going` says.
    pub(super) fn ends_all(&self) -> bool {
        matches!(
            self,
            Self::Journal(_) | Self::Hook(_) | Self::LeaseLost { .. } | Self::Stopped { .. }
        )
    }
}

/// How many kinds a message names.
const SHOWN: usize = 5;

fn list_differences(differences: &[Difference]) -> String {
    let mut shown: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    if differences.len() > SHOWN {
        shown.push(more_kinds(differences.len() - SHOWN));
    }
    shown.join("; ")
}

fn more_kinds(count: usize) -> String {
    format!(
        "and {count} more {}",
        if count == 1 { "kind" } else { "kinds" }
    )
}

fn join_counts(found: &[(KindRef, u64)]) -> String {
    let mut shown: Vec<String> = found
        .iter()
        .take(SHOWN)
        .map(|(pair, count)| match count {
            1 => format!("1 {pair} entity"),
            count => format!("{count} {pair} entities"),
        })
        .collect();
    if found.len() > SHOWN {
        shown.push(more_kinds(found.len() - SHOWN));
    }
    shown.join(", ")
}
