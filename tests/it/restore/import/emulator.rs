//! Imports into the real emulator: what comes of them is what commits bring, but for what the
//! importer itself rewrites.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindpack::datastore::admin::{EmulatorImporter, Importer, ServiceImporter, ServiceOptions};
use kindpack::datastore::error::DatastoreError;
use kindpack::model::{Kind, Namespace};
use kindpack::plan::Step;
use kindpack::restore::import::{ImportError, Staging};
use kindpack::store::{GcsOptions, Location, StoreRegistry};
use serde_json::Value;

use crate::restore::import::fixture::{Earlier, ImportFixture};
use crate::support::emulator::{Emulator, emulator};
use crate::support::entities::{assert_same, moved};
use crate::support::files_below;
use crate::support::fixtures::{Set, fixture, legacy, managed, sets};

fn importer(emulator: &Emulator, project: &str) -> Arc<dyn Importer> {
    Arc::new(EmulatorImporter::new(&emulator.host, project, Duration::from_secs(2)).unwrap())
}

fn staging(bench: &ImportFixture, importer: &Arc<dyn Importer>) -> Staging {
    let stores = StoreRegistry::new(GcsOptions::default());
    Staging::choose(None, &bench.desk.path("own"), importer.as_ref(), &stores).unwrap()
}

