//! The calls: one try, and tries with growing pauses while that can help, within a bounded time.
//! Over HTTP, and over gRPC where an emulator is quicker so.
//!
//! Knows the addresses and headers of Datastore v1. Must not know what a call is for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Client;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::grpc::{self, Grpc};
use crate::datastore::app_engine;
use crate::datastore::error::DatastoreError;
use crate::datastore::status::{Code, LookupAnswer, Status, mutation_results};
use crate::entity::message;
use crate::google::refusal::refusal;
use crate::google::{self, Credentials, NoToken, Pauses, Token};
use crate::model::address::without_user;

/// The first pause between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// No pause is longer, unless the service asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The same for an emulator.
const EMULATOR_LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A call is tried at least so often: a single try without an answer may take all the time.
const TRIES_MIN: u32 = 2;

/// No answer of ours is longer: a page of keys is the longest.
pub(crate) const ANSWER_MAX_BYTES: usize = 64 << 20;

/// How long things may last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// One call, answer included.
    pub(crate) call: Duration,
    /// All tries of a call together, as long as nothing comes through.
    pub(crate) retry: Duration,
}

/// A database of a Datastore service.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    base: String,
    project: String,
    /// Empty for the default one.
    database: String,
    /// None for an emulator.
    credentials: Option<Arc<Credentials>>,
    times: Times,
    /// None where gRPC is not spoken, or not wanted; found out when it is first asked for.
    grpc: OnceCell<Option<Grpc>>,
}

/// The form of a request and of its answer.
#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Message,
}

/// What a JSON call gave.
pub(crate) enum Answer {
    Ok(Value),
    /// The service does not know this call.
    Unavailable,
}

/// What one try came to, where it came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another try may help.
    Passing {
        found: String,
        /// How long the service asks to wait.
        after: Option<Duration>,
        /// Whether the service itself said so: then less at once may help, too.
        crowded: bool,
    },
    /// The token was not accepted: a new one may be.
    Unauthorized(Token),
    /// The service does not want it.
    Refused { code: Code, found: String },
    /// There is no such call.
    Unknown,
    /// No other try can help.
    Finally(DatastoreError),
}

