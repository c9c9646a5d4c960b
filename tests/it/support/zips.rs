//! Archives as the `zip` crate reads them: another reader than the one under test.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use serde_json::Value;

/// Names and bytes of all entries, in the order of the directory. The checksums are checked.
#[track_caller]
pub fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(BufReader::new(File::open(path).unwrap())).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut entry = archive.by_index(index).unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (String::from_utf8(entry.name_raw().to_vec()).unwrap(), bytes)
        })
        .collect()
}

/// The bytes of one entry.
#[track_caller]
pub fn entry(path: &Path, name: &str) -> Vec<u8> {
    let found = contents(path).into_iter().find(|(found, _)| found == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {}", path.display()))
        .1
}

#[track_caller]
pub fn manifest(path: &Path) -> Value {
    serde_json::from_slice(&entry(path, "manifest.json")).unwrap()
}
