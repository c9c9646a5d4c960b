//! The stand-in for Datastore held against Google's own client and Google's emulator: whatever they
//! expect or answer, it must do.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::datastore_server::{Call, DatastoreServer};
use crate::support::emulator::{Emulator, emulator};
use crate::support::entities::{assert_same, moved};
use crate::support::fixtures::{Set, legacy, managed};
use crate::support::{files_below, python_with};
use google_cloud_auth::credentials::user_account;
use kindpack::entity::{DestinationProject, Entity, KeyMapping};
use kindpack::export::log::{self, LogError};
use kindpack::google::Credentials;
use kindpack::model::KindRef;
use kindpack::targets::{CommitTarget, ServiceTimes, StepContext, StepProgress, Target};
use kindpack::transform::{Encoded, Encoder, Encoding};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

#[test]
fn googles_python_client_finds_what_it_expects() {
    let test = "Google's Python client against the stand-in for Datastore";
    let Some(python) = python_with(
        "google-cloud-datastore==2.27.0",
        "google.cloud.datastore",
        test,
    ) else {
        return;
    };
    let server = DatastoreServer::start("shop-test", &["", "archive"]);
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/datastore_server/client.py");
    let output = Command::new(python)
        .arg(script)
        .env("DATASTORE_URL", server.url())
        .env_remove("DATASTORE_EMULATOR_HOST")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for call in [
        Call::Commit,
        Call::Lookup,
        Call::RunQuery,
        Call::RunAggregationQuery,
        Call::ReserveIds,
        Call::AllocateIds,
    ] {
        assert!(server.count(call) >= 2, "{call:?}");
    }
    assert!(
        server
            .seen()
            .iter()
            .filter(|seen| seen.call != Call::Token)
            .all(|seen| seen.is_message)
    );
}

/// What no two services have in common.
const OWN: [&str; 9] = [
    "version",
    "updateTime",
    "createTime",
    "commitTime",
    "readTime",
    "cursor",
    "endCursor",
    "indexUpdates",
    "moreResults",
];

fn without_own(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            OWN.iter().for_each(|name| drop(fields.remove(*name)));
            fields.values_mut().for_each(without_own);
        }
        Value::Array(values) => values.iter_mut().for_each(without_own),
        _ => {}
    }
}

/// Status and body of a call in JSON.
fn call(
    runtime: &Runtime,
    url: &str,
    token: &str,
    project: &str,
    method: &str,
    body: &Value,
) -> (u16, Value) {
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(format!("{url}/v1/projects/{project}:{method}"))
            .header("content-type", "application/json");
        let answer = request
            .bearer_auth(token)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
        )
    })
}

