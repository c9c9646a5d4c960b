//! A gate before the emulator: it lets requests through, remembers which keys were written, and
//! stops at a moment of the test's choice.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// On which side of the emulator the gate stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The commit does not reach the emulator.
    Before,
    /// It reaches the emulator, and its answer reaches nobody.
    After,
}

/// A running gate. It ends with the test program.
pub struct FaultProxy {
    pub host: String,
    state: Arc<State>,
}

struct State {
    emulator: String,
    client: reqwest::Client,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The keys of each commit that reached the emulator, run by run.
    runs: Vec<Vec<HashSet<Vec<u8>>>>,
    /// Commits of this run that came to the gate.
    commits: usize,
    stop_at: Option<(usize, Side)>,
    has_stopped: bool,
}

impl FaultProxy {
    /// A gate on a port of its own before the emulator at `emulator`.
    pub fn before(emulator: &str) -> FaultProxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let state = Arc::new(State {
            emulator: emulator.to_owned(),
            client,
            seen: Mutex::default(),
        });
        let serving = state.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((socket, _)) = listener.accept().await else {
                        continue;
                    };
                    let state = serving.clone();
                    tokio::spawn(async move {
                        let service = service_fn(move |request| pass(request, state.clone()));
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await
                            .ok();
                    });
                }
            });
        });
        FaultProxy { host, state }
    }

    /// A new run begins; the gate stops at its commit number `stop_at`, counted from 1, and lets
    /// nothing through from there.
    pub fn begin_run(&self, stop_at: Option<(usize, Side)>) {
        let mut seen = self.state.seen.lock().unwrap();
        seen.runs.push(Vec::new());
        (seen.commits, seen.stop_at, seen.has_stopped) = (0, stop_at, false);
    }

    /// Whether the gate has stopped.
    pub fn has_stopped(&self) -> bool {
        self.state.seen.lock().unwrap().has_stopped
    }

    /// For each run, how many commits brought a key that an earlier run had brought already.
    pub fn repeated(&self) -> Vec<usize> {
        let seen = self.state.seen.lock().unwrap();
        let mut known = HashSet::new();
        let mut repeated = Vec::new();
        for run in &seen.runs {
            repeated.push(
                run.iter()
                    .filter(|keys| keys.iter().any(|key| known.contains(key)))
                    .count(),
            );
            known.extend(run.iter().flatten().cloned());
        }
        repeated
    }
}

async fn pass(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let is_commit = head.uri.path().ends_with(":commit");
    let mut stops = None;
    let mut holds = false;
    {
        let mut seen = state.seen.lock().unwrap();
        seen.commits += usize::from(is_commit);
        if is_commit
            && !seen.has_stopped
            && seen
                .stop_at
                .is_some_and(|(number, _)| number == seen.commits)
        {
            stops = seen.stop_at.map(|(_, side)| side);
        }
        // Behind the stop nothing is answered any more.
        holds |= seen.has_stopped || stops == Some(Side::Before);
        if is_commit && !holds {
            let keys = keys_of(&body);
            seen.runs.last_mut().unwrap().push(keys);
        }
        if stops.is_some() {
            seen.has_stopped = true;
        }
    }
    if holds {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    let url = format!("http://{}{}", state.emulator, head.uri);
    let mut forward = state.client.request(head.method, url).body(body);
    for (name, value) in &head.headers {
        if !matches!(name.as_str(), "host" | "content-length" | "connection") {
            forward = forward.header(name, value);
        }
    }
    let Ok(answer) = forward.send().await else {
        return Ok(trouble());
    };
    let status = answer.status();
    let kind = answer.headers().get("content-type").cloned();
    let Ok(bytes) = answer.bytes().await else {
        return Ok(trouble());
    };
    if stops == Some(Side::After) {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    let mut response = Response::builder().status(status);
    if let Some(kind) = kind {
        response = response.header("content-type", kind);
    }
    Ok(response.body(Full::new(bytes)).unwrap())
}

fn trouble() -> Response<Full<Bytes>> {
    Response::builder()
        .status(503)
        .body(Full::default())
        .unwrap()
}

/// The keys of a `CommitRequest`: mutation 6, upsert 6, key 1.
fn keys_of(body: &[u8]) -> HashSet<Vec<u8>> {
    let messages = |bytes: &[u8], wanted: u64| {
        fields(bytes)
            .into_iter()
            .filter(move |(number, _)| *number == wanted)
            .map(|(_, bytes)| bytes)
    };
    let mut keys = HashSet::new();
    for mutation in messages(body, 6) {
        for entity in messages(&mutation, 6) {
            keys.extend(messages(&entity, 1));
        }
    }
    keys
}

/// The fields of a protobuf message that have a length.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => _ = varint(&mut bytes),
            1 => bytes = &bytes[8..],
            2 => {
                let len = varint(&mut bytes) as usize;
                found.push((tag >> 3, bytes[..len].to_vec()));
                bytes = &bytes[len..];
            }
            5 => bytes = &bytes[4..],
            other => panic!("wire type {other}"),
        }
    }
    found
}
