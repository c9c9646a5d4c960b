//! Whole terminal outputs: tables, explanations, errors with their hints, and every `--help`.
//!
//! `INSTA_UPDATE=always cargo test --test it snapshots` accepts what is printed now.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;

use crate::demo::{demo, folder, unwrapped};
use crate::support::fixtures::{fixture, legacy, managed};
use crate::support::{PROGRAM, TestDir, copy_folder};

/// Folders with exports of every fixture, and an archive of two of them.
fn scene() -> TestDir {
    let desk = TestDir::new();
    copy_folder(Path::new(&managed().source), &desk.path("exports"));
    copy_folder(Path::new(&legacy().source), &desk.path("legacy"));
    desk.expect(0, &["pack", "exports", "set.zip"]);
    desk.expect(0, &["pack", "legacy", "legacy.zip"]);
    desk
}

/// Runs a command line and gives all that a terminal shows, without what differs between runs.
fn shown(desk: &TestDir, line: &str) -> String {
    let args: Vec<&str> = line.split(' ').collect();
    let run = desk.run(&args);
    let printed = format!(
        "$ kindpack {line}\n{}{}[exit {}]\n",
        run.text(),
        run.err,
        run.code
    );
    let work = desk.work();
    let printed = printed.replace(work.to_str().unwrap(), "[folder]");
    if line.starts_with("status") {
        return without_times(&printed);
    }
    without_seconds(&printed)
}

/// Replaces what stands in the last column of each step that has begun, which is a time.
fn without_times(text: &str) -> String {
    let lines = text.lines().map(|line| match line.rfind("  20") {
        Some(at) if line.len() == at + 21 => format!("{}  [time]\n", &line[..at]),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// Replaces every `0.3 s` by `[time]`.
pub fn without_seconds(text: &str) -> String {
    let mut parts = text.split(" s").peekable();
    let mut out = String::new();
    while let Some(part) = parts.next() {
        let number = part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_time = number.len() < part.len() && part[number.len()..].contains('.');
        if parts.peek().is_none() {
            out.push_str(part);
        } else if is_time {
            out.push_str(number);
            out.push_str("[time]");
        } else {
            out.push_str(part);
            out.push_str(" s");
        }
    }
    out
}

#[test]
fn seconds_are_left_out_of_snapshots() {
    let text = "in     0.0 s\n3 steps (12.5 s), 2 s";
    assert_eq!(
        without_seconds(text),
        "in     [time]\n3 steps ([time]), 2 s"
    );
}

#[test]
fn tables_are_printed_as_before() {
    let desk = scene();
    for (name, line) in [
        ("pack", "pack exports again.zip"),
        ("pack_dry_run", "pack exports dry.zip --dry-run"),
        ("list", "list set.zip"),
        ("list_legacy", "list legacy.zip"),
        ("verify", "verify set.zip"),
        ("verify_quick", "verify set.zip --quick"),
        ("plan", "plan set.zip --target ndjson:out -o plan.json"),
        (
            "plan_left_out",
            "plan set.zip --target ndjson:out --only acme/* --exclude Review",
        ),
        (
            "plan_explain",
            "plan set.zip --target ndjson:out --explain acme/Order",
        ),
        ("prune_dry_run", "prune . --keep-daily 1 --dry-run"),
        ("archives", "archives ."),
        ("status", "status plan.json"),
        ("restore", "restore plan.json"),
        ("status_done", "status plan.json"),
        ("extract", "extract set.zip copy --only acme/Order"),
    ] {
        assert_snapshot!(name, shown(&desk, line));
    }
}

/// The lines of a table: those before the first empty one.
fn table_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.is_empty())
}

#[test]
fn tables_fit_eighty_columns() {
    let desk = scene();
    desk.expect(0, &["pack", "exports", "archives/"]);
    desk.expect(0, &["pack", "legacy", "archives/"]);
    desk.write("archives/other.zip", b"no archive");
    desk.expect(
        0,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "-o",
            "plan.json",
        ],
    );
    desk.expect(7, &["restore", "plan.json", "--max-steps", "20"]);
    let restore = ["restore", "plan.json"];
    for line in [
        &["list", "set.zip"][..],
        &["list", "legacy.zip"],
        &["archives", "archives/"],
        &["archives", "."],
        &["status", "plan.json"],
        &[
            "prune",
            "archives/",
            "--keep-daily",
            "9",
            "--keep-weekly",
            "9",
            "--keep-monthly",
            "9",
        ],
        &["prune", ".", "--keep-last", "9", "--dry-run"],
        &restore,
        &["status", "plan.json"],
    ] {
        let text = desk.expect(0, line).text();
        assert!(table_lines(&text).count() > 2, "{line:?}: {text}");
        let wide = table_lines(&text).find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{line:?}");
    }
}

