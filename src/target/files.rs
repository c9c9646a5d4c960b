//! What the two targets on disk share: errors, and file work off the async threads.

use std::path::Path;

use super::TargetError;
use crate::model::{Pair, file_name};
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

/// The folder of a pair's namespace, the default one as `(default)`.
pub(super) fn namespace_folder(pair: &Pair) -> String {
    if pair.namespace.is_default() { pair.namespace.to_string() } else { file_name(pair.namespace.as_str()) }
}

/// Makes new names in a folder survive a power cut, as far as the file system can.
pub(super) fn sync_folder(folder: &Path) {
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).ok();
}
