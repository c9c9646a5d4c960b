//! The test server held against Google's own Python client: whatever that client expects of the service, the server must do.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

mod gcs_server;

use std::path::{Path, PathBuf};
use std::process::Command;

use gcs_server::{Call, Deed, GcsServer};

/// A Python with the client in it; made once below the build folder.
fn python() -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gcs-python");
    let python = home.join("bin/python");
    let works = |python: &Path| {
        Command::new(python).args(["-c", "import google.cloud.storage"]).output().is_ok_and(|output| output.status.success())
    };
    if works(&python) {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    run(Command::new(home.join("bin/pip")).args(["install", "--quiet", "google-cloud-storage==3.17.1"]))?;
    if works(&python) { Ok(python) } else { Err("google-cloud-storage cannot be imported".to_owned()) }
}

fn skipped(why: &str) {
    let required = std::env::var("KINDPACK_TESTS_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == "python"), "python is required, but {why}");
    eprintln!("skipped: Google's Python client against the test server, because {why}");
}

#[test]
fn googles_python_client_finds_what_it_expects() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skipped(&why),
    };
    let server = GcsServer::start(&["shop"]);
    // The client must come over a fault of each sort, as it does with the service.
    server.plan(Call::List, 1, Deed::Status(503));
    server.plan(Call::Put, 1, Deed::AnswerLess(256 << 10));
    server.plan(Call::Read, 1, Deed::Status(503));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gcs_server/client.py");
    let output = Command::new(python).arg(script).env("STORAGE_EMULATOR_HOST", server.url()).output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.unfired(), []);
    assert!(server.count(Call::List) > 3, "a listing of 7 objects has several pages");
    assert!(server.count(Call::Put) > 3, "a resumable upload has several pieces");
    let whole = server.get("shop", "whole").unwrap();
    assert_eq!((whole.components, whole.md5, whole.len()), (Some(3), None, 9));
}
