//! A Datastore by commits: upserts of protobuf bodies over HTTP, or over gRPC into an emulator,
//! several in flight.
//!
//! Knows the calls of Datastore v1 (`docs/formats.md` 6 and 8), and how the emulator and the real
//! service differ. Must not know what an archive is.

mod lease;
mod ramp;
mod sink;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{KeySet, MAX_LOOKUP_KEYS, StepContext, StepProgress, StepWriter, Target, TargetError};
use crate::datastore::app_engine;
use crate::datastore::client::{CallTimeouts, DatastoreClient, JsonResponse};
use crate::datastore::error::DatastoreError;
use crate::datastore::status::{key_of_json, key_of_message};
use crate::entity::message::{self, Mutation};
use crate::google::{self, Credentials};
use crate::model::{KindRef, LEASE_KIND};
use crate::transform::{Encoded, Encoding, key_hash};
pub use lease::Lease;
use sink::{CommitSink, MAX_MUTATIONS};
use writer::{Batch, Writer};

/// How often an emulator is asked before what was written just before is believed to be counted: of
/// ten waiting writes, `gcloud`'s emulator applies nine at each query.
const SETTLING_QUERIES: u32 = 4;

/// Bytes of keys that are deleted in one commit.
const MAX_DELETED_BYTES: usize = 1 << 20;

/// How long one call of an emulator may take.
const EMULATOR_CALL_TIME: Duration = Duration::from_secs(60);

/// How long the real service is given.
#[derive(Debug, Clone, Copy)]
pub struct ServiceTimes {
    /// How long one call may take, answer included.
    pub call: Duration,
    /// How long calls are tried without anything coming through.
    pub retry: Duration,
    /// How long a lease holds that is not renewed.
    pub lease: Duration,
}

impl Default for ServiceTimes {
    fn default() -> Self {
        ServiceTimes {
            call: Duration::from_secs(60),
            retry: Duration::from_secs(300),
            lease: Duration::from_secs(120),
        }
    }
}

/// A Datastore that takes commits: an emulator, or a database of the real service.
#[derive(Debug, Clone)]
pub struct CommitTarget {
    api: Arc<DatastoreClient>,
    writer: Arc<Writer>,
    /// Whether the service counts by itself; found out at the first count.
    aggregates: Arc<AtomicBool>,
    /// Whether App Engine's interface counts, where the service does not.
    passes_over: Arc<AtomicBool>,
    /// How long a lease holds; none for an emulator, where nobody else is.
    lease_time: Option<Duration>,
}