/// Imports all of a set into a fresh project, which is given.
fn imported(emulator: &Emulator, set: &Set) -> (ImportFixture, String) {
    let project = emulator.fresh_project();
    let bench = ImportFixture::of_folder(&set.source, &emulator.target(&project));
    let importer = importer(emulator, &project);
    let staging = staging(&bench, &importer);
    for step in &bench.plan.steps {
        let imported = bench
            .import(step, &importer, &staging)
            .unwrap_or_else(|error| panic!("{}: {error}", set.name));
        assert_eq!((imported.entities, imported.left), (step.entities, None));
    }
    let left = fs::read_dir(bench.desk.path("own")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{}: nothing stays staged", set.name);
    (bench, project)
}

/// The entities as the importer stores them in project `to`: `docs/managed-import.md`.
pub fn as_imported(entities: &[Value], to: &str) -> Vec<Value> {
    /// Below a value that is not indexed every project stays.
    fn values(value: &mut Value, to: &str) {
        match value {
            Value::Object(fields) if fields.get("excludeFromIndexes") == Some(&true.into()) => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "partitionId" {
                        value["projectId"] = to.into();
                    } else {
                        values(value, to);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| values(item, to)),
            _ => {}
        }
    }
    let mut entities = entities.to_vec();
    entities.iter_mut().for_each(|entity| values(entity, to));
    entities
}

/// Sets whose exports hold one kind of one namespace each.
fn fit() -> Vec<Set> {
    let names = [
        "managed",
        "kind_without_entities",
        "sharded_5003_hits",
        "gcs_layout",
        "ends_2_bytes_before_block_border",
    ];
    let fit: Vec<Set> = sets()
        .into_iter()
        .filter(|set| names.contains(&set.name))
        .collect();
    assert_eq!(fit.len(), names.len());
    fit
}

#[test]
fn commits_and_imports_give_equal_entities() {
    let Some(emulator) = emulator("restores by commit and by import") else {
        return;
    };
    for set in fit() {
        let (bench, by_import) = imported(emulator, &set);
        let by_commit = emulator.fresh_project();
        bench.desk.json(
            0,
            &[
                "restore",
                "set.zip",
                "--target",
                &emulator.target(&by_commit),
            ],
        );
        let committed = emulator.everything(&by_commit);
        assert_same(
            &moved(&set.truth, set.project, &by_commit, &[]),
            &committed,
            false,
            set.name,
        );
        assert_same(
            &as_imported(&set.truth, &by_import),
            &emulator.everything(&by_import),
            false,
            set.name,
        );
    }
}

#[test]
fn importer_rewrites_are_as_documented() {
    // The test above would pass as well if no fixture had such values; this makes sure that one
    // has.
    let set = managed();
    let (by_commit, by_import) = (
        moved(&set.truth, set.project, "target", &[]),
        as_imported(&set.truth, "target"),
    );
    let count = |entities: &[Value], project: &str| {
        entities
            .iter()
            .map(|e| {
                e.to_string()
                    .matches(&format!("\"projectId\":\"{project}\""))
                    .count()
            })
            .sum::<usize>()
    };
    let (old, third) = (
        count(&by_import, "demo-src"),
        count(&by_import, "other-project"),
    );
    assert_eq!(
        (
            count(&by_commit, "demo-src"),
            count(&by_commit, "other-project")
        ),
        (0, 6)
    );
    assert_eq!(
        (old, third),
        (36, 3),
        "references that still name the old project, and those to a third one that do"
    );
}

#[test]
fn repeated_import_changes_nothing() {
    let Some(emulator) = emulator("imports that are made twice") else {
        return;
    };
    let set = sets()
        .into_iter()
        .find(|set| set.name == "gcs_layout")
        .unwrap();
    let (bench, project) = imported(emulator, &set);
    let importer = importer(emulator, &project);
    let staging = staging(&bench, &importer);
    for step in &bench.plan.steps {
        let earlier = Earlier {
            begun: true,
            operation: None,
        };
        bench
            .import_after(step, &importer, &staging, earlier)
            .unwrap();
    }
    assert_same(
        &as_imported(&set.truth, &project),
        &emulator.everything(&project),
        false,
        "twice",
    );
}

#[test]
fn impossible_import_is_refused_before_staging() {
    let importer: Arc<dyn Importer> =
        Arc::new(EmulatorImporter::new("127.0.0.1:1", "nobody", Duration::from_secs(2)).unwrap());
    let unfit = |bench: &ImportFixture, step: &Step, words: &str| {
        let error = bench
            .import(step, &importer, &staging(bench, &importer))
            .unwrap_err();
        assert!(
            matches!(error, ImportError::NotImportable { .. }) && error.to_string().contains(words),
            "{error}"
        );
        assert!(!bench.desk.path("own").exists());
    };
    for (source, words) in [
        (
            fixture("managed-variants/all_namespaces_one_kind"),
            "its export holds ",
        ),
        (
            fixture("managed-variants/everything_no_filter"),
            "its export holds ",
        ),
        (legacy().source, "is a backup of the old Datastore Admin"),
    ] {
        let bench = ImportFixture::of_folder(&source, "emulator:nobody@127.0.0.1:1");
        for step in &bench.plan.steps {
            unfit(&bench, step, words);
        }
    }
    let bench = ImportFixture::of_folder(
        &fixture("managed-variants/gcs_layout"),
        "emulator:nobody@127.0.0.1:1",
    );
    let step = &bench.plan.steps[0];
    unfit(
        &bench,
        &Step {
            to_namespace: Namespace::new("elsewhere"),
            ..step.clone()
        },
        "its namespace changes to",
    );
    unfit(
        &bench,
        &Step {
            kind: Kind::new("NoSuchKind"),
            ..step.clone()
        },
        "the archive does not hold it",
    );
}

#[test]
fn exports_are_staged_where_the_importer_reads() {
    let stores = StoreRegistry::new(GcsOptions::default());
    let place = |text: &str| Some(text.parse::<Location>().unwrap());
    let emulator = |host: &str| {
        Arc::new(EmulatorImporter::new(host, "p", Duration::from_secs(2)).unwrap())
            as Arc<dyn Importer>
    };
    let service = Arc::new(
        ServiceImporter::new(
            "p",
            None,
            "http://127.0.0.1:1",
            None,
            ServiceOptions::default(),
        )
        .unwrap(),
    ) as Arc<dyn Importer>;
    for (importer, chosen, refused) in [
        (emulator("localhost:1"), None, None),
        (emulator("localhost:1"), place("here"), None),
        (
            emulator("localhost:1"),
            place("gs://bucket/x"),
            Some("from a folder, not from a bucket"),
        ),
        (
            emulator("emulator:1"),
            None,
            Some("name a folder that both see"),
        ),
        (emulator("emulator:1"), place("/shared"), None),
        (service.clone(), None, Some("gs://BUCKET/NAME")),
        (service.clone(), place("here"), Some("gs://BUCKET/NAME")),
        (service.clone(), place("gs://bucket/x"), None),
    ] {
        let chose = Staging::choose(chosen.as_ref(), "own".as_ref(), importer.as_ref(), &stores);
        match (chose, refused) {
            (Ok(_), None) => {}
            (Err(ImportError::InvalidStaging { fault }), Some(words)) => {
                assert!(fault.contains(words), "{fault}")
            }
            (chose, refused) => panic!("{importer:?} {chosen:?}: {chose:?}, not {refused:?}"),
        }
    }
}

/// A server that does one thing with every connection, until the test ends.
fn server(deed: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(deed));
    address
}

