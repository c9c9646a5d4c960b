//! Real disks and what else a process may lack: room, long files, rights, file descriptors, and a
//! standard output.
//!
//! Whatever a command ends with, nothing half written has a final name, and the same command ends
//! well once there is what it needs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use kindpack::model::KindRef;

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::{PROGRAM, Run, Running, TestDir, files_below, outside_program, skip, sound};

/// The folder that lacks something.
const DISK: &str = "disk";

/// A command that writes below [`DISK`].
const WRITERS: [&[&str]; 5] = [
    &["pack", "source", "disk/out.zip"],
    &["extract", "set.zip", "disk/extracted"],
    &["restore", "set.zip", "--target", "ndjson:disk/lines"],
    &["restore", "set.zip", "--target", "dir:disk/exports"],
    &[
        "plan",
        "set.zip",
        "--target",
        "ndjson:other",
        "-o",
        "disk/plan.json",
    ],
];

/// Two kinds, one of them larger than the disk of these tests.
fn desk() -> TestDir {
    let desk = TestDir::new();
    for (number, (kind, count, blob_len)) in (0..).zip([("Note", 3, 100), ("Song", 3, 700_000)]) {
        let records: Vec<Vec<u8>> = made("demo-src", "acme", kind, count, blob_len)
            .iter()
            .map(Made::record)
            .collect();
        let pair = KindRef::new("acme", kind);
        let started = STARTED_MICROS + number * 60_000_000;
        write_export(&desk.path("source"), &pair, started, &records, 1);
    }
    desk.expect(0, &["pack", "source", "set.zip"]);
    fs::create_dir(desk.path(DISK)).unwrap();
    desk
}

/// Runs `kindpack ARGS --json` by a shell that does something before.
fn run_after(desk: &TestDir, before: &str, args: &[&str]) -> Run {
    let script = format!("{before}; exec \"$@\"");
    let words = [&["-c", &script, "sh", PROGRAM], args, &["--json"]].concat();
    let command = desk.program("sh", &words);
    sound(Running::start(command).wait(), args)
}

/// What a command leaves on a disk that lacks nothing.
fn expected(args: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let desk = desk();
    desk.expect(0, args);
    contents(&desk.path(DISK))
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files_below(folder).into_iter();
    files
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

/// The name of a plan's archive differs from desk to desk.
fn is_plan(name: &str) -> bool {
    name == "plan.json"
}

/// Fails where something half written has a final name.
#[track_caller]
fn assert_whole(found: &BTreeMap<String, Vec<u8>>, args: &[&str], run: &Run) {
    let expected = expected(args);
    for (name, bytes) in found {
        let whole = expected.get(name);
        let is_whole = whole == Some(bytes) || is_plan(name) && whole.is_some();
        assert!(is_whole, "{name} after {args:?}: {}", run.brief());
    }
}

/// Fails where the exit code is another one, or the last event does not say the same.
#[track_caller]
fn assert_failed(run: &Run, code: i32, args: &[&str]) {
    assert_eq!(run.code, code, "{args:?}: {}", run.brief());
    assert_eq!(run.last_event()["code"], code, "{args:?}");
    assert!(!run.err.is_empty(), "{args:?}");
}

/// Fails where the command does not end well once nothing is lacking.
#[track_caller]
fn assert_goes_on(desk: &TestDir, args: &[&str]) {
    let run = desk.expect(0, args);
    let found = contents(&desk.path(DISK));
    assert_whole(&found, args, &run);
    assert_eq!(found.len(), expected(args).len(), "{args:?}");
}

#[test]
fn limit_of_file_size_ends_every_writer() {
    for args in WRITERS {
        let desk = desk();
        let blocks = if args[0] == "plan" { 1 } else { 800 };
        let run = run_after(&desk, &format!("ulimit -f {blocks}"), args);
        assert_failed(&run, 6, args);
        assert_whole(&contents(&desk.path(DISK)), args, &run);
        assert_goes_on(&desk, args);
    }
}

/// Runs a command whose [`DISK`] is a file system of one MiB. Gives what is on it at the end.
fn run_on_full_disk(desk: &TestDir, args: &[&str]) -> (Run, BTreeMap<String, Vec<u8>>) {
    let script = "mount -t tmpfs -o size=1m none disk || exit 99; \"$@\"; code=$?; cp -r disk left; exit $code";
    let words = [
        &[
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            script,
            "sh",
            PROGRAM,
        ],
        args,
        &["--json"],
    ]
    .concat();
    let run = sound(Running::start(desk.program("unshare", &words)).wait(), args);
    let left = desk.path("left");
    let left = if left.exists() {
        contents(&left)
    } else {
        BTreeMap::new()
    };
    (run, left)
}

#[test]
fn full_disk_ends_every_writer() {
    let test = "a full disk ends every writer";
    if outside_program("tmpfs", &["unshare"], test).is_none() {
        return;
    }
    for args in &WRITERS[..4] {
        let desk = desk();
        let (run, left) = run_on_full_disk(&desk, args);
        if matches!(run.code, 1 | 99) && run.out.is_empty() {
            return skip("tmpfs", test, "nothing may be mounted here");
        }
        assert_failed(&run, 6, args);
        assert_whole(&left, args, &run);
        // Of what was on the disk nothing is left: the restore begins where there is nothing.
        let again = if args[0] == "restore" {
            &["--again"][..]
        } else {
            &[]
        };
        assert_goes_on(&desk, &[args, again].concat());
    }
}

/// Runs a command as somebody whose rights count; none where that cannot be.
fn run_unprivileged(desk: &TestDir, args: &[&str]) -> Option<Run> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !is_root {
        return Some(run_after(desk, ":", args));
    }
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        PROGRAM,
    ];
    let version = [&nobody[..], &["--version"]].concat();
    let is_possible = Command::new("setpriv").args(version).output();
    if !is_possible.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let words = [&nobody[..], args, &["--json"]].concat();
    Some(sound(
        Running::start(desk.program("setpriv", &words)).wait(),
        args,
    ))
}