#[test]
fn emulator_answers_equal_the_stand_in() {
    let Some(emulator) = emulator("the emulator beside the stand-in") else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let project = emulator.fresh_project();
    let server = DatastoreServer::start(&project, &[""]);
    let token = runtime.block_on(async {
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("{}/token", server.url()))
            .send()
            .await
            .unwrap();
        let token: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        token["access_token"].as_str().unwrap().to_owned()
    });
    let partition = json!({"projectId": project});
    let key = |kind: &str, name: &str| json!({"partitionId": partition, "path": [{"kind": kind, "name": name}]});
    let number = |id: &str| json!({"partitionId": partition, "path": [{"kind": "Note", "id": id}]});
    let incomplete = json!({"partitionId": partition, "path": [{"kind": "Note"}]});
    let of = |key: &Value, text: &str| json!({"key": key, "properties": {"text": {"stringValue": text}, "n": {"integerValue": "7"}}});
    let commit = |mutations: Value| {
        (
            "commit",
            json!({"mode": "NON_TRANSACTIONAL", "mutations": mutations}),
        )
    };
    let query = |kind: &str, rest: Value| {
        let mut query = json!({"kind": [{"name": kind}]});
        query
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        (
            "runQuery",
            json!({"partitionId": partition, "query": query}),
        )
    };
    let keys_only = json!({"projection": [{"property": {"name": "__key__"}}]});
    let many: Vec<Value> = (0..9)
        .map(|number| json!({"upsert": of(&key("Page", &format!("p{number}")), "page")}))
        .collect();
    let below = json!({"partitionId": partition, "path": [{"kind": "Note", "name": "b"}, {"kind": "Note", "id": "3"}]});
    let long = json!({"key": key("Note", "long"), "properties": {"text": {"stringValue": "x".repeat(1_501)}}});
    let unindexed = json!({"key": key("Note", "a"), "properties": {"text": {"stringValue": "x".repeat(1_501), "excludeFromIndexes": true}}});
    let list = json!({"key": key("Note", "l"), "properties": {"l": {"arrayValue": {"values": []}, "excludeFromIndexes": true}}});
    let elsewhere =
        json!({"partitionId": {"projectId": "third"}, "path": [{"kind": "Note", "name": "a"}]});
    let requests = [
        commit(
            json!([{"insert": of(&key("Note", "a"), "first")}, {"upsert": of(&number("5"), "five")}, {"upsert": of(&below, "below")}]),
        ),
        commit(json!([{"insert": of(&key("Note", "a"), "again")}])),
        commit(
            json!([{"update": of(&key("Note", "a"), "changed")}, {"upsert": of(&number("5"), "changed")}]),
        ),
        commit(json!([{"update": of(&key("Note", "nosuch"), "changed")}])),
        commit(json!([{"upsert": unindexed}])),
        commit(json!([{"upsert": long}])),
        commit(json!([{"upsert": list}])),
        commit(
            json!([{"upsert": of(&key("Note", "c"), "x")}, {"upsert": of(&key("Note", "c"), "y")}]),
        ),
        commit(json!([{"upsert": of(&key("__Note__", "a"), "x")}])),
        commit(json!([{"upsert": of(&elsewhere, "x")}])),
        commit(json!([{"update": of(&key("Note", "a"), "late"), "baseVersion": "1"}])),
        commit(json!([{"delete": key("Note", "a"), "baseVersion": "1"}])),
        commit(json!([{"delete": key("Note", "nosuch")}])),
        commit(json!([{"delete": incomplete}])),
        commit(json!([])),
        ("commit", json!({"mode": "TRANSACTIONAL", "mutations": []})),
        (
            "commit",
            json!({"mode": "NON_TRANSACTIONAL", "nonsense": []}),
        ),
        commit(json!(many)),
        (
            "lookup",
            json!({"keys": [key("Note", "a"), key("Note", "nosuch"), number("5"), below]}),
        ),
        ("lookup", json!({"keys": [elsewhere]})),
        query("Note", json!({})),
        query("Note", keys_only.clone()),
        query("Page", json!({"limit": 4})),
        query("Nosuch", keys_only),
        commit(json!([{"delete": number("5")}, {"delete": key("Page", "p3")}])),
        query("Note", json!({})),
        query("Page", json!({})),
        ("reserveIds", json!({"keys": [number("5"), number("9")]})),
        ("reserveIds", json!({"keys": [elsewhere]})),
    ];
    let mut differing = Vec::new();
    for (method, body) in &requests {
        let (status, mut found) = call(&runtime, &server.url(), &token, &project, method, body);
        let (expected_status, mut expected) = call(
            &runtime,
            &format!("http://{}", emulator.host),
            &token,
            &project,
            method,
            body,
        );
        for answer in [&mut found, &mut expected] {
            without_own(answer);
            // The emulator names foreign projects in words of its own.
            if let Some(message) = answer.pointer_mut("/error/message")
                && message
                    .as_str()
                    .is_some_and(|message| message.starts_with("mismatched databases"))
            {
                *message = "mismatched databases".into();
            }
        }
        if (status, &found) != (expected_status, &expected) {
            differing.push(format!(
                "{method} {body}\n  expected {expected_status} {expected}\n  found {status} {found}"
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    // Page by page, with the cursors of each.
    let pages = |url: &str| {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let mut rest = json!({"limit": 3});
            if let Some(cursor) = cursor.take() {
                rest["startCursor"] = cursor;
            }
            let (method, body) = query("Page", rest);
            let (_, mut answer) = call(&runtime, url, &token, &project, method, &body);
            let Some(results) = answer["batch"]["entityResults"].as_array() else {
                return names;
            };
            names.push(
                results
                    .iter()
                    .map(|result| result["entity"]["key"]["path"][0]["name"].clone())
                    .collect::<Vec<_>>(),
            );
            if answer["batch"]["moreResults"] == "NO_MORE_RESULTS" {
                return names;
            }
            cursor = Some(answer["batch"]["endCursor"].take());
        }
    };
    assert_eq!(
        pages(&server.url()),
        pages(&format!("http://{}", emulator.host))
    );
}

/// The entities of an export, ready for a target.
fn entities_of(set: &Set, project: &str) -> Vec<(KindRef, Encoded)> {
    let to = Some(DestinationProject {
        project: project.to_owned(),
        database: String::new(),
    });
    let rewrite = KeyMapping {
        from_project: set.project.to_owned(),
        to,
        ..KeyMapping::default()
    };
    let mut found: Vec<(KindRef, Encoded)> = Vec::new();
    for (_, path) in files_below(Path::new(&set.source))
        .iter()
        .filter(|(name, _)| name.contains("output-"))
    {
        let bytes = std::fs::read(path).unwrap();
        log::read_piece(&bytes, 0, |record| {
            let key = Entity::parse(record).unwrap().key.unwrap();
            let pair = KindRef::new(key.namespace, key.path.last().unwrap().kind);
            let at = found
                .iter()
                .position(|(known, _)| *known == pair)
                .unwrap_or_else(|| {
                    found.push((pair.clone(), Encoded::default()));
                    found.len() - 1
                });
            Encoder::new(Encoding::Message, rewrite.clone(), pair)
                .add(record, &mut found[at].1)
                .unwrap();
            Ok::<_, LogError>(())
        })
        .unwrap();
    }
    found
}

/// Restores a set into a target.
async fn restore(target: &dyn Target, set: &Set, project: &str) {
    for (pair, encoded) in entities_of(set, project) {
        let step = StepContext {
            pair,
            begun_before: false,
            started: None,
            finished: None,
        };
        let mut sink = target.open(&step, StepProgress::default()).await.unwrap();
        sink.write(encoded).await.unwrap();
        sink.end_piece();
        sink.finish().await.unwrap();
    }
}

#[test]
fn stand_in_and_emulator_hold_equal_entities() {
    let Some(emulator) = emulator("restores into the emulator and the stand-in") else {
        return;
    };
    for set in [managed(), legacy()] {
        let project = emulator.fresh_project();
        let server = DatastoreServer::start(&project, &[""]);
        let key = server.credentials();
        let credentials = Credentials::with_factory(move || {
            user_account::Builder::new(key.clone())
                .build()
                .map_err(|_| "none")
        });
        let service = CommitTarget::service(
            &project,
            "",
            Arc::new(credentials),
            &server.url(),
            ServiceTimes::default(),
        )
        .unwrap();
        let local =
            CommitTarget::emulator(&emulator.host, &project, Duration::from_secs(30)).unwrap();
        Runtime::new().unwrap().block_on(async {
            restore(&service, &set, &project).await;
            restore(&local, &set, &project).await;
        });
        let truth = moved(&set.truth, set.project, &project, &[]);
        assert_same(&truth, &server.entities(""), set.legacy, set.name);
        assert_same(&truth, &emulator.everything(&project), set.legacy, set.name);
    }
}

/// Why no ids are reserved in an emulator: it says that it has done so, and hands them out all the
/// same. The day on which this fails is the day on which `targets/datastore/writer.rs` can reserve
/// there as well.
#[test]
fn the_emulator_hands_out_ids_that_are_reserved() {
    let Some(emulator) = emulator("ids that the emulator hands out") else {
        return;
    };
    let project = emulator.fresh_project();
    let key = |id: Option<u64>| {
        let mut element = json!({"kind": "Note"});
        if let Some(id) = id {
            element["id"] = id.to_string().into();
        }
        json!({"partitionId": {"projectId": project}, "path": [element]})
    };
    let insert = |emulator: &Emulator| -> u64 {
        let body =
            json!({"mode": "NON_TRANSACTIONAL", "mutations": [{"insert": {"key": key(None)}}]});
        let answer = emulator.call(&project, "commit", &body);
        answer["mutationResults"][0]["key"]["path"][0]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    let first = insert(emulator);
    // Other tests take ids as well, from one counter for all projects.
    let next: Vec<Value> = (first + 1..first + 20_000)
        .map(|id| key(Some(id)))
        .collect();
    emulator.call(&project, "reserveIds", &json!({"keys": next}));
    assert!((first + 1..first + 20_000).contains(&insert(emulator)));
}
