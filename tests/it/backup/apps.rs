//! Backups that a configuration describes: several applications, pruning, and who is notified.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::notify::Hook;
use crate::support::emulator::{Emulator, emulator};
use crate::support::{Run, Running, TestDir, sound};

/// A project with entities of a kind.
fn project_with(emulator: &Emulator, count: usize) -> String {
    let project = emulator.fresh_project();
    let entity = |number: usize| {
        json!({
            "key": {
                "partitionId": {"projectId": project},
                "path": [{"kind": "User", "name": format!("u{number}")}],
            },
            "properties": {},
        })
    };
    let entities: Vec<Value> = (0..count).map(entity).collect();
    emulator.upsert(&project, &entities);
    project
}

/// Runs the backups of `kindpack.toml`. The webhook's URL may not be printed.
fn back_up(desk: &TestDir, hook: &Hook, code: i32, options: &[&str]) -> Run {
    let args = [&["backup", "--json", "--retry-timeout", "1s"], options].concat();
    let mut command = desk.kindpack(&args);
    command.env("TEST_HOOK", hook.url());
    let run = sound(Running::start(command).wait(), &args);
    assert_eq!(run.code, code, "{}\n{}", run.brief(), run.text());
    assert!(
        !(run.text() + &run.err).contains("CANARY"),
        "{}",
        run.text()
    );
    run
}

fn write_config(desk: &TestDir, emulator: &Emulator, project: &str) {
    let source = emulator.target(project);
    desk.write(
        "kindpack.toml",
        format!(
            r#"
[defaults]
archive = "archives/"
keep = {{ last = 1 }}
notify = {{ webhook = {{ url_env = "TEST_HOOK" }} }}

[app.closed]
from = "emulator:closed@127.0.0.1:9"
exports = "exports/closed"

[app.shop]
from = "{source}"
exports = "exports/shop"
"#
        ),
    );
}

