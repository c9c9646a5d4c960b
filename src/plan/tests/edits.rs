//! Documents that people changed, and the schema that they hold to.

use super::*;

#[test]
fn steps_may_be_removed_and_moved() {
    let whole = planned(&shop(), &to_emulator()).unwrap();
    assert_eq!(
        whole.check_against(&shop(), &archive(), &Environment::default()),
        Ok(whole.clone())
    );
    let mut changed = whole.clone();
    changed.steps.reverse();
    let removed = changed.steps.remove(2);
    let read = Plan::parse(&changed.to_json()).unwrap();
    let elsewhere = ArchiveRef {
        location: "copy.zip".to_owned(),
        ..archive()
    };
    let to_run = read
        .check_against(&shop(), &elsewhere, &Environment::default())
        .unwrap();
    assert_eq!(to_run.steps, changed.steps);
    assert_eq!(
        to_run.totals,
        PlanTotals::from_steps(
            &changed.steps,
            &whole.head.choices.target,
            whole.head.choices.via
        )
    );
    let left_out: Vec<(&Kind, &str)> = to_run
        .skipped
        .iter()
        .map(|s| (&s.kind, s.reason.as_str()))
        .collect();
    assert_eq!(left_out, [(&removed.kind, "removed from the plan")]);
    assert_ne!(read.sha256(), whole.sha256());
}

/// Every leaf of the document, changed one at a time; arrays lengthened and objects given a field
/// more.
fn edits(value: &serde_json::Value, path: &str) -> Vec<(String, serde_json::Value)> {
    use serde_json::{Value, json};
    match value {
        Value::Object(map) => {
            let mut all: Vec<(String, Value)> = Vec::new();
            for (key, inner) in map {
                let put = |new: Value| {
                    let mut map = map.clone();
                    map.insert(key.clone(), new);
                    Value::Object(map)
                };
                all.extend(
                    edits(inner, &format!("{path}.{key}"))
                        .into_iter()
                        .map(|(path, new)| (path, put(new))),
                );
            }
            for key in map.keys() {
                let mut fewer = map.clone();
                fewer.remove(key);
                all.push((format!("{path} without {key}"), Value::Object(fewer)));
            }
            let mut more = map.clone();
            more.insert("extra".to_owned(), json!("acme"));
            all.push((format!("{path} with more"), Value::Object(more)));
            all
        }
        Value::Array(list) => {
            let mut all = Vec::new();
            for (at, inner) in list.iter().enumerate() {
                let put = |new: Value| {
                    let mut list = list.clone();
                    list[at] = new;
                    Value::Array(list)
                };
                all.extend(
                    edits(inner, &format!("{path}[{at}]"))
                        .into_iter()
                        .map(|(path, new)| (path, put(new))),
                );
            }
            let more = [
                list.clone(),
                vec![list.first().cloned().unwrap_or(json!("Order"))],
            ]
            .concat();
            all.push((format!("{path} longer"), Value::Array(more)));
            all
        }
        Value::String(text) if text.len() == 64 => vec![(path.to_owned(), json!("0".repeat(64)))],
        Value::String(text) => vec![
            (path.to_owned(), json!(format!("{text}x"))),
            (path.to_owned(), json!(7)),
        ],
        Value::Number(number) => vec![
            (path.to_owned(), json!(number.as_u64().unwrap() + 1)),
            (path.to_owned(), json!(-1)),
        ],
        Value::Bool(bool) => vec![(path.to_owned(), json!(!bool))],
        Value::Null => vec![],
    }
}