/// Opens what lies around a folder to everybody.
fn open_to_all(desk: &TestDir) {
    let work = desk.work();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(work.parent().unwrap(), 0o755).unwrap();
    mode(&desk.home(), 0o777).unwrap();
    mode(&desk.path(DISK), 0o555).unwrap();
    // What kindpack has made is its owner's alone.
    let made = files_below(&work).into_values();
    made.for_each(|file| mode(&file, 0o644).unwrap());
}

#[test]
fn read_only_folder_refuses_every_writer() {
    for args in WRITERS {
        let desk = desk();
        open_to_all(&desk);
        let Some(run) = run_unprivileged(&desk, args) else {
            return skip(
                "setpriv",
                "a read-only folder refuses every writer",
                "nobody else can run the program",
            );
        };
        assert_failed(&run, 5, args);
        assert_eq!(desk.names_in(DISK), [""; 0], "{args:?}");
        let writable = fs::Permissions::from_mode(0o777);
        fs::set_permissions(desk.path(DISK), writable).unwrap();
        assert_eq!(run_unprivileged(&desk, args).unwrap().code, 0, "{args:?}");
        let found = contents(&desk.path(DISK));
        assert_whole(&found, args, &run);
        assert_eq!(found.len(), expected(args).len(), "{args:?}");
    }
}

#[test]
fn unreadable_source_is_refused() {
    let desk = desk();
    open_to_all(&desk);
    let closed = fs::Permissions::from_mode(0o000);
    fs::set_permissions(desk.path("set.zip"), closed).unwrap();
    for args in [
        &["verify", "set.zip"][..],
        WRITERS[1],
        WRITERS[2],
        WRITERS[4],
    ] {
        let Some(run) = run_unprivileged(&desk, args) else {
            return skip(
                "setpriv",
                "an unreadable source is refused",
                "nobody else can run the program",
            );
        };
        assert_failed(&run, 5, args);
    }
}

#[test]
fn few_file_descriptors_are_enough() {
    let verify: &[&str] = &["verify", "set.zip"];
    for args in WRITERS.iter().chain([&verify]) {
        let desk = desk();
        let run = run_after(&desk, "ulimit -n 32", args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.brief());
        assert_whole(&contents(&desk.path(DISK)), args, &run);
    }
}

#[test]
fn closed_standard_output_changes_nothing() {
    let verify: &[&str] = &["verify", "set.zip"];
    for args in WRITERS.iter().chain([&verify]) {
        let desk = desk();
        // The system's library opens a device in place of what is closed: no file of the command's
        // own becomes its standard output.
        let run = run_after(&desk, "exec >&-", args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.brief());
        let found = contents(&desk.path(DISK));
        assert_whole(&found, args, &run);
        assert_eq!(found.len(), expected(args).len(), "{args:?}");
    }
}

#[test]
fn full_standard_output_is_told_after_the_work() {
    if !Path::new("/dev/full").exists() {
        return skip(
            "full",
            "a full standard output is reported",
            "there is no /dev/full",
        );
    }
    let verify: &[&str] = &["verify", "set.zip"];
    for args in WRITERS.iter().chain([&verify]) {
        let desk = desk();
        let run = run_after(&desk, "exec >/dev/full", args);
        assert_eq!(run.code, 6, "{args:?}: {}", run.brief());
        assert!(run.err.contains("standard output"), "{args:?}: {}", run.err);
        let found = contents(&desk.path(DISK));
        assert_whole(&found, args, &run);
        assert_eq!(found.len(), expected(args).len(), "{args:?}");
    }
}