impl Api {
    pub(crate) fn new(
        base: String,
        project: String,
        database: String,
        credentials: Option<Arc<Credentials>>,
        times: Times,
    ) -> Result<Self, DatastoreError> {
        let client = Client::builder()
            .user_agent(google::USER_AGENT)
            .connect_timeout(Duration::from_secs(5))
            .timeout(times.call)
            .redirect(reqwest::redirect::Policy::none());
        // What a proxy would do to a target on this machine nobody wants.
        let client = if credentials.is_none() || google::is_loopback(&base) {
            client.no_proxy()
        } else {
            client
        };
        let client = client.build();
        let client = client.map_err(|error| DatastoreError::Refused {
            call: "HTTP client".to_owned(),
            found: error.to_string(),
        })?;
        Ok(Api {
            client,
            base,
            project,
            database,
            credentials,
            times,
            grpc: OnceCell::new(),
        })
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
    async fn grpc(&self) -> Option<&Grpc> {
        let connect = || async {
            match self.credentials {
                Some(_) => Ok(None),
                None => {
                    Grpc::connect(
                        &self.base,
                        self.times.call,
                        message::lookup_of_nothing(&self.project).into(),
                    )
                    .await
                }
            }
        };
        self.grpc.get_or_try_init(connect).await.ok()?.as_ref()
    }

    /// Sends a commit of so many mutations once.
    pub(crate) async fn commit(&self, body: Bytes, mutations: usize) -> Result<(), Trouble> {
        let answer = match self.grpc().await {
            Some(grpc) => grpc.call(grpc::COMMIT, body).await.map_err(of_grpc)?,
            None => self.once("commit", Form::Message, body).await?,
        };
        match mutation_results(&answer) {
            Some(results) if results == mutations => Ok(()),
            Some(results) => Err(Trouble::passing(format!(
                "{results} results of {mutations} mutations"
            ))),
            None => Err(Trouble::passing("an answer that is no CommitResponse")),
        }
    }

    /// Looks keys up until there is an answer.
    pub(crate) async fn lookup(&self, body: Bytes) -> Result<LookupAnswer, DatastoreError> {
        let mut patience = Patience::new(self, "lookup");
        loop {
            let answered = match self.grpc().await {
                Some(grpc) => grpc.call(grpc::LOOKUP, body.clone()).await.map_err(of_grpc),
                None => self.once("lookup", Form::Message, body.clone()).await,
            };
            let answer = answered.and_then(|answer| {
                LookupAnswer::parse(&answer)
                    .ok_or_else(|| Trouble::passing("an answer that is no LookupResponse"))
            });
            match answer {
                Ok(answer) => return Ok(answer),
                Err(trouble) => patience.failed(trouble).await?,
            }
        }
    }

    /// Makes a call of App Engine's interface once; [`Trouble::Unknown`] where it is not served.
    pub(crate) async fn app_engine(&self, body: Vec<u8>) -> Result<Bytes, Trouble> {
        let grpc = self.grpc().await.ok_or(Trouble::Unknown)?;
        grpc.call(app_engine::CALL, body.into())
            .await
            .map_err(of_grpc)
    }

    /// Whether gRPC is spoken.
    pub(crate) async fn has_grpc(&self) -> bool {
        self.grpc().await.is_some()
    }

    /// Makes a call in protobuf once. Its answer is not looked at.
    pub(crate) async fn message(&self, method: &str, body: Bytes) -> Result<(), Trouble> {
        self.once(method, Form::Message, body).await.map(drop)
    }

    /// Makes a JSON call until it is answered. It may be made twice.
    pub(crate) async fn json(&self, method: &str, body: &Value) -> Result<Answer, DatastoreError> {
        let mut patience = Patience::new(self, method);
        loop {
            match self.json_once(method, body).await {
                Ok(value) => return Ok(Answer::Ok(value)),
                Err(Trouble::Unknown) => return Ok(Answer::Unavailable),
                Err(trouble) => patience.failed(trouble).await?,
            }
        }
    }

    /// Makes a JSON call once.
    pub(crate) async fn json_once(&self, method: &str, body: &Value) -> Result<Value, Trouble> {
        let mut body = body.clone();
        if let (false, Some(fields)) = (self.database.is_empty(), body.as_object_mut()) {
            fields.insert("databaseId".to_owned(), self.database.as_str().into());
        }
        let answer = self
            .once(method, Form::Json, body.to_string().into())
            .await?;
        // A cut answer is no answer.
        serde_json::from_slice(&answer).map_err(|_| Trouble::passing("an answer that is not JSON"))
    }

    fn call(&self, method: &str) -> String {
        format!(
            "{method} of {} at {}",
            self.name(),
            without_user(&self.base)
        )
    }

    async fn token(&self, method: &str) -> Result<Option<Token>, Trouble> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        credentials
            .token(self.times.call)
            .await
            .map(Some)
            .map_err(|none| match none {
                NoToken::Passing(found) => Trouble::passing(found),
                NoToken::Finally(found) => Trouble::Finally(DatastoreError::Unauthorized {
                    call: self.call(method),
                    found,
                }),
            })
    }

    async fn once(&self, method: &str, form: Form, body: Bytes) -> Result<Bytes, Trouble> {
        let content_type = match form {
            Form::Json => "application/json",
            Form::Message => "application/x-protobuf",
        };
        let token = self.token(method).await?;
        let mut request = self
            .client
            .post(format!(
                "{}/v1/projects/{}:{method}",
                self.base, self.project
            ))
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body);
        if let Some(token) = &token {
            request = request.headers(token.headers.clone());
            // Without it a request about a named database may be led to the wrong place.
            let database = if self.database.is_empty() {
                String::new()
            } else {
                format!("&database_id={}", self.database)
            };
            request = request.header(
                "x-goog-request-params",
                format!("project_id={}{database}", self.project),
            );
        }
        let broke = |error: reqwest::Error| {
            let silent = error.is_timeout();
            Trouble::passing(if silent {
                no_answer_within(self.times.call)
            } else {
                google::broke(error)
            })
        };
        let mut answer = request.send().await.map_err(broke)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(bytes) = answer.chunk().await.map_err(broke)? {
            if body.len() + bytes.len() > ANSWER_MAX_BYTES {
                return Err(Trouble::passing("an answer without an end"));
            }
            body.extend_from_slice(&bytes);
        }
        if (200..300).contains(&status) {
            return Ok(body.into());
        }
        let trouble = trouble(status, Status::parse(&body), google::retry_after(&headers));
        Err(match (trouble, token) {
            (
                Trouble::Refused {
                    code: Code::Unauthenticated,
                    ..
                },
                Some(token),
            ) => Trouble::Unauthorized(token),
            (trouble, _) => trouble,
        })
    }
}

