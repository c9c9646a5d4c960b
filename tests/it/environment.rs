//! What surrounds the program: pipes and devices in place of files, signals at a prompt, a home
//! that cannot be written, an emulator that is named.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::fixtures::legacy;
use crate::support::{Run, Running, TestDir, outside_program, sound};

/// A desk with an archive and a plan.
fn desk() -> TestDir {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk
}

fn make_pipe(desk: &TestDir, name: &str) {
    assert!(
        Command::new("mkfifo")
            .arg(desk.path(name))
            .status()
            .unwrap()
            .success()
    );
}

fn run_with(desk: &TestDir, environment: &[(&str, &Path)], args: &[&str]) -> Run {
    let mut command = desk.kindpack(args);
    command
        .env_remove("XDG_STATE_HOME")
        .envs(environment.iter().copied());
    sound(Running::start(command).wait(), args)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn signal_ends_read_of_silent_pipe() {
    let desk = desk();
    make_pipe(&desk, "pipe");
    let target = ["plan", "set.zip", "--target", "ndjson:other"];
    let with = |options: &[&'static str]| [&target[..], options].concat();
    for args in [
        vec!["status", "pipe"],
        vec!["restore", "pipe"],
        vec!["restore", "pipe", "--target", "ndjson:other"],
        vec!["pack", "out", "other.zip", "--expect", "pipe"],
        with(&["--order-file", "pipe"]),
        with(&["--redact", "@pipe"]),
        with(&["--redact", "pipe"]),
        with(&["--profile", "x", "--config", "pipe"]),
    ] {
        for (signal, code) in [("INT", 130), ("TERM", 143)] {
            let mut reading = Running::start(desk.kindpack(&args));
            let pid = reading.id();
            // It has said that it wants to hear signals before it opens anything.
            assert!(
                reading.wait_until(|| catches_signals(pid)),
                "{args:?}: {}",
                reading.wait().brief()
            );
            reading.signal(signal);
            let run = reading.wait();
            assert_eq!(run.code, code, "{args:?}: {}", run.brief());
        }
    }
}

/// Whether a process has handlers for SIGINT and SIGTERM.
fn catches_signals(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    caught & (1 << 1) != 0 && caught & (1 << 14) != 0
}

#[test]
fn device_without_end_is_refused() {
    let desk = desk();
    for (code, args) in [
        (2, &["status", "/dev/zero"][..]),
        (2, &["restore", "/dev/zero"]),
        (2, &["pack", "out", "other.zip", "--expect", "/dev/zero"]),
        (
            2,
            &[
                "plan",
                "set.zip",
                "--target",
                "ndjson:other",
                "--order-file",
                "/dev/zero",
            ],
        ),
        (
            2,
            &[
                "plan",
                "set.zip",
                "--target",
                "ndjson:other",
                "--redact",
                "@/dev/zero",
            ],
        ),
        (
            2,
            &["plan", "set.zip", "--profile", "x", "--config", "/dev/zero"],
        ),
        (2, &["restore", "plan.json", "--journal", "/dev/zero"]),
    ] {
        desk.json(code, args);
    }
}

#[test]
fn lists_and_rules_may_come_through_pipes() {
    let desk = TestDir::new();
    let set = legacy();
    desk.pack(&set.source);
    let script = format!(
        "{0} pack {1} other.zip --expect <(echo User) && {0} plan set.zip --target ndjson:out --redact <(echo '?*.none=null') \
         --order-file <(echo 'first = [\"Photo\"]')",
        crate::support::PROGRAM,
        set.source
    );
    let run = sound(
        Running::start(desk.program("bash", &["-c", &script])).wait(),
        &["pack and plan"],
    );
    assert!(
        run.code == 0 && run.text().contains("first Photo"),
        "{}{}",
        run.text(),
        run.brief()
    );
}

#[test]
fn journal_that_is_no_file_is_refused() {
    let desk = desk();
    make_pipe(&desk, "plan.json.journal");
    for args in [
        &["restore", "plan.json"][..],
        &["restore", "plan.json", "--dry-run"],
        &["status", "plan.json"],
    ] {
        let error = desk.json(2, args)["error"].to_string();
        assert!(
            error.contains("plan.json.journal is not a regular file"),
            "{args:?}: {error}"
        );
    }
}

#[test]
fn long_journal_without_lines_is_refused() {
    let desk = desk();
    fs::File::create(desk.path("plan.json.journal"))
        .unwrap()
        .set_len(200 << 20)
        .unwrap();
    for args in [&["restore", "plan.json"][..], &["status", "plan.json"]] {
        let error = desk.json(5, args)["error"].to_string();
        assert!(error.contains("line 1 is longer than"), "{args:?}: {error}");
    }
}

#[test]
fn interrupt_ends_the_question_for_the_project() {
    let Some(script) = outside_program("script", &["script"], "a question at a terminal") else {
        return;
    };
    let desk = desk();
    let (terminal, mut keyboard) = std::io::pipe().unwrap();
    let line = format!(
        "{} restore set.zip --target datastore:shop",
        crate::support::PROGRAM
    );
    let mut command = desk.program(script, &["-qec", &line, "/dev/null"]);
    command.stdin(terminal);
    let mut asking = Running::start(command);
    assert!(
        asking.wait_for_output("Type the project's id"),
        "{}",
        asking.wait().brief()
    );
    keyboard.write_all(b"\x03").unwrap();
    let run = asking.wait();
    assert_eq!(run.code, 130, "{}", run.text());
    assert!(
        run.text().contains("interrupted") && !run.text().contains("press Ctrl-C again"),
        "{}",
        run.text()
    );
}

#[test]
fn state_folder_is_closed_to_others() {
    let desk = desk();
    let state = desk.home().join("state/kindpack");
    desk.json(0, &["restore", "set.zip", "--target", "ndjson:one"]);
    assert_eq!(mode(&state), 0o700);
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    desk.json(0, &["restore", "set.zip", "--target", "ndjson:two"]);
    assert_eq!(mode(&state), 0o700);
}

#[test]
fn unwritable_home_falls_back_to_the_temporary_folder() {
    let desk = desk();
    desk.write("no folder", "");
    fs::create_dir(desk.path("tmp")).unwrap();
    let (home, tmp) = (desk.path("no folder"), desk.path("tmp"));
    let environment = [("HOME", home.as_path()), ("TMPDIR", tmp.as_path())];
    let restore = ["restore", "set.zip", "--target", "ndjson:other"];
    let run = run_with(
        &desk,
        &environment,
        &[&restore[..], &["--max-steps", "1"]].concat(),
    );
    assert_eq!(run.code, 7, "{}", run.brief());
    assert!(
        run.err.contains("warning: ") && run.err.contains("on this machine only"),
        "{}",
        run.err
    );
    let names = desk.names_in("tmp");
    assert!(
        names.len() == 1 && names[0].starts_with("kindpack-"),
        "{names:?}"
    );
    assert_eq!(mode(&tmp.join(&names[0])), 0o700);
    let run = run_with(&desk, &environment, &restore);
    assert!(
        run.code == 0 && run.err.contains("saved as"),
        "it goes on: {}",
        run.brief()
    );

    fs::set_permissions(tmp.join(&names[0]), fs::Permissions::from_mode(0o777)).unwrap();
    let run = run_with(&desk, &environment, &restore);
    assert!(
        run.code == 5 && run.err.contains("KINDPACK_STATE_DIR"),
        "{}",
        run.brief()
    );
}

#[test]
fn named_state_folder_is_used_or_refused() {
    let desk = desk();
    let named = desk.path("state/of my own");
    let args = ["restore", "set.zip", "--target", "ndjson:other"];
    let run = run_with(&desk, &[("KINDPACK_STATE_DIR", &named)], &args);
    assert!(
        run.code == 0 && run.err.contains("of my own"),
        "{}",
        run.brief()
    );
    assert_eq!(mode(&named), 0o700);
    let run = run_with(
        &desk,
        &[("KINDPACK_STATE_DIR", Path::new("/dev/null/state"))],
        &args,
    );
    assert!(
        run.code == 2
            && run
                .err
                .contains("KINDPACK_STATE_DIR: writing to /dev/null/state failed"),
        "{}",
        run.brief()
    );
}

#[test]
fn named_emulator_that_is_none_is_an_error() {
    let desk = desk();
    desk.write("emulator.sh", "");
    for (named, reason) in [
        ("nowhere.jar", "is not a file"),
        ("emulator.sh", "is neither a jar"),
        ("", "is empty"),
    ] {
        for command in [&["rehearse", "set.zip"][..], &["demo"]] {
            let tmp = desk.work();
            let run = run_with(
                &desk,
                &[
                    ("KINDPACK_DATASTORE_EMULATOR", Path::new(named)),
                    ("TMPDIR", &tmp),
                ],
                command,
            );
            assert_eq!(run.code, 2, "{named}: {}", run.brief());
            assert!(
                run.err
                    .contains(&format!("KINDPACK_DATASTORE_EMULATOR: {named:?} {reason}")),
                "{}",
                run.err
            );
        }
    }
}

#[test]
fn failing_emulator_shows_its_output() {
    let desk = desk();
    desk.write("emulator.jar", "");
    desk.write(
        "java/bin/java",
        "#!/bin/sh\nseq 1 5000\necho 'no heap for \"me\"' >&2\nexit 3\n",
    );
    fs::set_permissions(
        desk.path("java/bin/java"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let (jar, java) = (desk.path("emulator.jar"), desk.path("java"));
    let run = run_with(
        &desk,
        &[("KINDPACK_DATASTORE_EMULATOR", &jar), ("JAVA_HOME", &java)],
        &["rehearse", "set.zip"],
    );
    assert_eq!(run.code, 6, "{}", run.brief());
    assert!(
        run.err.contains("no heap for \"me\"") && run.err.contains("exit status: 3"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("printed: 4995\n") && !run.err.contains("printed: 4900\n"),
        "the last lines only: {}",
        run.err
    );
}
