//! The calls of Datastore v1: one attempt, and attempts with growing delays while that can help,
//! within a bounded time. Over HTTP, and over gRPC where an emulator is quicker so.
//!
//! Knows the addresses and headers of Datastore v1. Must not know what a call is for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::app_engine;
use super::connection::{Connection, RequestError, ServiceRefusal, ServiceRequest};
use super::emulator_product::{EmulatorProduct, PROBE_TIMEOUT};
use super::error::DatastoreError;
use super::grpc::{self, GrpcClient};
use super::status::{Code, LookupAnswer, mutation_results};
use crate::entity::message;
use crate::google::http::{NoResponse, no_answer_within};
use crate::google::refusal::refusal;
use crate::google::retry::{self, FailedAttempt, LastAttempt, RetryLoop, RetryPolicy};
use crate::google::{Credentials, TokenError, TokenSource};

/// The first delay between attempts.
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// No delay is longer, unless the service asks for it.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The same for an emulator.
const MAX_EMULATOR_DELAY: Duration = Duration::from_secs(1);

/// A call is tried at least so often: a single attempt without an answer may take all the time.
const MIN_ATTEMPTS: u32 = 2;

/// No connection takes longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long things may last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallTimeouts {
    /// One call, answer included.
    pub(crate) call: Duration,
    /// All attempts of a call together, as long as nothing comes through.
    pub(crate) retry: Duration,
}

/// A database of a Datastore service.
#[derive(Debug, Clone)]
pub(crate) struct DatastoreClient {
    connection: Connection,
    project: String,
    /// Empty for the default one.
    database: String,
    timeouts: CallTimeouts,
    /// None where gRPC is not spoken, or not wanted; found out when it is first requested.
    grpc: OnceCell<Option<GrpcClient>>,
}

/// The form of a request and of its answer.
#[derive(Debug, Clone, Copy)]
enum BodyFormat {
    Json,
    Message,
}

/// What a JSON call gave.
pub(crate) enum JsonResponse {
    Ok(Value),
    /// The service does not know this call.
    Unavailable,
}

/// What one attempt came to, where it came to nothing.
#[derive(Debug)]
pub(crate) enum DatastoreAttemptError {
    /// Another attempt may help.
    Transient {
        found: String,
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
        /// Whether the service itself said so: then less at once may help, too.
        overloaded: bool,
    },
    /// The token was not accepted: a new one may be.
    Unauthorized { source: Option<TokenSource> },
    /// No token can be had.
    NoCredentials { fault: &'static str },
    /// The service does not want it.
    Refused { code: Code, found: String },
    /// There is no such call.
    UnknownMethod,
    /// No host has the name of the address.
    UnknownHost,
}

impl DatastoreClient {
    pub(crate) fn new(
        base: String,
        project: String,
        database: String,
        credentials: Option<Arc<Credentials>>,
        timeouts: CallTimeouts,
    ) -> Result<Self, DatastoreError> {
        Ok(DatastoreClient {
            connection: Connection::new(base, credentials, CONNECT_TIMEOUT)?,
            project,
            database,
            timeouts,
            grpc: OnceCell::new(),
        })
    }

    /// The attempts of one call.
    pub(crate) fn retry_loop(&self, method: &str) -> RetryLoop<'_> {
        // Who waits for an emulator to start wants to go on when it has.
        let max_delay = if self.connection.credentials().is_none() {
            MAX_EMULATOR_DELAY
        } else {
            MAX_DELAY
        };
        let timeout = self.timeouts.retry;
        let policy = RetryPolicy {
            first_delay: FIRST_DELAY,
            max_delay: max_delay.min(timeout / 4),
            timeout,
            last_attempt: LastAttempt::BeforeTimeout {
                min_attempts: MIN_ATTEMPTS,
            },
        };
        RetryLoop::new(self.call(method), policy, self.connection.credentials())
            .with_place(self.connection.display_base())
    }

