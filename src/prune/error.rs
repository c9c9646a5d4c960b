//! Why archives could not be pruned.

use crate::store::StoreError;
use crate::verify::VerifyError;

/// Why nothing was removed, or not all of it.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum PruneError {
    /// The folder cannot be read, or an object not be deleted.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An archive that would be kept cannot be checked.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Archives that would be kept are damaged. Nothing was removed.
    #[error("{} of the archives to keep are damaged; nothing was removed: {}", .0.len(), .0.join("; "))]
    Damaged(Vec<String>),
}