#[test]
fn demo_is_printed_as_before() {
    let desk = TestDir::new();
    // Where a line is broken depends on the name of the folder.
    let printed = unwrapped(&demo(&desk, &[]).text());
    let folder = folder(&desk);
    let printed = printed
        .replace(folder.to_str().unwrap(), "[folder]")
        .replace(PROGRAM, "[program]");
    assert_snapshot!("demo", without_seconds(&printed));
}

#[test]
fn errors_are_printed_with_their_hints() {
    let desk = scene();
    let bytes = desk.read("set.zip");
    desk.write("cut.zip", &bytes[..bytes.len() / 2]);
    let mut flipped = bytes.clone();
    flipped[4_000] ^= 1;
    desk.write("flipped.zip", flipped);
    copy_folder(
        Path::new(&fixture("managed/acme/Order")),
        &desk.path("unfinished"),
    );
    let files = crate::support::files_below(&desk.path("unfinished"));
    let output = files.iter().find(|(name, _)| name.ends_with("/output-0"));
    fs::remove_file(output.unwrap().1).unwrap();
    for (name, line) in [
        ("no_source", "pack nowhere new.zip"),
        ("missing_output", "pack unfinished new.zip"),
        ("name_taken", "pack legacy set.zip"),
        ("nothing_selected", "pack exports new.zip --only Nothing"),
        ("no_archive", "verify missing.zip"),
        ("cut_archive", "verify cut.zip"),
        ("damaged_archive", "verify flipped.zip"),
        ("unknown_kind", "cat set.zip Nothing"),
        ("unknown_target", "plan set.zip --target nowhere:out"),
        ("unknown_choice", "plan set.zip --on-existing delete"),
        ("unknown_method", "plan set.zip --via imports"),
        ("sample_without_percent", "plan set.zip --sample 5"),
        ("archives", "archives nowhere"),
        ("no_target", "plan set.zip"),
        ("same_project", "plan set.zip --target datastore:demo-src"),
        ("no_plan", "restore missing.json"),
        ("no_such_command", "paack exports"),
        ("backup", "backup"),
    ] {
        assert_snapshot!(format!("error_{name}"), shown(&desk, line));
    }
}

#[test]
fn help_of_every_command_is_complete() {
    let desk = TestDir::new();
    assert_snapshot!("help", shown(&desk, "--help"));
    assert_snapshot!("short_help", shown(&desk, "-h"));
    for command in [
        "demo",
        "backup",
        "pack",
        "list",
        "archives",
        "prune",
        "verify",
        "cat",
        "extract",
        "plan",
        "restore",
        "rehearse",
        "report",
        "status",
        "config",
        "config check",
        "completions",
        "man",
    ] {
        assert_snapshot!(
            format!("help_{}", command.replace(' ', "_")),
            shown(&desk, &format!("{command} --help"))
        );
        assert_snapshot!(
            format!("short_help_{}", command.replace(' ', "_")),
            shown(&desk, &format!("{command} -h"))
        );
    }
}
