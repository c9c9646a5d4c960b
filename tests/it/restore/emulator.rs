//! Restores into Google's Datastore emulator: everything arrives as it was, nothing else is
//! touched, and what is cut goes on.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kindpack::model::KindRef;
use serde_json::{Value, json};

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::emulator::{Emulator, emulator, late_emulator};
use crate::support::entities::{assert_same, by_pair, moved};
use crate::support::fixtures::{Set, fixture, legacy, managed};
use crate::support::{Running, TestDir, files_below};

/// The project holds exactly the set's entities, moved into it.
#[track_caller]
fn assert_restored(emulator: &Emulator, set: &Set, project: &str, namespaces: &[(&str, &str)]) {
    let expected = moved(&set.truth, set.project, project, namespaces);
    assert_same(
        &expected,
        &emulator.everything(project),
        set.legacy,
        set.name,
    );
}

/// An entity of a project's own.
fn own(project: &str, namespace: &str, kind: &str) -> Value {
    let mut partition = json!({"projectId": project});
    if !namespace.is_empty() {
        partition["namespaceId"] = namespace.into();
    }
    json!({"key": {"partitionId": partition, "path": [{"kind": kind, "name": "of the project's own"}]}, "properties": {"n": {"integerValue": "1"}}})
}

#[test]
fn emulator_receives_exactly_the_entities() {
    let Some(emulator) = emulator("restores of the fixtures") else {
        return;
    };
    for set in [managed(), legacy()] {
        let desk = TestDir::new();
        desk.pack(&set.source);
        let project = emulator.fresh_project();
        desk.plan("set.zip", &emulator.target(&project), "plan.json", &[]);
        desk.json(7, &["status", "plan.json", "--require-complete"]);
        let event = desk.json(0, &["restore", "plan.json"]);
        assert_eq!(
            (&event["steps"], &event["entities"]),
            (&json!(by_pair(&set.truth).len()), &json!(set.truth.len())),
            "{}",
            set.name
        );
        assert_restored(emulator, &set, &project, &[]);
        let kinds: BTreeSet<_> = emulator.pairs(&project).into_iter().collect();
        assert_eq!(
            kinds,
            by_pair(&set.truth).into_keys().collect(),
            "{}: no other kinds",
            set.name
        );
        desk.json(0, &["status", "plan.json", "--require-complete"]);
    }
}

