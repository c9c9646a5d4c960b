//! How a restore runs: side by side, with hooks around the steps, stopped and gone on with,
//! reported, rehearsed, and alone in its target.

use std::fs;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::emulator::{emulator, other_emulator_slot};
use crate::support::entities::{assert_same, moved};
use crate::support::fixtures::managed;
use crate::support::{Running, TestDir};

/// A desk with the archive of the managed fixture.
fn packed() -> TestDir {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    desk
}

/// The journal's events.
fn journal(desk: &TestDir, name: &str) -> Vec<Value> {
    let text = String::from_utf8(desk.read(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A hook that says that it is there and waits until it may end.
const WAITING: &str = "touch waiting; while ! test -e go; do sleep 0.02; done";

/// A restore of a plan whose hook waits. It runs.
fn waiting_in_a_hook(desk: &TestDir, options: &[&str]) -> Running {
    desk.plan(
        "set.zip",
        "ndjson:out",
        "plan.json",
        &["--only", "acme/*", "--before-step", WAITING],
    );
    let args: Vec<&str> = ["restore", "plan.json"]
        .iter()
        .chain(options)
        .copied()
        .collect();
    let mut restoring = Running::start(desk.kindpack(&args));
    let mark = desk.path("waiting");
    assert!(
        restoring.wait_until(|| mark.exists()),
        "it did not come to its hook: {}",
        restoring.wait().brief()
    );
    restoring
}

#[test]
fn independent_steps_run_in_parallel() {
    let Some(emulator) = emulator("steps side by side") else {
        return;
    };
    let set = managed();
    let desk = packed();
    let project = emulator.fresh_project();
    let plan = desk.plan(
        "set.zip",
        &emulator.target(&project),
        "plan.json",
        &["--depends-on", "acme/Product=acme/EdgeCase"],
    );
    desk.json(
        0,
        &[
            "restore",
            "plan.json",
            "--parallel",
            "4",
            "--check",
            "entities",
        ],
    );
    assert_same(
        &moved(&set.truth, set.project, &project, &[]),
        &emulator.everything(&project),
        false,
        "side by side",
    );
    let events = journal(&desk, "plan.json.journal");
    let id = |namespace: &str, kind: &str| {
        let step = plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["namespace"] == namespace && step["kind"] == kind);
        step.unwrap()["id"].clone()
    };
    let at = |name: &str, step: &Value| {
        events
            .iter()
            .position(|event| event["event"] == name && event["step"] == *step)
            .unwrap()
    };
    assert!(
        at("step-finished", &id("acme", "EdgeCase")) < at("step-started", &id("acme", "Product")),
        "by the user's word"
    );
    assert!(
        at("step-finished", &id("beta", "Product")) < at("step-started", &id("beta", "EdgeCase")),
        "EdgeCase refers to Product"
    );
    let begun_at_once = events
        .windows(2)
        .any(|two| two.iter().all(|event| event["event"] == "step-started"));
    assert!(begun_at_once, "no two steps ran side by side: {events:#?}");
}

#[test]
fn failing_hook_stops_and_reruns() {
    let desk = packed();
    let after = "echo \"$KINDPACK_STEP $KINDPACK_NAMESPACE $KINDPACK_KIND $KINDPACK_ENTITIES $KINDPACK_STATE\" >> after; \
                 echo noise; test \"$KINDPACK_KIND\" != Order || test -e may";
    let options = [
        "--only",
        "acme/Order",
        "--only",
        "acme/OrderLine",
        "--after-step",
        after,
        "--after-all",
        "echo \"$KINDPACK_TARGET\" > all",
    ];
    desk.plan("set.zip", "ndjson:out", "plan.json", &options);
    let run = desk.expect(7, &["restore", "plan.json", "--json", "--keep-going"]);
    let failed = run.last_event();
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("--after-step")
            && error.contains("acme/Order")
            && error.contains("exit status: 1"),
        "{error}"
    );
    assert!(
        run.err.contains("noise") && run.events().len() > 1,
        "what a hook prints is no event: {}",
        run.brief()
    );
    desk.json(7, &["status", "plan.json", "--require-complete"]);

    desk.write("may", "");
    desk.json(0, &["restore", "plan.json"]);
    let seen = String::from_utf8(desk.read("after")).unwrap();
    assert_eq!(
        seen, "1 acme Order 8 done\n1 acme Order 8 done\n2 acme OrderLine 8 done\n",
        "each until it has succeeded"
    );
    assert!(
        String::from_utf8(desk.read("all"))
            .unwrap()
            .starts_with("ndjson:/")
    );
    desk.json(0, &["status", "plan.json", "--require-complete"]);
    assert_eq!(
        desk.json(0, &["restore", "plan.json"])["already_done"],
        true
    );
    assert_eq!(
        String::from_utf8(desk.read("after")).unwrap(),
        seen,
        "nothing is left to run"
    );
    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:dry",
            "--dry-run",
            "--before-step",
            "touch dry",
        ],
    );
    assert!(!desk.path("dry").exists(), "a dry run runs no hook");
}