/// Backups of one second would have one id.
fn wait_for_another_second() {
    let second = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = second();
    while second() == now {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn failed_application_does_not_stop_the_next() {
    let Some(emulator) = emulator("the backups of a configuration") else {
        return;
    };
    let desk = TestDir::new();
    let hook = Hook::start(&[]);
    write_config(&desk, emulator, &project_with(emulator, 8));
    let run = back_up(&desk, &hook, 6, &[]);
    assert!(run.err.contains("closed: "), "{}", run.brief());
    let posts = hook.posts();
    let outcomes: Vec<&Value> = posts.iter().map(|(_, body)| &body["outcome"]).collect();
    assert_eq!(outcomes, ["failure", "success"]);
    assert_eq!(posts[1].1["entities"], 8);
    assert_eq!(desk.names_in("archives").len(), 2, "archive and sidecar");
}

#[test]
fn good_backup_prunes_and_is_compared() {
    let Some(emulator) = emulator("a backup that prunes") else {
        return;
    };
    let desk = TestDir::new();
    let hook = Hook::start(&[404]);
    let project = project_with(emulator, 8);
    write_config(&desk, emulator, &project);
    let first = back_up(&desk, &hook, 0, &["--app", "shop"]);
    let warning = first
        .events()
        .into_iter()
        .find(|event| event["event"] == "warning");
    assert!(warning.unwrap()["warning"].to_string().contains("HTTP 404"));
    let archive = first.last_event()["archive"].as_str().unwrap().to_owned();
    // Seven of eight entities go.
    let delete: Vec<Value> = (1..8)
        .map(|number| {
            let path = [json!({"kind": "User", "name": format!("u{number}")})];
            json!({"delete": {"partitionId": {"projectId": project}, "path": path}})
        })
        .collect();
    let commit = json!({"mode": "NON_TRANSACTIONAL", "mutations": delete});
    emulator.call(&project, "commit", &commit);
    wait_for_another_second();
    let second = back_up(&desk, &hook, 0, &["--app", "shop"]);
    assert_ne!(second.last_event()["archive"], archive.as_str());
    let pruned = second.events().into_iter();
    let pruned = pruned.filter(|event| event["event"] == "prune");
    let decisions: Vec<Value> = pruned.map(|event| event["decision"].clone()).collect();
    assert!(decisions.contains(&json!("remove")), "{decisions:?}");
    let (_, body) = &hook.posts()[1];
    assert_eq!(body["shrunk"][0]["previous_entities"], 8, "{body:#}");
    assert_eq!(body["previous"]["entities"], 8);
    assert!(body["remarks"][0].as_str().unwrap().starts_with("removed "));
    assert_eq!(desk.names_in("archives").len(), 2, "archive and sidecar");
    assert!(!desk.path(&archive).exists());
}

#[test]
fn options_prune_and_notify_without_a_configuration() {
    let Some(emulator) = emulator("a backup that prunes and notifies by options") else {
        return;
    };
    let desk = TestDir::new();
    let hook = Hook::start(&[]);
    let source = emulator.target(&project_with(emulator, 8));
    let options = [
        &source,
        "exports/",
        "archives/",
        "--keep-last",
        "1",
        "--notify-webhook-env",
        "TEST_HOOK",
    ];
    let first = back_up(&desk, &hook, 0, &options);
    wait_for_another_second();
    let second = back_up(&desk, &hook, 0, &options);
    assert_ne!(
        first.last_event()["archive"],
        second.last_event()["archive"]
    );
    assert_eq!(desk.names_in("archives").len(), 2, "archive and sidecar");
    let posts = hook.posts();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[1].1["outcome"], "success");
    assert_eq!(posts[1].1["app"], Value::Null, "{:#}", posts[1].1);
    // Only failures from now on.
    let quiet = [&options[..], &["--notify-on", "failure"]].concat();
    wait_for_another_second();
    back_up(&desk, &hook, 0, &quiet);
    assert_eq!(hook.posts().len(), 2);
}

#[test]
fn unknown_application_is_refused() {
    let desk = TestDir::new();
    let hook = Hook::start(&[]);
    desk.write(
        "kindpack.toml",
        "[app.shop]\nfrom = \"emulator:shop@127.0.0.1:9\"\nexports = \"e\"\narchive = \"a/\"\n",
    );
    let run = back_up(&desk, &hook, 2, &["--app", "museum"]);
    assert!(run.err.contains("app.shop"), "{}", run.brief());
    back_up(&desk, &hook, 2, &["--config", "nowhere.toml"]);
}

#[test]
fn options_of_one_backup_are_refused_without_from() {
    let desk = TestDir::new();
    let hook = Hook::start(&[]);
    desk.write(
        "kindpack.toml",
        "[app.shop]\nfrom = \"emulator:shop@127.0.0.1:9\"\nexports = \"e\"\narchive = \"a/\"\n",
    );
    for option in [
        "--only=User",
        "--max-spread=1h",
        "--accept-count=User",
        "--with=images",
        "--method=deflate",
        "--level=6",
        "--overwrite",
        "--storage-class=NEARLINE",
        "--kms-key=projects/p/k",
        "--keep-parts",
        "--upload-cutoff=1MiB",
        "--upload-chunk-size=1MiB",
        "--operation-timeout=1h",
        "--keep-last=1",
        "--keep-daily=1",
        "--keep-weekly=1",
        "--keep-monthly=1",
        "--keep-yearly=1",
        "--notify-webhook-env=TEST_HOOK",
        "--notify-webhook-file=hook",
    ] {
        for place in [&[][..], &["--app", "shop"], &["--config", "kindpack.toml"]] {
            let run = back_up(&desk, &hook, 2, &[place, &[option]].concat());
            let error = run.last_event()["error"].to_string();
            let name = option.split('=').next().unwrap();
            assert!(
                error.contains("<FROM") || error.contains(&format!("cannot be used with '{name}")),
                "{option}: {error}"
            );
        }
    }
}
