//! What the two targets on disk share: errors, and file work off the async threads.

use std::path::Path;

use super::TargetError;
use crate::runtime::workers::Workers;
use crate::store::name_limits::NameLimits;

/// What an error of the operating system becomes.
pub(super) fn failed(
    path: &Path,
    deed: &'static str,
) -> impl FnOnce(std::io::Error) -> TargetError {
    let name = path.display().to_string();
    move |source| TargetError::Io { name, deed, source }
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    Workers::run_blocking(work).await?
}

/// Refuses files that the file system of `root` cannot hold.
pub(super) fn check_names<'a>(
    root: &Path,
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<(), TargetError> {
    let limits = NameLimits::at(root);
    for path in paths {
        limits
            .check(path)
            .map_err(|fault| TargetError::UnsupportedName {
                name: path.display().to_string(),
                fault,
            })?;
    }
    Ok(())
}

/// Refuses what would be overwritten, be it a link to nothing.
pub(super) fn check_free(path: &Path) -> Result<(), TargetError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Err(TargetError::AlreadyExists {
            name: path.display().to_string(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, "reading")(error)),
    }
}

/// What becomes of an error when a name is given.
pub(super) fn unpublished(path: &Path) -> impl FnOnce(std::io::Error) -> TargetError {
    let path = path.to_owned();
    move |source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => TargetError::AlreadyExists {
            name: path.display().to_string(),
        },
        _ => failed(&path, "renaming a file to")(source),
    }
}

/// Makes new names in a folder survive a power cut, as far as the file system can.
pub(super) fn sync_folder(folder: &Path) {
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .ok();
}
