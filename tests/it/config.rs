//! `kindpack.toml`: what `config check` shows, and that schema and reader accept the same.

use std::fs;
use std::path::Path;

use kindpack::config::Config;
use serde_json::{Value, json};

use crate::support::TestDir;

const SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/docs/schemas/config.schema.json"
);

const SHOP: &str = r#"
[defaults]
exports = "exports"
notify = { webhook = { url_env = "KINDPACK_TEST_HOOK" } }

[app.shop]
from = "datastore:shop"
archive = "archive/"
queue = "queue.yaml"
keep = { daily = 7 }
exports = "gs://shop-exports/"

[app.museum]
from = "emulator:museum@localhost:8081"
archive = "gs://museum-archive/"
exclude = ["Session"]

[profile.laptop]
target = "emulator:shop"
"#;

/// A document with every key of the configuration.
fn whole() -> Value {
    let app = json!({
        "from": "datastore:shop/orders", "exports": "gs://exports/nightly/", "archive": "archive/",
        "namespaces": ["(default)", "acme"], "only": ["acme/*"], "exclude": ["Session"],
        "queue": {"rate": "10/s", "bucket_size": 1, "max_concurrent": 1, "max_attempts": 3},
        "snapshot": "2026-03-02T01:15:00Z", "allow_missing": ["Cache"], "delete_exports": true,
        "pack": {"method": "store", "level": 1, "accept_count": ["Log"], "with": ["gs://images/"], "overwrite": false,
            "max_spread": "12h", "storage_class": "NEARLINE", "kms_key": "projects/p/k", "upload_cutoff": "64MiB",
            "upload_chunk_size": "1MiB", "keep_parts": true},
        "keep": {"last": 1, "daily": 2, "weekly": 3, "monthly": 4, "yearly": 5},
        "notify": {
            "on": "failure",
            "mail": {
                "host": "smtp.example.com", "port": 587, "security": "starttls", "username": "ops",
                "password_env": "PASSWORD", "from": "Backups <b@example.com>",
                "to": ["ops@example.com"], "ca_file": "ca.pem",
            },
            "webhook": {"url_file": "hook"},
        },
    });
    let profile = json!({
        "target": "emulator:shop@localhost:8081", "only": ["acme/*"], "exclude": ["Session"],
        "first": ["Setting"], "last": ["Media"], "depends_on": ["Order=Customer"],
        "map_namespaces": {"(default)": "base", "acme": "test"}, "redact": ["Customer.email=mask"],
        "redact_file": "redact.txt", "on_existing": "replace", "via": "commit",
        "staging": "gs://bucket/staging", "sample": "5%", "with_dependencies": true,
        "order_file": "order.toml", "before_step": "date", "after_step": "sync",
        "after_all": "true",
    });
    json!({"defaults": app, "app": {"shop": app}, "profile": {"laptop": profile}})
}

/// What may stand in place of a value.
fn others(value: &Value) -> Vec<Value> {
    let mut others = vec![
        json!(0),
        json!(-1),
        json!(7),
        json!(70_000),
        json!(1.5),
        json!(true),
        json!(""),
        json!("other"),
        json!([]),
        json!([""]),
        json!(["Order", 1]),
        json!({}),
    ];
    others.retain(|other| other != value);
    others
}

/// The document with one value replaced, left out or added, at every place.
fn changed(document: &Value) -> Vec<Value> {
    let mut all = others(document);
    if let Value::Object(fields) = document {
        let mut longer = document.clone();
        longer["nobody_knows_this"] = json!(1);
        all.push(longer);
        for (name, value) in fields {
            let mut shorter = document.clone();
            shorter.as_object_mut().unwrap().remove(name);
            all.push(shorter);
            for value in changed(value) {
                let mut copy = document.clone();
                copy[name] = value;
                all.push(copy);
            }
        }
    }
    all
}

/// JSON as the right side of a line of TOML.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{:?} = {}", name, toml_value(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn read(document: &Value) -> Result<(), String> {
    let lines: Vec<String> = document
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("{name} = {}", toml_value(value)))
        .collect();
    let config = Config::read(&lines.join("\n"), "kindpack.toml", Path::new(""));
    config.map(drop).map_err(|error| error.to_string())
}