impl CommitTarget {
    /// The emulator at `host`, such as `127.0.0.1:8081`, and a project in it. Calls are tried for
    /// `retry`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn emulator(host: &str, project: &str, retry: Duration) -> Result<Self, DatastoreError> {
        let times = CallTimeouts {
            call: EMULATOR_CALL_TIME,
            retry,
        };
        let api = DatastoreClient::new(
            format!("http://{host}"),
            project.to_owned(),
            String::new(),
            None,
            times,
        )?;
        Ok(Self::of(api, None))
    }

    /// A database of the real service; `database` is empty for the default one. `endpoint` is where
    /// the service is ([`google::datastore_endpoint`]).
    ///
    /// # Errors
    /// When no HTTP client can be made, or tokens would go over an open line.
    pub fn service(
        project: &str,
        database: &str,
        credentials: Arc<Credentials>,
        endpoint: &str,
        times: ServiceTimes,
    ) -> Result<Self, DatastoreError> {
        if !google::may_see_tokens(endpoint) {
            return Err(DatastoreError::Unauthorized {
                call: "credentials".to_owned(),
                fault: "no token is sent to an address of Datastore without TLS",
            });
        }
        let api_times = CallTimeouts {
            call: times.call,
            retry: times.retry,
        };
        let api = DatastoreClient::new(
            endpoint.trim_end_matches('/').to_owned(),
            project.to_owned(),
            database.to_owned(),
            Some(credentials),
            api_times,
        )?;
        Ok(Self::of(api, Some(times.lease)))
    }

    fn of(api: DatastoreClient, lease_time: Option<Duration>) -> Self {
        let api = Arc::new(api);
        let writer = Arc::new(Writer::new(api.clone(), lease_time.is_some()));
        CommitTarget {
            api,
            writer,
            aggregates: Arc::new(AtomicBool::new(true)),
            passes_over: Arc::new(AtomicBool::new(true)),
            lease_time,
        }
    }

    fn partition(&self, pair: &KindRef) -> Value {
        self.api.partition(pair.namespace.as_str())
    }

    /// Whether entities of that pair are marks of our own.
    fn is_lease(&self, pair: &KindRef) -> bool {
        self.lease_time.is_some() && pair.is_lease()
    }

    /// Some keys of a pair from a cursor on, serialized, and the cursor behind them; none at the
    /// end.
    async fn keys(
        &self,
        pair: &KindRef,
        cursor: Option<String>,
    ) -> Result<(Vec<Vec<u8>>, Option<String>), DatastoreError> {
        let (namespace, kind) = (pair.namespace.as_str(), pair.kind.as_str());
        let page = self
            .api
            .query_page(namespace, kind, true, cursor.as_deref())
            .await?;
        let keys: Option<Vec<Vec<u8>>> = page
            .entities
            .iter()
            .map(|entity| key_of_json(entity.get("key")?))
            .collect();
        let keys = keys.ok_or_else(|| nonsense("runQuery", "keys"))?;
        Ok((keys, page.cursor))
    }

    /// The service's own count; `None` where it cannot count.
    async fn aggregate(&self, pair: &KindRef) -> Result<Option<u64>, DatastoreError> {
        let body = json!({
            "partitionId": self.partition(pair),
            "aggregationQuery": {"nestedQuery": {"kind": [{"name": pair.kind}]}, "aggregations": [{"alias": "n", "count": {}}]},
        });
        match self.api.json("runAggregationQuery", &body).await? {
            JsonResponse::Unavailable => Ok(None),
            JsonResponse::Ok(answer) => {
                let count = answer
                    .pointer("/batch/aggregationResults/0/aggregateProperties/n/integerValue")
                    .and_then(Value::as_str);
                let nonsense = || nonsense("runAggregationQuery", "count");
                count
                    .and_then(|count| count.parse().ok())
                    .map(Some)
                    .ok_or_else(nonsense)
            }
        }
    }

    /// A count by App Engine's interface; `None` where that is not served. It asks no more of a
    /// page of keys than their number, and the emulator goes through the kind once and not once a
    /// page.
    async fn count_by_app_engine(&self, pair: &KindRef) -> Option<u64> {
        let (mut count, mut request) = app_engine::CountCall::start(self.api.project(), pair);
        loop {
            match count.receive(&self.api.app_engine(request).await.ok()?)? {
                app_engine::CountStep::Request(next) => request = next,
                app_engine::CountStep::Done(count) => return Some(count),
            }
        }
    }

    /// A count by keys, page by page.
    async fn count_keys(&self, pair: &KindRef) -> Result<u64, DatastoreError> {
        let mut count = 0;
        let mut cursor = None;
        loop {
            let (keys, next) = self.keys(pair, cursor).await?;
            count += keys.len() as u64;
            if next.is_none() {
                return Ok(count);
            }
            cursor = next;
        }
    }

    /// How many entities there are under these keys, serialized.
    async fn lookup_keys(&self, keys: &[&[u8]]) -> Result<u64, DatastoreError> {
        let mut found = 0;
        let mut wanted: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        // What is deferred is requested again, each time at least one less.
        while !wanted.is_empty() {
            let request = message::lookup_request(
                self.api.project(),
                self.api.database(),
                wanted.iter().map(Vec::as_slice),
            );
            let answer = self.api.lookup(request.into()).await?;
            let answered = answer.found + answer.missing;
            if answered == 0 || answered + answer.deferred.len() != wanted.len() {
                return Err(nonsense("lookup", ONE_RESULT));
            }
            found += answer.found as u64;
            wanted = answer.deferred;
        }
        Ok(found)
    }

    /// Entities by the JSON of their keys; those that are not there are left out.
    async fn lookup(&self, keys: &[&Value]) -> Result<HashMap<String, Value>, DatastoreError> {
        let mut found = HashMap::new();
        let mut wanted: Vec<Value> = keys.iter().map(|key| (*key).clone()).collect();
        // What is deferred is requested again, each time at least one less.
        while !wanted.is_empty() {
            let body = json!({"keys": wanted});
            let JsonResponse::Ok(mut answer) = self.api.json("lookup", &body).await? else {
                return Err(nonsense("lookup", "result"));
            };
            for mut result in take_array(&mut answer, "found") {
                if let Some(entity) = result.get_mut("entity").map(Value::take) {
                    let key = key_text(&entity)
                        .ok_or_else(|| nonsense("lookup", "key for each entity"))?;
                    found.insert(key, entity);
                }
            }
            let deferred = take_array(&mut answer, "deferred");
            if deferred.len() >= wanted.len() {
                return Err(nonsense("lookup", "result for any key"));
            }
            wanted = deferred;
        }
        Ok(found)
    }

    /// Waits until what an emulator was told to delete is deleted: it may go on to count it until
    /// it is looked up.
    async fn settle_deletions(
        &self,
        sink: &mut CommitSink,
        deleted: &Encoded,
    ) -> Result<(), TargetError> {
        sink.flush().await?;
        let deleted: Vec<&[u8]> = deleted.iter().map(|(key, _)| key).collect();
        for keys in deleted.chunks(MAX_LOOKUP_KEYS) {
            self.lookup_keys(keys).await?;
        }
        Ok(())
    }
}

