//! The whole night job: every kind of a Datastore exported on its own, packed into one archive and
//! verified.

mod error;
mod estimate;
mod export;
mod exports;
mod journal;
mod kinds;
mod lock;
mod queue;
mod queue_file;
mod request;
mod run;
mod source;
#[cfg(test)]
mod testing;

pub use error::BackupError;
pub use estimate::{BackupEstimate, KindEstimate, estimate};
pub(crate) use journal::now;
#[cfg(feature = "test-util")]
pub(crate) use journal::replay_segments;
pub use journal::{BackupJournalError, ImpossibleEvent};
pub use kinds::KindSource;
pub use queue_file::{QueueFileError, QueueFileRef, QueueSettings};
pub use request::{
    BackupRequest, BackupResult, BackupSource, BackupSourceError, ExportedKind, FailedKind,
    KindSelection, OPERATION_TIMEOUT, QueueOptions, Rate, RateError, SnapshotTime,
    SnapshotTimeError,
};
pub use run::{
    BackupServices, CompletedBackup, backup, check_archive_name, check_exports_location,
};
pub use source::{OpenSource, open_source};
