//! Why an archive could not be verified at all.

use crate::archive::ArchiveError;
use crate::model::UnmatchedSelector;
use crate::runtime::workers::WorkerPanicked;
use crate::store::StoreError;

/// Why an archive could not be verified at all.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// The metadata of the exports does not fit into memory.
    #[error("{name}: the metadata of all exports need more memory than --memory allows")]
    MemoryTooSmall {
        /// The metadata object that does not fit.
        name: String,
    },
    /// A selector chooses nothing.
    #[error(transparent)]
    NoMatch(#[from] UnmatchedSelector),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

impl VerifyError {
    /// What an archive's error comes to: a problem of the archive, or no answer at all.
    pub(super) fn into_problem(error: ArchiveError) -> Result<String, VerifyError> {
        match error {
            ArchiveError::Store(error) => Err(VerifyError::Store(error)),
            ArchiveError::Worker(error) => Err(VerifyError::Worker(error)),
            error => Ok(error.to_string()),
        }
    }
}
