//! A stand-in for Cloud Storage: its JSON API over HTTP/1.1, in this process, one instance per
//! test, state in memory.
//!
//! Knows objects, generations and uploads as the service documents them, and a fault plan: which
//! call is to go wrong, and how. Pages are small, so that paging is always tested. Must not know
//! what the objects are.

mod api;
mod http;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::fault_plan::{Fault, FaultPlan};
use super::http_server::HttpServer;

/// Objects a page, unless the client asks for fewer.
const PAGE: usize = 3;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// A token for whoever has credentials.
    Token,
    /// Anything about a bucket itself.
    Bucket,
    /// A page of a listing.
    List,
    /// An object's metadata.
    Stat,
    /// An object's bytes.
    Read,
    /// An upload in one request.
    Insert,
    /// The begin of a resumable session.
    Begin,
    /// Bytes for a session.
    Put,
    /// The question how much a session has kept.
    Query,
    /// The end of a session without an object.
    Cancel,
    /// Objects joined to one.
    Compose,
    /// A change of metadata.
    Patch,
    /// The end of an object.
    Delete,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing is done; this status is answered.
    Status(u16),
    /// As `Status`, with a `Retry-After` of that many seconds.
    RetryAfter(u16, u64),
    /// The connection is cut before the body is read.
    CutBefore,
    /// The connection is cut after that many bytes of the body; nothing is kept.
    CutInBody(u64),
    /// The connection is cut after the whole body; nothing is kept.
    CutAfterBody,
    /// That many bytes of a piece are kept, then the connection is cut.
    KeepPart(u64),
    /// Everything is done, the answer is lost.
    LoseAnswer,
    /// No answer for that long, then the connection is cut; nothing is done.
    Stall(Duration),
    /// A download ends after that many bytes.
    BreakDownload(u64),
    /// A download stops after that many bytes, and the connection stays open that long.
    StallDownload(u64, Duration),
    /// That byte of what is sent, or of what was uploaded, is another one.
    CorruptByte(u64),
    /// As `CorruptByte`, counted from the end: what is uploaded stands near the end of its request.
    CorruptEnd(u64),
    /// Of a piece only that many bytes are kept, and the answer says so.
    AnswerLess(u64),
    /// The session is no longer known; this status is answered.
    LoseSession(u16),
    /// Somebody else puts another object under that name before the call is done.
    Replace,
    /// The object is gone before the call is done.
    Vanish,
    /// The call is done, and done a second time; the second answer is given.
    Twice,
    /// A page of a listing says that others follow, after this name.
    MorePages(&'static str),
    /// A download has the whole object, whatever range was requested.
    WholeObject,
    /// An upload session is begun at the address of the server that [`GcsServer::sessions_at`]
    /// names.
    SessionElsewhere,
    /// The call waits for [`GcsServer::release`]; then it is done as if nothing had been.
    Wait,
    /// Nothing is done and nothing is answered, until the client goes away.
    HoldBefore,
    /// Everything is done and nothing is answered, until the client goes away.
    HoldAfter,
}

/// What [`Deed::Replace`] puts there.
pub const REPLACED: &[u8] = b"of another one";

/// One request as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it was.
    pub call: Call,
    /// The object, where there is one.
    pub name: String,
    /// The query as it came.
    pub query: String,
    /// Bytes of its body.
    pub received: u64,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
    /// Bytes of the answer.
    pub sent: u64,
    /// The `User-Agent`.
    pub agent: String,
    /// Whether a token came along.
    pub has_token: bool,
}

/// An object as the service holds it.
#[derive(Debug, Clone, Default)]
pub struct Object {
    pub pieces: Vec<Bytes>,
    pub generation: i64,
    pub metageneration: i64,
    pub crc32c: u32,
    /// None for composed objects.
    pub md5: Option<[u8; 16]>,
    pub components: Option<u64>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub storage_class: Option<String>,
    pub kms_key: Option<String>,
    pub metadata: BTreeMap<String, String>,
    /// Whether a hold keeps it.
    pub is_held: bool,
    /// When it was written, where that is to be another time than the server's one.
    pub updated: Option<&'static str>,
}