#[test]
fn what_has_failed_can_be_run_alone() {
    let desk = packed();
    // Something takes the name of a step that has begun.
    let take =
        "test $KINDPACK_KIND$KINDPACK_STATE != Orderpending || mkdir -p out/acme/Order.ndjson";
    desk.plan(
        "set.zip",
        "ndjson:out",
        "plan.json",
        &[
            "--only",
            "acme/*",
            "--first",
            "acme/Order",
            "--before-step",
            take,
        ],
    );
    desk.json(7, &["restore", "plan.json", "--retry-failed"]);
    assert!(
        !desk.path("out/acme/Media.ndjson").exists(),
        "nothing has failed yet"
    );
    desk.json(5, &["restore", "plan.json"]);
    fs::remove_dir(desk.path("out/acme/Order.ndjson")).unwrap();
    let error = desk.json(7, &["restore", "plan.json", "--retry-failed"])["error"].to_string();
    assert!(
        error.contains("--retry-failed leaves the others alone"),
        "{error}"
    );
    assert!(
        desk.path("out/acme/Order.ndjson").exists()
            && !desk.path("out/acme/OrderLine.ndjson").exists()
    );
    desk.json(0, &["restore", "plan.json", "--parallel", "3"]);
}

#[test]
fn a_report_says_what_became_of_each_kind() {
    let Some(emulator) = emulator("reports") else {
        return;
    };
    let desk = packed();
    desk.plan(
        "set.zip",
        &emulator.target(&emulator.fresh_project()),
        "plan.json",
        &["--only", "acme/*"],
    );
    desk.json(
        7,
        &[
            "restore",
            "plan.json",
            "--max-steps",
            "2",
            "--report",
            "reports/first.json",
        ],
    );
    let first = desk.json_file("reports/first.json");
    assert_eq!(
        (
            &first["code"],
            &first["totals"]["done"],
            &first["totals"]["differing"]
        ),
        (&json!(7), &json!(2), &Value::Null)
    );
    let shown = desk.expect(
        0,
        &[
            "restore",
            "plan.json",
            "--check",
            "entities",
            "--report",
            "second.json",
            "--report",
            "second.xml",
        ],
    );
    assert!(
        shown.text().contains("ALREADY THERE") && shown.text().contains("DIFFERING"),
        "{}",
        shown.text()
    );
    let second = desk.json_file("second.json");
    assert_eq!(
        second["totals"]["already_there"],
        first["totals"]["restored"]
    );
    assert_eq!(
        (&second["totals"]["differing"], &second["totals"]["done"]),
        (&json!(0), &second["totals"]["kinds"])
    );
    let xml = String::from_utf8(desk.read("second.xml")).unwrap();
    assert!(
        xml.contains("failures=\"0\"")
            && xml.contains("name=\"acme/Order\"")
            && xml.starts_with("<?xml"),
        "{xml}"
    );
}

#[test]
fn first_signal_finishes_batches_second_stops() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let desk = packed();
        let mut restoring = waiting_in_a_hook(&desk, &["--report", "report.json"]);
        restoring.signal(signal);
        assert!(restoring.wait_for_error("press Ctrl-C again"));
        desk.write("go", "");
        let run = restoring.wait();
        assert_eq!(run.code, code, "{}", run.brief());
        assert!(
            run.err
                .contains("kindpack restore plan.json --report report.json"),
            "how to go on is told: {}",
            run.err
        );
        let report = desk.json_file("report.json");
        assert_eq!(
            (&report["code"], &report["totals"]["done"]),
            (&json!(code), &json!(0)),
            "behind the hook nothing more is begun"
        );
        desk.json(0, &["restore", "plan.json"]);

        let desk = packed();
        let mut restoring = waiting_in_a_hook(&desk, &[]);
        restoring.signal(signal);
        assert!(restoring.wait_for_error("press Ctrl-C again"));
        restoring.signal(signal);
        let run = restoring.wait();
        assert_eq!(run.code, code, "{}", run.brief());
        desk.write("go", "");
        desk.json(0, &["restore", "plan.json"]);
    }
}

#[test]
fn second_restore_into_target_is_refused() {
    let desk = packed();
    let first = waiting_in_a_hook(&desk, &[]);
    let error = desk.json(
        5,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:./out/",
            "--only",
            "beta/*",
        ],
    )["error"]
        .to_string();
    assert!(
        error.contains("plan.json") && error.contains("process "),
        "who holds it is told: {error}"
    );
    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:./out/",
            "--only",
            "beta/*",
            "--dry-run",
        ],
    );
    desk.json(0, &["restore", "set.zip", "--target", "ndjson:elsewhere"]);
    desk.write("go", "");
    assert_eq!(first.wait().code, 0);
    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:./out/",
            "--only",
            "beta/*",
        ],
    );
}

