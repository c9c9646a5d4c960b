//! The program from outside, on its way into a real project.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::fixture::{PROJECT, server};
use crate::support::datastore_server::{Call, DatastoreServer, Deed};
use crate::support::entities::{assert_same, kind_of, moved};
use crate::support::fixtures::{Set, managed};
use crate::support::{Run, Running, TestDir, sound};

const TARGET: &str = "datastore:shop-test";

/// A desk with an archive of a fixture, and the credentials of a server.
fn desk(server: &DatastoreServer, set: &Set) -> TestDir {
    let desk = TestDir::new();
    desk.pack(&set.source);
    desk.write("key.json", server.credentials().to_string());
    desk
}

fn command(desk: &TestDir, server: &DatastoreServer, args: &[&str]) -> Command {
    let mut command = desk.kindpack(args);
    command.env("CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE", server.url());
    command.env("GOOGLE_APPLICATION_CREDENTIALS", desk.path("key.json"));
    command
}

#[track_caller]
fn expect(code: i32, desk: &TestDir, server: &DatastoreServer, args: &[&str]) -> Run {
    let run = sound(Running::start(command(desk, server, args)).wait(), args);
    assert_eq!(
        run.code,
        code,
        "kindpack {}: {}",
        args.join(" "),
        run.brief()
    );
    assert!(
        !run.text().contains("CANARY") && !run.err.contains("CANARY"),
        "no word of the credentials: {}",
        run.err
    );
    run
}

/// The project holds exactly the set's entities.
#[track_caller]
fn assert_restored(server: &DatastoreServer, set: &Set, what: &str) {
    assert_same(
        &moved(&set.truth, set.project, PROJECT, &[]),
        &server.entities(""),
        set.legacy,
        what,
    );
}

fn restore<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [
        "restore",
        "set.zip",
        "--target",
        TARGET,
        "--confirm",
        PROJECT,
    ]
    .iter()
    .chain(rest)
    .copied()
    .collect()
}

#[test]
fn confirmed_restore_writes_all_and_cleans_up() {
    let (server, set) = (server(), managed());
    let desk = desk(&server, &set);
    expect(
        5,
        &desk,
        &server,
        &["restore", "set.zip", "--target", TARGET],
    );
    assert_eq!(
        server.seen().len(),
        0,
        "nobody was asked anything before the project was confirmed"
    );
    expect(0, &desk, &server, &restore(&["--check", "entities"]));
    assert_restored(&server, &set, "restored");
    assert!(
        server.reserved() > 0,
        "numeric ids are not handed out again"
    );
    // What holds entities is not empty any more for another plan.
    let run = expect(5, &desk, &server, &restore(&["--exclude", "Session"]));
    assert!(run.err.contains("8 (default)/"), "{}", run.err);
    server.put("", &set_aside(&server, "Customer"));
    expect(
        0,
        &desk,
        &server,
        &restore(&["--on-existing", "replace", "--check", "entities"]),
    );
    assert_restored(&server, &set, "replaced");
}

/// A copy of some entity of a kind, under another name.
fn set_aside(server: &DatastoreServer, kind: &str) -> Value {
    let mut entity = server
        .entities("")
        .into_iter()
        .find(|entity| kind_of(entity) == kind)
        .unwrap();
    let step = entity["key"]["path"]
        .as_array_mut()
        .unwrap()
        .last_mut()
        .unwrap();
    *step = serde_json::json!({"kind": kind, "name": "of the project's own"});
    entity
}

#[test]
fn killed_restore_resumes_and_stays_locked() {
    let (server, set) = (server(), managed());
    let desk = desk(&server, &set);
    server.plan(Call::Commit, 9, Deed::Stall(Duration::from_secs(600)));
    let mut restoring = Running::start(command(&desk, &server, &restore(&[])));
    assert!(
        restoring.wait_until(|| server.unfired().is_empty()),
        "it had ended before the tenth commit"
    );
    // Another machine has another state folder. Without `merge` it would be refused for what it
    // finds in the target, and ask for no mark.
    let args = restore(&["--on-existing", "merge"]);
    let mut other = command(&desk, &server, &args);
    other.env("XDG_STATE_HOME", desk.home().join("elsewhere"));
    let refused = sound(Running::start(other).wait(), &args);
    assert_eq!(refused.code, 5, "{}", refused.brief());
    assert!(
        refused.err.contains("until"),
        "who holds the project, and until when: {}",
        refused.err
    );
    restoring.kill();
    expect(0, &desk, &server, &restore(&["--check", "entities"]));
    assert_restored(&server, &set, "after the kill");
}

#[test]
fn missing_write_role_is_named() {
    let (server, set) = (server(), managed());
    let desk = desk(&server, &set);
    server.deny();
    let run = expect(6, &desk, &server, &restore(&[]));
    assert!(run.err.contains("roles/datastore"), "{}", run.err);
}

#[test]
fn verbose_twice_prints_each_datastore_request() {
    let (server, set) = (server(), managed());
    let desk = desk(&server, &set);
    let run = expect(0, &desk, &server, &restore(&["-vv"]));
    let requests: Vec<&str> = run
        .err
        .lines()
        .filter(|line| line.starts_with("POST "))
        .collect();
    for method in ["commit", "lookup", "runAggregationQuery", "reserveIds"] {
        let start = format!("POST {method}: 200 in ");
        let is_printed = requests.iter().any(|line| line.starts_with(&start));
        assert!(is_printed, "{method}: {}", run.err);
    }
}
