//! The transcript of README.md is what the program prints.

use std::fs;
use std::path::Path;

use crate::snapshots::without_seconds;
use crate::support::emulator::emulator;
use crate::support::fixtures::managed;
use crate::support::{PROGRAM, Running, TestDir, copy_folder};

/// The emulator of the transcript.
const HOST: &str = "127.0.0.1:8481";
const PROJECT: &str = "shop-test";

/// The commands of the transcript with what they print.
fn transcript() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).unwrap();
    let block = text.split("```console\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_owned(), String::new())),
            None => commands
                .last_mut()
                .unwrap()
                .1
                .push_str(&format!("{line}\n")),
        }
    }
    commands
}

#[test]
fn transcript_shows_what_is_printed() {
    let desk = TestDir::new();
    copy_folder(Path::new(&managed().source), &desk.path("exports"));
    let emulator = emulator("the restore of the README's transcript");
    let (host, project) = match emulator {
        Some(emulator) => (emulator.host.clone(), emulator.fresh_project()),
        None => (HOST.to_owned(), PROJECT.to_owned()),
    };
    let program = Path::new(PROGRAM).parent().unwrap().to_str().unwrap();
    for (line, expected) in transcript() {
        if line.starts_with("kindpack restore") && emulator.is_none() {
            continue;
        }
        let script = line.replace(HOST, &host).replace(PROJECT, &project);
        let script = format!("PATH='{program}':\"$PATH\"; {script} 2>&1");
        let run = Running::start(desk.program("sh", &["-c", &script])).wait();
        let printed = run.text().replace(&host, HOST).replace(&project, PROJECT);
        assert_eq!(
            without_seconds(printed.trim_end()),
            without_seconds(expected.trim_end()),
            "{line}"
        );
    }
}
