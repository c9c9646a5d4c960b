//! A Datastore by commits: upserts of protobuf bodies over gRPC, or over HTTP where that is all there is, several in flight.
//!
//! Knows the calls of Datastore v1 (`docs/formats.md` 6 and 8) and the emulator's limits. Must not know what an archive is.

mod api;
mod grpc;
mod http;
mod patience;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Encoded, Encoding, Progress, StepInfo, StepSink, Target, TargetError};
use crate::entity::{app_engine, v1};
use crate::model::{Kind, Pair};
use crate::workers::WorkerLost;
use api::Api;
use http::Answer;

/// Production's limit, which the emulator does not enforce.
const MUTATIONS_MAX: usize = 500;

/// The emulator takes requests of 4 MiB; the rest is for the request's own fields.
const REQUEST_MAX_BYTES: usize = (4 << 20) - (64 << 10);

/// Where a request is closed although more would fit: small enough to keep several connections busy.
const REQUEST_GOOD_BYTES: usize = 1 << 20;

/// Commits that are under way at once.
const IN_FLIGHT: usize = 8;

/// Keys asked for in one page of a count.
const PAGE: u64 = 1_000;

/// Keys asked for in one lookup.
const LOOKUP: usize = 300;

/// A Datastore that takes commits: an emulator.
#[derive(Debug, Clone)]
pub struct CommitTarget {
    api: Arc<Api>,
    /// Whether the service counts by itself; found out at the first count.
    aggregates: Arc<AtomicBool>,
    /// Whether App Engine's interface counts, where the service does not.
    passes_over: Arc<AtomicBool>,
}

impl CommitTarget {
    /// The emulator at `host`, such as `127.0.0.1:8081`, and a project in it.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn emulator(host: &str, project: &str) -> Result<Self, TargetError> {
        let host = host.trim_start_matches("http://").trim_end_matches('/');
        Ok(CommitTarget {
            api: Arc::new(Api::new(format!("http://{host}"), project.to_owned())?),
            aggregates: Arc::new(AtomicBool::new(true)),
            passes_over: Arc::new(AtomicBool::new(true)),
        })
    }

    fn partition(&self, pair: &Pair) -> Value {
        let mut partition = json!({"projectId": self.api.project()});
        if let (false, Some(fields)) = (pair.namespace.is_default(), partition.as_object_mut()) {
            fields.insert("namespaceId".to_owned(), pair.namespace.as_str().into());
        }
        partition
    }

    /// The service's own count; `None` where it cannot count.
    async fn aggregate(&self, pair: &Pair) -> Result<Option<u64>, TargetError> {
        let body = json!({
            "partitionId": self.partition(pair),
            "aggregationQuery": {"nestedQuery": {"kind": [{"name": pair.kind}]}, "aggregations": [{"alias": "n", "count": {}}]},
        });
        match self.api.json("runAggregationQuery", &body).await? {
            Answer::Unavailable => Ok(None),
            Answer::Ok(answer) => {
                let count = answer.pointer("/batch/aggregationResults/0/aggregateProperties/n/integerValue").and_then(Value::as_str);
                let nonsense = || nonsense("runAggregationQuery", "a count", &answer);
                count.and_then(|count| count.parse().ok()).map(Some).ok_or_else(nonsense)
            }
        }
    }

    /// A count by App Engine's interface; `None` where that is not served. It asks no more of a page of keys than their number, and the
    /// emulator goes through the kind once and not once a page.
    async fn pass_over(&self, pair: &Pair) -> Option<u64> {
        let (mut count, mut request) = app_engine::Count::begin(self.api.project(), pair);
        loop {
            match count.take(&self.api.app_engine(request).await?)? {
                app_engine::Next::Ask(next) => request = next,
                app_engine::Next::Done(count) => return Some(count),
            }
        }
    }

    /// A count by keys, page by page.
    async fn count_keys(&self, pair: &Pair) -> Result<u64, TargetError> {
        let mut count = 0;
        let mut cursor: Option<String> = None;
        loop {
            let mut query = json!({"kind": [{"name": pair.kind}], "projection": [{"property": {"name": "__key__"}}], "limit": PAGE});
            if let (Some(cursor), Some(fields)) = (&cursor, query.as_object_mut()) {
                fields.insert("startCursor".to_owned(), cursor.as_str().into());
            }
            let Answer::Ok(answer) = self.api.json("runQuery", &json!({"partitionId": self.partition(pair), "query": query})).await? else {
                return Err(nonsense("runQuery", "an answer", &Value::Null));
            };
            let found = answer.pointer("/batch/entityResults").and_then(Value::as_array).map_or(0, Vec::len) as u64;
            count += found;
            // `moreResults` says that there are more even on the last page.
            if found == 0 || answer.pointer("/batch/moreResults").and_then(Value::as_str) == Some("NO_MORE_RESULTS") {
                return Ok(count);
            }
            let next = answer.pointer("/batch/endCursor").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() || next == cursor {
                return Err(nonsense("runQuery", "a cursor that goes on", &Value::Null));
            }
            cursor = next;
        }
    }

    /// Entities by the JSON of their keys; those that are not there are left out.
    async fn lookup(&self, keys: &[&Value]) -> Result<HashMap<String, Value>, TargetError> {
        let mut found = HashMap::new();
        let mut wanted: Vec<Value> = keys.iter().map(|key| (*key).clone()).collect();
        // What is deferred is asked for again, each time at least one less.
        while !wanted.is_empty() {
            let Answer::Ok(mut answer) = self.api.json("lookup", &json!({"keys": wanted})).await? else {
                return Err(nonsense("lookup", "an answer", &Value::Null));
            };
            let mut take = |field: &str| match answer.get_mut(field).map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            for mut result in take("found") {
                let Some(entity) = result.get_mut("entity").map(Value::take) else { continue };
                found.insert(entity.get("key").map(Value::to_string).unwrap_or_default(), entity);
            }
            let deferred = take("deferred");
            if deferred.len() >= wanted.len() {
                return Err(nonsense("lookup", "fewer deferred keys than asked for", &Value::Null));
            }
            wanted = deferred;
        }
        Ok(found)
    }
}

