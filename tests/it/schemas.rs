//! Every JSON document that the program prints or writes, held against its published schema.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::emulator::emulator;
use crate::support::fixtures::{fixture, legacy, managed, sets};
use crate::support::{Run, Running, TestDir, copy_folder};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas");

/// Schemas name one another by the names of their files.
const BASE: &str = "https://schemas.invalid/";

fn schema_text(name: &str) -> Value {
    serde_json::from_slice(
        &fs::read(Path::new(SCHEMAS).join(format!("{name}.schema.json"))).unwrap(),
    )
    .unwrap()
}

pub fn schema(name: &str) -> Validator {
    let registry = Registry::new()
        .add(format!("{BASE}plan.schema.json"), schema_text("plan"))
        .unwrap()
        .prepare()
        .unwrap();
    let options = jsonschema::options();
    options
        .with_base_uri(format!("{BASE}{name}.schema.json"))
        .with_registry(&registry)
        .offline()
        .build(&schema_text(name))
        .unwrap()
}

#[track_caller]
pub fn assert_holds(schema: &Validator, document: &Value, what: &str) {
    let errors: Vec<String> = schema
        .iter_errors(document)
        .map(|error| format!("{}: {error:.300}", error.instance_path()))
        .collect();
    assert!(
        errors.is_empty(),
        "{what}: {}\n{document:#.1500}",
        errors.join("\n")
    );
}

/// Every object of a document with one field more than it has.
fn with_one_field_more(document: &Value) -> Vec<Value> {
    let mut more = Vec::new();
    match document {
        Value::Object(fields) => {
            let mut longer = document.clone();
            longer["nobody_knows_this"] = 1.into();
            more.push(longer);
            for (name, value) in fields {
                for changed in with_one_field_more(value) {
                    let mut copy = document.clone();
                    copy[name] = changed;
                    more.push(copy);
                }
            }
        }
        Value::Array(items) => {
            // One of each list is enough: they are all held against the same words.
            for changed in items.first().map(with_one_field_more).unwrap_or_default() {
                let mut copy = document.clone();
                copy[0] = changed;
                more.push(copy);
            }
        }
        _ => {}
    }
    more
}

#[test]
fn the_schemas_are_schemas() {
    for name in [
        "config",
        "manifest",
        "plan",
        "journal",
        "backup-journal",
        "events",
        "report",
    ] {
        let text = schema_text(name);
        assert!(jsonschema::meta::is_valid(&text), "{name}");
        assert_eq!(
            text["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        schema(name);
    }
}

#[test]
fn every_manifest_holds_to_its_schema() {
    let schema = schema("manifest");
    for set in sets() {
        for options in [&[][..], &["--method", "store"]] {
            let desk = TestDir::new();
            let args: Vec<&str> = ["pack", &set.source, "set.zip"]
                .iter()
                .chain(options)
                .copied()
                .collect();
            desk.expect(0, &args);
            let manifest: Value =
                serde_json::from_slice(&desk.expect(0, &["list", "set.zip", "--json"]).out)
                    .unwrap();
            assert_holds(&schema, &manifest, set.name);
            if set.name == "gcs_layout" {
                for longer in with_one_field_more(&manifest) {
                    assert!(!schema.is_valid(&longer), "{longer:#.1500}");
                }
            }
        }
    }
}

#[test]
fn fixture_manifest_equals_golden_file() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let mut manifest: Value =
        serde_json::from_slice(&desk.expect(0, &["list", "set.zip", "--json"]).out).unwrap();
    assert_eq!(manifest["tool"]["version"], env!("CARGO_PKG_VERSION"));
    manifest["tool"]["version"] = "any".into();
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/managed.manifest.json"
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden, format!("{manifest:#}\n")).unwrap();
    }
    let kept: Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let difference = crate::support::entities::difference(&kept, &manifest);
    assert_eq!(
        difference, None,
        "UPDATE_GOLDEN=1 writes it anew, if that is meant"
    );
}

