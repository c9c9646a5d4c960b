//! Namespaces, kinds and statistics of a database, from Google's emulator and from the stand-in.

use std::sync::Arc;
use std::time::Duration;

use kindpack::datastore::error::DatastoreError;
use kindpack::datastore::kinds::KindReader;
use kindpack::model::{Kind, Namespace};
use serde_json::{Value, json};

use super::fixture::{PROJECT, credentials, run, server};
use crate::support::data::made;
use crate::support::datastore_server::{Call, DatastoreServer, Deed};
use crate::support::emulator::{Emulator, emulator};

/// Kinds whose names are hard to carry.
const ODD: [&str; 6] = ["My Kind", "a:b", "50%", "顧客", "back\\slash", "with/slash"];

fn reader(server: &DatastoreServer, database: Option<&str>) -> KindReader {
    KindReader::with_service(
        PROJECT,
        database,
        &server.url(),
        credentials(server),
        Duration::from_secs(20),
        Duration::from_secs(20),
    )
    .unwrap()
}

fn emulator_reader(emulator: &Emulator, project: &str) -> KindReader {
    KindReader::with_emulator(&emulator.host, project, Duration::from_secs(20)).unwrap()
}

fn names(kinds: &[Kind]) -> Vec<&str> {
    kinds.iter().map(Kind::as_str).collect()
}

/// Writes an entity of each kind into a namespace of an emulator.
fn fill(emulator: &Emulator, project: &str, namespace: &str, kinds: &[&str]) {
    let partition = match namespace {
        "" => json!({"projectId": project}),
        name => json!({"projectId": project, "namespaceId": name}),
    };
    let upsert = |kind: &&str| {
        let key = json!({"partitionId": partition, "path": [{"kind": kind, "name": "a"}]});
        json!({"upsert": {"key": key, "properties": {}}})
    };
    let mutations: Vec<Value> = kinds.iter().map(upsert).collect();
    let body = json!({"mode": "NON_TRANSACTIONAL", "mutations": mutations});
    emulator.call(project, "commit", &body);
}

fn sorted<'a>(kinds: &[&'a str]) -> Vec<&'a str> {
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    kinds
}

#[test]
fn emulator_lists_namespaces_and_odd_kinds() {
    let Some(emulator) = emulator("namespaces and kinds of the emulator") else {
        return;
    };
    let project = emulator.fresh_project();
    let reader = emulator_reader(emulator, &project);
    run(async {
        assert_eq!(reader.namespaces().await.unwrap(), []);
        assert_eq!(reader.kinds(&Namespace::default()).await.unwrap(), []);
    });
    fill(emulator, &project, "", &ODD);
    fill(emulator, &project, "acme", &["User", "_Hidden"]);
    run(async {
        let namespaces = reader.namespaces().await.unwrap();
        assert_eq!(namespaces, [Namespace::default(), Namespace::new("acme")]);
        let kinds = reader.kinds(&namespaces[0]).await.unwrap();
        assert_eq!(names(&kinds), sorted(&ODD));
        let kinds = reader.kinds(&namespaces[1]).await.unwrap();
        assert_eq!(names(&kinds), ["User", "_Hidden"]);
        assert_eq!(reader.statistics(&namespaces[1]).await.unwrap(), []);
        assert_eq!(reader.total_statistics().await.unwrap(), []);
    });
}

#[test]
fn service_lists_kinds_page_by_page() {
    let server = server();
    let kinds: Vec<String> = (0..130).map(|number| format!("Kind{number:03}")).collect();
    for (namespace, database) in [("", ""), ("acme", ""), ("north", "archive")] {
        for kind in &kinds {
            for entity in made(PROJECT, namespace, kind, 1, 8) {
                server.put(database, &entity.json());
            }
        }
    }
    server.plan(Call::RunQuery, 1, Deed::Status(503));
    server.plan(Call::RunQuery, 2, Deed::Cut);
    run(async {
        let default = reader(&server, None);
        let namespaces = default.namespaces().await.unwrap();
        assert_eq!(namespaces, [Namespace::default(), Namespace::new("acme")]);
        for namespace in &namespaces {
            assert_eq!(names(&default.kinds(namespace).await.unwrap()), kinds);
        }
        let named = reader(&server, Some("archive"));
        let namespaces = named.namespaces().await.unwrap();
        assert_eq!(namespaces, [Namespace::new("north")]);
        assert_eq!(names(&named.kinds(&namespaces[0]).await.unwrap()), kinds);
    });
}

#[test]
fn statistics_are_those_of_one_namespace() {
    let server = server();
    for (namespace, kind, count) in [("acme", "User", "12"), ("north", "User", "3")] {
        let partition = json!({"projectId": PROJECT, "namespaceId": namespace});
        let path = json!([{"kind": "__Stat_Ns_Kind__", "name": kind}]);
        let properties = json!({
            "kind_name": {"stringValue": kind}, "count": {"integerValue": count},
            "bytes": {"integerValue": "900"}, "entity_bytes": {"integerValue": "600"},
            "timestamp": {"timestampValue": "2026-11-22T06:37:42Z"}});
        let key = json!({"partitionId": partition, "path": path});
        server.put("", &json!({"key": key, "properties": properties}));
    }
    let acme = Namespace::new("acme");
    run(async {
        let reader = reader(&server, None);
        let rows = reader.statistics(&acme).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].namespace, rows[0].kind.as_str()), (&acme, "User"));
        assert_eq!((rows[0].entities, rows[0].bytes), (12, 600));
        assert_eq!(rows[0].time.to_string(), "2026-11-22T06:37:42Z");
        assert_eq!(reader.statistics(&Namespace::default()).await.unwrap(), []);
        assert_eq!(reader.total_statistics().await.unwrap(), []);
    });
}

#[test]
fn refused_listings_name_the_call() {
    let server = server();
    server.deny();
    let error = run(reader(&server, None).namespaces()).unwrap_err();
    assert!(matches!(error, DatastoreError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("runQuery of project"), "{error}");
    let in_the_open = KindReader::with_service(
        PROJECT,
        None,
        "http://datastore.googleapis.com",
        Arc::new(kindpack::google::Credentials::new("scope")),
        Duration::from_secs(1),
        Duration::from_secs(1),
    );
    assert!(matches!(
        in_the_open,
        Err(DatastoreError::Unauthorized { .. })
    ));
}