#[test]
fn references_follow_entities_except_third_projects() {
    // The comparison above would say so too, if the fixture had such references; this makes sure
    // that it does.
    let set = managed();
    let texts: Vec<String> = set.truth.iter().map(Value::to_string).collect();
    let third = texts
        .iter()
        .filter(|text| text.contains(r#""projectId":"other"#))
        .count();
    assert!(
        third >= 3,
        "{third} entities with references to a third project"
    );
    let Some(emulator) = emulator("references to a third project") else {
        return;
    };
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();
    desk.json(
        0,
        &["restore", "set.zip", "--target", &emulator.target(&project)],
    );
    let found: Vec<String> = emulator
        .everything(&project)
        .iter()
        .map(Value::to_string)
        .collect();
    assert!(
        !found.iter().any(|text| text.contains("demo-src")),
        "no word of the source project is left"
    );
    assert_eq!(
        found
            .iter()
            .filter(|text| text.contains(r#""projectId":"other"#))
            .count(),
        third
    );
}

#[test]
fn check_all_compares_every_entity() {
    let Some(emulator) = emulator("restores with --check entities") else {
        return;
    };
    for set in [managed(), legacy()] {
        let desk = TestDir::new();
        desk.pack(&set.source);
        let target = emulator.target(&emulator.fresh_project());
        desk.json(
            0,
            &[
                "restore", "set.zip", "--target", &target, "--check", "entities",
            ],
        );
    }
}

#[test]
fn a_mapped_namespace_takes_keys_and_references_along() {
    let Some(emulator) = emulator("restores with --map-namespace") else {
        return;
    };
    let set = managed();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();
    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            &emulator.target(&project),
            "--map-namespace",
            "acme=acme2",
            "--check",
            "entities",
        ],
    );
    assert_restored(emulator, &set, &project, &[("acme", "acme2")]);
    let namespaces: BTreeSet<String> = emulator
        .pairs(&project)
        .into_iter()
        .map(|(namespace, _)| namespace)
        .collect();
    assert_eq!(namespaces, ["", "acme2", "beta"].map(str::to_owned).into());
}

#[test]
fn nonempty_target_is_refused_and_merge_keeps_rest() {
    let Some(emulator) = emulator("restores with --on-existing fail and merge") else {
        return;
    };
    let set = legacy();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();
    let target = emulator.target(&project);
    let others = [
        own(&project, "production", "User"),
        own(&project, "elsewhere", "NotInTheBackup"),
    ];
    emulator.upsert(&project, &others);

    let failed = desk.json(5, &["restore", "set.zip", "--target", &target]);
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("1 production/User entity"),
        "kind and count are named: {error}"
    );
    assert_same(
        &others,
        &emulator.everything(&project),
        false,
        "nothing is written",
    );

    let plan = desk.plan(
        "set.zip",
        &target,
        "merge.json",
        &["--on-existing", "merge"],
    );
    assert_eq!(plan["on_existing"], "merge");
    desk.json(0, &["restore", "merge.json"]);
    let expected: Vec<Value> = moved(&set.truth, set.project, &project, &[])
        .into_iter()
        .chain(others.clone())
        .collect();
    assert_same(&expected, &emulator.everything(&project), true, "merged");

    // Kinds that the plan does not touch may be there.
    let project = emulator.fresh_project();
    let other = [
        own(&project, "elsewhere", "NotInTheBackup"),
        own(&project, "production", "Photo"),
    ];
    emulator.upsert(&project, &other);
    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            &emulator.target(&project),
            "--exclude",
            "Photo",
        ],
    );
}

#[test]
fn a_dry_run_leaves_the_project_empty() {
    let Some(emulator) = emulator("a restore with --dry-run") else {
        return;
    };
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let project = emulator.fresh_project();
    let event = desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            &emulator.target(&project),
            "--dry-run",
        ],
    );
    assert_eq!(event["entities"], 258);
    assert_eq!(emulator.pairs(&project), []);
}

#[test]
fn same_command_resumes_after_max_steps() {
    let Some(emulator) = emulator("a restore with --max-steps") else {
        return;
    };
    let set = managed();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();
    let plan = desk.plan("set.zip", &emulator.target(&project), "plan.json", &[]);
    let of_first: u64 = plan["steps"].as_array().unwrap()[..3]
        .iter()
        .map(|step| step["entities"].as_u64().unwrap())
        .sum();
    desk.json(7, &["restore", "plan.json", "--max-steps", "3"]);
    assert_eq!(
        emulator.everything(&project).len() as u64,
        of_first,
        "three steps and no more"
    );
    desk.json(7, &["status", "plan.json", "--require-complete"]);
    desk.json(7, &["restore", "plan.json", "--max-steps", "3"]);
    let event = desk.json(0, &["restore", "plan.json"]);
    assert_eq!(event["entities"], 258);
    assert_restored(emulator, &set, &project, &[]);
    desk.json(0, &["status", "plan.json", "--require-complete"]);
    let event = desk.json(0, &["restore", "plan.json"]);
    assert_eq!(event["already_done"], true);
    assert!(
        desk.expect(0, &["restore", "plan.json"])
            .text()
            .contains("already restored")
    );
    assert_restored(emulator, &set, &project, &[]);
}