#[test]
fn every_plan_holds_to_its_schema() {
    let schema = schema("plan");
    let desk = TestDir::new();
    desk.pack(&managed().source);
    desk.write(
        "order.toml",
        "first = [\"Media\"]\ndepends_on = [\"Order=Customer\"]\n",
    );
    desk.write("kindpack.toml", "[profile.laptop]\nlimit = 3\n");
    let choices: [(&str, &[&str]); 10] = [
        ("emulator:shop-test@127.0.0.1:9", &[]),
        (
            "emulator:shop-test@[::1]:9",
            &[
                "--on-existing",
                "merge",
                "--map-namespace",
                "acme=acme2",
                "--map-namespace",
                "(default)=base",
            ],
        ),
        (
            "ndjson:out",
            &["--only", "acme/*", "--exclude", "*/Session"],
        ),
        (
            "ndjson:out",
            &[
                "--exclude",
                "acme/*",
                "--first",
                "Media",
                "--last",
                "beta/Order",
            ],
        ),
        (
            "dir:with space",
            &["--depends-on", "acme/Order=acme/Review"],
        ),
        ("dir:/absolute", &["--exclude", "*"]),
        (
            "ndjson:out",
            &[
                "--only",
                "AuditLog",
                "--with-dependencies",
                "--order-file",
                "order.toml",
                "--after-all",
                "true",
            ],
        ),
        (
            "emulator:shop-test@127.0.0.1:9",
            &[
                "--on-existing",
                "replace",
                "--sample",
                "5%",
                "--redact",
                "Customer.title=mask",
                "--redact",
                "?*.nix=null",
            ],
        ),
        (
            "datastore:shop-test",
            &["--via", "import", "--staging", "gs://bucket/staging"],
        ),
        ("emulator:shop-test@127.0.0.1:9", &["--profile", "laptop"]),
    ];
    for (target, options) in choices {
        let plan = desk.plan("set.zip", target, "plan.json", options);
        assert_holds(&schema, &plan, &format!("{target} {options:?}"));
        for longer in with_one_field_more(&plan) {
            // Namespaces may have any name.
            let is_map = longer["maps"].get("nobody_knows_this").is_some();
            assert!(is_map || !schema.is_valid(&longer), "{longer:#.1500}");
        }
    }
}

#[track_caller]
fn assert_journal_holds(desk: &TestDir, name: &str) -> BTreeSet<String> {
    let schema = schema("journal");
    let text = String::from_utf8(desk.read(name)).unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_holds(&schema, &event, line);
        seen.insert(event["event"].as_str().unwrap().to_owned());
        for longer in with_one_field_more(&event) {
            assert!(!schema.is_valid(&longer), "{longer}");
        }
    }
    seen
}

/// Plans a restore of which one step cannot succeed: while it runs, a folder takes the name of its
/// file.
fn plan_failing_restore(desk: &TestDir) {
    let take =
        "test $KINDPACK_KIND$KINDPACK_STATE != Orderpending || mkdir -p failing/acme/Order.ndjson";
    let options = [
        "--only",
        "acme/Order",
        "--only",
        "acme/Media",
        "--before-step",
        take,
    ];
    desk.plan("set.zip", "ndjson:failing", "failing.json", &options);
}

/// Runs such a restore. Gives the run.
fn failing_restore(desk: &TestDir) -> Run {
    plan_failing_restore(desk);
    desk.expect(7, &["restore", "failing.json", "--keep-going", "--json"])
}

#[test]
fn journal_lines_match_schema() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    failing_restore(&desk);
    assert_eq!(
        assert_journal_holds(&desk, "failing.json.journal"),
        words(&["opened", "step-failed", "step-finished", "step-started"])
    );
    fs::remove_dir(desk.path("failing/acme/Order.ndjson")).unwrap();
    desk.json(0, &["restore", "failing.json"]);
    assert_eq!(
        assert_journal_holds(&desk, "failing.json.journal"),
        words(&[
            "finished",
            "opened",
            "step-failed",
            "step-finished",
            "step-started"
        ])
    );
}

fn words(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn checkpoints_in_a_journal_hold_to_its_schema() {
    let Some(emulator) = emulator("checkpoints in a journal") else {
        return;
    };
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 30, 700_000)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path("source"),
        &kindpack::model::KindRef::new("acme", "Song"),
        STARTED_MICROS,
        &records,
        1,
    );
    desk.pack("source");
    desk.plan(
        "set.zip",
        &emulator.target(&emulator.fresh_project()),
        "plan.json",
        &[],
    );
    let events = desk.expect(0, &["restore", "plan.json", "--json"]).events();
    let schema = schema("events");
    events
        .iter()
        .for_each(|event| assert_holds(&schema, event, "restore"));
    let seen = assert_journal_holds(&desk, "plan.json.journal");
    assert_eq!(
        seen,
        words(&[
            "checkpoint",
            "finished",
            "opened",
            "step-finished",
            "step-started"
        ])
    );
}

