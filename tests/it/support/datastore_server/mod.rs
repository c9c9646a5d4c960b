//! A stand-in for the real Datastore: its v1 API over HTTP/1.1, in JSON and protobuf, one instance
//! per test, everything in memory.
//!
//! Knows entities, versions and reserved ids as the service documents them, what the service
//! refuses, and a fault plan: which call is to go wrong, and how. Nobody is served without a token.
//! A planned fault that never came fails its test. Google's own client and Google's emulator say
//! whether it is true (`datastore/server_fidelity.rs`).

mod api;
mod http;
mod proto;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fault_plan::{Fault, FaultPlan};
use super::http_server::HttpServer;
use super::operations::Operations;

pub use api::StoredKey;

/// Entities a page, however many are requested. The service has such a bound, too.
const PAGE: usize = 40;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// A token for whoever has credentials.
    Token,
    Commit,
    Lookup,
    RunQuery,
    RunAggregationQuery,
    ReserveIds,
    AllocateIds,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing is done; this status is answered, as the service words it.
    Status(u16),
    /// As `Status`, with a `Retry-After` of that many seconds.
    RetryAfter(u16, u64),
    /// As `Status`, with a `RetryInfo` of that many milliseconds.
    RetryInfo(u16, u64),
    /// Nothing is done; what stands before the service answers this status, in HTML.
    FrontEnd(u16),
    /// The connection is cut before anything is done.
    Cut,
    /// Everything is done, the answer is lost.
    LoseAnswer,
    /// No answer for that long, then the connection is cut; nothing is done.
    Stall(Duration),
    /// Everything is done; half of the answer comes, and says that it is all.
    HalfAnswer,
    /// Others are at the same entities: a commit of more mutations than that is aborted.
    Contention(usize),
}

/// One request as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub call: Call,
    pub at: Instant,
    /// Mutations of a commit, keys of the others.
    pub items: usize,
    pub database: String,
    /// The `Authorization` header.
    pub authorization: String,
    /// The `x-goog-request-params` header.
    pub params: String,
    pub agent: String,
    /// Whether it came in protobuf.
    pub is_message: bool,
    pub bytes: usize,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
}

/// An entity with its version.
#[derive(Debug, Clone)]
struct Stored {
    entity: Value,
    version: i64,
}

#[derive(Debug, Default)]
struct State {
    project: String,
    databases: BTreeMap<String, BTreeMap<StoredKey, Stored>>,
    version: i64,
    reserved: BTreeSet<(String, StoredKey)>,
    next_id: i64,
    faults: FaultPlan<Call, Deed>,
    seen: Vec<Seen>,
    tokens: usize,
    /// Tokens that were answered with 401: they are not good any more.
    revoked: BTreeSet<String>,
    /// Kinds whose entities of that name or id the service refuses.
    poisoned: BTreeSet<(String, String)>,
    denied: bool,
    /// How far the service's clock is ahead.
    ahead: Duration,
    /// What answers exports, imports and questions about operations.
    operations: Option<Arc<Operations>>,
}

/// A running server. It ends when it is dropped; what was planned must have come by then.
#[derive(Debug)]
pub struct DatastoreServer {
    state: Arc<Mutex<State>>,
    http: HttpServer,
}

impl DatastoreServer {
    /// Starts a server with one project and these databases; the default one is empty.
    pub fn start(project: &str, databases: &[&str]) -> Self {
        let databases = databases
            .iter()
            .map(|database| ((*database).to_owned(), BTreeMap::new()))
            .collect();
        let state = State {
            project: project.to_owned(),
            databases,
            version: 1_000,
            next_id: 1,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let http = HttpServer::serve(HttpServer::bind("127.0.0.1:0"), move |request| {
            http::answer(request, shared.clone())
        });
        DatastoreServer { state, http }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where it is, as `CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE` names it.
    pub fn url(&self) -> String {
        self.http.url()
    }

    /// A file of credentials whose tokens come from this server.
    pub fn credentials(&self) -> Value {
        json!({
            "type": "authorized_user", "client_id": "CANARY-CLIENT", "client_secret": "CANARY-SECRET",
            "refresh_token": "CANARY-REFRESH", "token_uri": format!("{}/token", self.url()),
        })
    }

    /// From now on these operations are answered, too, by both of Google's APIs.
    pub fn serve_operations(&self, operations: Arc<Operations>) {
        self.state().operations = Some(operations);
    }

    /// Plans a fault: the call of that number, counted from 0, goes wrong once.
    pub fn plan(&self, call: Call, number: usize, deed: Deed) {
        self.plan_many(call, number, 1, deed);
    }

    /// Plans a fault for several calls one after the other.
    pub fn plan_many(&self, call: Call, from: usize, times: usize, deed: Deed) {
        self.state().faults.add(call, from, times, deed);
    }

    /// Planned faults that have not come.
    pub fn unfired(&self) -> Vec<Fault<Call, Deed>> {
        self.state().faults.unfired()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// How many requests of one sort there were.
    pub fn count(&self, call: Call) -> usize {
        self.seen().iter().filter(|seen| seen.call == call).count()
    }

    /// From now on an entity of that kind and name (or id) is refused, in whatever commit it
    /// stands.
    pub fn poison(&self, kind: &str, name: &str) {
        self.state()
            .poisoned
            .insert((kind.to_owned(), name.to_owned()));
    }

    /// From now on the token's owner may do nothing.
    pub fn deny(&self) {
        self.state().denied = true;
    }

    /// Puts the service's clock ahead of everybody's.
    pub fn set_ahead(&self, ahead: Duration) {
        self.state().ahead = ahead;
    }

    /// Entities of one database, as `lookup` gives them, in the order of their keys.
    pub fn entities(&self, database: &str) -> Vec<Value> {
        self.state().databases[database]
            .values()
            .map(|stored| stored.entity.clone())
            .collect()
    }

    /// Those of one kind in one namespace.
    pub fn entities_of(&self, database: &str, namespace: &str, kind: &str) -> Vec<Value> {
        let state = self.state();
        let ours = state.databases[database]
            .iter()
            .filter(|(key, _)| key.is_of(namespace, kind));
        ours.map(|(_, stored)| stored.entity.clone()).collect()
    }

    /// Writes an entity behind everybody's back.
    pub fn put(&self, database: &str, entity: &Value) {
        api::put(&mut self.state(), database, entity.clone());
    }

    /// Deletes one behind everybody's back.
    pub fn remove(&self, database: &str, key: &Value) {
        let key = StoredKey::of(key).unwrap();
        self.state()
            .databases
            .get_mut(database)
            .unwrap()
            .remove(&key);
    }

    /// How many ids are reserved.
    pub fn reserved(&self) -> usize {
        self.state().reserved.len()
    }
}

impl Drop for DatastoreServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.unfired(), [], "planned faults that never came");
        }
    }
}
