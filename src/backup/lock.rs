//! The right to be the only process of this machine that carries out a run.
//!
//! The lock is the system's: it ends with the process, however that ends, and the file that stays
//! means nothing. On another machine the journal's segments tell of a second process.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use sha2::Digest as _;

use super::error::BackupError;
use crate::model::Sha256;
use crate::runtime::private_files::{create_private_folders, private_file_options};

/// How many digits of a digest are enough to tell runs apart.
const NAME_DIGITS: usize = 32;

/// The lock of a run; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct RunLock(#[expect(dead_code, reason = "the open file holds the lock")] File);

impl RunLock {
    /// Locks a run. `folder` is where this user's locks are; `location` is where the exports are.
    ///
    /// # Errors
    /// [`BackupError::Busy`] while another process holds the lock.
    pub(super) fn acquire(folder: &Path, location: &str, id: &str) -> Result<Self, BackupError> {
        let digest = Sha256(sha2::Sha256::digest(format!("{location}\n{id}")).into());
        let name: String = digest.to_string().chars().take(NAME_DIGITS).collect();
        let path = folder.join(format!("{name}.backup-lock"));
        let failed = |source: io::Error| BackupError::Lock {
            path: path.display().to_string(),
            source,
        };
        let file = open(folder, &path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock(file)),
            Err(TryLockError::WouldBlock) => Err(BackupError::Busy(id.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

fn open(folder: &Path, path: &Path) -> io::Result<File> {
    create_private_folders(folder)?;
    let mut options = private_file_options();
    options.write(true).create(true).truncate(false);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_of_a_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("locks");
        let first = RunLock::acquire(&folder, "gs://exports/", "20260131021500").unwrap();
        let second = RunLock::acquire(&folder, "gs://exports/", "20260131021500");
        assert!(matches!(second, Err(BackupError::Busy(_))));
        RunLock::acquire(&folder, "gs://exports/", "20260131021501").unwrap();
        RunLock::acquire(&folder, "gs://other/", "20260131021500").unwrap();
        drop(first);
        RunLock::acquire(&folder, "gs://exports/", "20260131021500").unwrap();
    }
}