#[test]
fn plan_steps_may_be_removed_and_moved() {
    let Some(emulator) = emulator("a restore of an edited plan") else {
        return;
    };
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let project = emulator.fresh_project();
    let mut plan = desk.plan(
        "set.zip",
        &emulator.target(&project),
        "plan.json",
        &["--only", "acme/*"],
    );
    let steps = plan["steps"].as_array_mut().unwrap();
    steps.retain(|step| step["kind"] != "Session");
    steps.reverse();
    let expected: BTreeSet<_> = steps
        .iter()
        .map(|step| ("acme".to_owned(), step["kind"].as_str().unwrap().to_owned()))
        .collect();
    desk.write("plan.json", serde_json::to_string(&plan).unwrap());
    desk.json(0, &["restore", "plan.json"]);
    assert_eq!(
        emulator
            .pairs(&project)
            .into_iter()
            .collect::<BTreeSet<_>>(),
        expected
    );
    plan["target"] = emulator.target("another").into();
    desk.write("plan.json", serde_json::to_string(&plan).unwrap());
    desk.json(5, &["restore", "plan.json"]);
}

#[test]
fn one_step_restore_resumes_when_retyped() {
    let Some(emulator) = emulator("a restore in one go") else {
        return;
    };
    let set = managed();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();
    let target = emulator.target(&project);
    let run = desk.expect(
        7,
        &[
            "restore",
            "set.zip",
            "--target",
            &target,
            "--max-steps",
            "5",
            "--json",
        ],
    );
    let events = run.events();
    let kept = events
        .iter()
        .find(|event| event["event"] == "kept")
        .expect("it says where plan and journal are");
    for document in ["plan", "journal"] {
        let path = Path::new(kept[document].as_str().unwrap());
        assert!(
            path.starts_with(desk.home().join("state")) && path.is_file(),
            "{}",
            path.display()
        );
    }
    assert!(!emulator.everything(&project).is_empty());
    let shown = desk.expect(0, &["restore", "set.zip", "--target", &target]);
    assert!(
        shown.err.contains(kept["plan"].as_str().unwrap()),
        "also for people: {}",
        shown.err
    );
    assert_restored(emulator, &set, &project, &[]);
    assert_eq!(
        desk.json(0, &["restore", "set.zip", "--target", &target])["already_done"],
        true
    );
    // Other choices are another restore.
    desk.json(
        5,
        &[
            "restore", "set.zip", "--target", &target, "--only", "Customer",
        ],
    );
    assert_restored(emulator, &set, &project, &[]);
}

#[test]
fn emptied_target_is_noticed() {
    let Some(emulator) = emulator("a restore into a target that was emptied") else {
        return;
    };
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let project = emulator.fresh_project();
    desk.plan("set.zip", &emulator.target(&project), "plan.json", &[]);
    desk.json(0, &["restore", "plan.json"]);
    let users = emulator.query(&project, "production", "User");
    let deletes: Vec<Value> = users
        .iter()
        .map(|user| json!({"delete": user["key"]}))
        .collect();
    emulator.call(
        &project,
        "commit",
        &json!({"mode": "NON_TRANSACTIONAL", "mutations": deletes}),
    );
    let failed = desk.json(5, &["restore", "plan.json"]);
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .contains("production/User"),
        "{failed}"
    );
}

// -------------------------------------------------------------------------------------------------------------------
// killed and resumed

/// Entities that fill six pieces. (The emulator takes its time for each, so they are large and not
/// many.)
fn several_pieces() -> Vec<Made<'static>> {
    made("demo-src", "acme", "Song", 8_000, 3_000)
}

