//! The Firestore emulator in Datastore mode: each row of the table in `docs/datastore.md`, in which
//! it differs from the Datastore emulator, and each command that uses it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use kindpack::datastore::emulator as installed;
use kindpack::datastore::emulator_product::EmulatorProduct;
use kindpack::model::KindRef;
use serde_json::{Value, json};

use crate::restore::emulator::way;
use crate::restore::import::emulator::as_imported;
use crate::support::data::{STARTED_MICROS, made, write_export};
use crate::support::emulator::{
    Emulator, emulator, firestore_emulator, has_firestore_emulator, other_emulator_slot,
};
use crate::support::entities::{assert_same, kind_of, moved, namespace_of};
use crate::support::fixtures::{Set, legacy, managed, sets};
use crate::support::{Running, TestDir, skip, sound};

/// The emulator, and a desk with a set's archive.
fn packed(test: &str, set: &Set) -> Option<(Arc<Emulator>, TestDir)> {
    let emulator = firestore_emulator(test)?;
    let desk = TestDir::new();
    desk.pack(&set.source);
    Some((emulator, desk))
}

/// A desk with an archive of one kind with so many entities, each with a blob of that length.
fn songs(count: u64, blob_len: usize) -> TestDir {
    let desk = TestDir::new();
    let entities = made("demo-src", "acme", "Song", count, blob_len);
    let records: Vec<Vec<u8>> = entities.iter().map(|entity| entity.record()).collect();
    let pair = KindRef::new("acme", "Song");
    write_export(&desk.path("source"), &pair, STARTED_MICROS, &records, 1);
    desk.pack("source");
    desk
}

/// All entities of the namespaces that a set has.
fn everything(emulator: &Emulator, set: &Set, project: &str) -> Vec<Value> {
    let namespaces: BTreeSet<&str> = set.truth.iter().map(namespace_of).collect();
    let namespaces = namespaces.into_iter();
    namespaces
        .flat_map(|namespace| emulator.query(project, namespace, ""))
        .collect()
}

/// The same entities, with places as the emulator stores them.
fn without_place_meanings(mut entities: Vec<Value>) -> Vec<Value> {
    fn forget(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("geoPointValue") {
                    fields.remove("meaning");
                }
                fields.values_mut().for_each(forget);
            }
            Value::Array(items) => items.iter_mut().for_each(forget),
            _ => {}
        }
    }
    entities.iter_mut().for_each(forget);
    entities
}

#[track_caller]
fn assert_restored(emulator: &Emulator, set: &Set, project: &str) {
    let expected = without_place_meanings(moved(&set.truth, set.project, project, &[]));
    let found = everything(emulator, set, project);
    assert_same(&expected, &found, set.legacy, set.name);
}

/// A call of the emulator's own API.
fn own_call(emulator: &Emulator, project: &str, method: &str, body: &Value) -> Value {
    let answer = emulator.try_call_at("emulator/v1", project, method, body);
    answer.unwrap_or_else(|error| panic!("{error}"))
}

