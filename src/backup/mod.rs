//! The whole night job: every kind of a Datastore exported on its own, packed into one archive and
//! verified.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the run that starts exports comes next")
)]
mod queue;
mod queue_file;
mod request;

pub use queue_file::{QueueFileError, QueueFileRef, QueueSettings};
pub use request::{
    BackupRequest, BackupResult, BackupSource, BackupSourceError, ExportedKind, FailedKind,
    KindSelection, QueueOptions, Rate, RateError, SnapshotTime, SnapshotTimeError,
};
