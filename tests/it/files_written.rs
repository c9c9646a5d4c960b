//! What is written into folders: never through a link, never over a file of somebody else, and only
//! names that the file system holds. And what is written to a terminal: nothing that steers it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::fixtures::{legacy, managed};
use crate::support::{PROGRAM, Running, TestDir, files_below, sound};
use kindpack::model::KindRef;

fn packed() -> TestDir {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    desk
}

/// An archive with kinds of these names, three entities each.
fn packed_kinds(kinds: &[&str]) -> TestDir {
    let desk = TestDir::new();
    for (number, kind) in (0..).zip(kinds) {
        let records: Vec<Vec<u8>> = made("demo-src", "acme", kind, 3, 100)
            .iter()
            .map(Made::record)
            .collect();
        write_export(
            &desk.path("source"),
            &KindRef::new("acme", *kind),
            STARTED_MICROS + number * 60_000_000,
            &records,
            1,
        );
    }
    desk.pack("source");
    desk
}

#[test]
fn links_and_files_at_working_names_stay() {
    let desk = packed();
    desk.write("mine", "mine");
    for name in [
        ".a.zip.partial",
        ".a.zip.sha256.partial",
        "out/acme/Order.ndjson.partial",
        "out/acme/.Order.ndjson.partial",
    ] {
        fs::create_dir_all(desk.path(name).parent().unwrap()).unwrap();
        symlink(desk.path("mine"), desk.path(name)).unwrap();
    }
    desk.write(".b.zip.partial", "mine");
    for name in ["a.zip", "b.zip"] {
        desk.json(0, &["pack", &managed().source, name]);
    }
    desk.json(0, &["restore", "set.zip", "--target", "ndjson:out"]);
    for name in [
        "mine",
        ".b.zip.partial",
        ".a.zip.partial",
        "out/acme/Order.ndjson.partial",
    ] {
        assert_eq!(desk.read(name), b"mine", "{name}");
    }
    assert!(
        fs::symlink_metadata(desk.path("a.zip")).unwrap().is_file()
            && desk.path(".a.zip.partial").is_symlink()
    );
}

#[test]
fn reports_and_plans_replace_links_and_follow_none() {
    let desk = packed();
    desk.write("mine", "mine");
    for name in ["report.json", "report.xml", "plan.json", "pages/kindpack.1"] {
        fs::create_dir_all(desk.path(name).parent().unwrap()).unwrap();
        symlink(desk.path("mine"), desk.path(name)).unwrap();
    }
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(
        0,
        &[
            "restore",
            "plan.json",
            "--report",
            "report.json",
            "--report",
            "report.xml",
        ],
    );
    desk.json(0, &["man", "pages"]);
    assert_eq!(desk.read("mine"), b"mine");
    assert_eq!(desk.json_file("report.json")["code"], 0);
    // A device is no place for a report.
    symlink("/dev/null", desk.path("null.json")).unwrap();
    desk.json(2, &["restore", "plan.json", "--report", "null.json"]);
    assert!(desk.path("null.json").is_symlink());
}

#[test]
fn files_that_are_there_are_never_overwritten() {
    for text in ["", "not a line", "{}\n"] {
        let desk = packed();
        desk.write("out/acme/Order.ndjson", text);
        let refused = desk.json(5, &["restore", "set.zip", "--target", "ndjson:out"]);
        assert!(
            refused["error"].as_str().unwrap().contains("Order"),
            "{refused}"
        );
        assert_eq!(
            (
                files_below(&desk.path("out")).len(),
                desk.read("out/acme/Order.ndjson")
            ),
            (1, text.as_bytes().to_vec())
        );
        desk.json(
            5,
            &["restore", "set.zip", "--target", "ndjson:out", "--dry-run"],
        );
    }
    // A link to nothing, and folders of an export without its completion marker.
    let desk = packed();
    fs::create_dir_all(desk.path("out/acme")).unwrap();
    symlink("nowhere", desk.path("out/acme/Order.ndjson")).unwrap();
    desk.json(5, &["restore", "set.zip", "--target", "ndjson:out"]);
    assert!(!desk.path("out/acme/nowhere").exists());

    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            "dir:exports",
            "--only",
            "acme/Order",
        ],
    );
    let exports = desk.path("exports/acme/Order");
    let export = fs::read_dir(&exports)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mark = fs::read_dir(&export)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file())
        .unwrap();
    fs::remove_file(mark).unwrap();
    fs::write(export.join("mine"), "mine").unwrap();
    desk.plan(
        "set.zip",
        "dir:exports",
        "again.json",
        &["--only", "acme/Order"],
    );
    desk.json(5, &["restore", "again.json"]);
    assert_eq!(fs::read(export.join("mine")).unwrap(), b"mine");
}

