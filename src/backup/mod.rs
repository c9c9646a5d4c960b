//! The whole night job: every kind of a Datastore exported on its own, packed into one archive and
//! verified.

mod request;

pub use request::{
    BackupRequest, BackupResult, BackupSource, BackupSourceError, ExportedKind, FailedKind,
    KindSelection, QueueOptions, Rate, RateError, SnapshotTime, SnapshotTimeError,
};