/// Holds all that a run printed against the schema, and notes which event it was.
#[track_caller]
fn check(schema: &Validator, run: &Run, what: &str, seen: &mut BTreeSet<String>) {
    let events = run.events();
    assert!(
        !events.is_empty(),
        "{what} printed no event: {}",
        run.brief()
    );
    for (index, event) in events.iter().enumerate() {
        assert_holds(schema, event, what);
        let name = event["event"].as_str().unwrap();
        let last = index + 1 == events.len();
        assert_eq!(
            matches!(name, "done" | "failed"),
            last,
            "{what}: event {index} of {}: {event}",
            events.len()
        );
        if !(name == "plan" || name == "entity") {
            with_one_field_more(event)
                .iter()
                .for_each(|longer| assert!(!schema.is_valid(longer), "{longer}"));
        }
        seen.insert(name.to_owned());
        if name == "done" {
            let fields: Vec<&str> = event
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .filter(|field| *field != "event")
                .collect();
            seen.insert(format!("done with {}", fields.join(",")));
        }
    }
    let last = events.last().unwrap();
    if matches!(run.code, 0 | 8) {
        assert_eq!(last["event"], "done", "{what}: {}", run.brief());
    } else {
        assert_eq!(
            (&last["event"], &last["code"]),
            (&json!("failed"), &json!(run.code)),
            "{what}: {}",
            run.brief()
        );
    }
}

