use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::{Namespace, Sample};
use crate::plan::profile::Profile;
use crate::plan::{NamespaceMap, OnExisting, WriteMethod};
use crate::store::UploadOptions;

const LAPTOP: &str = r#"
[profile.laptop]
target = "emulator:shop"
only = ["acme/*"]
exclude = ["Session", "*/AuditLog"]
first = ["Setting"]
last = ["Media"]
depends_on = ["Order=Customer"]
map_namespaces = { "(default)" = "base", acme = "acme-test" }
redact = ["Customer.email=mask"]
redact_file = "redact.txt"
on_existing = "replace"
via = "commit"
staging = "gs://bucket/staging"
sample = "5%"
with_dependencies = true
order_file = "/etc/order.toml"
before_step = "date"
after_step = "sync"
after_all = "make seed"

[profile.files]
target = "ndjson:out"
limit = 100
staging = "staging"
"#;

fn named(text: &str, name: &str) -> Result<Profile, String> {
    let config = Config::read(text, "kindpack.toml", Path::new("conf"));
    let profile = config.and_then(|mut config| config.take_profile(name));
    profile.map_err(|error| error.to_string())
}

#[test]
fn profile_takes_the_same_options() {
    let laptop = named(LAPTOP, "laptop").unwrap();
    assert_eq!(laptop.target.unwrap().to_string(), "emulator:shop");
    assert_eq!(
        (
            laptop.exclude.len(),
            laptop.depends_on.len(),
            laptop.redact.len()
        ),
        (2, 1, 1)
    );
    assert_eq!(
        NamespaceMap::join(laptop.map_namespaces).unwrap()[&Namespace::new("")],
        Namespace::new("base")
    );
    assert_eq!(
        (laptop.on_existing, laptop.via, laptop.sample),
        (
            Some(OnExisting::Replace),
            Some(WriteMethod::Commit),
            Some(Sample::Share(50_000))
        )
    );
    assert_eq!(laptop.hooks.after_all.as_deref(), Some("make seed"));
    assert!(laptop.with_dependencies);
    assert_eq!(named("[profile.empty]", "empty"), Ok(Profile::default()));
}