/// What a call without an answer found.
pub(super) fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}

impl Trouble {
    fn passing(found: impl Into<String>) -> Self {
        Trouble::Passing {
            found: found.into(),
            after: None,
            crowded: false,
        }
    }
}

/// What an answer that is no success amounts to.
fn trouble(http: u16, status: Option<Status>, header: Option<Duration>) -> Trouble {
    let said = status.is_some();
    let Status {
        code,
        message,
        retry_after,
    } = status.unwrap_or(Status {
        code: Code::of_http(http),
        message: String::new(),
        retry_after: None,
    });
    let code = if code == Code::Other {
        Code::of_http(http)
    } else {
        code
    };
    let status = if said && code != Code::Other {
        format!("HTTP {http} {code}")
    } else {
        format!("HTTP {http}")
    };
    let found = refusal(&status, &message);
    amounts_to(code, found, header.max(retry_after), said)
}

/// The same for an answer over gRPC.
fn of_grpc(failed: grpc::Failed) -> Trouble {
    match failed {
        grpc::Failed::Broken(found) => Trouble::passing(found),
        grpc::Failed::Refused { code, message } => {
            let found = refusal(&format!("gRPC {code}"), &message);
            amounts_to(code, found, None, true)
        }
    }
}

/// `said`: by the service itself, and not by something before it.
fn amounts_to(code: Code, found: String, after: Option<Duration>, said: bool) -> Trouble {
    match code {
        Code::Aborted | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unavailable => {
            Trouble::Passing {
                found,
                after,
                crowded: said,
            }
        }
        Code::Internal => Trouble::Passing {
            found,
            after,
            crowded: false,
        },
        Code::Unimplemented => Trouble::Unknown,
        _ => Trouble::Refused { code, found },
    }
}

/// One call and its tries.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    api: &'a Api,
    method: &'a str,
    begun: Instant,
    last_progress: Instant,
    pauses: Pauses,
    tries: u32,
    renewed: bool,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(api: &'a Api, method: &'a str) -> Self {
        let now = Instant::now();
        // Who waits for an emulator to start wants to go on when it has.
        let longest = if api.credentials.is_none() {
            EMULATOR_LONGEST_PAUSE
        } else {
            LONGEST_PAUSE
        };
        let pauses = Pauses::new(FIRST_PAUSE, longest.min(api.times.retry / 4));
        Patience {
            api,
            method,
            begun: now,
            last_progress: now,
            pauses,
            tries: 0,
            renewed: false,
        }
    }

    /// Something came through: the time that is allowed begins anew.
    pub(crate) fn progress(&mut self) {
        self.last_progress = Instant::now();
        self.pauses.reset();
        self.tries = 0;
        self.renewed = false;
    }

    /// Waits until the next try.
    ///
    /// # Errors
    /// What the failure amounts to, where no other try can help or the time is over.
    pub(crate) async fn failed(&mut self, trouble: Trouble) -> Result<(), DatastoreError> {
        self.tries += 1;
        let call = self.api.call(self.method);
        let (found, after) = match trouble {
            Trouble::Passing { found, after, .. } => (found, after),
            Trouble::Unauthorized(token) if !self.renewed => {
                self.renewed = true;
                if let Some(credentials) = &self.api.credentials {
                    credentials.renew(&token).await;
                }
                return Ok(());
            }
            Trouble::Unauthorized(_) => {
                return Err(DatastoreError::Unauthorized {
                    call,
                    found: "HTTP 401, also with a new token",
                });
            }
            Trouble::Refused {
                code: Code::PermissionDenied,
                found,
            } => return Err(DatastoreError::Denied { call, found }),
            Trouble::Refused { found, .. } => return Err(DatastoreError::Refused { call, found }),
            Trouble::Unknown => {
                return Err(DatastoreError::Refused {
                    call,
                    found: "a service without this call".to_owned(),
                });
            }
            Trouble::Finally(error) => return Err(error),
        };
        let pause = self.pauses.next(after);
        let over = self.last_progress.elapsed().saturating_add(pause) > self.api.times.retry;
        // What the service asks for may be longer than all the time there is.
        if over && (self.tries >= TRIES_MIN || pause > self.api.times.retry) {
            return Err(DatastoreError::Service {
                call,
                tries: self.tries,
                seconds: self.begun.elapsed().as_secs(),
                found,
            });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