    pub(crate) fn project(&self) -> &str {
        &self.project
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// The partition of a namespace, in JSON.
    pub(crate) fn partition(&self, namespace: &str) -> Value {
        let fields = [
            ("projectId", self.project.as_str()),
            ("databaseId", self.database.as_str()),
            ("namespaceId", namespace),
        ];
        fields
            .into_iter()
            .filter(|(_, id)| !id.is_empty())
            .map(|(field, id)| (field.to_owned(), Value::from(id)))
            .collect()
    }

    /// The target as people name it.
    pub(crate) fn name(&self) -> String {
        let slash = if self.database.is_empty() { "" } else { "/" };
        format!("project {}{slash}{}", self.project, self.database)
    }

    /// gRPC, which only an emulator is spoken to in: what comes over HTTP it sends to its own gRPC
    /// side, through one thread.
    async fn grpc(&self) -> Option<&GrpcClient> {
        let connect = || async {
            match self.connection.credentials() {
                Some(_) => Ok(None),
                None => {
                    GrpcClient::connect(
                        self.connection.base(),
                        self.timeouts.call,
                        message::empty_lookup(&self.project).into(),
                    )
                    .await
                }
            }
        };
        self.grpc.get_or_try_init(connect).await.ok()?.as_ref()
    }

    /// Which emulator this is; none for the real service.
    pub(crate) async fn emulator_product(&self) -> Result<Option<EmulatorProduct>, DatastoreError> {
        if self.connection.credentials().is_some() {
            return Ok(None);
        }
        let mut retry = self.retry_loop("probe");
        loop {
            match self.connection.emulator_product(&self.project).await {
                Ok(product) => return Ok(Some(product)),
                Err(error) => {
                    let error = DatastoreAttemptError::from_request(error, PROBE_TIMEOUT);
                    retry.failed(error).await?;
                }
            }
        }
    }

    /// Makes a call in protobuf once, in whichever protocol is the quicker.
    async fn message_call(
        &self,
        method: &'static str,
        grpc_path: &'static str,
        body: Bytes,
    ) -> Result<Bytes, DatastoreAttemptError> {
        match self.grpc().await {
            Some(grpc) => {
                let answer = grpc.call(grpc_path, body).await;
                answer.map_err(DatastoreAttemptError::from_grpc)
            }
            None => self.once(method, BodyFormat::Message, body).await,
        }
    }

    /// Sends a commit of so many mutations once.
    pub(crate) async fn commit(
        &self,
        body: Bytes,
        mutations: usize,
    ) -> Result<(), DatastoreAttemptError> {
        let answer = self.message_call("commit", grpc::COMMIT, body).await?;
        match mutation_results(&answer) {
            Some(results) if results == mutations => Ok(()),
            Some(results) => Err(DatastoreAttemptError::transient(format!(
                "the answer holds {results} results for {mutations} mutations"
            ))),
            None => Err(DatastoreAttemptError::transient(
                "the answer is not a CommitResponse",
            )),
        }
    }

    /// Looks keys up until there is an answer.
    pub(crate) async fn lookup(&self, body: Bytes) -> Result<LookupAnswer, DatastoreError> {
        let mut retry = self.retry_loop("lookup");
        loop {
            let answered = self
                .message_call("lookup", grpc::LOOKUP, body.clone())
                .await;
            let answer = answered.and_then(|answer| {
                LookupAnswer::parse(&answer).ok_or_else(|| {
                    DatastoreAttemptError::transient("the answer is not a LookupResponse")
                })
            });
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => retry.failed(error).await?,
            }
        }
    }

    /// Makes a call of App Engine's interface once; [`DatastoreAttemptError::UnknownMethod`] where it is not served.
    pub(crate) async fn app_engine(&self, body: Vec<u8>) -> Result<Bytes, DatastoreAttemptError> {
        let grpc = self
            .grpc()
            .await
            .ok_or(DatastoreAttemptError::UnknownMethod)?;
        grpc.call(app_engine::CALL, body.into())
            .await
            .map_err(DatastoreAttemptError::from_grpc)
    }

    /// Whether gRPC is spoken.
    pub(crate) async fn has_grpc(&self) -> bool {
        self.grpc().await.is_some()
    }

    /// Makes a call in protobuf once. Its answer is not looked at.
    pub(crate) async fn message(
        &self,
        method: &'static str,
        body: Bytes,
    ) -> Result<(), DatastoreAttemptError> {
        self.once(method, BodyFormat::Message, body).await.map(drop)
    }

    /// Makes a JSON call until it is answered. It may be made twice.
    pub(crate) async fn json(
        &self,
        method: &'static str,
        body: &Value,
    ) -> Result<JsonResponse, DatastoreError> {
        let mut retry = self.retry_loop(method);
        loop {
            match self.json_once(method, body).await {
                Ok(value) => return Ok(JsonResponse::Ok(value)),
                Err(DatastoreAttemptError::UnknownMethod) => return Ok(JsonResponse::Unavailable),
                Err(error) => retry.failed(error).await?,
            }
        }
    }

    /// Makes a JSON call once.
    pub(crate) async fn json_once(
        &self,
        method: &'static str,
        body: &Value,
    ) -> Result<Value, DatastoreAttemptError> {
        let mut body = body.clone();
        if let (false, Some(fields)) = (self.database.is_empty(), body.as_object_mut()) {
            fields.insert("databaseId".to_owned(), self.database.as_str().into());
        }
        let answer = self
            .once(method, BodyFormat::Json, body.to_string().into())
            .await?;
        // A cut answer is no answer.
        serde_json::from_slice(&answer)
            .map_err(|_| DatastoreAttemptError::transient("the answer is not JSON"))
    }

    pub(super) fn call(&self, method: &str) -> String {
        format!(
            "{method} of {} at {}",
            self.name(),
            self.connection.display_base()
        )
    }

    /// Without it a request about a named database may be led to the wrong place.
    fn routing(&self) -> Option<HeaderValue> {
        let mut routing = format!("project_id={}", self.project);
        if !self.database.is_empty() {
            routing += &format!("&database_id={}", self.database);
        }
        HeaderValue::from_str(&routing).ok()
    }

