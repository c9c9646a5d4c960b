//! What the two targets on disk share: errors, and file work off the async threads.

use std::path::Path;

use super::TargetError;
use crate::workers::Workers;

/// What an error of the operating system becomes.
pub(super) fn failed(path: &Path, deed: &'static str) -> impl FnOnce(std::io::Error) -> TargetError {
    let name = path.display().to_string();
    move |source| TargetError::Io { name, deed, source }
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, TargetError> + Send + 'static) -> Result<T, TargetError> {
    Workers::aside(work).await?
}
