//! An exporter that does as a test says, in virtual time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::datastore::admin::{
    ExportError, ExportErrorClass, ExportRequest, Exporter, FoundOperation, OperationFailure,
    OperationProgress, OperationState, StartedExport,
};
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::google::retry::Backoff;

/// How long an export of the fake takes, unless a test says otherwise.
const EXPORT_SECONDS: u64 = 10;

/// What becomes of one attempt.
#[derive(Debug, Clone)]
pub(super) enum Attempt {
    /// An operation succeeds after so many seconds.
    Succeeds(u64),
    /// An operation fails.
    Fails(OperationFailure),
    /// The start is refused.
    Refused(ExportError),
    /// The operation is started, and the answer is lost.
    AnswerLost,
    /// The export is not started, and nobody says so.
    RequestLost,
}

/// A start that arrived.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub at: Instant,
    pub request: ExportRequest,
}

#[derive(Debug, Clone)]
struct FakeOperation {
    name: String,
    prefix: String,
    ends: Instant,
    end: OperationState,
}

#[derive(Debug, Default)]
struct FakeState {
    script: HashMap<String, VecDeque<Attempt>>,
    starts: Vec<Start>,
    operations: Vec<FakeOperation>,
    most_at_once: usize,
}

/// An exporter without a service. A kind that no script names succeeds.
#[derive(Debug)]
pub(super) struct FakeExporter {
    state: Mutex<FakeState>,
    pub has_quota: bool,
}

impl FakeExporter {
    pub(super) fn new() -> Self {
        FakeExporter {
            state: Mutex::default(),
            has_quota: false,
        }
    }

    /// What becomes of the next attempts at a kind.
    pub(super) fn script(&self, kind: &str, attempts: impl IntoIterator<Item = Attempt>) {
        let attempts = attempts.into_iter().collect();
        self.state().script.insert(kind.to_owned(), attempts);
    }

    pub(super) fn starts(&self) -> Vec<Start> {
        self.state().starts.clone()
    }

    /// The kinds that were started, in order.
    pub(super) fn started_kinds(&self) -> Vec<String> {
        let starts = self.starts().into_iter();
        starts
            .map(|start| start.request.kind.as_str().to_owned())
            .collect()
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn refused(class: ExportErrorClass, code: Code) -> ExportError {
    ExportError {
        call: "export".to_owned(),
        class,
        code,
        message: code.to_string(),
        advice: (class == ExportErrorClass::Permanent).then(|| "Ask for it.".to_owned()),
    }
}

pub(super) fn transient(code: Code) -> Attempt {
    let class = ExportErrorClass::Transient { retry_after: None };
    Attempt::Refused(refused(class, code))
}

pub(super) fn permanent(code: Code) -> Attempt {
    Attempt::Refused(refused(ExportErrorClass::Permanent, code))
}

pub(super) fn failure(code: Code, is_transient: bool) -> Attempt {
    Attempt::Fails(OperationFailure {
        code,
        message: code.to_string(),
        is_transient,
        advice: None,
    })
}

impl FakeState {
    fn start(&mut self, request: &ExportRequest) -> Result<StartedExport, ExportError> {
        let now = Instant::now();
        self.starts.push(Start {
            at: now,
            request: request.clone(),
        });
        let script = self.script.get_mut(request.kind.as_str());
        let attempt = script.and_then(VecDeque::pop_front);
        let lost = refused(
            ExportErrorClass::MaybeStarted { retry_after: None },
            Code::DeadlineExceeded,
        );
        match attempt.unwrap_or(Attempt::Succeeds(EXPORT_SECONDS)) {
            Attempt::Succeeds(seconds) => {
                Ok(self.operate(request, seconds, OperationState::Succeeded))
            }
            Attempt::Fails(failure) => {
                Ok(self.operate(request, EXPORT_SECONDS, OperationState::Failed(failure)))
            }
            Attempt::AnswerLost => {
                self.operate(request, EXPORT_SECONDS, OperationState::Succeeded);
                Err(lost)
            }
            Attempt::RequestLost => Err(lost),
            Attempt::Refused(error) => Err(error),
        }
    }

    fn operate(
        &mut self,
        request: &ExportRequest,
        seconds: u64,
        end: OperationState,
    ) -> StartedExport {
        let now = Instant::now();
        let name = format!("operations/{}", self.operations.len());
        self.operations.push(FakeOperation {
            name: name.clone(),
            prefix: request.output_prefix.clone(),
            ends: now + Duration::from_secs(seconds),
            end,
        });
        let running = self.operations.iter().filter(|one| one.ends > now).count();
        self.most_at_once = self.most_at_once.max(running);
        StartedExport::Operation(name)
    }

    fn look_at(&self, name: &str) -> OperationState {
        let operation = self.operations.iter().find(|one| one.name == name);
        match operation {
            None => OperationState::Unknown,
            Some(operation) if operation.ends > Instant::now() => {
                OperationState::Running(OperationProgress::default())
            }
            Some(operation) => operation.end.clone(),
        }
    }
}

#[async_trait]
impl Exporter for FakeExporter {
    fn supports_snapshot(&self) -> bool {
        true
    }

    fn has_quota(&self) -> bool {
        self.has_quota
    }

    async fn start(&self, request: &ExportRequest) -> Result<StartedExport, ExportError> {
        self.state().start(request)
    }

    async fn find(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        let state = self.state();
        let is_of = |one: &&FakeOperation| one.prefix == request.output_prefix;
        let found = state.operations.iter().rev().find(is_of);
        Ok(found.map(|one| FoundOperation {
            name: one.name.clone(),
            state: state.look_at(&one.name),
        }))
    }

    async fn find_after_start(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        self.find(request).await
    }

    async fn poll(&self, operation: &str) -> Result<OperationState, DatastoreError> {
        Ok(self.state().look_at(operation))
    }

    fn poll_delays(&self) -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(1))
    }
}
