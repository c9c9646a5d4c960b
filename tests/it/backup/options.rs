//! What is refused before anything is exported.

use crate::support::TestDir;

const FROM: &str = "emulator:shop@127.0.0.1:9";

#[test]
fn wrong_command_lines_are_refused() {
    let desk = TestDir::new();
    desk.write("two.yaml", "queue:\n- name: a\n- name: b\n");
    desk.write("none.yaml", "queue: 7\n");
    let with = |options: &[&'static str]| [&["backup", FROM, "e", "a.zip"], options].concat();
    for (args, words) in [
        (vec!["backup"], "kindpack.toml"),
        (vec!["backup", FROM], "required arguments"),
        (vec!["backup", FROM, "e"], "required arguments"),
        (
            vec!["backup", "dir:out", "e", "a.zip"],
            "is not a Datastore: write datastore:",
        ),
        (
            vec!["backup", "shop", "e", "a.zip"],
            "is not a Datastore: write datastore:PROJECT",
        ),
        (with(&["--rate", "fast"]), "rate"),
        (with(&["--max-concurrent", "0"]), "--max-concurrent"),
        (
            with(&["--snapshot-time", "2026-01-31T02:15:30Z"]),
            "whole minute",
        ),
        (with(&["--notify-on", "failure"]), "--notify-mail-to"),
        (
            with(&["--notify-mail-to", "ops@example.com"]),
            "--notify-mail-from",
        ),
        (with(&["--notify-mail-to", "nobody"]), "--notify-mail-to"),
        (
            with(&["--notify-webhook-env", "A", "--notify-webhook-file", "b"]),
            "cannot be used with",
        ),
        (
            with(&[
                "--notify-mail-to=ops@example.com",
                "--notify-mail-from=backups@example.com",
                "--notify-mail-host=localhost",
                "--notify-mail-username=backups",
            ]),
            "--notify-mail-password-env",
        ),
        (
            with(&[
                "--notify-mail-to=ops@example.com",
                "--notify-mail-from=backups@example.com",
                "--notify-mail-host=localhost",
                "--notify-mail-username=backups",
                "--notify-mail-password-env=PASSWORD",
                "--notify-mail-security=none",
            ]),
            "a password cannot be sent",
        ),
        (with(&["--keep-daily", "0"]), "--keep-daily"),
        (with(&["--keep-daily", "1"]), "needs a folder of archives"),
        (
            with(&["--operation-timeout", "soon"]),
            "--operation-timeout",
        ),
        (with(&["--queue", "two.yaml"]), "several queues: a, b"),
        (with(&["--queue", "two.yaml:c"]), "the file has no queue c"),
        (with(&["--queue", "none.yaml"]), "not a queue.yaml"),
        (with(&["--queue", "missing.yaml"]), "missing.yaml"),
        (
            vec!["backup", FROM, "gs://bucket/e", "a.zip"],
            "an emulator exports to a folder",
        ),
        (
            vec!["backup", "datastore:shop", "e", "a.zip"],
            "gs://BUCKET/NAME only",
        ),
    ] {
        let error = desk.json(2, &args)["error"].to_string();
        assert!(error.contains(words), "{args:?}: {error}");
    }
    assert!(!desk.path("e").exists());
}

#[test]
fn doubtful_source_is_refused() {
    let desk = TestDir::new();
    let args = [
        "backup",
        "datastore:shop",
        "gs://bucket/e",
        "a.zip",
        "--json",
    ];
    let mut command = desk.kindpack(&args);
    command.env("DATASTORE_EMULATOR_HOST", "127.0.0.1:9");
    let run = crate::support::Running::start(command).wait();
    assert_eq!(run.code, 5, "{}", run.brief());
}

#[test]
fn emulator_shows_no_earlier_instant() {
    let desk = TestDir::new();
    let args = ["backup", FROM, "e", "a.zip", "--snapshot-time", "now"];
    let error = desk.json(6, &args)["error"].to_string();
    assert!(error.contains("earlier time"), "{error}");
}

#[test]
fn missing_emulator_is_a_failed_service() {
    let desk = TestDir::new();
    desk.json(6, &["backup", FROM, "e", "a.zip", "--retry-timeout", "0s"]);
    assert!(!desk.path("e").exists());
}