impl Object {
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// The bytes from `start` to `end`, as pieces.
    fn range(&self, start: u64, end: u64) -> Vec<Bytes> {
        let mut offset = 0;
        let mut out = Vec::new();
        for piece in &self.pieces {
            let len = piece.len() as u64;
            let (from, to) = (
                start.clamp(offset, offset + len),
                end.clamp(offset, offset + len),
            );
            if from < to {
                out.push(piece.slice((from - offset) as usize..(to - offset) as usize));
            }
            offset += len;
        }
        out
    }
}

/// What the caller may do. The names are those of the service's own permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// Such as `storage.objects.get`.
    pub permission: &'static str,
    /// Objects whose name begins like this.
    pub prefix: String,
}

#[derive(Debug)]
struct Session {
    bucket: String,
    name: String,
    object: Object,
    /// Digests that were told at the begin.
    told: serde_json::Value,
    conditions: api::Conditions,
    kept: u64,
    finished: Option<Object>,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    sessions: BTreeMap<String, Session>,
    next_generation: i64,
    page: usize,
    faults: FaultPlan<Call, Deed>,
    seen: Vec<Seen>,
    /// Everything, where there is no list.
    rights: Option<Vec<Right>>,
    /// Whether every request needs the token that was given last.
    wants_token: bool,
    tokens: usize,
    /// Whether joining needs no right on what is joined.
    joins_freely: bool,
    /// Requests that are being served.
    active: usize,
    /// Requests that wait: for their client to go away, or to be released.
    held: usize,
    released: bool,
    requester_pays: bool,
    /// Names of objects that stay as noncurrent versions, where buckets keep such.
    noncurrent: Option<Vec<String>>,
    /// Where sessions are begun that are begun elsewhere.
    session_base: String,
    /// How long each request waits before it is served.
    delay: Duration,
    is_test_bench: bool,
    base: String,
}

impl State {
    fn generation(&mut self) -> i64 {
        self.next_generation += 1;
        1_700_000_000_000_000 + self.next_generation
    }
}

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct GcsServer {
    state: Arc<Mutex<State>>,
    http: HttpServer,
}

impl GcsServer {
    /// Starts a server with these buckets.
    pub fn start(buckets: &[&str]) -> Self {
        GcsServer::start_at("127.0.0.1:0", buckets)
    }

    /// As [`GcsServer::start`], at an address such as one where nothing has listened so far.
    pub fn start_at(address: &str, buckets: &[&str]) -> Self {
        let listener = HttpServer::bind(address);
        let address = listener.local_addr().unwrap();
        let buckets = buckets
            .iter()
            .map(|bucket| ((*bucket).to_owned(), BTreeMap::new()))
            .collect();
        let state = State {
            buckets,
            page: PAGE,
            base: format!("http://{address}"),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let http = HttpServer::serve(listener, move |request| {
            http::answer(request, shared.clone())
        });
        GcsServer { state, http }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What `STORAGE_EMULATOR_HOST` is to hold.
    pub fn url(&self) -> String {
        self.http.url()
    }

    /// Puts an object there, as if it had been uploaded.
    pub fn put(&self, bucket: &str, name: &str, bytes: impl Into<Bytes>) -> i64 {
        let bytes = bytes.into();
        let mut state = self.state();
        let generation = state.generation();
        let object = Object {
            generation,
            metageneration: 1,
            ..api::object_of(vec![bytes])
        };
        state
            .buckets
            .get_mut(bucket)
            .unwrap()
            .insert(name.to_owned(), object);
        generation
    }

    /// Changes an object's metadata behind everybody's back.
    pub fn alter(&self, bucket: &str, name: &str, change: impl FnOnce(&mut Object)) {
        change(
            self.state()
                .buckets
                .get_mut(bucket)
                .unwrap()
                .get_mut(name)
                .unwrap(),
        );
    }

    /// Another server with the same objects in this bucket; it has others of its own.
    pub fn with_bucket_of(&self, bucket: &str, others: &[&str]) -> Self {
        self.with_bucket_of_at("127.0.0.1:0", bucket, others)
    }

    /// As [`GcsServer::with_bucket_of`], at an address.
    pub fn with_bucket_of_at(&self, address: &str, bucket: &str, others: &[&str]) -> Self {
        let server = GcsServer::start_at(address, others);
        {
            let (from, mut to) = (self.state(), server.state());
            to.next_generation = from.next_generation;
            to.page = from.page;
            to.buckets
                .insert(bucket.to_owned(), from.buckets[bucket].clone());
        }
        server
    }

    /// Puts every file below a folder there, under `prefix`.
    pub fn put_folder(&self, bucket: &str, prefix: &str, folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                self.put_folder(bucket, &format!("{name}/"), &entry.path());
            } else {
                self.put(bucket, &name, std::fs::read(entry.path()).unwrap());
            }
        }
    }

