//! One attempt of a call of Datastore Admin or Firestore Admin, and what its answer means for whoever may try
//! again. Nothing here is tried twice.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::Value;

use super::advice::advice;
use super::operation::is_transient;
use crate::datastore::connection::{Connection, RequestError, ServiceRefusal, ServiceRequest};
use crate::datastore::emulator_product::{EmulatorProduct, PROBE_TIMEOUT};
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::google::http::{NoResponse, no_answer_within};
use crate::google::refusal::{refusal, refusal_in_full};
use crate::google::retry::{self, FailedAttempt, RetryLoop, RetryPolicy};
use crate::google::{Credentials, TokenError, TokenSource};

/// No connection takes longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a failed attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The service has not done it. Another attempt may help.
    NotDone,
    /// Nobody knows whether it was done.
    MaybeDone,
    /// The token was not accepted: it was not done, and a new one may be.
    Unauthorized,
    /// No token can be had.
    NoToken(&'static str),
    /// There is no such thing.
    Missing,
    /// Nobody there knows such a call.
    Unsupported,
    /// The caller lacks a permission.
    Denied,
    /// No other attempt can help. It was not done.
    Permanent,
}

/// Why one attempt came to no answer.
#[derive(Debug)]
pub(super) struct AdminAttemptError {
    /// What that means for another attempt.
    pub(super) outcome: Outcome,
    /// The service's code; the nearest one where no answer came.
    pub(super) code: Code,
    /// What happened, with nobody's data in it.
    pub(super) found: String,
    /// After how long the service asks to come back.
    pub(super) retry_after: Option<Duration>,
    /// What to do about it.
    pub(super) advice: Option<&'static str>,
    /// What the caller lacks, where it is denied.
    pub(super) permission: &'static str,
    /// What gave the token, where one was sent.
    source: Option<TokenSource>,
}

/// The Admin API of a service, and who is asking.
#[derive(Debug, Clone)]
pub(super) struct AdminClient {
    connection: Connection,
}

/// A call as messages name it.
#[derive(Debug)]
pub(super) struct Call {
    /// What is asked of whom.
    pub(super) title: String,
    /// What it is about, for whoever watches requests.
    pub(super) resource: &'static str,
    /// What whoever asks must be allowed.
    pub(super) permission: &'static str,
}

impl Call {
    /// What may be shown of a refusal. An export is started with the names of projects, buckets and
    /// kinds alone; an import may quote entities.
    fn refusal(&self, status: &str, message: &str) -> String {
        match self.resource {
            "export" => refusal_in_full(status, message),
            _ => refusal(status, message),
        }
    }
}

impl AdminClient {
    /// Without credentials, what is asked is asked by nobody.
    pub(super) fn new(
        base: String,
        credentials: Option<Arc<Credentials>>,
    ) -> Result<Self, DatastoreError> {
        Ok(AdminClient {
            connection: Connection::new(base, credentials, CONNECT_TIMEOUT)?,
        })
    }

    /// The service's address as it may be shown.
    pub(super) fn display_base(&self) -> String {
        self.connection.display_base()
    }