#[test]
fn killed_restore_resumes_without_loss() {
    let Some(emulator) = emulator("a restore that is killed") else {
        return;
    };
    let desk = TestDir::new();
    let entities = several_pieces();
    let records: Vec<Vec<u8>> = entities.iter().map(Made::record).collect();
    write_export(
        &desk.path("source"),
        &KindRef::new("acme", "Song"),
        STARTED_MICROS,
        &records,
        2,
    );
    let few: Vec<Vec<u8>> = made("demo-src", "acme", "Album", 10, 10)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path("source"),
        &KindRef::new("acme", "Album"),
        STARTED_MICROS + 1_000_000,
        &few,
        1,
    );
    desk.pack("source");
    let project = emulator.fresh_project();
    desk.plan("set.zip", &emulator.target(&project), "plan.json", &[]);

    // Killed as soon as the journal has so many events of that name.
    let journal = desk.path("plan.json.journal");
    let lines = |of: &str| {
        String::from_utf8(fs::read(&journal).unwrap_or_default())
            .unwrap()
            .matches(of)
            .count()
    };
    let mut killed = Vec::new();
    for (event, count) in [
        ("opened", 1),
        ("step-started", 2),
        ("checkpoint", 1),
        ("checkpoint", 2),
        ("checkpoint", 3),
    ] {
        let mut restoring = Running::start(desk.kindpack(&["restore", "plan.json", "--jobs", "2"]));
        restoring.wait_until(|| lines(event) >= count);
        let run = restoring.kill();
        assert!(matches!(run.code, 0 | 137), "{}", run.brief());
        if run.code == 137 {
            killed.push(lines("checkpoint"));
        }
    }
    assert!(
        killed.len() >= 4 && killed.iter().collect::<BTreeSet<_>>().len() >= 3,
        "checkpoints when it was killed: {killed:?}"
    );
    let event = desk.json(0, &["restore", "plan.json"]);
    assert_eq!(
        (&event["steps"], &event["entities"]),
        (&json!(2), &json!(8_010))
    );
    let truth: Vec<Value> = entities.iter().map(Made::json).collect();
    assert_same(
        &moved(&truth, "demo-src", &project, &[]),
        &emulator.query(&project, "acme", "Song"),
        false,
        "after it was killed",
    );
    assert_eq!(emulator.query(&project, "acme", "Album").len(), 10);
    desk.json(0, &["status", "plan.json", "--require-complete"]);
}

#[test]
fn interrupted_restore_stops_cleanly_and_resumes() {
    let Some(emulator) = emulator("a restore that is interrupted") else {
        return;
    };
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 2_500, 4_000)
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
    desk.pack("source");
    let project = emulator.fresh_project();
    desk.plan("set.zip", &emulator.target(&project), "plan.json", &[]);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let journal = desk.path("plan.json.journal");
        let len = || fs::metadata(&journal).map_or(0, |meta| meta.len());
        let before = len();
        let mut restoring = Running::start(desk.kindpack(&["restore", "plan.json", "--json"]));
        let runs = restoring.wait_until(|| len() > before);
        if runs {
            restoring.signal(signal);
        }
        let run = restoring.wait();
        if run.code != 0 {
            assert_eq!(run.code, code, "{}", run.brief());
            assert_eq!(run.last_event()["code"], code);
        }
    }
    desk.json(0, &["restore", "plan.json"]);
    assert_eq!(emulator.query(&project, "acme", "Song").len(), 2_500);
}

#[test]
fn one_journal_serves_one_restore() {
    let Some(emulator) = emulator("two restores at once") else {
        return;
    };
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 2_500, 4_000)
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
    desk.pack("source");
    let project = emulator.fresh_project();
    desk.plan("set.zip", &emulator.target(&project), "plan.json", &[]);
    let journal = desk.path("plan.json.journal");
    let mut first = Running::start(desk.kindpack(&["restore", "plan.json"]));
    let runs = first.wait_until(|| fs::metadata(&journal).is_ok_and(|meta| meta.len() > 0));
    let second = desk.run(&["restore", "plan.json"]);
    let first = first.wait();
    assert_eq!(first.code, 0, "{}", first.brief());
    if runs {
        assert!(
            second.code == 5 || second.text().contains("already restored"),
            "{}",
            second.brief()
        );
    }
    assert_eq!(emulator.query(&project, "acme", "Song").len(), 2_500);
}

// ----------------------------------------------------------------------------------------------------------------
// Google's own import

/// Every completion marker below a folder.
fn marks(folder: &Path) -> Vec<PathBuf> {
    files_below(folder)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".overall_export_metadata"))
        .map(|(_, path)| path)
        .collect()
}