    /// An object, if it is there.
    pub fn get(&self, bucket: &str, name: &str) -> Option<Object> {
        self.state().buckets.get(bucket)?.get(name).cloned()
    }

    /// Whether there is such a bucket.
    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.state().buckets.contains_key(bucket)
    }

    /// The names in a bucket.
    pub fn names(&self, bucket: &str) -> Vec<String> {
        self.state().buckets[bucket].keys().cloned().collect()
    }

    /// Takes an object away.
    pub fn remove(&self, bucket: &str, name: &str) {
        self.state().buckets.get_mut(bucket).unwrap().remove(name);
    }

    /// Plans a fault: the call of that number, counted from 0, goes wrong once.
    pub fn plan(&self, call: Call, number: usize, deed: Deed) {
        self.plan_many(call, number, 1, deed);
    }

    /// Plans a fault for several calls one after the other.
    pub fn plan_many(&self, call: Call, from: usize, times: usize, deed: Deed) {
        self.state().faults.add(call, from, times, deed);
    }

    /// Faults that never happened: a test that planned them has tested nothing.
    pub fn unfired(&self) -> Vec<Fault<Call, Deed>> {
        self.state().faults.unfired()
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// How many requests of a sort there were.
    pub fn count(&self, call: Call) -> usize {
        self.state().faults.count(call)
    }

    /// Forgets faults, counts and requests; objects stay.
    pub fn forget(&self) {
        let mut state = self.state();
        state.faults = FaultPlan::default();
        state.seen.clear();
    }

    /// Objects a page.
    pub fn page(&self, objects: usize) {
        self.state().page = objects;
    }

    /// From now on only this is allowed.
    pub fn allow_only(&self, rights: Vec<Right>) {
        self.state().rights = Some(rights);
    }

    /// From now on it answers as Google's own test bench does, where that differs from the service:
    /// whoever checks a client there must find it good.
    pub fn be_the_test_bench(&self) {
        self.state().is_test_bench = true;
    }

    /// From now on nobody is served without a token.
    pub fn wants_token(&self) {
        self.state().wants_token = true;
    }

    /// From now on objects are joined by whoever may create the result.
    pub fn joins_freely(&self) {
        self.state().joins_freely = true;
    }

    /// From now on buckets keep what is deleted or replaced as noncurrent versions, unless the
    /// generation is named.
    pub fn keep_versions(&self) {
        self.state().noncurrent = Some(Vec::new());
    }

    /// The objects of which noncurrent versions are kept.
    pub fn noncurrent(&self) -> Vec<String> {
        self.state().noncurrent.clone().unwrap_or_default()
    }

    /// Where [`Deed::SessionElsewhere`] begins sessions.
    pub fn sessions_at(&self, url: &str) {
        self.state().session_base = url.to_owned();
    }

    /// Whether a request waits.
    pub fn is_holding(&self) -> bool {
        self.held() > 0
    }

    /// How many requests wait.
    pub fn held(&self) -> usize {
        self.state().held
    }

    /// From now on each request takes that much longer, as it does far away.
    #[allow(dead_code, reason = "only the benchmark is far away")]
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Lets go what waits for it.
    pub fn release(&self) {
        self.state().released = true;
    }

    /// Whether no request is being served.
    pub fn is_idle(&self) -> bool {
        self.state().active == 0
    }

    /// From now on a request must say who pays.
    pub fn requester_pays(&self) {
        self.state().requester_pays = true;
    }

    /// Sessions that were begun and neither finished nor cancelled.
    pub fn open_sessions(&self) -> usize {
        self.state()
            .sessions
            .values()
            .filter(|session| session.finished.is_none())
            .count()
    }
}
