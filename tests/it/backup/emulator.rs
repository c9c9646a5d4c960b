//! The whole night job with Google's Datastore emulator.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::proxy::{Proxy, Side};
use crate::schemas::{assert_holds, schema};
use crate::support::emulator::{Emulator, emulator};
use crate::support::entities::{assert_same, kind_of, moved};
use crate::support::{Running, TestDir, files_below};

/// Nine kinds in three namespaces, and four with odd names.
const KINDS: [(&str, &str); 13] = [
    ("", "Account"),
    ("", "Customer"),
    ("", "Product"),
    ("acme", "Customer"),
    ("acme", "Order"),
    ("acme", "OrderLine"),
    ("beta.1-x_y", "Order"),
    ("beta.1-x_y", "Session"),
    ("beta.1-x_y", "User"),
    ("", "with space"),
    ("acme", "a:b~2"),
    ("acme", "100%"),
    ("beta.1-x_y", "価格表"),
];

fn entity(project: &str, namespace: &str, kind: &str, id: u64) -> Value {
    let mut partition = json!({"projectId": project});
    if !namespace.is_empty() {
        partition["namespaceId"] = namespace.into();
    }
    json!({
        "key": {"partitionId": partition, "path": [{"kind": kind, "id": id.to_string()}]},
        "properties": {"n": {"integerValue": id.to_string()}, "of": {"stringValue": kind}},
    })
}

/// A project with three entities of each kind.
fn fill(emulator: &Emulator, kinds: &[(&str, &str)]) -> String {
    let project = emulator.fresh_project();
    add(emulator, &project, kinds);
    project
}

fn add(emulator: &Emulator, project: &str, kinds: &[(&str, &str)]) {
    let entities: Vec<Value> = kinds
        .iter()
        .flat_map(|(namespace, kind)| (1..4).map(|id| entity(project, namespace, kind, id)))
        .collect();
    emulator.upsert(project, &entities);
}

/// The pairs of an archive.
fn pairs(desk: &TestDir, archive: &str) -> BTreeSet<(String, String)> {
    let listed = desk.expect(0, &["list", archive, "--json"]);
    let manifest: Value = serde_json::from_slice(&listed.out).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let kinds = manifest["kinds"].as_array().unwrap().iter();
    kinds
        .map(|kind| (text(&kind["namespace"]), text(&kind["kind"])))
        .collect()
}

fn owned(kinds: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let own = |(namespace, kind): &(&str, &str)| ((*namespace).to_owned(), (*kind).to_owned());
    kinds.iter().map(own).collect()
}

#[test]
fn backup_restores_to_the_same_entities() {
    let Some(emulator) = emulator("backup of an emulator") else {
        return;
    };
    let project = fill(emulator, &KINDS);
    add(
        emulator,
        &project,
        &[("", "_AE_Backup_Information"), ("acme", "_Hidden")],
    );
    let desk = TestDir::new();
    let from = emulator.target(&project);
    let event = desk.json(0, &["backup", &from, "exports", "out.zip"]);
    assert_eq!(
        (&event["kinds"], &event["entities"]),
        (&json!(13), &json!(39))
    );
    assert_eq!(event["archive"], "out.zip");
    let id = event["backup"].as_str().unwrap();
    assert!(desk.path(&format!("exports/{id}/acme/Order")).is_dir());
    desk.expect(0, &["verify", "out.zip"]);

    let other = emulator.fresh_project();
    desk.json(
        0,
        &["restore", "out.zip", "--target", &emulator.target(&other)],
    );
    let mut source = emulator.everything(&project);
    source.retain(|entity| !kind_of(entity).starts_with('_'));
    assert_eq!(source.len(), 39);
    let expected = moved(&source, &project, &other, &[]);
    assert_same(
        &expected,
        &emulator.everything(&other),
        false,
        "the restore",
    );

    add(emulator, &project, &[("acme", "New")]);
    let event = desk.json(0, &["backup", &from, "exports", "later/"]);
    let archive = event["archive"].as_str().unwrap();
    assert!(archive.starts_with("later/all_backup_"), "{archive}");
    let mut expected = owned(&KINDS);
    expected.extend(owned(&[("acme", "New")]));
    assert_eq!(pairs(&desk, archive), expected);
}