#[test]
fn unconfirmed_project_is_not_written() {
    let desk = packed();
    for options in [
        &["--target", "datastore:shop-test"][..],
        &["--target", "datastore:shop-test", "--confirm", "shop"],
    ] {
        let args: Vec<&str> = ["restore", "set.zip"]
            .iter()
            .chain(options)
            .copied()
            .collect();
        let error = desk.json(5, &args)["error"].to_string();
        assert!(error.contains("datastore:shop-test"), "{error}");
    }
    desk.json(
        5,
        &[
            "restore",
            "set.zip",
            "--target",
            "emulator:shop-test@127.0.0.1:9",
            "--confirm",
            "shop",
        ],
    );
    desk.json(
        5,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:out",
            "--confirm",
            "shop",
        ],
    );
}

#[test]
fn replaced_kind_matches_archive_exactly() {
    let Some(emulator) = emulator("restores with --on-existing replace") else {
        return;
    };
    let set = managed();
    let desk = packed();
    let project = emulator.fresh_project();
    let own = |kind: &str, number: u32| {
        json!({"key": {"partitionId": {"projectId": project, "namespaceId": "acme"}, "path": [{"kind": kind, "name": format!("own {number}")}]},
               "properties": {"n": {"integerValue": "1"}}})
    };
    let mut there: Vec<Value> = (0..700).map(|number| own("Order", number)).collect();
    let other = own("NotInTheBackup", 1);
    there.push(other.clone());
    there
        .chunks(400)
        .for_each(|chunk| emulator.upsert(&project, chunk));
    let target = emulator.target(&project);
    let event = desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            &target,
            "--on-existing",
            "replace",
            "--check",
            "entities",
            "--report",
            "report.json",
        ],
    );
    assert_eq!(event["deleted"], 700);
    assert_eq!(desk.json_file("report.json")["totals"]["deleted"], 700);
    let mut expected = moved(&set.truth, set.project, &project, &[]);
    expected.push(other);
    assert_same(&expected, &emulator.everything(&project), false, "replaced");
}

#[test]
fn imports_and_commits_restore_equal_counts() {
    let Some(emulator) = emulator("restores with --via import") else {
        return;
    };
    let desk = packed();
    let project = emulator.fresh_project();
    let event = desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            &emulator.target(&project),
            "--via",
            "import",
        ],
    );
    assert_eq!(
        (
            event["entities"].clone(),
            emulator.everything(&project).len()
        ),
        (json!(258), 258)
    );
}

#[test]
fn other_secret_is_refused_without_showing_it() {
    let desk = packed();
    let with = |secret: &str, args: &[&str]| {
        let mut command = desk.kindpack(args);
        command.env("KINDPACK_REDACT_KEY", secret);
        Running::start(command).wait()
    };
    let options = ["--redact", "Customer.*=hash", "--sample", "50%"];
    let args: Vec<&str> = [
        "plan",
        "set.zip",
        "--target",
        "ndjson:out",
        "-o",
        "plan.json",
    ]
    .into_iter()
    .chain(options)
    .collect();
    assert_eq!(with("first secret", &args).code, 0);
    let run = with("second secret", &["restore", "plan.json"]);
    assert_eq!(run.code, 5, "{}", run.brief());
    assert!(
        !run.err.contains("secret\"")
            && !run.err.contains("second secret")
            && !run.err.contains("first secret"),
        "{}",
        run.err
    );
    desk.json(5, &["restore", "plan.json"]);
    let run = with("first secret", &["restore", "plan.json", "--json"]);
    let brought = run.last_event()["entities"].as_u64().unwrap();
    assert!(
        run.code == 0 && 60 < brought && brought < 200,
        "about half of 258: {}",
        run.brief()
    );
}

#[test]
fn rehearsal_is_private_and_leaves_nothing() {
    let Some(_) = emulator("rehearsals") else {
        return;
    };
    let _slot = other_emulator_slot();
    let desk = packed();
    let event = desk.json(
        0,
        &[
            "rehearse",
            "set.zip",
            "--report",
            "report.xml",
            "--parallel",
            "2",
        ],
    );
    assert_eq!(
        (&event["entities"], &event["differing"]),
        (&json!(258), &json!(0))
    );
    let host = event["target"].as_str().unwrap().split_once('@').unwrap().1;
    assert!(TcpStream::connect(host).is_err(), "the emulator still runs");
    assert!(desk.path("report.xml").exists());
    let mut bytes = desk.read("set.zip");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    desk.write("damaged.zip", bytes);
    desk.json(4, &["rehearse", "damaged.zip"]);
}

#[test]
fn rehearsal_without_emulator_says_what_was_sought() {
    let desk = packed();
    let mut command = desk.kindpack(&["rehearse", "set.zip"]);
    command.env("PATH", desk.home()).env_remove("JAVA_HOME");
    let run = Running::start(command).wait();
    assert!(
        run.code == 2 && run.err.contains("KINDPACK_FIRESTORE_EMULATOR"),
        "{}",
        run.brief()
    );
}
