//! Backups of the real service: long-running operations, refusals, and kills at every numbered
//! point of the journal.

use std::process::Command;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use serde_json::{Value, json};

use crate::support::data::{Made, made};
use crate::support::datastore_server::DatastoreServer;
use crate::support::gcs_server::{Call as Gcs, Deed as GcsDeed, GcsServer};
use crate::support::operations::{Api, Call, Deed, End, Operations};
use crate::support::{Run, Running, TestDir, sound};

const PROJECT: &str = "shop";
const ARGS: [&str; 5] = [
    "backup",
    "datastore:shop",
    "gs://exports/nightly/",
    "gs://vault/archives/",
    "--queue",
];
const KINDS: [(&str, &str); 2] = [("", "User"), ("acme", "Order")];

/// A project with two kinds, a bucket to export into, and one for archives.
pub(super) struct Site {
    pub(super) desk: TestDir,
    pub(super) gcs: Arc<GcsServer>,
    datastore: DatastoreServer,
    pub(super) operations: Arc<Operations>,
}

impl Site {
    pub(super) fn new() -> Self {
        let gcs = Arc::new(GcsServer::start(&["exports", "vault"]));
        let datastore = DatastoreServer::start(PROJECT, &["", "orders"]);
        let operations = Arc::new(Operations::new(PROJECT, gcs.clone()));
        operations.course(0, End::Succeeds);
        datastore.serve_operations(operations.clone());
        for (database, (namespace, kind)) in ["", "orders"]
            .into_iter()
            .flat_map(|it| KINDS.map(|pair| (it, pair)))
        {
            let entities = made(PROJECT, namespace, kind, 3, 10);
            for entity in &entities {
                let mut json = entity.json();
                if !database.is_empty() {
                    json["key"]["partitionId"]["databaseId"] = database.into();
                }
                datastore.put(database, &json);
            }
            let record = |entity: &Made| entity.record_in(database);
            let records = entities.iter().map(record).collect();
            operations.put(database, namespace, kind, records);
        }
        let desk = TestDir::new();
        desk.write("key.json", datastore.credentials().to_string());
        desk.write(
            "queue.yaml",
            "queue: [{name: q, rate: 100/s, retry_parameters: {task_retry_limit: 4, min_backoff_seconds: 0.01, max_backoff_seconds: 0.05}}]",
        );
        Site {
            desk,
            gcs,
            datastore,
            operations,
        }
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.desk.kindpack(args);
        command
            .env("GOOGLE_APPLICATION_CREDENTIALS", self.desk.path("key.json"))
            .env(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE",
                self.datastore.url(),
            )
            .env(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_FIRESTORE",
                self.datastore.url(),
            )
            .env("STORAGE_EMULATOR_HOST", self.gcs.url());
        command
    }

    fn run(&self, options: &[&str]) -> Run {
        let args = [&ARGS[..], &["queue.yaml", "--json"], options].concat();
        sound(Running::start(self.command(&args)).wait(), &args)
    }

    #[track_caller]
    fn expect(&self, code: i32, options: &[&str]) -> Value {
        let run = self.run(options);
        assert_eq!(run.code, code, "{options:?}: {}", run.brief());
        run.last_event()
    }

    /// How often each kind was started.
    fn starts(&self) -> [usize; 2] {
        let started = self.operations.started();
        KINDS.map(|(_, kind)| {
            let is_of = |kinds: &[String]| kinds == [kind];
            started
                .iter()
                .filter(|one| is_of(&one.filter.kinds))
                .count()
        })
    }

    fn archives(&self) -> Vec<String> {
        let mut names = self.gcs.names("vault");
        names.retain(|name| name.ends_with(".zip"));
        names
    }
}