/// Choices of every sort, in two plans: not all of them go together.
fn many_choices() -> [Choices; 2] {
    let mut by_commit = choices(|s| {
        s.exclude = selectors(&["Session"]);
        s.first = selectors(&["Setting"]);
        s.last = selectors(&["Invoice"]);
        s.depends_on = depends_on(&["acme/*=(default)/Customer"]);
        s.only = selectors(&["Order", "Customer", "S*", "Invoice"]);
        s.with_dependencies = true;
        s.profile = Some("laptop".to_owned());
        let (last, depends_on) = (selectors(&["Product"]), depends_on(&["Order=Customer"]));
        s.order_file = Some(OrderFile {
            file: "order.toml".to_owned(),
            first: Vec::new(),
            last,
            depends_on,
        });
    });
    by_commit.on_existing = OnExisting::Replace;
    by_commit.sample = Some("5%".parse().unwrap());
    let rules = ["Customer.email=hash", "?Order.note=drop"]
        .map(|rule| rule.parse().unwrap())
        .to_vec();
    let properties = [vec!["Customer.email".to_owned()], Vec::new()];
    let matches = rules
        .iter()
        .cloned()
        .zip(properties)
        .map(|(rule, properties)| RuleMatch {
            rule,
            properties,
            left_out: Vec::new(),
        })
        .collect();
    by_commit.redaction = Redaction {
        rules,
        key_id: Some("0123456789abcdef".to_owned()),
        key_is_short: true,
        matches,
    };
    by_commit.hooks.before_step = Some("date".to_owned());
    by_commit.hooks.after_all = Some("make seed".to_owned());
    let mut by_import = Choices::new("datastore:demo-src/copy".parse().unwrap());
    (by_import.via, by_import.on_existing) = (WriteMethod::Import, OnExisting::Merge);
    by_import.staging = Some("gs://bucket/staging".to_owned());
    by_import.selection.disaster_recovery = true;
    [by_commit, by_import]
}

#[test]
fn every_other_edit_is_refused() {
    for chosen in many_choices() {
        let plan = planned(&shop(), &chosen).unwrap();
        assert_eq!(
            plan.check_against(&shop(), &archive(), &Environment::default()),
            Ok(plan.clone())
        );
        let value = serde_json::to_value(&plan).unwrap();
        let all = edits(&value, "");
        assert!(all.len() > 200);
        for (path, edited) in all {
            let outcome = Plan::parse(&edited.to_string())
                .and_then(|plan| plan.check_against(&shop(), &archive(), &Environment::default()));
            let error = outcome.expect_err(&path);
            assert_eq!(error.class(), PlanClass::Refused, "{path}: {error}");
        }
    }
}

#[test]
fn edited_plan_names_expected_and_found() {
    let edit = |from: &str, to: &str| {
        let text = planned(&shop(), &to_emulator()).unwrap().to_json();
        assert!(text.contains(from), "{from}");
        let plan = Plan::parse(&text.replacen(from, to, 1));
        plan.and_then(|plan| plan.check_against(&shop(), &archive(), &Environment::default()))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        edit("\"entities\": 90,", "\"entities\": 91,"),
        "the plan was edited: step 3 ((default)/Product): entities: expected 90, found 91"
    );
    assert_eq!(
        edit("\"kind\": \"Product\"", "\"kind\": \"Product2\""),
        "the plan was edited: step 3: expected a kind of the original plan, found (default)/Product2"
    );
    assert_eq!(
        edit("emulator:shop-test@", "emulator:shop-prod@"),
        "the plan was edited outside `steps`"
    );
    assert!(
        edit("kindpack-plan/1", "kindpack-plan/2")
            .starts_with("expected plan format kindpack-plan/1, found \"kindpack-plan/2\"")
    );
    assert!(edit("\"id\": 2", "\"id\": 1").contains("id 1 twice"));
}

#[test]
fn stale_plan_is_refused_and_guards_rerun() {
    let plan = planned(
        &shop(),
        &Choices::new("datastore:shop-test".parse().unwrap()),
    )
    .unwrap();
    let other = ArchiveRef {
        sha256: Sha256([1; 32]),
        ..archive()
    };
    assert!(matches!(
        plan.check_against(&shop(), &other, &Environment::default()),
        Err(PlanError::ArchiveChanged { .. })
    ));
    let emulator = emulator_at(Some("localhost:8081"));
    assert!(matches!(
        plan.check_against(&shop(), &archive(), &emulator),
        Err(PlanError::EmulatorVariableSet { .. })
    ));
}

