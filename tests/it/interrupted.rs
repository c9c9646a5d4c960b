//! What is cut short: killed, interrupted, overtaken by another one, or talking to a reader that
//! has gone. Nothing half written is ever left under a final name.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use kindpack::model::KindRef;

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::fixtures::{legacy, managed};
use crate::support::{Running, TestDir};

/// An export that keeps a pack busy for a good part of a second.
fn large_export(desk: &TestDir) {
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 24, 1_000_000)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path("source"),
        &KindRef::new("acme", "Song"),
        STARTED_MICROS,
        &records,
        2,
    );
}

/// Whether that is the working name of `out/set.zip`.
fn is_working(name: &str) -> bool {
    name.starts_with(".set.zip.") && name.ends_with(".partial")
}

/// The working file of `out/set.zip` has so many bytes.
fn written(desk: &TestDir) -> u64 {
    let Ok(entries) = fs::read_dir(desk.path("out")) else {
        return 0;
    };
    let working = entries
        .flatten()
        .filter(|entry| is_working(&entry.file_name().to_string_lossy()));
    working
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .max()
        .unwrap_or_default()
}

#[test]
fn killed_pack_leaves_no_archive_or_trace() {
    let desk = TestDir::new();
    large_export(&desk);
    desk.json(0, &["pack", "source", "whole.zip"]);
    for bytes in [0, 1, 64 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20] {
        let mut packing = Running::start(desk.kindpack(&["pack", "source", "out/set.zip"]));
        packing.wait_until(|| written(&desk) >= bytes);
        let run = packing.kill();
        if run.code == 0 {
            break;
        }
        let left = if desk.path("out").exists() {
            desk.names_in("out")
        } else {
            Vec::new()
        };
        assert!(
            left.iter().all(|name| is_working(name)),
            "killed at {bytes} bytes: {left:?}"
        );
    }
    let ended = desk.path("out/set.zip").exists();
    desk.json(
        if ended { 5 } else { 0 },
        &["pack", "source", "out/set.zip"],
    );
    assert_eq!(desk.names_in("out"), ["set.zip", "set.zip.sha256"]);
    assert!(
        desk.read("out/set.zip") == desk.read("whole.zip"),
        "other bytes than a pack that was left alone"
    );
}

#[test]
fn a_pack_that_is_interrupted_stops_cleanly() {
    let desk = TestDir::new();
    large_export(&desk);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut packing =
            Running::start(desk.kindpack(&["pack", "source", "out/set.zip", "--json"]));
        assert!(
            packing.wait_until(|| written(&desk) > 0),
            "it was too quick for this test"
        );
        packing.signal(signal);
        let run = packing.wait();
        assert_eq!(run.code, code, "{}", run.brief());
        assert_eq!(run.last_event()["code"], code);
        assert_eq!(desk.names_in("out"), [""; 0], "after {signal}");
    }
    desk.json(0, &["pack", "source", "out/set.zip"]);
}