#[test]
fn schema_accepts_only_what_the_reader_accepts() {
    let text: Value = serde_json::from_slice(&fs::read(SCHEMA).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&text).unwrap();
    assert!(schema.is_valid(&whole()));
    assert_eq!(read(&whole()), Ok(()));
    let documents = changed(&whole());
    let mut counts = (0, 0);
    for document in documents.iter().filter(|document| document.is_object()) {
        let is_read = read(document);
        if schema.is_valid(document) {
            counts.0 += 1;
            // That `keep` needs a folder joins two fields, which the schema looks at one by one.
            let is_fine = is_read
                .as_ref()
                .map_or_else(|error| error.contains("keep: needs a folder"), |()| true);
            assert!(is_fine, "{is_read:?}: {document:#}");
        }
        if document.to_string().contains("nobody_knows_this") && is_read.is_ok() {
            // Namespaces may have any name; a value that is no table is refused elsewhere.
            let maps = &document["profile"]["laptop"]["map_namespaces"];
            assert!(maps.get("nobody_knows_this").is_some(), "{document:#}");
        }
        counts.1 += usize::from(!schema.is_valid(document));
    }
    assert!(counts.0 > 20 && counts.1 > 500, "{counts:?}");
}

#[test]
fn check_shows_each_application() {
    let desk = TestDir::new();
    desk.write("kindpack.toml", SHOP);
    desk.write("queue.yaml", "queue:\n- name: backups\n  rate: 2/m\n");
    let run = desk.expect(0, &["config", "check"]);
    for words in [
        "datastore:shop",
        "2/m",
        "7 daily",
        "gs://museum-archive/",
        "Session",
        "profiles: laptop",
        "OK: kindpack.toml: 2 applications",
    ] {
        assert!(run.text().contains(words), "{words}: {}", run.text());
    }
    assert!(run.err.contains("KINDPACK_TEST_HOOK"), "{}", run.brief());
    let events = desk.expect(0, &["config", "check", "--json"]).events();
    assert_eq!(events.len(), 3);
    assert_eq!(events[1]["queue"]["rate"], "2/m");
}

#[test]
fn config_check_shows_how_the_archive_is_made() {
    let desk = TestDir::new();
    let pack = "method = \"store\"\nkeep_parts = true\nstorage_class = \"NEARLINE\"";
    let config = format!("{SHOP}\n[app.museum.pack]\n{pack}\n");
    desk.write("kindpack.toml", config);
    desk.write("queue.yaml", "queue:\n- name: backups\n  rate: 2/s\n");
    let run = desk.expect(0, &["config", "check"]);
    for shown in [
        "deflate, level 6",
        "store, storage class NEARLINE, keeps parts",
    ] {
        assert!(run.text().contains(shown), "{}", run.text());
    }
}

#[test]
fn check_names_line_and_nearest_key() {
    let desk = TestDir::new();
    desk.write("other.toml", SHOP.replace("keep =", "kep ="));
    let run = desk.expect(2, &["config", "check", "--config", "other.toml"]);
    let words = "other.toml: line 10: unknown key `kep`; did you mean `keep`?";
    assert!(run.err.contains(words), "{}", run.brief());
    desk.write("kindpack.toml", SHOP);
    // The queue's file is missing.
    desk.expect(2, &["config", "check"]);
    desk.expect(2, &["config", "check", "--config", "nowhere.toml"]);
}

#[test]
fn check_finds_what_no_backup_could_use() {
    let desk = TestDir::new();
    let app = |exports: &str| {
        format!("[app.a]\nfrom = \"datastore:a\"\nexports = \"{exports}\"\narchive = \"gs://a/\"\n")
    };
    let profile = "[profile.p]\nredact_file = \"missing.txt\"\n";
    for (config, words) in [
        (app("exports"), "gs://BUCKET/NAME"),
        (app("gs://e/") + profile, "missing.txt: no such file"),
        (String::new(), "no application and no profile"),
    ] {
        desk.write("kindpack.toml", config);
        let run = desk.expect(2, &["config", "check"]);
        assert!(run.err.contains(words), "{}", run.brief());
    }
}

#[test]
fn check_asks_the_network_only_with_online() {
    let desk = TestDir::new();
    desk.write(
        "kindpack.toml",
        "[app.a]\nfrom = \"datastore:a\"\nexports = \"gs://e/\"\narchive = \"gs://a/\"\n",
    );
    let server = crate::support::gcs_server::GcsServer::start(&["e", "a"]);
    let check = |options: &[&str]| {
        let args = [&["config", "check"], options].concat();
        let mut command = desk.kindpack(&args);
        command.env("STORAGE_EMULATOR_HOST", server.url());
        crate::support::Running::start(command).wait().code
    };
    assert_eq!(check(&[]), 0);
    assert_eq!(server.seen().len(), 0);
    assert_eq!(check(&["--online"]), 0);
    assert_eq!(server.seen().len(), 2);
}