#[test]
fn a_file_made_during_a_step_stays() {
    for target in ["ndjson:out", "dir:out"] {
        let desk = packed();
        desk.json(
            0,
            &[
                "restore",
                "set.zip",
                "--target",
                "dir:before",
                "--only",
                "acme/Order",
            ],
        );
        let export = format!("out/acme/Order/{}", desk.names_in("before/acme/Order")[0]);
        let taken = if target == "ndjson:out" {
            "out/acme/Order.ndjson"
        } else {
            export.as_str()
        };
        let take = format!("mkdir -p out/acme/Order; echo mine > {taken}");
        desk.plan(
            "set.zip",
            target,
            "plan.json",
            &["--only", "acme/Order", "--before-step", &take],
        );
        for _ in 0..2 {
            let failed = desk.expect(5, &["restore", "plan.json"]);
            assert!(
                failed.err.contains(taken) && failed.err.contains("already exists"),
                "{}",
                failed.err
            );
        }
        assert_eq!(desk.read(taken), b"mine\n");
        let left: Vec<String> = files_below(&desk.path("out")).into_keys().collect();
        assert_eq!(
            left,
            [taken.strip_prefix("out/").unwrap()],
            "no working file is left"
        );
    }
}

#[test]
fn unrecorded_step_is_resumed() {
    for target in ["ndjson:out", "dir:out"] {
        let desk = packed();
        desk.plan("set.zip", target, "plan.json", &["--only", "acme/Order"]);
        desk.json(0, &["restore", "plan.json"]);
        let before = files_below(&desk.path("out")).len();
        // As after a kill between the name of the file and the line in the journal.
        let journal = String::from_utf8(desk.read("plan.json.journal")).unwrap();
        let cut: Vec<&str> = journal.lines().take(2).collect();
        desk.write("plan.json.journal", cut.join("\n") + "\n");
        desk.json(0, &["restore", "plan.json"]);
        assert_eq!(files_below(&desk.path("out")).len(), before, "{target}");
    }
}

#[test]
fn kinds_that_would_share_a_file_are_refused() {
    for kinds in [["User", "uSER"], ["caf\u{e9}", "Cafe\u{301}"]] {
        let desk = packed_kinds(&kinds);
        for target in ["ndjson:out", "dir:out"] {
            let refused = desk.json(5, &["plan", "set.zip", "--target", target]);
            assert!(
                kinds
                    .iter()
                    .all(|kind| refused["error"].as_str().unwrap().contains(kind)),
                "{refused}"
            );
            desk.json(5, &["restore", "set.zip", "--target", target]);
            assert!(!desk.path("out").exists());
        }
        desk.json(
            0,
            &["plan", "set.zip", "--target", "emulator:test@localhost:1"],
        );
        desk.json(
            0,
            &[
                "restore",
                "set.zip",
                "--target",
                "ndjson:out",
                "--exclude",
                &format!("acme/{}", kinds[1]),
            ],
        );
    }
}