/// The keys of entities that a new insert and `allocateIds` give.
fn new_keys(emulator: &Emulator, project: &str, namespace: &str, kind: &str) -> Vec<Value> {
    let key = json!({"partitionId": {"projectId": project, "namespaceId": namespace}, "path": [{"kind": kind}]});
    let mutations = vec![json!({"insert": {"key": key}}); 50];
    let body = json!({"mode": "NON_TRANSACTIONAL", "mutations": mutations});
    let inserted = emulator.call(project, "commit", &body);
    let allocated = emulator.call(project, "allocateIds", &json!({"keys": vec![key; 50]}));
    let inserted = inserted["mutationResults"].as_array().unwrap().iter();
    let keys = inserted.map(|result| &result["key"]);
    keys.chain(allocated["keys"].as_array().unwrap())
        .cloned()
        .collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// restores

#[test]
fn restored_entities_are_equal() {
    for set in sets() {
        let Some((emulator, desk)) = packed("restores into the Firestore emulator", &set) else {
            return;
        };
        let project = emulator.fresh_project();
        let target = emulator.target(&project);
        let args = [
            "restore", "set.zip", "--target", &target, "--check", "entities",
        ];
        desk.json(0, &args);
        assert_restored(&emulator, &set, &project);
    }
}

#[test]
fn place_loses_its_meaning_by_commit_only() {
    let set = managed();
    let test = "places in the Firestore emulator";
    let Some((emulator, desk)) = packed(test, &set) else {
        return;
    };
    let meanings = |via| {
        let project = emulator.fresh_project();
        let target = emulator.target(&project);
        desk.json(
            0,
            &["restore", "set.zip", "--target", &target, "--via", via],
        );
        let found = everything(&emulator, &set, &project);
        let text = Value::from(found).to_string();
        text.matches(r#""meaning":23"#).count()
    };
    assert_eq!((meanings("commit"), meanings("import")), (0, 3));
}

#[test]
fn imported_entities_are_those_of_the_importer() {
    // The second set makes an importer hang that gets it as it is.
    let names = ["managed", "ends_2_bytes_before_block_border"];
    for set in sets().iter().filter(|set| names.contains(&set.name)) {
        let Some((emulator, desk)) = packed("imports into the Firestore emulator", set) else {
            return;
        };
        let project = emulator.fresh_project();
        let target = emulator.target(&project);
        desk.json(
            0,
            &["restore", "set.zip", "--target", &target, "--via", "import"],
        );
        let found = everything(&emulator, set, &project);
        assert_same(&as_imported(&set.truth, &project), &found, false, set.name);
    }
}

#[test]
fn existing_entities_are_refused_merged_or_replaced() {
    let set = managed();
    let test = "--on-existing in the Firestore emulator";
    let Some((emulator, desk)) = packed(test, &set) else {
        return;
    };
    let project = emulator.fresh_project();
    let own = json!({"key": {"partitionId": {"projectId": project, "namespaceId": "acme"}, "path": [{"kind": "Order", "name": "own"}]}, "properties": {}});
    emulator.upsert(&project, &[own]);
    let target = emulator.target(&project);
    let orders = || emulator.query(&project, "acme", "Order").len();
    let restore = |code, mode| {
        let args = ["restore", "set.zip", "--target", &target, "--on-existing"];
        desk.json(code, &[&args[..], &[mode, "--check", "entities"]].concat())
    };
    let refused = restore(5, "fail")["error"].to_string();
    assert!(refused.contains("acme/Order"), "{refused}");
    assert_eq!(orders(), 1);
    restore(0, "merge");
    assert_eq!(orders(), 9);
    assert_eq!(restore(0, "replace")["deleted"], 1);
    assert_eq!(orders(), 8);
    assert_restored(&emulator, &set, &project);
}

#[test]
fn redacted_entities_are_compared() {
    let set = managed();
    let test = "redacted restores into the Firestore emulator";
    let Some((emulator, desk)) = packed(test, &set) else {
        return;
    };
    let project = emulator.fresh_project();
    let target = emulator.target(&project);
    let rule = "Customer.title=mask";
    let args = ["restore", "set.zip", "--target", &target, "--redact", rule];
    desk.json(0, &[&args[..], &["--check", "entities"]].concat());
    let customers = emulator.query(&project, "acme", "Customer");
    assert_eq!(customers.len(), 8);
    let titles = customers.iter().map(|it| &it["properties"]["title"]);
    for title in titles.filter_map(|title| title["stringValue"].as_str()) {
        assert!(title.chars().all(|letter| letter == '*'), "{title}");
    }
}

#[test]
fn new_ids_are_not_those_of_restored_entities() {
    let set = managed();
    let test = "ids that the Firestore emulator hands out";
    let Some((emulator, desk)) = packed(test, &set) else {
        return;
    };
    for via in ["commit", "import"] {
        let project = emulator.fresh_project();
        let target = emulator.target(&project);
        desk.json(
            0,
            &["restore", "set.zip", "--target", &target, "--via", via],
        );
        let restored = everything(&emulator, &set, &project);
        let keys: BTreeSet<String> = restored.iter().map(|it| it["key"].to_string()).collect();
        let pairs: BTreeSet<(&str, &str)> = restored
            .iter()
            .map(|it| (namespace_of(it), kind_of(it)))
            .collect();
        for (namespace, kind) in pairs {
            for key in new_keys(&emulator, &project, namespace, kind) {
                assert!(!keys.contains(&key.to_string()), "{via}: {key}");
            }
        }
    }
}

#[test]
fn ids_are_reserved_over_http_as_well() {
    let test = "restores into the Firestore emulator over HTTP";
    let Some(emulator) = firestore_emulator(test) else {
        return;
    };
    let desk = songs(20, 50);
    let (host, _) = way(&emulator.host, false);
    let project = emulator.fresh_project();
    let target = format!("emulator:{project}@{host}");
    let run = desk.expect(0, &["restore", "set.zip", "--target", &target]);
    assert!(!run.err.contains("warning"), "{}", run.err);
    let restored = emulator.query(&project, "acme", "Song");
    assert_eq!(restored.len(), 20);
    for key in new_keys(&emulator, &project, "acme", "Song") {
        assert!(!restored.iter().any(|entity| entity["key"] == key), "{key}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// limits

#[test]
fn oversized_entity_is_named_before_it_is_sent() {
    let Some(firestore) = firestore_emulator("large entities in the Firestore emulator") else {
        return;
    };
    let desk = songs(1, 1_100_000);
    let target = firestore.target(&firestore.fresh_project());
    let refused = desk.json(5, &["restore", "set.zip", "--target", &target]);
    let error = refused["error"].as_str().unwrap();
    let expected = "entity 1 of kind Song is too large: property blob has 1100000 bytes";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn only_firestore_emulator_has_service_limits() {
    let Some((firestore, datastore)) = both("limits of both emulators") else {
        return;
    };
    // Each value is within its limit, the entity is not.
    let text = json!({"stringValue": "x".repeat(600_000), "excludeFromIndexes": true});
    let mut body = commit_of("limits", "", 1);
    body["mutations"][0]["upsert"]["properties"] = json!({"a": text, "b": text});
    datastore.call("limits", "commit", &body);
    let refused = firestore.try_call("limits", "commit", &body).unwrap_err();
    assert!(refused.contains("maximum entity size"), "{refused}");
}

/// A commit of entities without properties, of any database.
fn commit_of(project: &str, database: &str, count: usize) -> Value {
    let partition = json!({"projectId": project, "databaseId": database});
    let entity = |number| {
        let path = json!([{"kind": "Song", "name": format!("{number}")}]);
        json!({"upsert": {"key": {"partitionId": partition, "path": path}}})
    };
    let mutations: Vec<Value> = (0..count).map(entity).collect();
    json!({"databaseId": database, "mode": "NON_TRANSACTIONAL", "mutations": mutations})
}

/// Both emulators, where both are here.
fn both(test: &str) -> Option<(Arc<Emulator>, &'static Emulator)> {
    Some((firestore_emulator(test)?, emulator(test)?))
}

#[test]
fn commits_have_no_limit_of_entities() {
    let Some((firestore, datastore)) = both("large commits into both emulators") else {
        return;
    };
    for emulator in [&*firestore, datastore] {
        let project = emulator.fresh_project();
        let answer = emulator.call(&project, "commit", &commit_of(&project, "", 2_000));
        assert_eq!(answer["mutationResults"].as_array().unwrap().len(), 2_000);
    }
}

#[test]
fn long_requests_are_refused() {
    let Some((firestore, datastore)) = both("long requests to both emulators") else {
        return;
    };
    for emulator in [&*firestore, datastore] {
        let project = emulator.fresh_project();
        let blob = json!({"stringValue": "x".repeat(1_000_000), "excludeFromIndexes": true});
        let mut body = commit_of(&project, "", 5);
        for mutation in body["mutations"].as_array_mut().unwrap() {
            mutation["upsert"]["properties"] = json!({"blob": blob});
        }
        emulator.try_call(&project, "commit", &body).unwrap_err();
        body["mutations"].as_array_mut().unwrap().truncate(4);
        emulator.call(&project, "commit", &body);
    }
}

#[test]
fn only_firestore_emulator_keeps_databases_apart() {
    let Some((firestore, datastore)) = both("named databases of both emulators") else {
        return;
    };
    for (emulator, found) in [(&*firestore, 0), (datastore, 3)] {
        let project = emulator.fresh_project();
        emulator.call(&project, "commit", &commit_of(&project, "orders", 3));
        assert_eq!(emulator.query(&project, "", "Song").len(), found);
    }
}

#[test]
fn only_firestore_emulator_counts_by_itself() {
    let Some((firestore, datastore)) = both("counts of both emulators") else {
        return;
    };
    let project = firestore.fresh_project();
    let body = json!({"aggregationQuery": {"nestedQuery": {"kind": [{"name": "Song"}]}, "aggregations": [{"alias": "n", "count": {}}]}});
    firestore.call(&project, "commit", &commit_of(&project, "", 3));
    let answer = firestore.call(&project, "runAggregationQuery", &body);
    let count = "/batch/aggregationResults/0/aggregateProperties/n/integerValue";
    assert_eq!(answer.pointer(count), Some(&json!("3")));
    let refused = datastore.try_call(&project, "runAggregationQuery", &body);
    assert!(refused.unwrap_err().contains("unimplemented"));
}

// ---------------------------------------------------------------------------------------------------------------------
// kinds, exports and imports

#[test]
fn backup_is_refused_with_the_reason() {
    let Some(emulator) = firestore_emulator("backup of the Firestore emulator") else {
        return;
    };
    let project = emulator.fresh_project();
    emulator.call(&project, "commit", &commit_of(&project, "", 3));
    let desk = TestDir::new();
    let from = emulator.target(&project);
    for options in [&[][..], &["--dry-run"], &["--namespace", "acme"]] {
        let args = ["backup", &from, "exports", "out.zip"];
        let refused = desk.json(2, &[&args[..], options].concat());
        let error = refused["error"].as_str().unwrap();
        for words in ["Firestore emulator", "lists no kinds", "Datastore emulator"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!desk.path("out.zip").exists());
    }
    for kind in ["__kind__", "__namespace__"] {
        let query = json!({"query": {"kind": [{"name": kind}]}});
        let refused = emulator.try_call(&project, "runQuery", &query).unwrap_err();
        assert!(refused.contains("not supported"), "{refused}");
    }
}

#[test]
fn export_of_everything_can_be_packed() {
    let set = managed();
    let test = "exports of the Firestore emulator";
    let Some((emulator, desk)) = packed(test, &set) else {
        return;
    };
    let project = emulator.fresh_project();
    let target = emulator.target(&project);
    desk.json(0, &["restore", "set.zip", "--target", &target]);
    fs::create_dir(desk.path("exports")).unwrap();
    let body = json!({"database": format!("projects/{project}/databases/"), "export_directory": desk.path("exports"), "export_name": "all"});
    own_call(&emulator, &project, "export", &body);
    assert_eq!(
        desk.json(0, &["pack", "exports", "all.zip"])["entities"],
        258
    );
    let other = emulator.fresh_project();
    let target = emulator.target(&other);
    let args = [
        "restore", "all.zip", "--target", &target, "--check", "entities",
    ];
    desk.json(0, &args);
    assert_restored(&emulator, &set, &other);
}

#[test]
fn import_takes_the_completion_marker_alone() {
    let set = managed();
    let test = "import calls of the Firestore emulator";
    let Some((emulator, desk)) = packed(test, &set) else {
        return;
    };
    let project = emulator.fresh_project();
    desk.json(0, &["extract", "set.zip", "out", "--only", "acme/Order"]);
    let files = crate::support::files_below(&desk.path("out"));
    let marks = files
        .iter()
        .filter(|(name, _)| name.ends_with(".overall_export_metadata"));
    let mark = marks.map(|(_, path)| path).next().unwrap();
    let import = |path| {
        let body =
            json!({"database": format!("projects/{project}/databases/"), "export_directory": path});
        emulator.try_call_at("emulator/v1", &project, "import", &body)
    };
    let refused = import(mark.parent().unwrap()).unwrap_err();
    assert!(
        refused.contains("Failed to parse overall export metadata"),
        "{refused}"
    );
    import(mark).unwrap();
    assert_eq!(emulator.query(&project, "acme", "Order").len(), 8);
    let answer = emulator.try_call(&project, "import", &json!({"inputUrl": mark}));
    assert!(answer.unwrap_err().contains("404"));
}

// ---------------------------------------------------------------------------------------------------------------------
// rehearsals

#[test]
fn rehearsals_pass() {
    if !has_firestore_emulator("rehearsals in the Firestore emulator") {
        return;
    }
    let _slot = other_emulator_slot();
    for set in [managed(), legacy()] {
        let desk = TestDir::new();
        desk.pack(&set.source);
        let args = ["rehearse", "set.zip", "--emulator", "firestore"];
        let run = desk.expect(0, &args);
        let said = run.text() + &run.err;
        assert!(
            said.contains("in the Firestore emulator"),
            "{}: {said}",
            set.name
        );
    }
}

#[test]
fn newest_emulator_is_chosen_unless_one_is_named() {
    let products = EmulatorProduct::NEWEST_FIRST.map(|product| installed::find(Some(product)));
    let [Ok(firestore), Ok(datastore)] = products else {
        return skip(
            "firestore-emulator",
            "the choice of an emulator",
            "one is missing",
        );
    };
    assert_eq!(installed::find(None).unwrap(), firestore);
    assert_eq!(
        (firestore.product(), datastore.product()),
        (EmulatorProduct::Firestore, EmulatorProduct::Datastore)
    );
}

#[test]
fn missing_emulators_are_named_with_their_options() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    for (options, variable, component) in [
        (
            &[][..],
            "KINDPACK_FIRESTORE_EMULATOR",
            "cloud-firestore-emulator",
        ),
        (
            &["--emulator", "firestore"],
            "KINDPACK_FIRESTORE_EMULATOR",
            "cloud-firestore-emulator",
        ),
        (
            &["--emulator", "datastore"],
            "KINDPACK_DATASTORE_EMULATOR",
            "cloud-datastore-emulator",
        ),
    ] {
        let args = [&["rehearse", "set.zip"][..], options].concat();
        let mut command = desk.kindpack(&args);
        command.env("PATH", desk.home()).env_remove("JAVA_HOME");
        let run = sound(Running::start(command).wait(), &args);
        assert_eq!(run.code, 2, "{}", run.brief());
        assert!(
            run.err.contains(variable) && run.err.contains(component),
            "{}",
            run.err
        );
    }
}

#[test]
fn named_jar_decides_which_emulator_starts() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let java = "#!/bin/sh\necho \"started $*\"\nexit 3\n";
    desk.write("java/bin/java", java);
    make_executable(&desk, "java/bin/java");
    desk.write("x.jar", "");
    for (variable, class) in [
        ("KINDPACK_FIRESTORE_EMULATOR", "firestore.CloudFirestore"),
        ("KINDPACK_DATASTORE_EMULATOR", "emulator.CloudDatastore"),
    ] {
        let args = ["rehearse", "set.zip"];
        let mut command = desk.kindpack(&args);
        command
            .env("JAVA_HOME", desk.path("java"))
            .env(variable, desk.path("x.jar"));
        let run = sound(Running::start(command).wait(), &args);
        assert_eq!(run.code, 6, "{}", run.brief());
        assert!(run.err.contains(class), "{variable}: {}", run.err);
    }
}

fn make_executable(desk: &TestDir, name: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(desk.path(name), mode).unwrap();
}