#[test]
fn service_is_backed_up_by_operations() {
    let site = Site::new();
    site.operations.course(1, End::Succeeds);
    let done = site.expect(0, &[]);
    assert_eq!((&done["kinds"], &done["entities"]), (&json!(2), &json!(6)));
    assert_eq!((site.starts(), site.archives().len()), ([1, 1], 1));
    let first = &site.operations.started()[0];
    assert_eq!(first.api, Api::DatastoreAdmin);
    assert_eq!(first.filter.kinds.len() * first.filter.namespaces.len(), 1);
    assert_eq!(site.operations.most_at_once(), 1);
}

#[test]
fn taken_name_is_refused_before_any_export() {
    let site = Site::new();
    let mut args = ARGS;
    let archive = args.iter_mut().find(|arg| arg.starts_with("gs://vault"));
    *archive.unwrap() = "gs://vault/tonight.zip";
    for (code, option) in [(0, "--json"), (5, "--json"), (5, "--dry-run")] {
        let args = [&args[..], &["queue.yaml", option]].concat();
        let run = Running::start(site.command(&args)).wait();
        assert_eq!(run.code, code, "{option}: {}", run.brief());
        assert_eq!(site.starts(), [1, 1], "{option}");
    }
}

#[test]
fn what_a_keep_policy_does_is_reported() {
    let site = Site::new();
    let run = site.run(&["--keep-last", "1"]);
    let events = run.events();
    let pruned = events.iter().find(|event| event["event"] == "prune");
    assert_eq!(pruned.unwrap()["decision"], "keep", "{}", run.brief());
}

#[test]
fn one_instant_is_exported_by_firestore_admin() {
    let site = Site::new();
    let done = site.expect(0, &["--snapshot-time", "now", "--delete-exports"]);
    let instant = done["snapshot_time"].as_str().unwrap();
    assert!(instant.ends_with(":00Z"), "{instant}");
    for operation in site.operations.started() {
        assert_eq!(operation.api, Api::FirestoreAdmin);
        assert_eq!(operation.filter.snapshot_time.as_deref(), Some(instant));
    }
    let left = site.gcs.names("exports");
    assert!(left.iter().all(|name| name.ends_with(".json")), "{left:?}");
}

#[test]
fn encrypted_backup_is_verified_without_an_identity() {
    let site = Site::new();
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    site.desk.write("identity", secret.expose_secret());
    let to = ["--encrypt-to", &recipient];
    let deleting = [&to[..], &["--delete-exports"]].concat();
    site.expect(2, &deleting);
    assert_eq!(site.starts(), [0, 0]);
    let done = site.expect(0, &to);
    assert!(done["archive"].as_str().unwrap().ends_with(".zip.age"));
    assert!(site.archives().is_empty(), "no plain archive");
    site.operations.course(1, End::Succeeds);
    let identified = [&deleting[..], &["--identity", "identity", "--overwrite"]].concat();
    let done = site.expect(0, &identified);
    assert_eq!(done["entities"], 6);
}

#[test]
fn named_database_is_backed_up_at_one_instant() {
    let site = Site::new();
    let mut args = ARGS;
    args[1] = "datastore:shop/orders";
    let args = [
        &args[..],
        &["queue.yaml", "--json", "--snapshot-time", "now"],
    ]
    .concat();
    let run = sound(Running::start(site.command(&args)).wait(), &args);
    assert_eq!(run.code, 0, "{}", run.brief());
    let done = run.last_event();
    assert_eq!((&done["kinds"], &done["entities"]), (&json!(2), &json!(6)));
    let instant = done["snapshot_time"].as_str().unwrap();
    for operation in site.operations.started() {
        assert_eq!(operation.api, Api::FirestoreAdmin);
        assert_eq!(operation.database, "orders");
        assert_eq!(operation.filter.snapshot_time.as_deref(), Some(instant));
    }
    let archive = done["archive"].as_str().unwrap();
    let args = ["list", archive, "--json"];
    let listed = sound(Running::start(site.command(&args)).wait(), &args);
    let manifest: Value = serde_json::from_slice(&listed.out).unwrap();
    assert_eq!(manifest["backup"]["database"], "orders");
    assert_eq!(manifest["backup"]["snapshot_time"], instant);
}

