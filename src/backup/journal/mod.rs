//! The journal of one run: what has happened, one event a segment, beside the exports.
//!
//! Pure but for `segments.rs`, which keeps the segments in a store. A segment is created and never
//! overwritten, so that a folder and a bucket serve alike, and so that of two processes one notices
//! the other.

mod segments;
mod state;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::request::BackupResult;
use crate::model::{KindRef, Sha256, Timestamp};
pub(crate) use segments::now;
#[cfg(feature = "test-util")]
pub(crate) use segments::replay_segments;
pub(super) use segments::{BackupJournal, RunName, find_runs};
pub(super) use state::{ExportState, ExportStatus, RunState};

/// The value of `format` in every journal of this version.
pub(super) const BACKUP_JOURNAL_FORMAT: &str = "kindpack-backup-journal/1";

/// By what a later command knows that it is the same backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupKey {
    /// The Datastore.
    pub source: String,
    /// The archive, as the user spells it.
    pub archive: String,
    /// The namespaces that are requested.
    pub namespaces: Vec<String>,
    /// The kinds that are requested.
    pub only: Vec<String>,
    /// The kinds that are left out.
    pub exclude: Vec<String>,
    /// The instant that is requested, such as `now`.
    pub snapshot_time: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum BackupEvent {
    /// The run starts. Always the first event, and only once.
    Opened {
        /// Always [`BACKUP_JOURNAL_FORMAT`].
        format: String,
        /// What is backed up.
        backup: BackupKey,
        /// The instant that all exports show.
        snapshot_time: Option<Timestamp>,
        /// Program and version.
        tool: String,
        /// The number of the process.
        process: u32,
    },
    /// Another process goes on with the run.
    Resumed {
        /// Program and version.
        tool: String,
        /// The number of the process.
        process: u32,
    },
    /// The kinds that are exported are known. An export is named by its place in this list.
    KindsListed {
        /// The kinds.
        kinds: Vec<KindRef>,
    },
    /// An export is about to be started.
    ExportStarted {
        /// The export.
        export: u32,
        /// Counts from 1, over all processes.
        attempt: u32,
        /// Where it is written, below the folder of the run.
        folder: String,
    },
    /// The service has started an operation for it.
    OperationStarted {
        /// The export.
        export: u32,
        /// The operation's name.
        operation: String,
    },
    /// The attempt has failed; another one may follow.
    AttemptFailed {
        /// The export.
        export: u32,
        /// Why, in one sentence.
        error: String,
    },
    /// The export is written.
    ExportFinished {
        /// The export.
        export: u32,
    },
    /// The export has failed for good. A later process may start it again.
    ExportFailed {
        /// The export.
        export: u32,
        /// Why, in one sentence.
        error: String,
        /// What may help.
        advice: Option<String>,
    },
    /// The archive is written.
    Packed {
        /// The archive.
        archive: String,
        /// Its SHA-256.
        sha256: Sha256,
        /// Its length.
        bytes: u64,
    },
    /// The archive has been verified.
    Verified {
        /// Whether every byte was read.
        is_full: bool,
    },
    /// The exports are deleted.
    ExportsDeleted,
    /// The result has been reported to people.
    Notified,
    /// The run is over. Always the last event.
    Done {
        /// What it has come to.
        result: BackupResult,
    },
}

impl BackupEvent {
    /// The event's name in the journal.
    pub(super) fn name(&self) -> &'static str {
        match self {
            BackupEvent::Opened { .. } => "opened",
            BackupEvent::Resumed { .. } => "resumed",
            BackupEvent::KindsListed { .. } => "kinds-listed",
            BackupEvent::ExportStarted { .. } => "export-started",
            BackupEvent::OperationStarted { .. } => "operation-started",
            BackupEvent::AttemptFailed { .. } => "attempt-failed",
            BackupEvent::ExportFinished { .. } => "export-finished",
            BackupEvent::ExportFailed { .. } => "export-failed",
            BackupEvent::Packed { .. } => "packed",
            BackupEvent::Verified { .. } => "verified",
            BackupEvent::ExportsDeleted => "exports-deleted",
            BackupEvent::Notified => "notified",
            BackupEvent::Done { .. } => "done",
        }
    }

    /// The export that the event is about.
    fn export(&self) -> Option<u32> {
        match self {
            BackupEvent::ExportStarted { export, .. }
            | BackupEvent::OperationStarted { export, .. }
            | BackupEvent::AttemptFailed { export, .. }
            | BackupEvent::ExportFinished { export }
            | BackupEvent::ExportFailed { export, .. } => Some(*export),
            _ => None,
        }
    }
}

/// An event that cannot have happened where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} is not possible here: expected {expected}, found {found}")]
pub struct ImpossibleEvent {
    /// The event's name.
    pub event: &'static str,
    /// What must hold there.
    pub expected: &'static str,
    /// What holds.
    pub found: String,
}

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum BackupJournalError {
    /// Another process is writing it.
    #[error("another process is running backup {0}")]
    Busy(String),
    /// A segment is not what kindpack writes.
    #[error("{segment} is not a segment of a journal of {BACKUP_JOURNAL_FORMAT}: {reason}")]
    Malformed {
        /// The segment.
        segment: String,
        /// Why not.
        reason: String,
    },
    /// A segment holds an event that cannot follow.
    #[error("{segment}: {source}")]
    Contradiction {
        /// The segment.
        segment: String,
        /// Why not.
        source: ImpossibleEvent,
    },
    /// A segment between others is missing.
    #[error("{0} is missing: a segment of the journal")]
    Gap(String),
    /// A fault of kindpack's own: an event that cannot follow.
    #[error("journal: {0}")]
    Impossible(#[from] ImpossibleEvent),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