#[test]
fn kind_with_a_slash_fails_alone() {
    let Some(emulator) = emulator("backup of a kind that cannot be exported") else {
        return;
    };
    let project = fill(emulator, &[("", "A"), ("", "B/C"), ("acme", "D")]);
    let proxy = Proxy::start(&emulator.host);
    let desk = TestDir::new();
    let from = proxy.target(&project);
    let args = ["backup", &from, "exports", "out.zip"];
    let event = desk.json(7, &args);
    let error = event["error"].as_str().unwrap();
    assert!(
        error.contains("(default)/B/C") && !error.contains("acme/D"),
        "{error}"
    );
    assert!(!desk.path("out.zip").exists());
    let before = proxy.exports().len();

    let allowed = [&args[..], &["--allow-missing", "(default)/B/C"]].concat();
    let event = desk.json(0, &allowed);
    assert_eq!(event["missing"], json!([{"namespace": "", "kind": "B/C"}]));
    // Only what had failed is tried again.
    let exports = proxy.exports();
    assert!(
        exports[before..].iter().all(|export| export.kind == "B/C"),
        "{exports:?}"
    );
    assert_eq!(pairs(&desk, "out.zip"), owned(&[("", "A"), ("acme", "D")]));
    let listed = desk.expect(0, &["list", "out.zip"]).text();
    assert!(listed.contains("B/C"), "{listed}");
    desk.expect(0, &["verify", "out.zip"]);
}

#[test]
fn no_two_exports_overlap() {
    let Some(emulator) = emulator("exports of a backup, one by one") else {
        return;
    };
    let project = fill(emulator, &KINDS);
    let proxy = Proxy::start(&emulator.host);
    let desk = TestDir::new();
    let from = proxy.target(&project);
    desk.json(
        0,
        &["backup", &from, "exports", "out.zip", "--rate", "1000/s"],
    );
    assert_eq!((proxy.exports().len(), proxy.most_at_once()), (13, 1));
}

#[test]
fn dry_run_changes_nothing() {
    let Some(emulator) = emulator("dry run of a backup") else {
        return;
    };
    let project = fill(emulator, &KINDS);
    let proxy = Proxy::start(&emulator.host);
    let desk = TestDir::new();
    let from = proxy.target(&project);
    let args = [
        "backup",
        &from,
        "exports",
        "out.zip",
        "--exclude",
        "Session",
        "--dry-run",
    ];
    let shown = desk.expect(0, &args).text();
    assert!(
        shown.contains("OrderLine") && shown.contains("12 kinds"),
        "{shown}"
    );
    assert!(!shown.contains("Session"), "{shown}");
    let event = desk.json(0, &args);
    assert_eq!(
        (&event["requests"], &event["uncounted_kinds"]),
        (&json!(12), &json!(12))
    );
    // An import of nothing asks the emulator which one it is.
    let is_probe = |path: &str| path.starts_with("/emulator/v1/");
    let is_read = |path: &String| path.ends_with(":runQuery") || is_probe(path);
    assert!(proxy.paths().iter().all(is_read), "{:?}", proxy.paths());
    assert!(desk.names_in(".").is_empty());
}

/// How often each kind was exported.
fn counts(proxy: &Proxy) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for export in proxy.exports() {
        *counts.entry(export.kind).or_default() += 1;
    }
    counts
}

#[test]
fn killed_backup_goes_on_at_every_export() {
    let Some(emulator) = emulator("backups that are killed") else {
        return;
    };
    let kinds = [("", "A"), ("", "B"), ("acme", "C"), ("acme", "D")];
    let project = fill(emulator, &kinds);
    for (number, side) in (0..4).flat_map(|number| [(number, Side::Before), (number, Side::After)])
    {
        let proxy = Proxy::start(&emulator.host);
        let desk = TestDir::new();
        let from = proxy.target(&project);
        let args = ["backup", &from, "exports", "archives/"];
        proxy.hold(number, side);
        let mut running = Running::start(desk.kindpack(&args));
        assert!(
            running.wait_until(|| proxy.is_holding()),
            "{number} {side:?}"
        );
        running.kill();
        proxy.release();
        desk.json(0, &args);
        let killed = proxy.exports()[number].kind.clone();
        for (kind, count) in counts(&proxy) {
            let is_repeated = kind == killed && side == Side::Before;
            assert_eq!(
                count,
                1 + usize::from(is_repeated),
                "{kind} {number} {side:?}"
            );
        }
        let archives = desk.names_in("archives");
        let zips: Vec<&String> = archives
            .iter()
            .filter(|name| name.ends_with(".zip"))
            .collect();
        assert_eq!(zips.len(), 1, "{archives:?}");
        assert_eq!(pairs(&desk, "archives/"), owned(&kinds));
        let runs = desk.names_in("exports");
        assert_eq!(
            runs.iter()
                .filter(|name| name.ends_with(".backup.json"))
                .count(),
            1
        );
    }
}