#[test]
fn failed_import_leaves_nothing_staged() {
    let bench = ImportFixture::of_folder(
        &fixture("managed-variants/gcs_layout"),
        "emulator:p@127.0.0.1:1",
    );
    let fails = |host: &str| {
        let importer = EmulatorImporter::new(host, "p", Duration::from_secs(2))
            .unwrap()
            .with_least_time(Duration::from_millis(300));
        let importer: Arc<dyn Importer> = Arc::new(importer);
        let error = bench
            .import(&bench.plan.steps[0], &importer, &staging(&bench, &importer))
            .unwrap_err();
        assert_eq!(files_below(&bench.desk.path("own")).len(), 0, "{error}");
        error
    };
    // A port on which nobody listens.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let dead = fails(&nobody.to_string());
    assert!(
        matches!(
            dead,
            ImportError::Datastore(DatastoreError::Service { tries: 2.., .. })
        ),
        "{dead:?}"
    );

    // An importer that hangs, as the emulator's does on some logs: asked once, and not for ever.
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let held = Mutex::new(Vec::new());
    let silent = fails(&server(move |socket| {
        counter.fetch_add(1, Ordering::SeqCst);
        held.lock().unwrap().push(socket);
    }));
    assert!(
        matches!(
            silent,
            ImportError::Datastore(DatastoreError::Service { tries: 1, .. })
        ),
        "{silent:?}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // One in a container, which does not see the folder.
    let blind = fails(&server(|mut socket| {
        let mut begin = [0; 1];
        socket.read_exact(&mut begin).unwrap();
        let body = r#"{"error": {"code": 400, "message": "Failed to parse overall export metadata file", "status": "INVALID_ARGUMENT"}}"#;
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        socket.write_all((head + body).as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        // An end with bytes that nobody has read would take the answer along.
        std::io::copy(&mut socket, &mut std::io::sink()).ok();
    }));
    let words = blind.to_string();
    assert!(
        matches!(blind, ImportError::EmulatorCannotRead { .. }),
        "{blind:?}"
    );
    assert!(
        words.contains("Failed to parse overall export metadata file")
            && words.contains("own/kindpack-"),
        "{words}"
    );
}

#[test]
fn staged_files_are_private() {
    let bench = ImportFixture::of_folder(
        &fixture("managed-variants/gcs_layout"),
        "emulator:p@127.0.0.1:1",
    );
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let importer: Arc<dyn Importer> =
        Arc::new(EmulatorImporter::new(&nobody, "p", Duration::from_secs(2)).unwrap());
    bench
        .import(&bench.plan.steps[0], &importer, &staging(&bench, &importer))
        .unwrap_err();
    let mode = fs::metadata(bench.desk.path("own"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}
