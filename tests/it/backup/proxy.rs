//! A proxy before the emulator: it counts what goes through, and holds an export at a numbered
//! point.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;

use crate::support::http_server::{self, Answer, HttpServer};

/// At which side of the emulator an export is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The emulator never sees the request.
    Before,
    /// The emulator has written the export, and the answer never comes.
    After,
}

/// A request that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenExport {
    pub namespace: String,
    pub kind: String,
}

#[derive(Debug, Default)]
struct State {
    exports: Vec<SeenExport>,
    /// Paths of all requests.
    paths: Vec<String>,
    running: usize,
    most_at_once: usize,
    hold: Option<(usize, Side)>,
    is_holding: bool,
}

/// A proxy of its own port. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<Mutex<State>>,
    server: HttpServer,
}

impl Proxy {
    pub fn start(emulator: &str) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, emulator) = (state.clone(), emulator.to_owned());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = move |request| {
            let (shared, emulator, client) = (shared.clone(), emulator.clone(), client.clone());
            async move { forward(request, &shared, &emulator, &client).await }
        };
        let server = HttpServer::serve(HttpServer::bind("127.0.0.1:0"), answer);
        Proxy { state, server }
    }

    /// How the emulator is named through the proxy.
    pub fn target(&self, project: &str) -> String {
        let host = self.server.url();
        format!("emulator:{project}@{}", host.trim_start_matches("http://"))
    }

    /// Holds the export of that number, counted from 0, for ever.
    pub fn hold(&self, number: usize, side: Side) {
        self.state().hold = Some((number, side));
    }

    pub fn is_holding(&self) -> bool {
        self.state().is_holding
    }

    /// Holds nothing any more.
    pub fn release(&self) {
        let mut state = self.state();
        (state.hold, state.is_holding) = (None, false);
    }

    pub fn exports(&self) -> Vec<SeenExport> {
        self.state().exports.clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.state().paths.clone()
    }

    /// How many exports ran at once, at the most.
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One export on its way: it is over when this is dropped, also where the connection breaks.
struct Running<'a>(&'a Mutex<State>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .running -= 1;
    }
}

async fn forward(
    request: Request<Incoming>,
    state: &Mutex<State>,
    emulator: &str,
    client: &reqwest::Client,
) -> Answer {
    let (head, body) = request.into_parts();
    let body = http_server::read_body(body).await?;
    let path = head.uri.path_and_query().unwrap().to_string();
    let held = |side| {
        let mut state = state.lock().unwrap();
        let last = state.exports.len().checked_sub(1);
        let is_held = path.ends_with(":export") && state.hold == last.map(|last| (last, side));
        state.is_holding |= is_held;
        is_held
    };
    let _running = note(state, &path, &body);
    if held(Side::Before) {
        std::future::pending::<()>().await;
    }
    let sent = client
        .request(head.method.clone(), format!("http://{emulator}{path}"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .map_err(std::io::Error::other)?;
    let status = sent.status().as_u16();
    let answer = sent.bytes().await.map_err(std::io::Error::other)?;
    if held(Side::After) {
        std::future::pending::<()>().await;
    }
    let headers = [("content-type", "application/json".to_owned())];
    Ok(http_server::respond(status, headers, answer))
}

fn note<'a>(state: &'a Mutex<State>, path: &str, body: &[u8]) -> Option<Running<'a>> {
    let mut noted = state.lock().unwrap();
    noted.paths.push(path.to_owned());
    if !path.ends_with(":export") {
        return None;
    }
    let body: Value = serde_json::from_slice(body).unwrap();
    let first = |list: &str| body["entityFilter"][list][0].as_str().unwrap().to_owned();
    noted.exports.push(SeenExport {
        namespace: first("namespaceIds"),
        kind: first("kinds"),
    });
    noted.running += 1;
    noted.most_at_once = noted.most_at_once.max(noted.running);
    Some(Running(state))
}
