//! A project of the stand-in, and what restores into it are made of.

use std::sync::Arc;
use std::time::Duration;

use google_cloud_auth::credentials::user_account;
use kindpack::entity::{DestinationProject, KeyMapping};
use kindpack::google::Credentials;
use kindpack::model::KindRef;
use kindpack::targets::{
    CommitTarget, ServiceTimes, StepContext, StepProgress, Target, TargetError,
};
use kindpack::transform::{Encoded, Encoder, Encoding};
use serde_json::Value;

use crate::support::data::{Made, made};
use crate::support::datastore_server::DatastoreServer;

/// The project that is restored into.
pub const PROJECT: &str = "shop-test";

/// The project of the backup.
pub const SOURCE: &str = "shop";

/// Long enough for a loaded machine, where the service answers at last.
pub const PATIENT: ServiceTimes = ServiceTimes {
    call: Duration::from_secs(20),
    retry: Duration::from_secs(60),
    lease: Duration::from_secs(60),
};

/// As short as a test of giving up can bear.
pub const HASTY: ServiceTimes = ServiceTimes {
    call: Duration::from_millis(300),
    retry: Duration::from_millis(900),
    lease: Duration::from_secs(60),
};

pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

pub fn server() -> DatastoreServer {
    DatastoreServer::start(PROJECT, &["", "archive"])
}

/// Credentials whose tokens come from the server.
pub fn credentials(server: &DatastoreServer) -> Arc<Credentials> {
    let key = server.credentials();
    Arc::new(Credentials::with_factory(move || {
        user_account::Builder::new(key.clone())
            .build()
            .map_err(|_| "none")
    }))
}

pub fn target(server: &DatastoreServer, database: &str, times: ServiceTimes) -> CommitTarget {
    CommitTarget::service(PROJECT, database, credentials(server), &server.url(), times).unwrap()
}

/// Entities as they come out of an archive, moved into a database.
pub fn encoded(entities: &[Made<'_>], database: &str) -> Encoded {
    let mut out = Encoded::default();
    let Some(first) = entities.first() else {
        return out;
    };
    let rewrite = KeyMapping {
        from_project: SOURCE.to_owned(),
        from_database: String::new(),
        to: Some(DestinationProject {
            project: PROJECT.to_owned(),
            database: database.to_owned(),
        }),
        ..KeyMapping::default()
    };
    let encoder = Encoder::new(
        Encoding::Message,
        rewrite,
        KindRef::new(first.namespace, first.kind),
    );
    entities
        .iter()
        .for_each(|entity| encoder.add(&entity.record(), &mut out).unwrap());
    out
}

/// `count` entities of a kind.
pub fn notes(count: u64) -> Vec<Made<'static>> {
    made(SOURCE, "acme", "Note", count, 10)
}

pub fn step(namespace: &str, kind: &str) -> StepContext {
    StepContext {
        pair: KindRef::new(namespace, kind),
        begun_before: false,
        started: None,
        finished: None,
    }
}

/// Restores entities of one pair, in batches of `batch`.
pub async fn restore(
    target: &CommitTarget,
    entities: &[Made<'_>],
    database: &str,
    batch: usize,
) -> Result<StepProgress, TargetError> {
    let first = &entities[0];
    let mut sink = target
        .open(&step(first.namespace, first.kind), StepProgress::default())
        .await?;
    for batch in encoded(entities, database).split(batch, 1 << 20) {
        sink.write(batch).await?;
    }
    sink.end_piece();
    sink.finish().await
}

/// The entities as the server should hold them.
pub fn truth(entities: &[Made<'_>], database: &str) -> Vec<Value> {
    let moved = |entity: &Made<'_>| {
        let mut json = entity.json();
        json["key"]["partitionId"]["projectId"] = PROJECT.into();
        if !database.is_empty() {
            json["key"]["partitionId"]["databaseId"] = database.into();
        }
        json
    };
    entities.iter().map(moved).collect()
}

/// Fails where the server holds other entities of the pair than these.
#[track_caller]
pub fn assert_holds(server: &DatastoreServer, database: &str, entities: &[Made<'_>], what: &str) {
    let first = &entities[0];
    assert!(
        server.entities_of(database, first.namespace, first.kind) == truth(entities, database),
        "{what}"
    );
}

/// Fails where a message tells what nobody may see.
#[track_caller]
pub fn discreet(error: &TargetError) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("CANARY"), "{text}");
    error.to_string()
}