#[test]
fn paths_lead_on_from_where_the_configuration_lies() {
    let laptop = named(LAPTOP, "laptop").unwrap();
    assert_eq!(laptop.redact_file.unwrap(), Path::new("conf/redact.txt"));
    assert_eq!(laptop.order_file.unwrap(), Path::new("/etc/order.toml"));
    assert_eq!(laptop.staging.unwrap(), "gs://bucket/staging");
    let files = named(LAPTOP, "files").unwrap();
    assert_eq!(
        (
            files.target.unwrap().to_string().as_str(),
            files.staging.unwrap().as_str()
        ),
        ("ndjson:conf/out", "conf/staging")
    );
    assert_eq!(files.sample, Some(Sample::Limit(100)));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, start, rest) in [
        (
            "[profile.laptop]\ntagret = \"dir:x\"",
            "kindpack.toml: line 2: ",
            "`tagret`",
        ),
        ("[profil.laptop]", "kindpack.toml: line 1: ", "`profil`"),
        (
            "[profile.laptop]\n\nonly = [\"a\",\n  \"b/\"]",
            "kindpack.toml: line 3: ",
            "selector \"b/\"",
        ),
        (
            "[profile.laptop]\ntarget = \"shop\"",
            "kindpack.toml: line 2: ",
            "write emulator:shop or datastore:shop",
        ),
        (
            "[profile.laptop]\ndepends_on = [\"A\"]",
            "kindpack.toml: line 2: ",
            "A=B",
        ),
        (
            "[profile.laptop]\non_existing = \"over\"",
            "kindpack.toml: line 2: ",
            "write fail, merge or replace",
        ),
        (
            "[profile.laptop]\nredact = [\"x\"]",
            "kindpack.toml: line 2: ",
            "--redact",
        ),
        (
            "[profile.laptop]\nmap_namespaces = { a = \"b c\" }",
            "kindpack.toml: line 2: ",
            "namespace map",
        ),
        (
            "[profile.laptop]\nmap_namespaces = { \"a=b\" = \"c\" }",
            "kindpack.toml: line 2: ",
            "namespace",
        ),
        (
            "[profile.laptop]\nsample = \"5%\"\nlimit = 3",
            "kindpack.toml: line 3: ",
            "exclude each other",
        ),
        (
            "[profile.laptop]\nsample = \"100\"",
            "kindpack.toml: line 2: ",
            "100 has no %",
        ),
        (
            "[profile.laptop]\nlimit = 0",
            "kindpack.toml: line 2: ",
            "from 1",
        ),
        (
            "[profile.laptop]\nconfirm = \"shop\"",
            "kindpack.toml: line 2: ",
            "confirm must be typed as --confirm PROJECT each time",
        ),
        (
            "[profile.laptop]\ndisaster_recovery = true",
            "kindpack.toml: line 2: ",
            "disaster_recovery must be typed",
        ),
        ("[profile.laptop", "kindpack.toml: line 1: ", ""),
        (
            "[profile.other]\n[profile.third]",
            "kindpack.toml: there is no [profile.laptop]; it has profile.other, profile.third",
            "",
        ),
        ("", "kindpack.toml: there is no [profile.laptop]", ""),
    ] {
        let error = named(text, "laptop").unwrap_err();
        assert!(
            error.starts_with(start) && error.contains(rest) && !error.contains('\n'),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn one_wrong_profile_is_told_whichever_is_meant() {
    assert!(
        named("[profile.laptop]\n[profile.other]\nonyl = []", "laptop")
            .unwrap_err()
            .contains("`onyl`")
    );
}

/// Every key of an application.
const SHOP: &str = r#"
[defaults]
exports = "gs://shop-exports/nightly/"
queue = { rate = "5/s", bucket_size = 2, max_concurrent = 3, max_attempts = 4 }
exclude = ["Session"]

[defaults.keep]
daily = 7
monthly = 12

[defaults.notify]
on = "failure"
mail = { host = "smtp.example.com", port = 2525, security = "tls", username = "ops", password_env = "SMTP_PASSWORD", from = "Backups <b@example.com>", to = ["ops@example.com"], ca_file = "ca.pem" }
webhook = { url_file = "/run/secrets/webhook" }

[app.shop]
from = "datastore:shop"
archive = "gs://shop-archive/"

[app.museum]
from = "emulator:museum@localhost:8081"
exports = "exports"
archive = "archive/"
namespaces = ["(default)", "acme"]
only = ["acme/*"]
exclude = []
queue = "queue.yaml:backups"
operation_timeout = "2h"
snapshot = "now"
allow_missing = ["Cache"]
delete_exports = true
pack = { method = "store", level = 9, accept_count = ["Log"], with = ["images"], overwrite = true, max_spread = "12h", storage_class = "NEARLINE", kms_key = "projects/p/k", upload_cutoff = "64MiB", upload_chunk_size = "1MiB" }
keep = { last = 3, weekly = 4, yearly = 5 }
notify = { webhook = { url_env = "HOOK" } }

[profile.laptop]
target = "emulator:shop"
"#;

fn shop() -> Config {
    Config::read(SHOP, "kindpack.toml", Path::new("conf")).unwrap()
}

#[test]
fn application_takes_what_it_leaves_out_from_defaults() {
    let config = shop();
    let app = &config.apps["shop"];
    assert_eq!(app.backup.exports.to_string(), "gs://shop-exports/nightly/");
    assert_eq!(app.backup.queue.rate.to_string(), "5/s");
    assert_eq!(app.backup.queue.max_attempts.get(), 4);
    assert_eq!(app.backup.kinds.exclude.len(), 1);
    let rules: Vec<u32> = app
        .keep
        .unwrap()
        .rules()
        .map(|(_, number)| number.get())
        .collect();
    assert_eq!(rules, [7, 12]);
    let mail = app.notify.as_ref().unwrap().mail.as_ref().unwrap();
    assert_eq!(mail.ca_file.as_deref(), Some(Path::new("conf/ca.pem")));
    assert_eq!(
        (mail.host.as_str(), mail.port),
        ("smtp.example.com", Some(2525))
    );
}

#[test]
fn application_overrides_defaults_with_relative_paths() {
    let config = shop();
    let app = &config.apps["museum"];
    assert_eq!(app.backup.archive.to_string(), "conf/archive/");
    assert_eq!(app.companions[0].to_string(), "conf/images");
    assert_eq!(
        app.queue_file.as_ref().unwrap().to_string(),
        "conf/queue.yaml:backups"
    );
    assert_eq!(
        app.backup.kinds.namespaces,
        [Namespace::new(""), Namespace::new("acme")]
    );
    assert_eq!(app.backup.operation_timeout, Duration::from_secs(7_200));
    assert!(app.backup.kinds.exclude.is_empty() && app.backup.delete_exports);
    assert_eq!(
        (app.backup.pack.level, app.backup.pack.overwrite),
        (9, true)
    );
    assert_eq!(
        app.backup.pack.wanted.max_spread,
        Duration::from_secs(12 * 60 * 60)
    );
    let upload = UploadOptions {
        storage_class: Some("NEARLINE".to_owned()),
        kms_key: Some("projects/p/k".to_owned()),
        cutoff_bytes: 64 << 20,
        chunk_bytes: 1 << 20,
        keep_parts: false,
    };
    assert_eq!(app.upload, upload);
    assert_eq!(config.apps["shop"].upload, UploadOptions::default());
    assert!(app.notify.as_ref().unwrap().mail.is_none());
}

#[test]
fn applications_are_chosen_by_name() {
    let config = shop();
    let names = |chosen: &[&str]| {
        let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
        let apps = config.choose_apps(&chosen);
        let names = apps.map(|apps| apps.iter().map(|app| app.name.clone()).collect::<Vec<_>>());
        names.map_err(|error| error.to_string())
    };
    assert_eq!(names(&[]).unwrap(), ["museum", "shop"]);
    assert_eq!(names(&["shop"]).unwrap(), ["shop"]);
    assert!(
        names(&["shpo"])
            .unwrap_err()
            .contains("app.museum, app.shop")
    );
    let empty = Config::read("", "kindpack.toml", Path::new("")).unwrap();
    assert!(empty.choose_apps(&[]).is_err());
}

#[test]
fn keep_needs_a_folder_of_archives() {
    let text = "[app.shop]\nfrom = \"datastore:shop\"\nexports = \"e\"\narchive = \"a.zip\"\nkeep = { last = 1 }\n";
    let error = Config::read(text, "kindpack.toml", Path::new("")).unwrap_err();
    assert!(error.to_string().contains("folder of archives"), "{error}");
}

#[test]
fn mistakes_in_applications_are_named_with_their_lines() {
    let app = "[app.shop]\nfrom = \"datastore:shop\"\nexports = \"e\"\narchive = \"a/\"\n";
    for (more, line, words) in [
        (
            "exclud = []",
            5,
            "unknown key `exclud`; did you mean `exclude`?",
        ),
        (
            "queue = { rat = \"1/s\" }",
            5,
            "unknown key `rat`; did you mean `rate`?",
        ),
        (
            "queue = { bucket_size = 0 }",
            5,
            "line 5: 0 is not a whole number of at least 1",
        ),
        (
            "keep = { last = 2, daily = \"x\" }",
            5,
            "daily: \"x\" is not a whole number of at least 1",
        ),
        (
            "only = \"acme/*\"",
            5,
            "only: \"acme/*\" is not a list: write [\"acme/*\"]",
        ),
        (
            "delete_exports = 1",
            5,
            "delete_exports: 1 is not true or false",
        ),
        ("queue = 3", 5, "queue.yaml"),
        ("keep = {}", 5, "at least one number"),
        ("keep = { daly = 1 }", 5, "did you mean `daily`?"),
        ("pack = { level = 10 }", 5, "1 to 9"),
        ("pack = { max_spread = \"soon\" }", 5, "a duration"),
        ("pack = { upload_cutoff = \"0\" }", 5, "a size"),
        (
            "pack = { storage_clas = \"NEARLINE\" }",
            5,
            "did you mean `storage_class`?",
        ),
        (
            "pack = { method = \"defalte\" }",
            5,
            "did you mean `deflate`?",
        ),
        (
            "notify = { on = \"failures\" }",
            5,
            "did you mean `failure`?",
        ),
        ("notify = { on = \"always\" }", 5, "mail or webhook"),
        ("notify = { webhook = {} }", 5, "url_env or url_file"),
        ("notify = { webhook = { url = \"https://x\" } }", 5, "`url`"),
        (
            "notify = { webhook = { url_env = \"A\", url_file = \"b\" } }",
            5,
            "exclude",
        ),
        (
            "notify = { mail = { host = \"h\", from = \"no\", to = [] } }",
            5,
            "",
        ),
        (
            "notify = { mail = { host = \"h\", from = \"a@b.c\", to = [] } }",
            5,
            "address",
        ),
        (
            "notify = { mail = { host = \"h\", from = \"a@b.c\", to = [\"d@e.f\"], username = \"u\" } }",
            5,
            "password_env",
        ),
        ("snapshot = \"yesterday\"", 5, ""),
        ("namespaces = \"acme\"", 5, ""),
        ("[ap.x]", 5, "did you mean `app`?"),
    ] {
        let error = Config::read(&format!("{app}{more}"), "k.toml", Path::new(""));
        let error = error.unwrap_err().to_string();
        let start = format!("k.toml: line {line}: ");
        assert!(
            error.starts_with(&start) && error.contains(words),
            "{more}: {error}"
        );
    }
    let missing = Config::read("\n[app.x]\nfrom = \"datastore:a\"", "k.toml", Path::new(""));
    let missing = missing.unwrap_err().to_string();
    assert_eq!(
        missing,
        "k.toml: line 2: [app.x]: the key `exports` is missing"
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "\\PC{0,80}",
        lines in proptest::collection::vec("(\\[(profile|app)\\.a\\]|[a-z_]{1,9} ?= ?\\PC{0,9})", 0..5),
    ) {
        for text in [text, lines.join("\n")] {
            _ = Config::read(&text, "kindpack.toml", Path::new(""));
        }
    }
}
