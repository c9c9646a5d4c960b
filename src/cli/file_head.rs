//! How files begin, which says what they are.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::runtime::workers::Workers;

/// Bytes at the beginning that say what a file is.
const HEAD_BYTES: u64 = 256;

/// How a plan begins, without white space.
pub const PLAN_HEAD: &str = r#"{"format":"kindpack-plan/"#;

/// Whether there is a file at a path that begins as a plan does.
pub async fn is_plan_file(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let owned = path.to_owned();
    let head = Workers::run_blocking(move || read_head(&owned)).await;
    matches!(head, Ok(Ok(head)) if head.starts_with(PLAN_HEAD))
}

/// The beginning of a file without white space. Links are not followed: they and what is no file
/// have none, and neither has what cannot be looked at.
pub fn read_head(path: &Path) -> io::Result<String> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(String::new());
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    let text = String::from_utf8_lossy(&head);
    Ok(text.split_whitespace().collect())
}