/// An answer that makes no sense. Its text may hold values of properties, so only its shape is told.
fn nonsense(call: &str, expected: &'static str, found: &Value) -> TargetError {
    let found = match found {
        Value::Null => "none".to_owned(),
        Value::Object(fields) => format!("an object with {}", fields.keys().cloned().collect::<Vec<_>>().join(", ")),
        _ => "something else".to_owned(),
    };
    TargetError::Nonsense { call: call.to_owned(), expected, found }
}

impl Target for CommitTarget {
    fn encoding(&self) -> Encoding {
        Encoding::Message
    }

    fn resumes_within_steps(&self) -> bool {
        true
    }

    fn count<'a>(&'a self, pair: &'a Pair) -> BoxFuture<'a, Result<u64, TargetError>> {
        Box::pin(async move {
            if self.aggregates.load(Ordering::Relaxed) {
                if let Some(count) = self.aggregate(pair).await? {
                    return Ok(count);
                }
                self.aggregates.store(false, Ordering::Relaxed);
            }
            if self.passes_over.load(Ordering::Relaxed) {
                if let Some(count) = self.pass_over(pair).await {
                    return Ok(count);
                }
                self.passes_over.store(false, Ordering::Relaxed);
            }
            self.count_keys(pair).await
        })
    }

    fn open<'a>(&'a self, step: &'a StepInfo, done: Progress) -> BoxFuture<'a, Result<Box<dyn StepSink>, TargetError>> {
        let sink = CommitSink { api: self.api.clone(), kind: step.pair.kind.clone(), flights: VecDeque::new(), done };
        Box::pin(async { Ok(Box::new(sink) as Box<dyn StepSink>) })
    }

    fn differing<'a>(&'a self, wanted: Vec<Value>) -> BoxFuture<'a, Result<Option<u64>, TargetError>> {
        Box::pin(async move {
            let mut differing = 0;
            for wanted in wanted.chunks(LOOKUP) {
                let keys: Vec<&Value> = wanted.iter().filter_map(|entity| entity.get("key")).collect();
                let found = self.lookup(&keys).await?;
                let same = |entity: &&Value| {
                    let key = entity.get("key").map(Value::to_string).unwrap_or_default();
                    found.get(&key).is_some_and(|found| same_entity(entity, found))
                };
                differing += (wanted.len() - wanted.iter().filter(same).count()) as u64;
            }
            Ok(Some(differing))
        })
    }
}

/// Equality as REST JSON means it: numbers by value. A user value without `user_id` gets one from the emulator (`docs/formats.md` 6).
fn same_entity(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.len() == found.len()
                && wanted.iter().all(|(name, wanted_value)| {
                    let is_user = name == "entityValue" && wanted.get("meaning") == Some(&USER_MEANING.into());
                    let same = |found: &Value| if is_user { same_user(wanted_value, found) } else { same_entity(wanted_value, found) };
                    found.get(name).is_some_and(same)
                })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| same_entity(a, b))
        }
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        _ => wanted == found,
    }
}

