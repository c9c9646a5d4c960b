//! One try of a JSON call, and what its answer means for whoever may try again. Nothing here is
//! tried twice.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

use crate::datastore::error::DatastoreError;
use crate::datastore::status::{Code, Status};
use crate::google::refusal::refusal;
use crate::google::{self, Credentials, NoToken, USER_AGENT};
use crate::model::address::without_user;

/// No answer with words in it is longer: a page of a listing is the longest.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// What one try came to, where it did not come to an answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The service has not done it, and asks to come back later.
    Later {
        /// What it said.
        found: String,
        /// After how long.
        after: Option<Duration>,
    },
    /// Nobody knows whether it was done.
    Lost {
        /// What happened.
        found: String,
        /// After how long the service asks to come back.
        after: Option<Duration>,
    },
    /// There is no such thing.
    Missing(DatastoreError),
    /// Nobody there knows such a call.
    Unsupported(DatastoreError),
    /// No other try can help. It was not done.
    Finally(DatastoreError),
}

/// A service at an address, and who is asking.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    base: String,
    credentials: Option<Arc<Credentials>>,
}

/// A call as messages name it.
#[derive(Debug)]
pub(super) struct Call {
    /// What is asked of whom.
    pub(super) title: String,
    /// What whoever asks must be allowed.
    pub(super) permission: &'static str,
}

impl Api {
    /// Without credentials, what is asked is asked by nobody.
    pub(super) fn new(
        base: String,
        credentials: Option<Arc<Credentials>>,
    ) -> Result<Self, DatastoreError> {
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none());
        // What a proxy would do to a target on this machine nobody wants.
        let client = if credentials.is_none() {
            client.no_proxy()
        } else {
            client
        };
        let client = client.build().map_err(|_| DatastoreError::Refused {
            call: "HTTP client".to_owned(),
            found: "a machine without usable root certificates".to_owned(),
        })?;
        Ok(Api {
            client,
            base,
            credentials,
        })
    }

    /// The service's address as it may be shown.
    pub(super) fn shown_base(&self) -> String {
        without_user(&self.base)
    }

    pub(super) async fn get(
        &self,
        call: &Call,
        path: &str,
        query: &[(&str, &str)],
        within: Duration,
    ) -> Result<Value, Failed> {
        let address =
            Url::parse_with_params(&format!("{}/v1/{path}", self.base), query).map_err(|_| {
                let found = "an address that is none".to_owned();
                Failed::Finally(DatastoreError::Refused {
                    call: call.title.clone(),
                    found,
                })
            })?;
        self.call(call, || self.client.get(address.clone()), within)
            .await
    }

    pub(super) async fn post(
        &self,
        call: &Call,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Result<Value, Failed> {
        let (address, body) = (format!("{}/v1/{path}", self.base), body.to_string());
        let request = || {
            self.client
                .post(&address)
                .header("content-type", "application/json")
                .body(body.clone())
        };
        self.call(call, request, within).await
    }

    /// Makes a call. Where the token is not accepted nothing was done, so that a new one is tried.
    async fn call(
        &self,
        call: &Call,
        request: impl Fn() -> RequestBuilder,
        within: Duration,
    ) -> Result<Value, Failed> {
        let Some(credentials) = &self.credentials else {
            return answer(call, request(), within).await;
        };
        let mut renewed = false;
        loop {
            let token = credentials.token(within).await.map_err(|none| match none {
                NoToken::Passing(found) => Failed::Later {
                    found: found.to_owned(),
                    after: None,
                },
                NoToken::Finally(found) => Failed::Finally(DatastoreError::Unauthorized {
                    call: call.title.clone(),
                    found,
                }),
            })?;
            match answer(call, request().headers(token.headers.clone()), within).await {
                Err(Failed::Finally(DatastoreError::Unauthorized { .. })) if !renewed => {
                    renewed = true;
                    credentials.renew(&token).await;
                }
                answered => return answered,
            }
        }
    }
}

async fn answer(call: &Call, request: RequestBuilder, within: Duration) -> Result<Value, Failed> {
    let answered = async {
        let mut answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(bytes) = answer.chunk().await? {
            body.extend_from_slice(&bytes);
            if body.len() > ANSWER_MAX_BYTES {
                break;
            }
        }
        Ok((status, headers, body))
    };
    match tokio::time::timeout(within, answered).await {
        Err(_) => Err(Failed::Lost {
            found: format!("no answer within {} s", within.as_secs_f64()),
            after: None,
        }),
        Ok(Err(error)) => Err(broke(error)),
        Ok(Ok((status @ 200..300, _, body))) => {
            serde_json::from_slice(&body).map_err(|_| Failed::Lost {
                found: format!("HTTP {status} with a body that is no JSON"),
                after: None,
            })
        }
        Ok(Ok((status, headers, body))) => Err(refused(call, status, &headers, &body)),
    }
}

/// What an answer that is none amounts to.
fn refused(call: &Call, http: u16, headers: &http::HeaderMap, body: &[u8]) -> Failed {
    let status = Status::parse(body);
    let code = status
        .as_ref()
        .map_or_else(|| Code::of_http(http), |status| status.code);
    let message = status
        .as_ref()
        .map(|status| status.message.as_str())
        .unwrap_or_default();
    let found = refusal(&format!("HTTP {http}"), message);
    let after =
        google::retry_after(headers).max(status.as_ref().and_then(|status| status.retry_after));
    let Call { title, permission } = call;
    let call = title.clone();
    match code {
        Code::Unauthenticated => Failed::Finally(DatastoreError::Unauthorized {
            call,
            found: "HTTP 401",
        }),
        Code::ResourceExhausted | Code::Aborted => Failed::Later { found, after },
        Code::PermissionDenied => Failed::Finally(DatastoreError::Denied {
            call: format!("{call} ({permission})"),
            found,
        }),
        // Only the service itself knows what it has: a front end that lost its way does not.
        Code::NotFound => Failed::Missing(DatastoreError::Refused { call, found }),
        Code::Unimplemented => Failed::Unsupported(DatastoreError::Refused { call, found }),
        Code::DeadlineExceeded | Code::Internal | Code::Unavailable => {
            Failed::Lost { found, after }
        }
        _ if http >= 500 => Failed::Lost { found, after },
        _ => Failed::Finally(DatastoreError::Refused { call, found }),
    }
}

/// Why there is no answer, without any address.
fn broke(error: reqwest::Error) -> Failed {
    let unsent = error.is_connect();
    let found = google::broke(error);
    if unsent {
        Failed::Later { found, after: None }
    } else {
        Failed::Lost { found, after: None }
    }
}
