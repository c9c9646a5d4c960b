//! One step by commits: batches go out side by side, and are told to be safe in the order in which they came.
//!
//! Knows the limits of a commit. Must not know how a call is tried again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::http::Api;
use crate::entity::v1;
use crate::model::Kind;
use crate::target::{Encoded, Progress, StepSink, TargetError};
use crate::workers::WorkerLost;

/// Production's limit, which the emulator does not enforce.
const MUTATIONS_MAX: usize = 500;

/// The emulator takes requests of 4 MiB; the rest is for the request's own fields.
const REQUEST_MAX_BYTES: usize = (4 << 20) - (64 << 10);

/// Commits that are under way at once.
const IN_FLIGHT: usize = 8;

/// A commit that is under way.
#[derive(Debug)]
struct Flight {
    task: JoinHandle<Result<(), TargetError>>,
    /// How far the step has come when this and all before it are done.
    then: Progress,
    /// What it writes, by the hashes of the keys.
    keys: HashSet<u64>,
}

/// Takes the entities of one step.
#[derive(Debug)]
pub(super) struct CommitSink {
    api: Arc<Api>,
    kind: Kind,
    flights: VecDeque<Flight>,
    done: Progress,
}

impl CommitSink {
    pub(super) fn new(api: Arc<Api>, kind: Kind, done: Progress) -> Self {
        CommitSink { api, kind, flights: VecDeque::new(), done }
    }

    /// Waits for the oldest commit.
    async fn land(&mut self) -> Result<(), TargetError> {
        let Some(flight) = self.flights.front_mut() else { return Ok(()) };
        let landed = (&mut flight.task).await.map_err(WorkerLost)?;
        let then = self.flights.pop_front().map(|flight| flight.then);
        landed?;
        self.done = then.unwrap_or(self.done);
        Ok(())
    }

    /// How far the step will have come when all that is under way is done.
    fn ahead(&self) -> Progress {
        self.flights.back().map_or(self.done, |flight| flight.then)
    }

    /// Sends a commit as soon as there is room, and nothing under way writes the same key: the last one is to win.
    async fn send(&mut self, request: Request) -> Result<(), TargetError> {
        let Request { body, keys } = request;
        while self.flights.len() >= IN_FLIGHT || self.flights.iter().any(|flight| !flight.keys.is_disjoint(&keys)) {
            self.land().await?;
        }
        let then = self.ahead().and(keys.len() as u64);
        let api = self.api.clone();
        let task = tokio::spawn(async move { api.commit(body).await });
        self.flights.push_back(Flight { task, then, keys });
        Ok(())
    }
}

impl Drop for CommitSink {
    fn drop(&mut self) {
        // A step that is given up sends nothing more.
        self.flights.iter().for_each(|flight| flight.task.abort());
    }
}

impl StepSink for CommitSink {
    fn write<'a>(&'a mut self, batch: Encoded) -> BoxFuture<'a, Result<Progress, TargetError>> {
        Box::pin(async move {
            for request in requests(&self.api, &self.kind, &batch, self.ahead().entities)? {
                self.send(request).await?;
            }
            // Whoever writes down what is safe does so before the next call: no more than the window is ever in doubt.
            while self.flights.len() >= IN_FLIGHT {
                self.land().await?;
            }
            Ok(self.done)
        })
    }

    fn end_piece(&mut self) {
        match self.flights.back_mut() {
            Some(flight) => flight.then = flight.then.at_piece_end(),
            None => self.done = self.done.at_piece_end(),
        }
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<Progress, TargetError>> {
        Box::pin(async move {
            while !self.flights.is_empty() {
                self.land().await?;
            }
            Ok(self.done)
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Progress, TargetError>> {
        Box::pin(async move { self.settle().await })
    }
}

/// A commit to be sent.
struct Request {
    body: Vec<u8>,
    keys: HashSet<u64>,
}

/// Divides a batch into commits: within the limits, and no key twice in one. `before` entities of the step stand before it.
fn requests(api: &Api, kind: &Kind, batch: &Encoded, before: u64) -> Result<Vec<Request>, TargetError> {
    let mut requests = Vec::new();
    let mut mutations: Vec<&[u8]> = Vec::new();
    let mut keys = HashSet::new();
    let mut bytes = 0;
    let close = |mutations: &mut Vec<&[u8]>, keys: &mut HashSet<u64>| Request {
        body: v1::commit_request(api.project(), "", &std::mem::take(mutations)),
        keys: std::mem::take(keys),
    };
    for (number, (mutation, key)) in (before + 1..).zip(batch.iter()) {
        if mutation.len() > REQUEST_MAX_BYTES {
            return Err(TargetError::TooLarge { kind: kind.clone(), number, bytes: mutation.len(), limit: REQUEST_MAX_BYTES });
        }
        if mutations.len() >= MUTATIONS_MAX || bytes + mutation.len() > REQUEST_MAX_BYTES || keys.contains(&key) {
            requests.push(close(&mut mutations, &mut keys));
            bytes = 0;
        }
        keys.insert(key);
        // Each mutation has a tag and a length of up to five bytes besides.
        bytes += mutation.len() + 6;
        mutations.push(mutation);
    }
    if !mutations.is_empty() {
        requests.push(close(&mut mutations, &mut keys));
    }
    Ok(requests)
}