/// The list in a field of an answer; JSON of protocol buffers leaves empty ones out.
fn take_array(answer: &mut Value, field: &str) -> Vec<Value> {
    match answer.get_mut(field).map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// What two entities of one key have in common.
fn key_text(entity: &Value) -> Option<String> {
    entity.get("key").map(Value::to_string)
}

/// The keys that are not to stay.
fn keys_to_delete(keys: Vec<Vec<u8>>, keep: &KeySet) -> Encoded {
    let mut others = Encoded::default();
    for key in keys {
        let hash = key_hash(&key);
        if !keep.keeps(hash) {
            others.push(&key, hash);
        }
    }
    others
}

/// An answer that makes no sense. It may hold keys and values of properties, so nothing of it is
/// shown.
fn nonsense(call: &str, missing: &'static str) -> DatastoreError {
    DatastoreError::UnexpectedResponse {
        call: call.to_owned(),
        missing,
    }
}

/// What an answer to a lookup must hold.
const ONE_RESULT: &str = "result for each key";

#[async_trait]
impl Target for CommitTarget {
    fn encoding(&self) -> Encoding {
        Encoding::Message
    }

    fn resumes_within_steps(&self) -> bool {
        true
    }

    async fn count(&self, pair: &KindRef) -> Result<u64, TargetError> {
        if self.is_lease(pair) {
            return Ok(0);
        }
        if self.aggregates.load(Ordering::Relaxed) {
            if let Some(count) = self.aggregate(pair).await? {
                return Ok(count);
            }
            self.aggregates.store(false, Ordering::Relaxed);
        }
        if self.passes_over.load(Ordering::Relaxed) {
            if let Some(count) = self.count_by_app_engine(pair).await {
                return Ok(count);
            }
            self.passes_over.store(false, Ordering::Relaxed);
        }
        Ok(self.count_keys(pair).await?)
    }

    fn is_looked_up(&self) -> bool {
        true
    }

    async fn lookup(&self, entities: Encoded) -> Result<u64, TargetError> {
        let keys: Vec<&[u8]> = entities
            .iter()
            .filter_map(|(entity, _)| key_of_message(entity))
            .collect();
        Ok(self.lookup_keys(&keys).await?)
    }

    async fn finish_cleanup(&self) -> Result<(), TargetError> {
        // Each query gives every waiting write of an emulator's project a chance.
        let is_emulator = self.lease_time.is_none();
        let queries = if is_emulator { SETTLING_QUERIES } else { 0 };
        for _ in 0..queries {
            self.keys(&KindRef::new("", LEASE_KIND), None).await?;
        }
        Ok(())
    }

    async fn reserve_ids(&self, pair: &KindRef, entities: Encoded) -> Result<(), TargetError> {
        let batch = Batch::whole(pair.clone(), entities);
        Ok(self.writer.reserve_ids(&batch).await?)
    }

    fn unreserved_kinds(&self) -> usize {
        self.writer.unreserved_kinds()
    }

    async fn open(
        &self,
        step: &StepContext,
        done: StepProgress,
    ) -> Result<Box<dyn StepWriter>, TargetError> {
        if self.is_lease(&step.pair) {
            let reason = "kindpack keeps its own lease in this kind".to_owned();
            return Err(TargetError::Refused {
                call: format!("restoring {}", step.pair),
                reason,
            });
        }
        let sink = CommitSink::new(
            self.writer.clone(),
            step.pair.clone(),
            Mutation::Upsert,
            done,
        );
        Ok(Box::new(sink) as Box<dyn StepWriter>)
    }

    async fn delete_others(&self, pair: &KindRef, keep: &KeySet) -> Result<u64, TargetError> {
        if self.is_lease(pair) {
            return Ok(0);
        }
        let mut sink = Box::new(CommitSink::new(
            self.writer.clone(),
            pair.clone(),
            Mutation::Delete,
            StepProgress::default(),
        ));
        let mut cursor = None;
        loop {
            let (keys, next) = self.keys(pair, cursor).await?;
            let others = keys_to_delete(keys, keep);
            for batch in others.split(MAX_MUTATIONS, MAX_DELETED_BYTES) {
                sink.write(batch).await?;
            }
            if self.lease_time.is_none() {
                self.settle_deletions(&mut sink, &others).await?;
            }
            if next.is_none() {
                return Ok(sink.finish().await?.entities);
            }
            cursor = next;
        }
    }

    async fn lease(&self, holder: &str) -> Result<Option<Lease>, TargetError> {
        match self.lease_time {
            Some(time) => lease::take(self.api.clone(), holder, time).await.map(Some),
            None => Ok(None),
        }
    }

    async fn differing(&self, wanted: Vec<Value>) -> Result<Option<u64>, TargetError> {
        let mut differing = 0;
        for wanted in wanted.chunks(MAX_LOOKUP_KEYS) {
            let keys: Vec<&Value> = wanted
                .iter()
                .filter_map(|entity| entity.get("key"))
                .collect();
            let found = self.lookup(&keys).await?;
            let same = |entity: &&Value| {
                key_text(entity)
                    .and_then(|key| found.get(&key))
                    .is_some_and(|found| same_entity(entity, found))
            };
            differing += (wanted.len() - wanted.iter().filter(same).count()) as u64;
        }
        Ok(Some(differing))
    }
}

/// Equality as REST JSON means it: numbers by value. A user value without `user_id` gets one from
/// the emulator (`docs/formats.md` 6).
fn same_entity(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => same_object(wanted, found),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| same_entity(a, b))
        }
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        _ => wanted == found,
    }
}