    async fn once(
        &self,
        method: &'static str,
        form: BodyFormat,
        body: Bytes,
    ) -> Result<Bytes, DatastoreAttemptError> {
        let content_type = match form {
            BodyFormat::Json => "application/json",
            BodyFormat::Message => "application/x-protobuf",
        };
        let request = ServiceRequest {
            method: Method::POST,
            path: &format!("/v1/projects/{}:{method}", self.project),
            resource: method,
            body: Some((content_type, body)),
            routing: self.routing(),
            timeout: self.timeouts.call,
        };
        self.connection
            .send(request)
            .await
            .map_err(|error| match error {
                RequestError::NoResponse(none) if none.is_unknown_host && self.is_emulator() => {
                    DatastoreAttemptError::UnknownHost
                }
                error => DatastoreAttemptError::from_request(error, self.timeouts.call),
            })
    }

    /// Whether its address was typed by somebody. The names of Google's own hosts are right: where
    /// they are not found, the network may come back.
    fn is_emulator(&self) -> bool {
        self.connection.credentials().is_none()
    }
}

impl DatastoreAttemptError {
    /// Whether the service itself says that it has too much to do.
    pub(crate) fn is_overloaded(&self) -> bool {
        matches!(self, Self::Transient { overloaded, .. } if *overloaded)
    }

    fn transient(found: impl Into<String>) -> Self {
        DatastoreAttemptError::Transient {
            found: found.into(),
            retry_after: None,
            overloaded: false,
        }
    }

    fn from_request(error: RequestError, timeout: Duration) -> Self {
        match error {
            RequestError::NoToken(TokenError::Transient(found)) => {
                DatastoreAttemptError::transient(found)
            }
            RequestError::NoToken(TokenError::Permanent(fault)) => {
                DatastoreAttemptError::NoCredentials { fault }
            }
            RequestError::NoResponse(NoResponse {
                is_timeout: true, ..
            }) => DatastoreAttemptError::transient(no_answer_within(timeout)),
            RequestError::NoResponse(none) => DatastoreAttemptError::transient(none.found),
            RequestError::Refused(ServiceRefusal {
                code: Code::Unauthenticated,
                source: Some(source),
                ..
            }) => DatastoreAttemptError::Unauthorized {
                source: Some(source),
            },
            RequestError::Refused(refused) => DatastoreAttemptError::from_refusal(&refused),
        }
    }

    fn from_refusal(refused: &ServiceRefusal) -> Self {
        let ServiceRefusal { http, code, .. } = refused;
        let status = if refused.is_of_service && *code != Code::Other {
            format!("HTTP {http} {code}")
        } else {
            format!("HTTP {http}")
        };
        let found = refusal(&status, &refused.message);
        DatastoreAttemptError::from_code(*code, found, refused.retry_after, refused.is_of_service)
    }

    fn from_grpc(error: grpc::GrpcError) -> Self {
        match error {
            grpc::GrpcError::Broken(found) => DatastoreAttemptError::transient(found),
            grpc::GrpcError::Refused { code, message } => {
                let found = refusal(&format!("gRPC {code}"), &message);
                DatastoreAttemptError::from_code(code, found, None, true)
            }
        }
    }

    fn from_code(
        code: Code,
        found: String,
        retry_after: Option<Duration>,
        is_of_service: bool,
    ) -> Self {
        match code {
            Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Unavailable => DatastoreAttemptError::Transient {
                found,
                retry_after,
                overloaded: is_of_service,
            },
            Code::Internal => DatastoreAttemptError::Transient {
                found,
                retry_after,
                overloaded: false,
            },
            Code::Unimplemented => DatastoreAttemptError::UnknownMethod,
            _ => DatastoreAttemptError::Refused { code, found },
        }
    }
}

impl FailedAttempt for DatastoreAttemptError {
    type Error = DatastoreError;

    fn classify(self, call: &str) -> retry::AttemptError<DatastoreError> {
        let call = call.to_owned();
        retry::AttemptError::Permanent(match self {
            DatastoreAttemptError::Transient {
                found, retry_after, ..
            } => return retry::AttemptError::Transient { found, retry_after },
            DatastoreAttemptError::Unauthorized { source } => {
                return retry::AttemptError::Unauthorized { source };
            }
            DatastoreAttemptError::NoCredentials { fault } => {
                DatastoreError::Unauthorized { call, fault }
            }
            DatastoreAttemptError::Refused {
                code: Code::PermissionDenied,
                found,
            } => DatastoreError::Denied { call, found },
            DatastoreAttemptError::Refused { found, .. } => DatastoreError::Refused { call, found },
            DatastoreAttemptError::UnknownMethod => DatastoreError::UnknownCall { call },
            DatastoreAttemptError::UnknownHost => DatastoreError::UnknownHost { call },
        })
    }
}