/// What the import changes by itself: indexed references to a third project. So only keys are
/// compared.
#[track_caller]
fn assert_imported(emulator: &Emulator, set: &Set, folder: &Path) {
    let project = emulator.fresh_project();
    for mark in marks(folder) {
        let begun = Instant::now();
        emulator.import(&project, &mark).unwrap_or_else(|error| {
            panic!(
                "{}: {} after {:?}: {error}",
                set.name,
                mark.display(),
                begun.elapsed()
            )
        });
    }
    let keys = |entities: &[Value]| {
        entities
            .iter()
            .map(|entity| json!({"key": entity["key"]}))
            .collect::<Vec<_>>()
    };
    assert_same(
        &keys(&moved(&set.truth, set.project, &project, &[])),
        &keys(&emulator.everything(&project)),
        false,
        set.name,
    );
}

#[test]
fn googles_own_import_takes_what_dir_writes() {
    let Some(emulator) = emulator("Google's import of dir:") else {
        return;
    };
    let border = || {
        crate::support::fixtures::sets()
            .into_iter()
            .find(|set| set.name.starts_with("ends_2"))
            .unwrap()
    };
    for set in [managed(), legacy(), border()] {
        let desk = TestDir::new();
        desk.pack(&set.source);
        desk.json(0, &["restore", "set.zip", "--target", "dir:out"]);
        assert_imported(emulator, &set, &desk.path("out"));
    }
}

#[test]
fn google_import_takes_converted_legacy_backups() {
    let Some(emulator) = emulator("Google's import of extract --format managed") else {
        return;
    };
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.json(0, &["extract", "set.zip", "out", "--format", "managed"]);
    assert_imported(emulator, &legacy(), &desk.path("out"));
}

#[test]
fn google_import_takes_original_extracts() {
    let Some(emulator) = emulator("Google's import of extract") else {
        return;
    };
    let set = crate::support::fixtures::sets()
        .into_iter()
        .find(|set| set.name == "gcs_layout")
        .unwrap();
    let desk = TestDir::new();
    desk.pack(&fixture("managed-variants/gcs_layout"));
    desk.json(0, &["extract", "set.zip", "out"]);
    assert_imported(emulator, &set, &desk.path("out"));
}

// ---------------------------------------------------------------------------------------------------------------------
// what is spoken

/// Something in the way to the emulator that passes everything on, or everything but HTTP/2, and
/// says whether a page of keys was requested.
pub fn way(host: &str, http2: bool) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let (host, paged) = (host.to_owned(), Arc::new(AtomicBool::new(false)));
    let seen = paged.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map(Result::unwrap) {
            let mut first = [0; 3];
            if near.peek(&mut first).unwrap_or(0) == 0 || (!http2 && &first == b"PRI") {
                continue;
            }
            let Ok(far) = TcpStream::connect(&host) else {
                continue;
            };
            let pass = |mut from: TcpStream, mut to: TcpStream, seen: Arc<AtomicBool>| {
                std::thread::spawn(move || {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(len @ 1..) = from.read(&mut bytes) {
                        let asked = bytes[..len].windows(11).any(|part| part == b"startCursor");
                        seen.fetch_or(asked, Ordering::Relaxed);
                        if to.write_all(&bytes[..len]).is_err() {
                            break;
                        }
                    }
                    to.shutdown(std::net::Shutdown::Write).ok();
                });
            };
            pass(
                near.try_clone().unwrap(),
                far.try_clone().unwrap(),
                seen.clone(),
            );
            pass(far, near, Arc::default());
        }
    });
    (here, paged)
}

#[test]
fn http_replaces_missing_grpc() {
    let Some(emulator) = emulator("restores over gRPC and over HTTP") else {
        return;
    };
    let desk = TestDir::new();
    let entities = made("demo-src", "acme", "Song", 1_234, 50);
    let records: Vec<Vec<u8>> = entities.iter().map(Made::record).collect();
    write_export(
        &desk.path("source"),
        &KindRef::new("acme", "Song"),
        STARTED_MICROS,
        &records,
        2,
    );
    desk.pack("source");
    let truth: Vec<Value> = entities.iter().map(Made::json).collect();
    for http2 in [true, false] {
        let (host, paged) = way(&emulator.host, http2);
        let project = emulator.fresh_project();
        let target = format!("emulator:{project}@{host}");
        let run = desk.expect(0, &["restore", "set.zip", "--target", &target, "--json"]);
        let step = run
            .events()
            .into_iter()
            .find(|event| event["event"] == "step-finished")
            .unwrap();
        assert_eq!(step["counted"], 1_234, "gRPC: {http2}");
        assert_same(
            &moved(&truth, "demo-src", &project, &[]),
            &emulator.query(&project, "acme", "Song"),
            false,
            "restored",
        );
        assert_eq!(
            paged.load(Ordering::Relaxed),
            !http2,
            "keys are counted page by page only where there is no other way"
        );
    }
}