#[test]
fn events_of_all_commands_match_schema() {
    let schema = schema("events");
    let desk = TestDir::new();
    let mut seen = BTreeSet::new();
    desk.pack(&managed().source);
    check(
        &schema,
        &failing_restore(&desk),
        "restore --keep-going",
        &mut seen,
    );
    let mut run = |code: i32, args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        check(
            &schema,
            &desk.expect(code, &args),
            &format!("kindpack {}", args.join(" ")),
            &mut seen,
        );
    };
    let (managed, legacy) = (managed().source, legacy().source);
    run(0, &["pack", &managed, "again.zip"]);
    run(0, &["pack", &legacy, "archives/"]);
    run(0, &["pack", &legacy, "dry.zip", "--dry-run"]);
    run(5, &["pack", &legacy, "set.zip"]);
    run(2, &["pack", "nowhere", "a.zip"]);
    run(2, &["pack", "nowhere"]);
    run(2, &["nonsense"]);
    run(2, &["list", "nowhere.zip"]);
    run(0, &["verify", "set.zip"]);
    run(0, &["verify", "set.zip", "--quick"]);
    run(0, &["verify", "set.zip", "--any-zip"]);
    run(0, &["verify", "archives/"]);
    run(0, &["cat", "set.zip", "acme/EdgeCase"]);
    run(2, &["cat", "set.zip", "NoSuchKind"]);
    run(0, &["extract", "set.zip", "extracted"]);
    run(
        0,
        &["extract", "archives/", "as-managed", "--format", "managed"],
    );
    desk.write(
        "taken/acme/Order/2026-11-22T07:07:42_527/2026-11-22T07:07:42_527.overall_export_metadata",
        "something else",
    );
    run(5, &["extract", "set.zip", "taken"]);
    run(
        0,
        &["plan", "set.zip", "--target", "emulator:p@127.0.0.1:9"],
    );
    run(
        8,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "-o",
            "plan.json",
            "--detailed-exitcode",
        ],
    );
    run(5, &["plan", "set.zip", "--target", "datastore:demo-src"]);
    run(
        0,
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--explain",
            "acme/Order",
        ],
    );
    run(0, &["archives", "."]);
    run(0, &["prune", "archives", "--keep-last", "1"]);
    desk.write(
        "shop.toml",
        "[app.shop]\nfrom = \"datastore:shop\"\nexports = \"gs://e/\"\narchive = \"a/\"\nkeep = { last = 1 }",
    );
    run(0, &["config", "check", "--config", "shop.toml"]);
    run(0, &["status", "plan.json"]);
    run(0, &["report", "set.zip", "-o", "set.html"]);
    run(2, &["report", "plan.json"]);
    run(0, &["restore", "plan.json", "--dry-run"]);
    run(7, &["restore", "plan.json", "--max-steps", "2"]);
    run(7, &["status", "plan.json", "--require-complete"]);
    run(0, &["restore", "plan.json", "--check", "none"]);
    run(0, &["restore", "plan.json"]);
    desk.plan(
        "set.zip",
        "ndjson:hooked",
        "hooked.json",
        &["--only", "acme/Order", "--after-step", "true"],
    );
    run(0, &["restore", "hooked.json"]);
    run(0, &["restore", "set.zip", "--target", "dir:one-go"]);
    run(0, &["restore", "archives/", "--target", "dir:another"]);
    run(0, &["completions", "zsh"]);
    run(0, &["man", "pages"]);
    run(2, &["backup"]);
    run(0, &["status", "failing.json"]);

    // What is wrong with sets and archives.
    copy_folder(
        Path::new(&fixture("managed-variants/gcs_layout")),
        &desk.path("source"),
    );
    let output = "source/backups/20131012/Order/namespace_acme/kind_Order/output-0";
    let mut bytes = desk.read(output);
    bytes[3_000] ^= 1;
    desk.write(output, bytes);
    run(4, &["pack", "source", "damaged.zip"]);
    fs::remove_file(desk.path(output)).unwrap();
    run(3, &["pack", "source", "damaged.zip"]);
    run(3, &["pack", "source", "damaged.zip", "--wait", "1s"]);
    let mut bytes = desk.read("set.zip");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    desk.write("damaged.zip", bytes);
    run(4, &["verify", "damaged.zip"]);
    run(4, &["verify", "damaged.zip", "--any-zip"]);
    run(4, &["cat", "damaged.zip", "*"]);

    let names = [
        "app",
        "archive",
        "chosen",
        "done",
        "entity",
        "explained",
        "extracted",
        "failed",
        "hooks",
        "kept",
        "plan",
        "problem",
        "prune",
        "set",
        "step",
        "step-failed",
        "step-finished",
    ];
    let expected: BTreeSet<String> = words(&names)
        .into_iter()
        .chain(words(&["step-started", "waiting", "warning"]))
        .collect();
    // The demo alone tells of commands; a test below runs it. Of retries, lost transfers and parts
    // only buckets tell, which the tests of Cloud Storage see; what is left of an import is
    // reported where a staging place fails, and ids only where gRPC does not get through.
    let of_schema: BTreeSet<String> = schema_text("events")["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(event_of)
        .filter(|name| {
            ![
                "command",
                "again",
                "retry",
                "parts-left",
                "ids-not-reserved",
                "left",
                // Backups need an emulator; the tests of `backup` see these.
                "backup",
                "backup-started",
                "export-failed",
                "export-finished",
                "export-started",
                "kind-estimate",
            ]
            .contains(&name.as_str())
        })
        .collect();
    assert_eq!(
        of_schema, expected,
        "every event of the schema is one that is printed here"
    );
    let (ends, names): (BTreeSet<String>, BTreeSet<String>) = seen
        .into_iter()
        .partition(|name| name.starts_with("done with"));
    assert_eq!(names, expected);
    // All but that of the demo, which a test below runs, and the three of backups.
    let done = schema_text("events")["$defs"]["done"]["oneOf"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(ends.len() + 4, done, "{ends:#?}");
}

#[test]
fn every_report_holds_to_its_schema() {
    let schema = schema("report");
    let desk = TestDir::new();
    desk.pack(&managed().source);
    plan_failing_restore(&desk);
    for (code, options) in [
        (7, &["--keep-going"][..]),
        (5, &["--check", "none"]),
        (0, &["--dry-run"]),
    ] {
        let args: Vec<&str> = ["restore", "failing.json", "--report", "report.json"]
            .iter()
            .chain(options)
            .copied()
            .collect();
        desk.expect(code, &args);
        let report = desk.json_file("report.json");
        assert_holds(&schema, &report, &args.join(" "));
        assert_eq!(report["code"], code, "{report}");
        with_one_field_more(&report)
            .iter()
            .for_each(|longer| assert!(!schema.is_valid(longer), "{longer}"));
    }
}

/// The name of the event that a branch of the schema is about.
fn event_of(branch: &Value) -> String {
    branch["$ref"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .replace('_', "-")
}

#[test]
fn interrupted_run_ends_with_valid_event() {
    let desk = TestDir::new();
    copy_folder(
        Path::new(&fixture("managed-variants/gcs_layout")),
        &desk.path("source"),
    );
    fs::remove_file(desk.path("source/backups/20131012/Order/Order.overall_export_metadata"))
        .unwrap();
    let mut waiting =
        Running::start(desk.kindpack(&["pack", "source", "set.zip", "--wait", "1h", "--json"]));
    assert!(waiting.wait_for_output("waiting"), "it did not wait");
    waiting.signal("TERM");
    let run = waiting.wait();
    assert_eq!(run.code, 143, "{}", run.brief());
    check(
        &schema("events"),
        &run,
        "pack that is ended",
        &mut BTreeSet::new(),
    );
}

#[test]
fn demo_events_match_schema() {
    let desk = TestDir::new();
    let mut command = desk.kindpack(&["demo", "--json"]);
    command
        .env("PATH", desk.home())
        .env("TMPDIR", desk.work())
        .env_remove("JAVA_HOME");
    let run = Running::start(command).wait();
    assert_eq!(run.code, 0, "{}", run.brief());
    let schema = schema("events");
    for event in run.events() {
        assert_holds(&schema, &event, "demo");
    }
}