#[test]
fn class_and_key_are_for_the_archive() {
    let flags = ["--storage-class", "NEARLINE", "--kms-key", "projects/p/k"];
    let config = r#"
[app.shop]
from = "datastore:shop"
exports = "gs://exports/nightly/"
archive = "gs://vault/archives/"
queue = "queue.yaml"
pack = { storage_class = "NEARLINE", kms_key = "projects/p/k" }
"#;
    for args in [
        [&ARGS[..], &["queue.yaml"], &flags].concat(),
        vec!["backup"],
    ] {
        let site = Site::new();
        site.desk.write("kindpack.toml", config);
        let run = sound(Running::start(site.command(&args)).wait(), &args);
        assert_eq!(run.code, 0, "{}", run.brief());
        for (bucket, class, key) in [
            ("vault", Some("NEARLINE"), Some("projects/p/k")),
            ("exports", None, None),
        ] {
            for name in site.gcs.names(bucket) {
                let object = site.gcs.get(bucket, &name).unwrap();
                let found = (object.storage_class.as_deref(), object.kms_key.as_deref());
                assert_eq!(found, (class, key), "{name} after {args:?}");
            }
        }
    }
}

#[test]
fn transient_errors_are_tried_again() {
    // After other errors an operation is looked for a minute before it counts as never started.
    for deed in [Deed::Status(409), Deed::Status(429), Deed::LoseAnswer] {
        let site = Site::new();
        site.operations.plan(Call::Export, 0, deed);
        site.expect(0, &[]);
        assert_eq!(site.starts(), [1, 1], "{deed:?}");
        assert!(site.operations.unfired().is_empty(), "{deed:?}");
    }
}

#[test]
fn refused_exports_are_named_with_advice() {
    let site = Site::new();
    site.operations.deny("datastore.databases.export");
    let run = site.run(&[]);
    assert_eq!(run.code, 7, "{}", run.brief());
    assert!(
        run.err.contains("PERMISSION_DENIED") || run.err.contains("permission"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("(default)/User") && run.err.contains("acme/Order"),
        "{}",
        run.err
    );
    assert!(site.archives().is_empty());
}

#[test]
fn killed_backup_goes_on_at_every_segment() {
    let whole = Site::new();
    whole.expect(0, &[]);
    let points = whole.gcs.count(Gcs::Insert);
    assert!(points >= 13, "{points}");
    for (number, deed) in
        (0..points).flat_map(|number| [(number, GcsDeed::HoldBefore), (number, GcsDeed::HoldAfter)])
    {
        let site = Site::new();
        site.gcs.plan(Gcs::Insert, number, deed);
        let mut running = Running::start(site.command(&[&ARGS[..], &["queue.yaml"]].concat()));
        assert!(
            running.wait_until(|| site.gcs.is_holding()),
            "{number} {deed:?}"
        );
        running.kill();
        site.gcs.forget();
        let run = site.run(&[]);
        assert_eq!(run.code, 0, "{number} {deed:?}: {}", run.brief());
        let (starts, archives) = (site.starts(), site.archives());
        // After the last segment the backup is over, and the command starts another one, which
        // makes the same archive.
        let is_over = number + 1 == points && deed == GcsDeed::HoldAfter;
        let expected = [1 + usize::from(is_over); 2];
        assert_eq!(starts, expected, "{number} {deed:?}");
        assert_eq!(archives.len(), 1, "{number} {deed:?}: {archives:?}");
    }
}

#[test]
fn failed_operations_leave_no_archive() {
    let site = Site::new();
    site.operations.course(1, End::Fails("The bucket is gone."));
    let failed = site.expect(7, &[]);
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .contains("INVALID_ARGUMENT"),
        "{failed}"
    );
    assert!(site.archives().is_empty());
    site.operations.course(0, End::Succeeds);
    site.expect(0, &[]);
    assert_eq!((site.starts(), site.archives().len()), ([2, 2], 1));
}