#[test]
fn file_size_limit_leaves_nothing() {
    let desk = packed();
    let source = managed().source;
    for args in [
        vec!["pack", &source, "cut.zip"],
        vec!["restore", "set.zip", "--target", "ndjson:lines"],
        vec!["extract", "set.zip", "cut"],
    ] {
        let mut command = desk.program("sh", &["-c", "ulimit -f 4; exec \"$@\"", "sh", PROGRAM]);
        command.args(&args);
        let run = sound(Running::start(command).wait(), &args);
        assert_eq!(run.code, 6, "{args:?}: {}", run.brief());
        assert!(run.err.contains("File too large"), "{}", run.err);
    }
    let left: Vec<String> = files_below(&desk.work())
        .into_keys()
        .filter(|name| name.contains("partial") || name.starts_with("cut.zip"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn what_the_system_refuses_is_no_failed_service() {
    let desk = packed();
    let long = "x".repeat(300);
    desk.write("file", "");
    fs::create_dir_all(desk.path("folder/in it")).unwrap();
    symlink("nowhere/at all", desk.path("link")).unwrap();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    for (code, args) in [
        (2, vec!["pack", managed().source.as_str(), long.as_str()]),
        (2, vec!["extract", "set.zip", "file"]),
        (2, vec!["restore", "plan.json", "--journal", "folder"]),
        (2, vec!["restore", "plan.json", "--journal", "link"]),
        (5, vec!["restore", "plan.json", "--journal", "file/journal"]),
        (
            2,
            vec!["restore", "plan.json", "--report", "folder", "--dry-run"],
        ),
        (2, vec!["restore", "set.zip", "--target", "ndjson:file"]),
        (
            5,
            vec![
                "plan",
                "set.zip",
                "--target",
                "ndjson:out",
                "-o",
                "file/plan.json",
            ],
        ),
    ] {
        let run = desk.run(&args);
        assert_eq!(run.code, code, "{args:?}: {}", run.brief());
    }
    if !is_root() {
        fs::set_permissions(
            desk.path("set.zip"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
        .unwrap();
        desk.json(5, &["verify", "set.zip"]);
    }
}

/// The system refuses such a user nothing.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_closed_terminal_ends_a_pack_cleanly() {
    let desk = TestDir::new();
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
    let is_writing = || desk.path("out").exists() && !desk.names_in("out").is_empty();
    let mut packing = Running::start(desk.kindpack(&["pack", "source", "out/set.zip"]));
    assert!(
        packing.wait_until(is_writing),
        "it was too quick for this test"
    );
    packing.signal("HUP");
    assert_eq!(packing.wait().code, 143);
    assert_eq!(desk.names_in("out"), [""; 0]);

    let mut packing = Running::start(desk.program(
        "sh",
        &[
            "-c",
            "trap '' HUP; exec \"$@\"",
            "sh",
            PROGRAM,
            "pack",
            "source",
            "out/set.zip",
        ],
    ));
    assert!(
        packing.wait_until(is_writing),
        "it was too quick for this test"
    );
    packing.signal("HUP");
    assert_eq!(packing.wait().code, 0, "nohup means it");
    assert!(desk.path("out/set.zip").exists());
}

#[test]
fn demo_exits_with_code_of_failed_command() {
    let desk = TestDir::new();
    // The exports fit, their archive does not.
    let mut command = desk.program(
        "sh",
        &["-c", "ulimit -f 60; exec \"$@\"", "sh", PROGRAM, "demo"],
    );
    command.env("TMPDIR", desk.work());
    let run = sound(Running::start(command).wait(), &["demo"]);
    assert_eq!(run.code, 6, "{}", run.brief());
    assert!(
        run.err.contains("backup.zip ended with exit status: 6"),
        "{}",
        run.err
    );
}

#[test]
fn no_kind_steers_a_terminal() {
    let kind = "\u{1b}[2J\u{9b}1m\r\nkindpack: lie\u{7}\u{202e}\u{2066}";
    let desk = packed_kinds(&[kind, "Order"]);
    let fail = "test \"$KINDPACK_KIND\" = Order";
    for (code, args) in [
        (0, vec!["list", "set.zip"]),
        (0, vec!["archives", "."]),
        (0, vec!["verify", "set.zip", "-v"]),
        (0, vec!["plan", "set.zip", "--target", "ndjson:out"]),
        (
            0,
            vec![
                "plan",
                "set.zip",
                "--target",
                "ndjson:out",
                "--explain",
                "*",
            ],
        ),
        (
            0,
            vec![
                "plan",
                "set.zip",
                "--target",
                "ndjson:out",
                "-o",
                "plan.json",
                "--before-step",
                fail,
            ],
        ),
        (7, vec!["restore", "plan.json", "--keep-going", "-v"]),
        (0, vec!["status", "plan.json"]),
        (2, vec!["cat", "set.zip", "\u{1b}none"]),
        (2, vec!["\u{1b}none"]),
        (2, vec!["list", "\u{1b}none\n.zip"]),
    ] {
        let run = desk.expect(code, &args);
        let steers =
            |c: &char| *c != '\n' && c.is_control() || matches!(c, '\u{202e}' | '\u{2066}');
        let printed = run.text() + &run.err;
        assert_eq!(printed.chars().find(steers), None, "{args:?}: {printed:?}");
        assert!(
            !printed
                .lines()
                .any(|line| line.starts_with("kindpack: lie")),
            "{args:?}: {printed}"
        );
    }
}

/// Everything below a folder and the folder itself that others than its owner may look into.
fn open_to_others(path: &Path) -> Vec<String> {
    let meta = fs::symlink_metadata(path).unwrap();
    let mut open = Vec::new();
    let mode = meta.permissions().mode() & 0o777;
    if mode != if meta.is_dir() { 0o700 } else { 0o600 } {
        open.push(format!("{} {mode:o}", path.display()));
    }
    if meta.is_dir() {
        let below = fs::read_dir(path).unwrap();
        open.extend(below.flat_map(|entry| open_to_others(&entry.unwrap().path())));
    }
    open
}

/// Runs kindpack with the umask of most systems, under which others may read new files.
fn run_with_umask(desk: &TestDir, args: &[&str]) {
    let script = ["-c", "umask 022; exec \"$@\"", "sh", PROGRAM];
    let mut command = desk.program("sh", &script);
    command.args(args);
    let run = sound(Running::start(command).wait(), args);
    assert_eq!(run.code, 0, "{args:?}: {}", run.brief());
}

#[test]
fn files_are_for_their_owner_only() {
    let desk = TestDir::new();
    let source = managed().source;
    let companions = legacy().source;
    for args in [
        &["pack", &source, "new/archives/set.zip"][..],
        &["pack", &source, "new/archives/set.zip", "--overwrite"],
        &[
            "pack",
            &source,
            "new/set.zip",
            "--method",
            "store",
            "--with",
            &companions,
        ],
        &["extract", "new/set.zip", "new/extracted/objects"],
        &[
            "extract",
            "new/set.zip",
            "new/managed",
            "--format",
            "managed",
        ],
        &[
            "plan",
            "new/set.zip",
            "--target",
            "ndjson:new/lines/deep",
            "-o",
            "new/plan.json",
        ],
        &[
            "restore",
            "new/plan.json",
            "--report",
            "new/reports/a.json",
            "--report",
            "new/b.xml",
        ],
        &[
            "restore",
            "new/set.zip",
            "--target",
            "dir:new/exports",
            "--companions",
            "new/others",
        ],
    ] {
        run_with_umask(&desk, args);
    }
    assert_eq!(open_to_others(&desk.path("new")), [""; 0]);
    assert_eq!(open_to_others(&desk.home().join("state/kindpack")), [""; 0]);
}

#[test]
fn folders_that_are_there_keep_their_modes() {
    let desk = packed();
    let folder = desk.path("shared/archives");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o775)).unwrap();
    run_with_umask(&desk, &["pack", &managed().source, "shared/archives/"]);
    run_with_umask(&desk, &["extract", "set.zip", "shared/archives"]);
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o775);
}

#[test]
fn manual_pages_are_for_everybody() {
    let desk = TestDir::new();
    run_with_umask(&desk, &["man", "pages"]);
    for (path, expected) in [("pages", 0o755), ("pages/kindpack.1", 0o644)] {
        let mode = fs::metadata(desk.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{path}");
    }
}

#[test]
fn half_written_archives_are_private() {
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 24, 1_000_000)
        .iter()
        .map(Made::record)
        .collect();
    let pair = KindRef::new("acme", "Song");
    write_export(&desk.path("source"), &pair, STARTED_MICROS, &records, 2);
    let script = ["-c", "umask 022; exec \"$@\"", "sh", PROGRAM];
    let mut command = desk.program("sh", &script);
    command.args(["pack", "source", "out/set.zip"]);
    let is_writing = || desk.path("out").exists() && !desk.names_in("out").is_empty();
    let mut packing = Running::start(command);
    assert!(
        packing.wait_until(is_writing),
        "it was too quick for this test"
    );
    packing.signal("STOP");
    let open = open_to_others(&desk.path("out"));
    packing.signal("CONT");
    assert_eq!(packing.wait().code, 0);
    assert_eq!(open, [""; 0]);
}