// ------------------------------------------------------------------------------------------------------------------
// how emulators differ

/// An archive of one kind with so many entities, and the desk that it lies on.
fn songs(count: u64) -> TestDir {
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", count, 50)
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
    desk.pack("source");
    desk
}

#[test]
fn an_emulator_that_counts_late_takes_every_restore() {
    for consistency in ["0.0", "0.9"] {
        let Some(emulator) =
            late_emulator("restores into an emulator that counts late", consistency)
        else {
            return;
        };
        let desk = songs(700);
        for (project, check) in [("counted", "counts"), ("compared", "entities")] {
            let target = format!("emulator:{project}@{}", emulator.host);
            let run = desk.expect(
                0,
                &[
                    "restore", "set.zip", "--target", &target, "--check", check, "--json",
                ],
            );
            let step = run
                .events()
                .into_iter()
                .find(|event| event["event"] == "step-finished")
                .unwrap();
            assert_eq!(step["counted"], 700, "{consistency}: {check}");
        }
        // What is there already is seen, whatever a query shows.
        let target = format!("emulator:seen@{}", emulator.host);
        desk.json(
            0,
            &["restore", "set.zip", "--target", &target, "--check", "none"],
        );
        desk.plan("set.zip", &target, "other.json", &[]);
        let others = desk.json(5, &["restore", "other.json"]);
        assert!(
            others["error"].as_str().unwrap().contains("Song"),
            "{consistency}: {others}"
        );
        // What replace deletes is not counted any more.
        let target = format!("emulator:replaced@{}", emulator.host);
        desk.json(0, &["restore", "set.zip", "--target", &target]);
        let few = songs(400);
        few.json(
            0,
            &[
                "restore",
                "set.zip",
                "--target",
                &target,
                "--on-existing",
                "replace",
            ],
        );
    }
}

#[test]
fn new_entities_do_not_get_restored_ids() {
    let Some(emulator) = emulator("ids that are handed out after a restore") else {
        return;
    };
    let desk = TestDir::new();
    desk.pack(&managed().source);
    for via in ["commit", "import"] {
        let project = emulator.fresh_project();
        desk.json(
            0,
            &[
                "restore",
                "set.zip",
                "--target",
                &emulator.target(&project),
                "--via",
                via,
            ],
        );
        let restored: BTreeSet<String> = emulator
            .everything(&project)
            .iter()
            .map(|entity| entity["key"].to_string())
            .collect();
        for (namespace, kind) in emulator.pairs(&project) {
            let mut key = own(&project, &namespace, &kind)["key"].take();
            key["path"] = json!([{"kind": kind}]);
            let mutations = vec![json!({"insert": {"key": key}}); 50];
            let answer = emulator.call(
                &project,
                "commit",
                &json!({"mode": "NON_TRANSACTIONAL", "mutations": mutations}),
            );
            let allocated = emulator.call(&project, "allocateIds", &json!({"keys": vec![key; 50]}));
            let inserted = answer["mutationResults"]
                .as_array()
                .unwrap()
                .iter()
                .map(|result| &result["key"]);
            for key in inserted.chain(allocated["keys"].as_array().unwrap()) {
                assert!(!restored.contains(&key.to_string()), "{via}: {key}");
            }
        }
    }
}

// -------------------------------------------------------------------------------------------------------------------
// what a server says

/// A server that gives every request the same answer.
fn canned(status: &str, content_type: &str, body: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), body].concat();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = vec![0; 1 << 16];
            if socket
                .read(&mut request)
                .is_ok_and(|len| len > 0 && !request.starts_with(b"PRI"))
            {
                socket.write_all(&answer).ok();
                socket.shutdown(std::net::Shutdown::Write).ok();
                while socket.read(&mut request).is_ok_and(|len| len > 0) {}
            }
        }
    });
    host
}