fn same_object(wanted: &Map<String, Value>, found: &Map<String, Value>) -> bool {
    // Firestore in Datastore mode stores a place without the meaning that says nothing.
    let is_left_out = |name: &str| {
        name == "meaning" && wanted.contains_key("geoPointValue") && !found.contains_key(name)
    };
    let kept = || wanted.iter().filter(|(name, _)| !is_left_out(name));
    let is_user =
        |name: &str| name == "entityValue" && wanted.get("meaning") == Some(&USER_MEANING.into());
    let same = |name: &str, wanted: &Value, found: &Value| {
        if is_user(name) {
            same_user(wanted, found)
        } else {
            same_entity(wanted, found)
        }
    };
    kept().count() == found.len()
        && kept().all(|(name, wanted)| {
            found
                .get(name)
                .is_some_and(|found| same(name, wanted, found))
        })
}

fn same_user(wanted: &Value, found: &Value) -> bool {
    let mut found = found.clone();
    if wanted.pointer("/properties/user_id").is_none()
        && let Some(properties) = found
            .pointer_mut("/properties")
            .and_then(Value::as_object_mut)
    {
        properties.remove("user_id");
    }
    same_entity(wanted, &found)
}

/// The meaning of values that stand for a user.
const USER_MEANING: u64 = 20;
