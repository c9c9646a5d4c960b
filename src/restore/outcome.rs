//! What became of each step and of the companions, for the report at the end.

use serde::Serialize;

use crate::model::{Kind, Namespace};
use crate::plan::Step;
use crate::restore::journal::{StepState, StepStatus};

/// What became of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// Its id.
    pub step: u32,
    /// Its namespace in the archive.
    pub namespace: Namespace,
    /// Its kind.
    pub kind: Kind,
    /// Its namespace in the target.
    pub to_namespace: Namespace,
    /// Where it stands.
    pub end: StepState,
    /// Entities of the kind in the archive.
    pub planned: u64,
    /// Entities that this run has written.
    pub restored: u64,
    /// Entities that an earlier run of the same restore had written.
    pub already_there: u64,
    /// Entities deleted because the archive does not hold them.
    pub deleted: u64,
    /// What a count of the target said, if one was made.
    pub counted: Option<u64>,
    /// Entities that are not as the archive has them, where each was compared.
    pub differing: Option<u64>,
    /// How long this run was busy with it.
    pub seconds: f64,
    /// Why it failed.
    pub error: Option<String>,
}

impl StepOutcome {
    /// A step that nothing was done for yet.
    pub(super) fn planned(step: &Step) -> Self {
        StepOutcome {
            step: step.id,
            namespace: step.namespace.clone(),
            kind: step.kind.clone(),
            to_namespace: step.to_namespace.clone(),
            end: StepState::Pending,
            planned: step.entities,
            restored: 0,
            already_there: 0,
            deleted: 0,
            counted: None,
            differing: None,
            seconds: 0.0,
            error: None,
        }
    }

    /// Takes over what the journal says of earlier runs.
    pub(super) fn load(&mut self, status: StepStatus) {
        self.already_there = status.entities;
        self.deleted = status.deleted.unwrap_or_default();
        self.counted = status.counted;
        self.error = status.error;
        self.end = status.state;
    }
}

/// What became of the companions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CompanionStats {
    /// Objects that this run has copied; in a dry run those that it would copy.
    pub copied: u64,
    /// Objects that were there already, the same to the byte.
    pub already_there: u64,
    /// Bytes of the objects copied.
    pub bytes: u64,
}
