//! Files and folders that only their owner may look into: backups and what is made of them hold what
//! people entrusted to somebody.
//!
//! The mode is given when a file is created: it is never open to others, not even for a moment. What
//! is there already keeps its mode.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The mode of files.
pub const PRIVATE_FILE_MODE: u32 = 0o600;

/// The mode of folders.
pub const PRIVATE_FOLDER_MODE: u32 = 0o700;

/// Creates a folder.
///
/// # Errors
/// Those of the file system.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE_FOLDER_MODE).create(folder)
}

/// Creates a folder and those around it, where they are missing.
///
/// # Errors
/// Those of the file system.
pub fn create_private_folders(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(PRIVATE_FOLDER_MODE);
    builder.create(folder)
}

/// Options that create a private file, if they create one.
pub fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE_FILE_MODE);
    options
}
