//! The folder for what kindpack keeps between runs: plans and journals of its own, the locks of
//! targets, staged exports.
//!
//! Knows the environment and permissions. Only this user may look into it: plans hold commands and
//! names of kinds.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::failure::Failure;
use super::output::Ui;
use crate::runtime::private_files::{create_private_folder, create_private_folders};

/// The variable that names the folder.
const VARIABLE: &str = "KINDPACK_STATE_DIR";

/// What helps where no folder can be written.
pub const HINT: &str = "set KINDPACK_STATE_DIR to a folder that can be written";

/// The folder, chosen once a command.
#[derive(Debug, Default)]
pub struct StateFolder(OnceLock<PathBuf>);

impl StateFolder {
    /// The folder, made where it is missing, and proved to be writable. Where the user's own cannot
    /// be written, it is a private one below the temporary folder, with a warning.
    pub fn open(&self, ui: &Ui) -> Result<PathBuf, Failure> {
        if let Some(path) = self.0.get() {
            return Ok(path.clone());
        }
        let path = match named() {
            Some(path) => {
                make(&path).map_err(|error| {
                    Failure::usage(format!(
                        "{VARIABLE}: writing to {} failed: {error}",
                        path.display()
                    ))
                    .hint(HINT)
                })?;
                path
            }
            None => match own() {
                Some(path) => match make(&path) {
                    Ok(()) => {
                        close_to_others(&path);
                        path
                    }
                    Err(error) => {
                        fall_back(ui, &format!("{} is not writable ({error})", path.display()))?
                    }
                },
                None => fall_back(ui, "there is no home folder")?,
            },
        };
        Ok(self.0.get_or_init(|| path).clone())
    }

    /// Where the folder is, or would be. Nothing is made.
    pub fn find(&self) -> PathBuf {
        let known = self.0.get().cloned().or_else(named);
        known.unwrap_or_else(|| match own() {
            Some(path) if path.is_dir() || !is_private(&temporary()) => path,
            _ => temporary(),
        })
    }
}

/// The folder that the variable names.
fn named() -> Option<PathBuf> {
    let named = env::var_os(VARIABLE).filter(|named| !named.is_empty())?;
    Some(std::path::absolute(&named).unwrap_or_else(|_| named.into()))
}

/// The user's own folder, by the XDG base directory specification: a relative path counts as none.
fn own() -> Option<PathBuf> {
    let xdg = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let state = xdg.or_else(|| {
        env::home_dir()
            .filter(|home| home.is_absolute())
            .map(|home| home.join(".local/state"))
    })?;
    Some(state.join("kindpack"))
}

/// The same name each time, so that the next run finds it.
fn temporary() -> PathBuf {
    env::temp_dir().join(format!("kindpack-{}", rustix::process::getuid().as_raw()))
}

/// Makes a folder that only this user can look into, and proves that files can be made there.
fn make(path: &Path) -> io::Result<()> {
    create_private_folders(path)?;
    tempfile::tempfile_in(path).map(drop)
}

/// A folder that an earlier version made may be open to others.
fn close_to_others(path: &Path) {
    if fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.mode() & 0o077 != 0)
    {
        fs::set_permissions(path, Permissions::from_mode(0o700)).ok();
    }
}

/// Whether this is a folder of this user's that is closed to others, and no link: anybody may make
/// a name below the temporary folder.
fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.uid() == rustix::process::getuid().as_raw()
            && metadata.mode() & 0o077 == 0
    })
}

fn fall_back(ui: &Ui, reason: &str) -> Result<PathBuf, Failure> {
    let path = temporary();
    let made = match create_private_folder(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if !is_private(&path) => {
            let why = format!(
                "{reason}, and {} is not a private folder of this user",
                path.display()
            );
            return Err(Failure::refused(why).hint(HINT));
        }
        _ => tempfile::tempfile_in(&path).map(drop),
    };
    made.map_err(|error| {
        Failure::usage(format!("{reason}, nor is {}: {error}", path.display())).hint(HINT)
    })?;
    ui.warn(format!(
        "{reason}: plans, journals and locks are kept in {}; an interrupted restore can be resumed on this machine only",
        path.display()
    ));
    Ok(path)
}