#[test]
fn no_answer_crashes_or_counts_as_done() {
    let desk = songs(3);
    let delay = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\xff\xff\xff\xff\x0f";
    let info = [&[0x0a, delay.len() as u8][..], delay].concat();
    let any = [
        &b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12"[..],
        &[info.len() as u8],
        &info,
    ]
    .concat();
    let retry_info = [&b"\x08\x0e\x12\x02no\x1a"[..], &[any.len() as u8], &any].concat();
    for (status, body) in [
        ("503 Unavailable", retry_info.as_slice()),
        ("503 Unavailable\r\nRetry-After: 18446744073709551615", b"x"),
        ("200 OK", &[0; 1_000]),
        ("200 OK", b"{\"x\":[[["),
        ("200 OK", b""),
    ] {
        let target = format!(
            "emulator:shop@{}",
            canned(status, "application/x-protobuf", body)
        );
        let args = [
            "restore",
            "set.zip",
            "--target",
            &target,
            "--on-existing",
            "merge",
            "--check",
            "none",
            "--retry-timeout",
            "1s",
        ];
        desk.json(6, &args);
    }
}

#[test]
fn refusals_repeat_only_known_phrases() {
    let desk = songs(3);
    for (message, shown) in [
        (
            "Key path element must not be incomplete: [Customer: SECRET, K: ]",
            "Key path element must not be incomplete",
        ),
        (
            "The key path element name \"__\"SECRET\"__\" is reserved.",
            "a name in the key is reserved",
        ),
        ("Invalid value SECRET", "HTTP 400"),
        ("The value \"a\"SECRET\"b\" is bad", "HTTP 400"),
    ] {
        let body =
            json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": message}})
                .to_string();
        let target = format!(
            "emulator:shop@{}",
            canned("400 Bad Request", "application/json", body.as_bytes())
        );
        let args = [
            "restore",
            "set.zip",
            "--target",
            &target,
            "--on-existing",
            "merge",
            "--report",
            "report.json",
            "--journal",
            "journal",
        ];
        let run = desk.expect(6, &args);
        assert!(run.err.contains(shown), "{}", run.err);
        for text in [
            run.text(),
            run.err,
            desk.json_file("report.json").to_string(),
            String::from_utf8(desk.read("journal")).unwrap(),
        ] {
            assert!(!text.contains("SECRET"), "{text}");
        }
        fs::remove_file(desk.path("journal")).unwrap();
    }
}

// --------------------------------------------------------------------------------------------------------------------
// no emulator at all

#[test]
fn silent_emulator_is_given_up() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let begun = Instant::now();
    let failed = desk.json(
        6,
        &[
            "restore",
            "set.zip",
            "--target",
            &format!("emulator:nobody@127.0.0.1:{port}"),
            "--retry-timeout",
            "2s",
        ],
    );
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains(&port.to_string()) && error.contains("tries"),
        "which call, how often, for how long: {error}"
    );
}

#[test]
fn a_restore_stops_although_the_emulator_is_silent() {
    let Some(emulator) = late_emulator("restores into an emulator that stops answering", "1.0")
    else {
        return;
    };
    let desk = songs(20_000);
    let target = format!("emulator:silent@{}", emulator.host);
    // Before the first commit the emulator is halted: what is sent then is never answered.
    let halt = format!("kill -STOP {} && touch halted", emulator.id());
    desk.plan("set.zip", &target, "plan.json", &["--before-step", &halt]);
    let mut restoring = Running::start(desk.kindpack(&["restore", "plan.json"]));
    let halted = desk.path("halted");
    assert!(restoring.wait_until(|| halted.exists()), "the hook runs");
    restoring.signal("TERM");
    let run = restoring.wait();
    assert_eq!(run.code, 143, "{}", run.brief());
    desk.json(7, &["status", "plan.json", "--require-complete"]);
}