    /// The attempts of a call.
    pub(super) fn retry_loop(&self, call: &Call, policy: RetryPolicy) -> RetryLoop<'_> {
        RetryLoop::new(&call.title, policy, self.connection.credentials())
            .with_place(self.connection.display_base())
    }

    pub(super) async fn get(
        &self,
        call: &Call,
        path: &str,
        query: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Value, AdminAttemptError> {
        let base = self.connection.base();
        let address = Url::parse_with_params(&format!("{base}/v1/{path}"), query);
        let address = address.map_err(|_| {
            let found = "an address that is none";
            AdminAttemptError::new(Outcome::Permanent, Code::InvalidArgument, found)
        })?;
        let query = address.query().map(|query| format!("?{query}"));
        let request = ServiceRequest {
            method: Method::GET,
            path: &format!("/v1/{path}{}", query.as_deref().unwrap_or_default()),
            resource: call.resource,
            body: None,
            routing: None,
            timeout,
        };
        self.send(call, request).await
    }

    /// Which emulator this is. To ask does nothing there.
    pub(super) async fn emulator_product(
        &self,
        call: &Call,
        project: &str,
    ) -> Result<EmulatorProduct, AdminAttemptError> {
        let asked = self.connection.emulator_product(project).await;
        asked.map_err(|error| AdminAttemptError {
            outcome: Outcome::NotDone,
            ..AdminAttemptError::from_request(call, error, PROBE_TIMEOUT)
        })
    }

    pub(super) async fn post(
        &self,
        call: &Call,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, AdminAttemptError> {
        let path = format!("/v1/{path}");
        self.post_to(call, &path, body, timeout).await
    }

    /// Makes a call at a path that need not be of version 1.
    pub(super) async fn post_to(
        &self,
        call: &Call,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, AdminAttemptError> {
        let request = ServiceRequest {
            method: Method::POST,
            path,
            resource: call.resource,
            body: Some(("application/json", body.to_string().into())),
            routing: None,
            timeout,
        };
        self.send(call, request).await
    }

    async fn send(
        &self,
        call: &Call,
        request: ServiceRequest<'_>,
    ) -> Result<Value, AdminAttemptError> {
        let timeout = request.timeout;
        let body = self.connection.send(request).await;
        let body = body.map_err(|error| AdminAttemptError::from_request(call, error, timeout))?;
        serde_json::from_slice(&body)
            .map_err(|_| AdminAttemptError::maybe_done("HTTP 200 with a body that is no JSON"))
    }
}

impl AdminAttemptError {
    pub(super) fn new(outcome: Outcome, code: Code, found: impl Into<String>) -> Self {
        AdminAttemptError {
            outcome,
            code,
            found: found.into(),
            retry_after: None,
            advice: None,
            permission: "",
            source: None,
        }
    }

    /// The answer of a success does not say what was done.
    pub(super) fn maybe_done(found: &str) -> Self {
        AdminAttemptError::new(Outcome::MaybeDone, Code::Other, found)
    }

    /// The same, where no other attempt can help but what is advised.
    pub(super) fn permanent(self, advice: &'static str) -> Self {
        AdminAttemptError {
            outcome: Outcome::Permanent,
            advice: Some(advice),
            ..self
        }
    }

    fn from_request(call: &Call, error: RequestError, timeout: Duration) -> Self {
        match error {
            RequestError::NoToken(TokenError::Transient(found)) => {
                AdminAttemptError::new(Outcome::NotDone, Code::Unavailable, found)
            }
            RequestError::NoToken(TokenError::Permanent(found)) => {
                AdminAttemptError::new(Outcome::NoToken(found), Code::Unauthenticated, found)
            }
            RequestError::NoResponse(none) => AdminAttemptError::from_silence(none, timeout),
            RequestError::Refused(refused) => AdminAttemptError::from_refusal(call, refused),
        }
    }

    fn from_silence(none: NoResponse, timeout: Duration) -> Self {
        let NoResponse {
            may_have_arrived,
            is_timeout,
            found,
            ..
        } = none;
        if !may_have_arrived {
            AdminAttemptError::new(Outcome::NotDone, Code::Unavailable, found)
        } else if is_timeout {
            let found = no_answer_within(timeout);
            AdminAttemptError::new(Outcome::MaybeDone, Code::DeadlineExceeded, found)
        } else {
            AdminAttemptError::new(Outcome::MaybeDone, Code::Unavailable, found)
        }
    }

    fn from_refusal(call: &Call, refused: ServiceRefusal) -> Self {
        let status = format!("HTTP {}", refused.http);
        AdminAttemptError {
            retry_after: refused.retry_after,
            advice: advice(refused.code, &refused.message),
            permission: call.permission,
            source: refused.source,
            ..AdminAttemptError::new(
                Outcome::from_refusal(&refused),
                refused.code,
                call.refusal(&status, &refused.message),
            )
        }
    }

    /// What is said of `call` where no other attempt is made.
    pub(super) fn into_error(self, call: &str) -> DatastoreError {
        let (call, found) = (call.to_owned(), self.found);
        match self.outcome {
            Outcome::NoToken(fault) => DatastoreError::Unauthorized { call, fault },
            Outcome::Denied => DatastoreError::Denied {
                call: format!("{call} ({})", self.permission),
                found,
            },
            _ => DatastoreError::Refused { call, found },
        }
    }
}

impl Outcome {
    fn from_refusal(refused: &ServiceRefusal) -> Self {
        match refused.code {
            Code::Unauthenticated => Outcome::Unauthorized,
            Code::ResourceExhausted | Code::Aborted => Outcome::NotDone,
            Code::PermissionDenied => Outcome::Denied,
            // Only the service itself knows what it has: a front end that lost its way does not.
            Code::NotFound => Outcome::Missing,
            Code::Unimplemented => Outcome::Unsupported,
            code if refused.http >= 500 || is_transient(code, &refused.message) => {
                Outcome::MaybeDone
            }
            _ => Outcome::Permanent,
        }
    }
}

impl FailedAttempt for AdminAttemptError {
    type Error = DatastoreError;

    fn classify(self, call: &str) -> retry::AttemptError<DatastoreError> {
        match self.outcome {
            Outcome::NotDone | Outcome::MaybeDone => retry::AttemptError::Transient {
                found: self.found,
                retry_after: self.retry_after,
            },
            Outcome::Unauthorized => retry::AttemptError::Unauthorized {
                source: self.source,
            },
            _ => retry::AttemptError::Permanent(self.into_error(call)),
        }
    }
}
