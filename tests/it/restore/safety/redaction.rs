//! A redacted restore: no original value of a redacted property is left anywhere that outlives it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::emulator::emulator;
use crate::support::entities::{assert_same, kind_of, moved};
use crate::support::fixtures::managed;
use crate::support::{Running, TestDir, files_below, sound};

const SECRET: &str = "a secret for tests";

/// Rules for every action, and the kind and property that each is about.
const RULES: [(&str, &str, &str); 6] = [
    ("Customer.title=mask", "Customer", "title"),
    ("Customer.body=hash", "Customer", "body"),
    ("Order.title=drop", "Order", "title"),
    ("Order.digest=hash", "Order", "digest"),
    ("Review.*=null", "Review", "*"),
    ("OrderLine.title=fake", "OrderLine", "title"),
];

/// The texts and blobs of a value, at any depth.
fn texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if matches!(name.as_str(), "stringValue" | "blobValue") => {
                        _ = found.insert(text.clone())
                    }
                    value => texts(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        _ => {}
    }
}

fn is_redacted(kind: &str, property: &str) -> bool {
    RULES
        .iter()
        .any(|(_, of, name)| *of == kind && (*name == "*" || *name == property))
}

#[test]
fn redacted_values_appear_nowhere() {
    let Some(emulator) = emulator("redacted restores") else {
        return;
    };
    let set = managed();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();

    let (mut hidden, mut told) = (BTreeSet::new(), BTreeSet::new());
    for entity in &set.truth {
        for (name, value) in entity["properties"].as_object().into_iter().flatten() {
            texts(
                value,
                if is_redacted(kind_of(entity), name) {
                    &mut hidden
                } else {
                    &mut told
                },
            );
        }
    }
    // What also stands in another property may be seen; what is short may be seen by chance.
    let hidden: Vec<&String> = hidden
        .iter()
        .filter(|text| text.len() >= 8 && !told.iter().any(|other| other.contains(*text)))
        .collect();
    assert!(hidden.len() >= 24, "{} values to look for", hidden.len());

    let target = emulator.target(&project);
    let mut plan = vec!["plan", "set.zip", "--target", &target, "-o", "plan.json"];
    RULES
        .iter()
        .for_each(|(rule, ..)| plan.extend(["--redact", rule]));
    let mut printed = String::new();
    for args in [
        &plan[..],
        &[
            "restore",
            "plan.json",
            "--check",
            "entities",
            "--report",
            "report.json",
            "--report",
            "report.xml",
            "--json",
        ],
    ] {
        let mut command = desk.kindpack(args);
        command.env("KINDPACK_REDACT_KEY", SECRET);
        let run = sound(Running::start(command).wait(), args);
        assert_eq!(run.code, 0, "{}", run.brief());
        printed += &(run.text() + &run.err);
    }

    let restored = emulator.everything(&project);
    let mut places = vec![("the output".to_owned(), printed)];
    places.extend(
        restored
            .iter()
            .map(|entity| (entity["key"].to_string(), entity["properties"].to_string())),
    );
    for (name, path) in files_below(&desk.work())
        .into_iter()
        .chain(files_below(&desk.home()))
    {
        if name != "set.zip" {
            places.push((
                name,
                String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned(),
            ));
        }
    }
    for (place, text) in &places {
        assert!(!text.contains(SECRET), "{place} holds the secret");
        let found = hidden
            .iter()
            .filter(|value| text.contains(value.as_str()))
            .count();
        assert_eq!(
            found, 0,
            "{place} holds {found} values that were to be redacted"
        );
    }
    for name in [
        "plan.json",
        "plan.json.journal",
        "report.json",
        "report.xml",
    ] {
        assert!(
            places.iter().any(|(place, _)| place == name),
            "{name} was looked at"
        );
    }

    let without = |entities: &[Value]| -> Vec<Value> {
        let mut entities = entities.to_vec();
        for entity in &mut entities {
            let kind = kind_of(entity).to_owned();
            if let Some(properties) = entity.get_mut("properties").and_then(Value::as_object_mut) {
                properties.retain(|name, _| !is_redacted(&kind, name));
            }
        }
        entities
    };
    assert_same(
        &without(&moved(&set.truth, set.project, &project, &[])),
        &without(&restored),
        set.legacy,
        "what is not redacted",
    );
}