#[test]
fn second_process_is_refused() {
    let Some(emulator) = emulator("two backups at once") else {
        return;
    };
    let project = fill(emulator, &[("", "A"), ("", "B")]);
    let proxy = Proxy::start(&emulator.host);
    let desk = TestDir::new();
    let from = proxy.target(&project);
    let args = ["backup", &from, "exports", "out.zip"];
    proxy.hold(1, Side::Before);
    let mut running = Running::start(desk.kindpack(&args));
    assert!(running.wait_until(|| proxy.is_holding()));
    let error = desk.json(5, &args)["error"].to_string();
    assert!(
        error.contains("another process is running backup"),
        "{error}"
    );
    running.signal("INT");
    assert_eq!(running.wait().code, 130);
    proxy.release();
    desk.json(0, &args);
    assert_eq!(counts(&proxy)["A"], 1);
}

#[test]
fn finished_backup_is_not_resumed() {
    let Some(emulator) = emulator("backup after backup") else {
        return;
    };
    let project = fill(emulator, &[("", "A"), ("", "B")]);
    let desk = TestDir::new();
    let from = emulator.target(&project);
    let args = [
        "backup",
        &from,
        "exports",
        "out.zip",
        "--delete-exports",
        "--overwrite",
    ];
    let first = desk.json(0, &args);
    let id = first["backup"].as_str().unwrap();
    assert!(!desk.path(&format!("exports/{id}")).exists());
    let second = desk.json(0, &args);
    assert_ne!(first["backup"], second["backup"]);
}

#[test]
fn new_starts_another_backup() {
    let Some(emulator) = emulator("backups that start anew") else {
        return;
    };
    let project = fill(emulator, &[("", "A"), ("", "B/C")]);
    let desk = TestDir::new();
    let from = emulator.target(&project);
    let args = ["backup", &from, "exports", "out.zip"];
    desk.json(7, &args);
    desk.json(7, &args);
    let runs = || desk.names_in("exports").into_iter();
    let opened = || runs().filter(|name| name.ends_with(".backup.json")).count();
    assert_eq!(opened(), 1);
    desk.json(7, &[&args[..], &["--new"]].concat());
    assert_eq!(opened(), 2);
}

#[test]
fn journal_and_events_hold_to_their_schemas() {
    let Some(emulator) = emulator("journal of a backup") else {
        return;
    };
    let project = fill(emulator, &[("", "A"), ("", "B/C"), ("acme", "D")]);
    let desk = TestDir::new();
    let from = emulator.target(&project);
    let args = ["backup", &from, "exports", "out.zip", "--json"];
    let events = schema("events");
    let allowed = [&args[..], &["--allow-missing", "*", "--delete-exports"]].concat();
    for (code, args) in [
        (0, [&args[..], &["--dry-run"]].concat()),
        (7, args.to_vec()),
        (0, allowed),
    ] {
        for event in desk.expect(code, &args).events() {
            assert_holds(&events, &event, "an event");
        }
    }
    let journal = schema("backup-journal");
    let mut seen = BTreeSet::new();
    for (name, path) in files_below(&desk.path("exports")) {
        let segment: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_holds(&journal, &segment, &name);
        seen.insert(segment["event"].as_str().unwrap().to_owned());
    }
    for event in [
        "opened",
        "resumed",
        "export-failed",
        "packed",
        "exports-deleted",
        "done",
    ] {
        assert!(seen.contains(event), "{event} is not in {seen:?}");
    }
}