fn same_user(wanted: &Value, found: &Value) -> bool {
    let mut found = found.clone();
    if wanted.pointer("/properties/user_id").is_none()
        && let Some(properties) = found.pointer_mut("/properties").and_then(Value::as_object_mut)
    {
        properties.remove("user_id");
    }
    same_entity(wanted, &found)
}

/// The meaning of values that stand for a user.
const USER_MEANING: u64 = 20;

/// A commit that is under way, and how far the step has come when it and all before it are done.
#[derive(Debug)]
struct Flight {
    task: JoinHandle<Result<(), TargetError>>,
    /// Set on the last commit of a piece.
    ends: Option<Progress>,
}

#[derive(Debug)]
struct CommitSink {
    api: Arc<Api>,
    kind: Kind,
    flights: VecDeque<Flight>,
    done: Progress,
}

impl CommitSink {
    /// Waits for the oldest commit.
    async fn land(&mut self) -> Result<(), TargetError> {
        let Some(flight) = self.flights.front_mut() else { return Ok(()) };
        let landed = (&mut flight.task).await.map_err(WorkerLost)?;
        let ends = self.flights.pop_front().and_then(|flight| flight.ends);
        landed?;
        self.done = ends.unwrap_or(self.done);
        Ok(())
    }

    /// How far the step will have come when all that is under way is done.
    fn ahead(&self) -> Progress {
        self.flights.iter().rev().find_map(|flight| flight.ends).unwrap_or(self.done)
    }
}

impl Drop for CommitSink {
    fn drop(&mut self) {
        // A step that is given up sends nothing more.
        self.flights.iter().for_each(|flight| flight.task.abort());
    }
}

impl StepSink for CommitSink {
    fn write<'a>(&'a mut self, piece: Encoded) -> BoxFuture<'a, Result<Progress, TargetError>> {
        Box::pin(async move {
            let ahead = self.ahead();
            let ends = Progress { pieces: ahead.pieces + 1, entities: ahead.entities + piece.len() as u64 };
            let requests = requests(&self.api, &self.kind, &piece)?;
            drop(piece);
            let last = requests.len();
            for (number, Request { body, after_all }) in requests.into_iter().enumerate() {
                // The same key again: what was sent of it before must be there first.
                while self.flights.len() >= IN_FLIGHT || (after_all && !self.flights.is_empty()) {
                    self.land().await?;
                }
                let api = self.api.clone();
                let task = tokio::spawn(async move { api.commit(body.into()).await });
                self.flights.push_back(Flight { task, ends: (number + 1 == last).then_some(ends) });
            }
            if last == 0 {
                // Nothing of ours in the piece: it is done when what is under way is.
                match self.flights.back_mut() {
                    Some(flight) => flight.ends = Some(ends),
                    None => self.done = ends,
                }
            }
            Ok(self.done)
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Progress, TargetError>> {
        Box::pin(async move {
            while !self.flights.is_empty() {
                self.land().await?;
            }
            Ok(self.done)
        })
    }
}

/// A commit to be sent.
struct Request {
    body: Vec<u8>,
    /// Whether it holds a key that an earlier commit of the piece held: the last one is to win.
    after_all: bool,
}

/// Divides a piece into commits: within the limits, and no key twice in one.
fn requests(api: &Api, kind: &Kind, piece: &Encoded) -> Result<Vec<Request>, TargetError> {
    let mut requests = Vec::new();
    let mut batch: Vec<&[u8]> = Vec::new();
    let mut keys = HashSet::new();
    let mut bytes = 0;
    let mut after_all = false;
    let mut seen = HashSet::new();
    let close =
        |batch: &mut Vec<&[u8]>, after_all| Request { body: v1::commit_request(api.project(), "", &std::mem::take(batch)), after_all };
    for (number, (mutation, key)) in piece.iter().enumerate() {
        if mutation.len() > REQUEST_MAX_BYTES {
            return Err(TargetError::TooLarge { kind: kind.clone(), number: number + 1, bytes: mutation.len(), limit: REQUEST_MAX_BYTES });
        }
        let full = batch.len() >= MUTATIONS_MAX
            || bytes + mutation.len() > REQUEST_MAX_BYTES
            || bytes >= REQUEST_GOOD_BYTES
            || keys.contains(&key);
        if full {
            requests.push(close(&mut batch, after_all));
            keys.clear();
            bytes = 0;
            after_all = false;
        }
        keys.insert(key);
        after_all |= !seen.insert(key);
        // Each mutation has a tag and a length of up to five bytes besides.
        bytes += mutation.len() + 6;
        batch.push(mutation);
    }
    if !batch.is_empty() {
        requests.push(close(&mut batch, after_all));
    }
    Ok(requests)
}

/// How long one call may take, answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