#[test]
fn one_of_two_packs_wins() {
    let desk = TestDir::new();
    large_export(&desk);
    desk.json(0, &["pack", "source", "whole.zip"]);
    for _ in 0..2 {
        let packs: Vec<Running> = (0..3)
            .map(|_| Running::start(desk.kindpack(&["pack", "source", "out/set.zip"])))
            .collect();
        let mut codes: Vec<i32> = packs.into_iter().map(|pack| pack.wait().code).collect();
        codes.sort_unstable();
        // One that comes late finds the same archive there already.
        let is_sound = codes.iter().all(|code| matches!(code, 0 | 5));
        assert!(codes[0] == 0 && is_sound, "{codes:?}");
        assert_eq!(desk.names_in("out"), ["set.zip", "set.zip.sha256"]);
        assert!(desk.read("out/set.zip") == desk.read("whole.zip"));
        desk.json(0, &["verify", "out/set.zip", "--quick"]);
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
}

#[test]
fn killed_extract_leaves_whole_objects_only() {
    let desk = TestDir::new();
    large_export(&desk);
    desk.json(0, &["pack", "source", "set.zip"]);
    for bytes in [1, 4 << 20, 8 << 20, 16 << 20] {
        let mut extracting = Running::start(desk.kindpack(&["extract", "set.zip", "out"]));
        let folder = desk.path("out");
        let written = || {
            if folder.exists() {
                crate::support::files_below(&folder)
                    .values()
                    .filter_map(|path| fs::metadata(path).ok())
                    .map(|meta| meta.len())
                    .sum()
            } else {
                0
            }
        };
        extracting.wait_until(|| written() >= bytes);
        extracting.kill();
        if folder.exists() {
            for (name, path) in crate::support::files_below(&folder)
                .into_iter()
                .filter(|(name, _)| !name.ends_with(".partial"))
            {
                assert!(
                    fs::read(path).unwrap() == fs::read(desk.path("source").join(&name)).unwrap(),
                    "{name} is not whole"
                );
            }
            fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[test]
fn killed_restore_into_folder_resumes() {
    for target in ["ndjson:out", "dir:out"] {
        let desk = TestDir::new();
        desk.json(0, &["pack", &managed().source, "set.zip"]);
        desk.plan("set.zip", target, "plan.json", &[]);
        let journal = desk.path("plan.json.journal");
        let lines = || {
            fs::read(&journal).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count())
        };
        for at_line in [1, 2, 9, 20, 31] {
            let mut restoring = Running::start(desk.kindpack(&["restore", "plan.json"]));
            restoring.wait_until(|| lines() >= at_line);
            restoring.kill();
        }
        let event = desk.json(0, &["restore", "plan.json"]);
        assert_eq!(event["entities"], 258, "{target}");
        let files = crate::support::files_below(&desk.path("out"));
        assert!(
            !files.keys().any(|name| name.ends_with(".partial")),
            "{target}: {:?}",
            files.keys()
        );
        if target.starts_with("dir:") {
            let packed = desk.json(0, &["pack", "out", "again.zip"]);
            assert_eq!(packed["entities"], 258);
        } else {
            assert_eq!(files.len(), 27);
        }
    }
}

#[test]
fn torn_journal_tail_is_ignored() {
    let desk = TestDir::new();
    desk.json(0, &["pack", &managed().source, "set.zip"]);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(7, &["restore", "plan.json", "--max-steps", "9"]);
    let journal = desk.read("plan.json.journal");
    desk.write("plan.json.journal", &journal[..journal.len() - 30]);
    desk.json(7, &["status", "plan.json", "--require-complete"]);
    desk.json(0, &["restore", "plan.json"]);
    desk.json(0, &["status", "plan.json", "--require-complete"]);
    assert_eq!(crate::support::files_below(&desk.path("out")).len(), 27);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 2_000, 1_000)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path("source"),
        &KindRef::new("acme", "Song"),
        STARTED_MICROS,
        &records,
        1,
    );
    desk.json(0, &["pack", "source", "set.zip"]);
    for args in [
        &["cat", "set.zip", "*"][..],
        &["cat", "set.zip", "*", "--json"],
        &["list", "set.zip"],
        &["list", "set.zip", "--json"],
        &["completions", "bash"],
    ] {
        let mut command: Command = desk.kindpack(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let ended = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(
            (ended.status.code(), err.as_str()),
            (Some(0), ""),
            "kindpack {}",
            args.join(" ")
        );
    }
    // A reader that was never there.
    let mut command = desk.kindpack(&["cat", "set.zip", "*"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(
        ended.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[test]
fn a_full_device_is_told() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        return crate::support::skip("full", "a full device is told", "there is no /dev/full");
    };
    let desk = TestDir::new();
    desk.json(0, &["pack", &legacy().source, "set.zip"]);
    for args in [
        &["cat", "set.zip", "*"][..],
        &["list", "set.zip"],
        &["list", "set.zip", "--json"],
    ] {
        let mut command = desk.kindpack(args);
        let ended = command
            .stdout(full.try_clone().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(
            ended.status.code(),
            Some(6),
            "kindpack {}: {err}",
            args.join(" ")
        );
        assert!(err.contains("standard output"), "{err}");
    }
}
