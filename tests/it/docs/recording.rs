//! `docs/demo.svg`, the terminal of the README.

use std::process::Command;

use super::root;
use crate::support::{PROGRAM, outside_program};

#[test]
fn recording_shows_what_is_printed() {
    let Some(python) = outside_program("python", &["python3"], "the recording of the README")
    else {
        return;
    };
    let mut record = Command::new(python);
    record.arg(root().join("docs/record.py"));
    record.args(["--kindpack", PROGRAM]);
    if !super::scene::is_accepting() {
        record.arg("--check");
    }
    let output = record.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
}