#[test]
fn plan_of_other_version_is_checked_by_steps() {
    let mut plan = planned(&shop(), &to_emulator()).unwrap();
    plan.head.tool = "kindpack 0.0.9".to_owned();
    plan.seal = plan.head.digest();
    plan.steps.reverse();
    for (id, step) in (1..).zip(&mut plan.steps) {
        (step.id, step.reason) = (id, "worded otherwise".to_owned());
    }
    let checked = |plan: &Plan| {
        Plan::parse(&plan.to_json()).unwrap().check_against(
            &shop(),
            &archive(),
            &Environment::default(),
        )
    };
    assert!(checked(&plan).is_ok());
    plan.steps[0].to_namespace = Namespace::new("acme");
    assert!(matches!(
        checked(&plan),
        Err(PlanError::PlanModified { .. })
    ));
}

#[test]
fn what_is_no_plan_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "{\"format\": 1}",
        "{\"format\": \"kindpack-plan/1\"}",
        &"[".repeat(100_000),
    ] {
        let error = Plan::parse(text).unwrap_err();
        assert!(
            matches!(error, PlanError::NotAPlan { .. }) && error.class() == PlanClass::Refused,
            "{error}"
        );
    }
}

fn holds(schema: &str, document: &serde_json::Value) -> bool {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator
        .iter_errors(document)
        .for_each(|error| println!("{}: {error}", error.instance_path()));
    validator.is_valid(document)
}

#[test]
fn plans_match_schema_and_most_edits_fail() {
    let schema = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/schemas/plan.schema.json"
    ));
    let mut mapped = choices(|s| {
        (s.first, s.depends_on) = (selectors(&["Setting"]), depends_on(&["Order=Setting"]))
    });
    mapped.map_namespaces = NamespaceMap::join(["(default)=copy".parse().unwrap()]).unwrap();
    let all_skipped = choices(|s| s.exclude = selectors(&["*"]));
    // What archives of earlier versions do not count.
    let is_optional = |path: &str| {
        let optional =
            ["later", "references"].map(|field| path.ends_with(&format!(" without {field}")));
        optional.contains(&true)
    };
    for choices in [
        to_emulator(),
        mapped,
        all_skipped,
        Choices::new("datastore:x/y".parse().unwrap()),
    ] {
        let plan = serde_json::to_value(planned(&shop(), &choices).unwrap()).unwrap();
        assert!(holds(schema, &plan));
        for (path, edited) in edits(&plan, "")
            .into_iter()
            .filter(|(path, _)| path.contains(" with") && !path.contains(".maps"))
            .filter(|(path, _)| !is_optional(path))
        {
            assert!(!holds(schema, &edited), "{path}");
        }
    }
    for choices in many_choices() {
        let plan = serde_json::to_value(planned(&shop(), &choices).unwrap()).unwrap();
        assert!(holds(schema, &plan));
        for (path, edited) in edits(&plan, "")
            .into_iter()
            .filter(|(path, _)| path.ends_with(" with more") && !path.contains(".maps"))
        {
            assert!(!holds(schema, &edited), "{path}");
        }
    }
}

#[test]
fn manifests_hold_to_their_schema() {
    let schema = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/schemas/manifest.schema.json"
    ));
    let mut manifest = shop();
    assert!(holds(schema, &serde_json::to_value(&manifest).unwrap()));
    manifest.backup.database = "orders".to_owned();
    manifest.kinds[0].entries = vec![
        entry("exports/output-0", EntryRole::Output),
        entry("exports/x.export_metadata", EntryRole::KindMetadata),
    ];
    manifest.kinds[1].format = ExportFormat::LegacyBackup;
    manifest.kinds[1].reference_counts = Some(vec![812]);
    manifest.kinds[1].started = manifest.backup.started;
    manifest.empty_exports = vec![crate::model::EmptyExport {
        entries: vec![entry(
            "exports/y.overall_export_metadata",
            EntryRole::ExportMetadata,
        )],
    }];
    manifest.companions = vec![entry("companions/a.png", EntryRole::Companion)];
    manifest.companions[0].pieces.clear();
    manifest.options = PackOptions {
        method: Method::Store,
        level: None,
        piece_bytes: 4 << 20,
    };
    let value = serde_json::to_value(&manifest).unwrap();
    assert!(holds(schema, &value));
    for (path, edited) in edits(&value, "")
        .into_iter()
        .filter(|(path, _)| path.ends_with(" with more"))
    {
        assert!(!holds(schema, &edited), "{path}");
    }
}
