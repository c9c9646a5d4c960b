//! One attempt of a call of Datastore Admin v1, and what its answer means for whoever may try
//! again. Nothing here is tried twice.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::Value;

use crate::datastore::connection::{Connection, RequestError, ServiceRefusal, ServiceRequest};
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::google::http::{NoResponse, no_answer_within};
use crate::google::refusal::refusal;
use crate::google::retry::{self, FailedAttempt, RetryLoop, RetryPolicy};
use crate::google::{Credentials, TokenError, TokenSource};
use crate::progress::Observer;

/// No connection takes longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What one attempt came to, where it did not come to an answer.
#[derive(Debug)]
pub(super) enum AdminAttemptError {
    /// The service has not done it, and asks to come back later.
    NotDone {
        /// What it said.
        found: String,
        /// After how long.
        retry_after: Option<Duration>,
    },
    /// Nobody knows whether it was done.
    MaybeDone {
        /// What happened.
        found: String,
        /// After how long the service asks to come back.
        retry_after: Option<Duration>,
    },
    /// The token was not accepted: it was not done, and a new one may be.
    Unauthorized { source: Option<TokenSource> },
    /// There is no such thing.
    Missing(DatastoreError),
    /// Nobody there knows such a call.
    Unsupported(DatastoreError),
    /// No other attempt can help. It was not done.
    Permanent(DatastoreError),
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

    /// The same, with somebody who is told of each request.
    pub(super) fn observed_by(&self, observer: Arc<dyn Observer>) -> Self {
        AdminClient {
            connection: self.connection.observed_by(observer),
        }
    }

    /// The service's address as it may be shown.
    pub(super) fn display_base(&self) -> String {
        self.connection.display_base()
    }

    /// The attempts of a call.
    pub(super) fn retry_loop(&self, call: &Call, policy: RetryPolicy) -> RetryLoop<'_> {
        RetryLoop::new(&call.title, policy, self.connection.credentials())
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
            AdminAttemptError::Permanent(DatastoreError::Refused {
                call: call.title.clone(),
                found: "an address that is none".to_owned(),
            })
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

    pub(super) async fn post(
        &self,
        call: &Call,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, AdminAttemptError> {
        let request = ServiceRequest {
            method: Method::POST,
            path: &format!("/v1/{path}"),
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
        serde_json::from_slice(&body).map_err(|_| AdminAttemptError::MaybeDone {
            found: "HTTP 200 with a body that is no JSON".to_owned(),
            retry_after: None,
        })
    }
}

impl AdminAttemptError {
    fn from_request(call: &Call, error: RequestError, timeout: Duration) -> Self {
        match error {
            RequestError::NoToken(TokenError::Transient(found)) => AdminAttemptError::NotDone {
                found: found.to_owned(),
                retry_after: None,
            },
            RequestError::NoToken(TokenError::Permanent(found)) => {
                AdminAttemptError::Permanent(DatastoreError::Unauthorized {
                    call: call.title.clone(),
                    found,
                })
            }
            RequestError::NoResponse(NoResponse {
                may_have_arrived: false,
                found,
                ..
            }) => AdminAttemptError::NotDone {
                found,
                retry_after: None,
            },
            RequestError::NoResponse(NoResponse {
                is_timeout, found, ..
            }) => AdminAttemptError::MaybeDone {
                found: if is_timeout {
                    no_answer_within(timeout)
                } else {
                    found
                },
                retry_after: None,
            },
            RequestError::Refused(refused) => AdminAttemptError::from_refusal(call, refused),
        }
    }

    fn from_refusal(call: &Call, refused: ServiceRefusal) -> Self {
        let ServiceRefusal {
            http,
            code,
            retry_after,
            source,
            ..
        } = refused;
        let found = refusal(&format!("HTTP {http}"), &refused.message);
        let Call {
            title, permission, ..
        } = call;
        let call = title.clone();
        match code {
            Code::Unauthenticated => AdminAttemptError::Unauthorized { source },
            Code::ResourceExhausted | Code::Aborted => {
                AdminAttemptError::NotDone { found, retry_after }
            }
            Code::PermissionDenied => AdminAttemptError::Permanent(DatastoreError::Denied {
                call: format!("{call} ({permission})"),
                found,
            }),
            // Only the service itself knows what it has: a front end that lost its way does not.
            Code::NotFound => AdminAttemptError::Missing(DatastoreError::Refused { call, found }),
            Code::Unimplemented => {
                AdminAttemptError::Unsupported(DatastoreError::Refused { call, found })
            }
            Code::DeadlineExceeded | Code::Internal | Code::Unavailable => {
                AdminAttemptError::MaybeDone { found, retry_after }
            }
            _ if http >= 500 => AdminAttemptError::MaybeDone { found, retry_after },
            _ => AdminAttemptError::Permanent(DatastoreError::Refused { call, found }),
        }
    }
}

impl FailedAttempt for AdminAttemptError {
    type Error = DatastoreError;

    fn classify(self, _: &str) -> retry::AttemptError<DatastoreError> {
        match self {
            AdminAttemptError::NotDone { found, retry_after }
            | AdminAttemptError::MaybeDone { found, retry_after } => {
                retry::AttemptError::Transient { found, retry_after }
            }
            AdminAttemptError::Unauthorized { source } => {
                retry::AttemptError::Unauthorized { source }
            }
            AdminAttemptError::Missing(error)
            | AdminAttemptError::Unsupported(error)
            | AdminAttemptError::Permanent(error) => retry::AttemptError::Permanent(error),
        }
    }
}