#[test]
fn hashed_keys_and_references_still_match() {
    let Some(emulator) = emulator("restores with hashed keys") else {
        return;
    };
    let set = managed();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let project = emulator.fresh_project();
    let args = [
        "restore",
        "set.zip",
        "--target",
        &emulator.target(&project),
        "--redact",
        "Customer.__key__=hash",
        "--check",
        "entities",
    ];
    let mut command = desk.kindpack(&args);
    command.env("KINDPACK_REDACT_KEY", SECRET);
    let run = sound(Running::start(command).wait(), &args);
    assert_eq!(run.code, 0, "{}", run.brief());

    let steps = |entities: &[Value], project: &str| {
        let mut own = BTreeSet::new();
        let mut referred = BTreeSet::new();
        for entity in entities {
            own.insert(entity["key"].to_string());
            keys(&entity["properties"], project, &mut referred);
        }
        let customers = own
            .iter()
            .filter(|key| key.contains("\"Customer\""))
            .cloned()
            .collect::<BTreeSet<_>>();
        (
            customers,
            own.intersection(&referred)
                .filter(|key| key.contains("\"Customer\""))
                .count(),
        )
    };
    let (before, met_before) = steps(&moved(&set.truth, set.project, &project, &[]), &project);
    let (after, met_after) = steps(&emulator.everything(&project), &project);
    assert!(met_before > 0, "the fixture has references to customers");
    assert_eq!((before.len(), met_before), (after.len(), met_after));
    assert_eq!(
        before.intersection(&after).count(),
        0,
        "every key of a customer is another one"
    );
}

/// The keys that a value refers to, as text.
fn keys(value: &Value, project: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "keyValue" && value["partitionId"]["projectId"] == project {
                    found.insert(value.to_string());
                }
                keys(value, project, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, project, found)),
        _ => {}
    }
}

#[test]
fn keyed_rules_need_the_same_key() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let plan = [
        "plan",
        "set.zip",
        "--target",
        "ndjson:out",
        "-o",
        "plan.json",
        "--redact",
        "Customer.title=hash",
    ];
    let run = desk.expect(2, &plan);
    assert!(run.err.contains("KINDPACK_REDACT_KEY"), "{}", run.err);
    let with_key = |args: &[&str], key: &str| {
        let mut command = desk.kindpack(args);
        command.env("KINDPACK_REDACT_KEY", key);
        sound(Running::start(command).wait(), args)
    };
    assert_eq!(with_key(&plan, SECRET).code, 0);
    let run = with_key(&["restore", "plan.json"], "another secret");
    assert_eq!(run.code, 5, "{}", run.brief());
    assert!(!run.err.contains("another secret"), "{}", run.err);
    assert_eq!(with_key(&["restore", "plan.json"], SECRET).code, 0);
}

#[test]
fn unmatched_rule_is_refused_unless_optional() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    desk.expect(
        2,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--redact",
            "Custommer.title=mask",
        ],
    );
    desk.expect(
        2,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--redact",
            "Customer.title=hide",
        ],
    );
    let run = desk.expect(
        2,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:out",
            "--redact",
            "Customer.tittle=mask",
        ],
    );
    assert!(
        run.err.contains("Customer.tittle=mask") && !desk.path("out").exists(),
        "{}",
        run.brief()
    );
    let run = desk.expect(
        0,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "-o",
            "plan.json",
            "--redact",
            "?Customer.tittle=mask",
        ],
    );
    assert!(
        (run.text() + &run.err).contains("Customer.tittle=mask"),
        "the rule that matches nothing is named: {}",
        run.text()
    );
    assert!(
        desk.json_file("plan.json")["warnings"]
            .to_string()
            .contains("Customer.tittle=mask")
    );
}
