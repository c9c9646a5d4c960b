//! The files of an export, as Google writes them and as we write our own: found, read, inspected.

pub mod discover;
pub mod gzip;
pub mod inspect;
pub mod layout;
pub mod log;
pub mod metadata;
pub mod stored_metadata;

pub use log::{LogError, LogFault, LogWriter, PieceBoundary, RecordJoiner};
pub use metadata::{
    ExportMetadata, KindFiles, LegacyBackup, MetadataError, NamespaceSpec, OverallMetadata,
    PartPointer, shard_number,
};
