//! Why there is no backup.

use std::io;
use std::time::Duration;

use super::journal::BackupJournalError;
use crate::datastore::error::DatastoreError;
use crate::model::{Namespace, UnmatchedSelector, spelled_duration};
use crate::pack::PackError;
use crate::plan::PlanError;
use crate::store::StoreError;
use crate::verify::VerifyError;

/// Why there is no backup. Only the command line adds hints and exit codes.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum BackupError {
    /// Another Datastore may be meant than the one that is named.
    #[error(transparent)]
    Source(Box<PlanError>),
    /// EXPORTS or ARCHIVE is where the Datastore cannot write or where nothing can be named.
    #[error("{location}: {reason}")]
    Location {
        /// Where.
        location: String,
        /// Why not there.
        reason: &'static str,
    },
    /// The Datastore cannot show an earlier instant.
    #[error("{0} cannot export the data of an earlier time")]
    NoSnapshots(String),
    /// The service does not export the instant that is requested.
    #[error("{reason}")]
    SnapshotRefused {
        /// Its words.
        reason: String,
        /// What may help.
        advice: Option<String>,
    },
    /// There is nothing to back up.
    #[error("{0} has no kinds")]
    NoKinds(String),
    /// There is no such namespace.
    #[error("there is no namespace {namespace}")]
    NoNamespace {
        /// As it was typed.
        namespace: Namespace,
        /// The one that was probably meant.
        nearest: Option<Namespace>,
    },
    /// A selector chooses no kind that is there.
    #[error(transparent)]
    ChoosesNothing(#[from] UnmatchedSelector),
    /// Everything that is there is left out.
    #[error("nothing is left to back up")]
    NothingSelected,
    /// Another process of this machine carries the backup out.
    #[error("another process is running backup {0}")]
    Busy(String),
    /// The lock of the backup cannot be used.
    #[error("locking {path} failed: {source}")]
    Lock {
        /// The lock's file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] BackupJournalError),
    /// The Datastore cannot be reached, or does not answer as it should.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// An operation goes on for longer than a backup waits.
    #[error("export {operation} is still running after {}", spelled_duration(*.timeout))]
    OperationTimeout {
        /// The operation.
        operation: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The exports cannot be looked at or deleted.
    #[error(transparent)]
    Exports(StoreError),
    /// The exports are not packed.
    #[error(transparent)]
    Pack(Box<PackError>),
    /// The archive cannot be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The archive is damaged.
    #[error("{archive}: {}", .problems.join("; "))]
    Damaged {
        /// The archive.
        archive: String,
        /// All that is wrong with it.
        problems: Vec<String>,
    },
}

impl From<PackError> for BackupError {
    fn from(error: PackError) -> Self {
        BackupError::Pack(Box::new(error))
    }
}

impl From<PlanError> for BackupError {
    fn from(error: PlanError) -> Self {
        BackupError::Source(Box::new(error))
    }
}
