//! Why an archive cannot be read.

use crate::archive::deflate::DataError;
use crate::archive::zip::Violation;
use crate::model::MANIFEST_FORMAT;
use crate::runtime::workers::WorkerPanicked;
use crate::store::StoreError;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Neither its beginning nor its end is that of a zip.
    #[error("{archive} is not a zip")]
    NotAZip {
        /// The archive.
        archive: String,
    },
    /// There is no byte in it.
    #[error("{archive} is empty (0 bytes)")]
    Empty {
        /// The archive.
        archive: String,
    },
    /// It begins as a zip, and does not end as one.
    #[error(
        "{archive} begins as a zip and does not end as one: its end is cut off, or other bytes follow it"
    )]
    NoZipEnd {
        /// The archive.
        archive: String,
    },
    /// The container breaks a rule.
    #[error("{archive}: {violation}")]
    Structure {
        /// The archive.
        archive: String,
        /// The rule and what broke it.
        violation: Violation,
    },
    /// There is no manifest where it must be.
    #[error("{archive} is a zip that kindpack did not make, or that was changed since")]
    NoManifest {
        /// The archive.
        archive: String,
    },
    /// The manifest cannot be read.
    #[error("{archive}: manifest.json: {fault}")]
    BadManifest {
        /// The archive.
        archive: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A later version of kindpack made the archive.
    #[error("{archive} has the format {format}; this version of kindpack reads {MANIFEST_FORMAT}")]
    NewerFormat {
        /// The archive.
        archive: String,
        /// Its format.
        format: String,
    },
    /// An entry's data are not what they must be.
    #[error("entry {entry} is damaged: {fault}")]
    Data {
        /// The entry.
        entry: String,
        /// What is wrong.
        fault: String,
    },
    /// A worker was lost.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

impl ArchiveError {
    pub(super) fn data(entry: &str, error: DataError) -> Self {
        ArchiveError::Data {
            entry: entry.to_owned(),
            fault: error.to_string(),
        }
    }

    /// Whether bytes are not what they must be. They may have been damaged on their way.
    pub fn is_damage(&self) -> bool {
        !matches!(self, ArchiveError::Store(_) | ArchiveError::Worker(_))
    }
}
