//! The backup that the program carries: exports of two small shops, `berlin` and `lyon`.

use std::fs;
use std::io;
use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::cli::failure::Failure;

/// Genuine exports of the Datastore emulator, which `fixtures/shop/make.py` makes: one folder of a
/// run, as `kindpack backup` leaves it.
static EXPORTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/shop/exports");

/// The folder of the run, such as `20261127020000`.
pub fn run_name() -> String {
    let run = EXPORTS.dirs().next();
    run.map_or_else(String::new, |run| run.path().display().to_string())
}

/// Writes the exports below `folder`.
pub fn write(folder: &Path) -> Result<(), Failure> {
    write_dir(&EXPORTS, folder)
}

fn write_dir(dir: &Dir<'_>, folder: &Path) -> Result<(), Failure> {
    for file in dir.files() {
        let path = folder.join(file.path());
        let written = write_file(&path, file.contents());
        written.map_err(|error| Failure::io(path.display(), &error))?;
    }
    dir.dirs().try_for_each(|dir| write_dir(dir, folder))
}

/// Writes a file, and makes the folders that it is in.
fn write_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, contents)
}
