//! The connection to Cloud Storage: credentials, one HTTP client, single tries of JSON calls, and
//! what their answers mean.
//!
//! Nothing here is tried twice. No token, no session address and no words of the service go into
//! any message.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use google_cloud_auth::credentials::{self, Credentials};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::Storage;
use google_cloud_storage::read_resume_policy::NeverResume;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::idle_timeout::{Pulse, Steps};
use super::retry::Failed;
use crate::google::refusal::refusal;
use crate::google::{self, NoToken, USER_AGENT, may_see_tokens};
use crate::model::address;
use crate::progress::{Observer, Outcome, Request, Silent};
use crate::store::StoreError;

/// Where the service is, unless `STORAGE_EMULATOR_HOST` says otherwise.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// No answer with words in it is longer: a page of a listing is the longest.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// What of an error's body is searched for known reasons.
const WORDS_MAX_BYTES: usize = 4096;

/// Phrases of refusals that are not about permissions.
const FORBIDDING: [&str; 3] = ["retention policy", "-based hold", "temporary hold"];

/// How long a process that ends waits for what it has to say to the service.
const PARTING_TIME: Duration = Duration::from_secs(3);

/// How Cloud Storage is used.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Who pays, for buckets where the requester does.
    pub billing_project: Option<String>,
    /// How long a call may bring nothing before it is tried again.
    pub idle_timeout: Duration,
    /// How long a call is tried without anything coming through.
    pub retry_timeout: Duration,
    /// The storage class of new objects; the bucket's own without one.
    pub storage_class: Option<String>,
    /// The key that new objects are encrypted with; the bucket's own without one.
    pub kms_key: Option<String>,
    /// Archives that may grow longer than this go up in parts.
    pub upload_cutoff_bytes: u64,
    /// How long a part is.
    pub upload_chunk_bytes: usize,
    /// Whether parts stay when their archive is finished.
    pub keep_parts: bool,
}

impl Default for CloudOptions {
    fn default() -> Self {
        CloudOptions {
            billing_project: None,
            idle_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(300),
            storage_class: None,
            kms_key: None,
            upload_cutoff_bytes: 256 << 20,
            upload_chunk_bytes: 8 << 20,
            keep_parts: false,
        }
    }
}

/// Cloud Storage, as one process uses it. Connects to nothing before it is asked for something.
pub struct Cloud {
    /// Without a slash at its end.
    endpoint: String,
    /// Where the endpoint was named by a variable that holds no address: that variable, and what it
    /// holds.
    bad_address: Option<(&'static str, String)>,
    anonymous: bool,
    options: CloudOptions,
    observer: Arc<dyn Observer>,
    session: Mutex<Option<Arc<Session>>>,
    /// What is still to be said to the service of work that was given up.
    partings: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// Credentials and what uses them; replaced as a whole when a token is not accepted.
pub(super) struct Session {
    made: Instant,
    http: Client,
    credentials: Credentials,
    /// For reads.
    pub(super) storage: Storage,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The endpoint may hold a password.
        f.debug_struct("Cloud").finish_non_exhaustive()
    }
}

/// Where a request goes.
#[derive(Clone)]
pub(super) struct Address {
    url: String,
    /// What is there, as people may see it.
    resource: &'static str,
    /// Whether a token goes there. Whoever has the address of an upload session may write without
    /// one.
    has_token: bool,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// What the service says of an object. Numbers come as text.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) size: String,
    pub(super) generation: String,
    pub(super) metageneration: String,
    pub(super) crc32c: String,
    pub(super) updated: String,
    pub(super) content_encoding: Option<String>,
    pub(super) metadata: std::collections::BTreeMap<String, String>,
}

impl Resource {
    /// What is zero may be left out, as everywhere in the JSON of protocol buffers: Google's own
    /// test bench does so.
    pub(super) fn len(&self) -> Option<u64> {
        if self.size.is_empty() {
            Some(0)
        } else {
            self.size.parse().ok()
        }
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.generation.parse().ok()
    }

    /// CRC-32C, which the service spells as base64 of four big-endian bytes.
    pub(super) fn crc32c(&self) -> Option<u32> {
        let bytes = STANDARD.decode(&self.crc32c).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// A status and the whole body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// When the session that it was asked in was made.
    session: Instant,
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failed> {
        // A cut answer is no answer: the call is made again.
        serde_json::from_slice(&self.body)
            .map_err(|_| Failed::passing("an answer that is not the expected JSON"))
    }

    /// What may be shown of a failure.
    pub(super) fn refusal(&self) -> String {
        refusal(&format!("HTTP {}", self.status), &message(&self.body))
    }

    /// What an answer that is no success amounts to, for a call that needs `permission` on `name`.
    pub(super) fn failed(&self, name: &str, permission: &'static str) -> Failed {
        failed(
            self.session,
            self.status,
            &self.headers,
            &self.body,
            name,
            permission,
        )
    }
}

/// What a status amounts to.
fn failed(
    session: Instant,
    status: u16,
    headers: &http::HeaderMap,
    body: &[u8],
    name: &str,
    permission: &'static str,
) -> Failed {
    let words = words(body);
    let found = refusal(&format!("HTTP {status}"), &message(body));
    match status {
        401 => Failed::Unauthorized { session },
        400 | 403 if words.contains("requester pays") => Failed::Finally(StoreError::NoPayer {
            name: name.to_owned(),
        }),
        // No permission would help.
        403 if FORBIDDING.iter().any(|phrase| words.contains(phrase)) => {
            Failed::Finally(StoreError::Rejected {
                name: name.to_owned(),
                found,
            })
        }
        403 => Failed::Finally(StoreError::Denied {
            name: name.to_owned(),
            permission,
            found,
        }),
        404 if words.contains("bucket")
            && words.contains("does not exist")
            && !words.contains("no such object") =>
        {
            let bucket = name
                .strip_prefix("gs://")
                .and_then(|rest| rest.split('/').next())
                .unwrap_or(name);
            Failed::Finally(StoreError::NoBucket {
                bucket: format!("gs://{bucket}"),
            })
        }
        404 => Failed::Finally(StoreError::NotFound {
            name: name.to_owned(),
            expected: "an object",
        }),
        408 | 429 | 500..=599 => Failed::Passing {
            found,
            after: google::retry_after(headers),
        },
        _ => Failed::Finally(StoreError::Rejected {
            name: name.to_owned(),
            found,
        }),
    }
}

/// The beginning of an error's body in small letters. It may hold names, addresses and keys of
/// anybody: it is searched and never shown.
fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..WORDS_MAX_BYTES).unwrap_or(body)).to_lowercase()
}

/// What the service says in an error's body.
fn message(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let message = value
        .pointer("/error/message")
        .and_then(serde_json::Value::as_str);
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The name of a method that is called here.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// What is wrong with the address of a service; none where it can be used.
fn bad_address(variable: &'static str, address: &str) -> Option<(&'static str, String)> {
    address::base(address)
        .is_none()
        .then(|| (variable, address::without_user(address)))
}

fn broke(error: reqwest::Error) -> Failed {
    Failed::passing(google::broke(error))
}

impl Cloud {
    /// Cloud Storage, or what the variables of every Google client name in its place:
    /// `STORAGE_EMULATOR_HOST` a server that wants no credentials,
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE` a private address of the service itself.
    pub fn new(options: CloudOptions) -> Self {
        let said = |variable| {
            Some((
                variable,
                std::env::var(variable)
                    .ok()
                    .filter(|said| !said.trim().is_empty())?,
            ))
        };
        let emulator = said("STORAGE_EMULATOR_HOST");
        let anonymous = emulator.is_some();
        match emulator.or_else(|| said("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE")) {
            None => Cloud::at(ENDPOINT, false, options),
            Some((variable, address)) => Cloud {
                bad_address: bad_address(variable, &address),
                ..Cloud::at(&address, anonymous, options)
            },
        }
    }

    /// A server at an address; one that is `anonymous` wants no credentials.
    pub fn at(endpoint: &str, anonymous: bool, options: CloudOptions) -> Self {
        let bad_address = bad_address("endpoint", endpoint);
        // Google's own tools write the path of the JSON API behind it.
        let endpoint = address::base(endpoint)
            .unwrap_or_default()
            .trim_end_matches("/storage/v1")
            .to_owned();
        let (session, partings) = Default::default();
        Cloud {
            endpoint,
            bad_address,
            anonymous,
            options,
            observer: Arc::new(Silent),
            session,
            partings,
        }
    }

    /// The same, with somebody who listens to requests and retries.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Cloud { observer, ..self }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.observer.as_ref()
    }

    pub(super) fn options(&self) -> &CloudOptions {
        &self.options
    }

    /// The session, made at the first call.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Failed> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref() {
            return Ok(session.clone());
        }
        let made = Arc::new(self.connect().await?);
        *session = Some(made.clone());
        Ok(made)
    }

    /// Forgets the session that was made at `made`: the next call gets a new token. Another one,
    /// made since, may be good.
    pub(super) async fn renew(&self, made: Instant) {
        self.session
            .lock()
            .await
            .take_if(|session| session.made == made);
    }

    /// Does what is to be done about work that was given up, beside everything else; see
    /// [`Cloud::settle`].
    pub(super) fn part_with(&self, parting: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.partings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(runtime.spawn(parting));
        }
    }

    /// Waits a moment for what is still to be said of work that was given up. Whatever is not said
    /// then, the service forgets by itself.
    pub(crate) async fn settle(&self) {
        let partings =
            std::mem::take(&mut *self.partings.lock().unwrap_or_else(PoisonError::into_inner));
        let all = futures_util::future::join_all(partings);
        tokio::time::timeout(PARTING_TIME, all).await.ok();
    }

    async fn connect(&self) -> Result<Session, Failed> {
        if let Some((variable, found)) = &self.bad_address {
            return Err(Failed::Finally(StoreError::BadAddress {
                variable,
                found: found.clone(),
            }));
        }
        let unauthorized = |found| {
            Failed::Finally(StoreError::Unauthorized {
                call: "credentials".to_owned(),
                found,
            })
        };
        if !self.anonymous && !may_see_tokens(&self.endpoint) {
            return Err(unauthorized(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE without TLS",
            ));
        }
        let credentials = if self.anonymous {
            credentials::anonymous::Builder::new().build()
        } else {
            let scope = "https://www.googleapis.com/auth/devstorage.full_control";
            google::find_credentials(scope).map_err(unauthorized)?
        };
        let storage = Storage::builder()
            .with_endpoint(self.endpoint.clone())
            .with_credentials(credentials.clone())
            .with_retry_policy(NeverRetry)
            .with_read_resume_policy(NeverResume)
            .build()
            .await
            .map_err(|_| unauthorized("some that the storage client does not take"))?;
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(self.options.idle_timeout.min(Duration::from_secs(20)))
            // 308 means "go on" here, not "elsewhere".
            .redirect(reqwest::redirect::Policy::none());
        let http = if self.anonymous {
            http.no_proxy()
        } else {
            http
        };
        let http = http
            .build()
            .map_err(|_| unauthorized("a machine without usable root certificates"))?;
        Ok(Session {
            made: Instant::now(),
            http,
            credentials,
            storage,
        })
    }

    /// The address of a call on a bucket: `…/storage/v1/b/BUCKET` and what follows.
    pub(super) fn address(
        &self,
        resource: &'static str,
        bucket: &str,
        rest: &str,
        query: &[(&str, &str)],
    ) -> Address {
        self.join(
            resource,
            &format!("/storage/v1/b/{}{rest}", segment(bucket)),
            query,
        )
    }

    /// The address at which uploads to a bucket begin.
    pub(super) fn upload_address(&self, bucket: &str, query: &[(&str, &str)]) -> Address {
        self.join(
            "upload",
            &format!("/upload/storage/v1/b/{}/o", segment(bucket)),
            query,
        )
    }

    /// The address of an upload session, as the service gave it. None that has less protection than
    /// the endpoint.
    pub(super) fn session_address(&self, location: &str) -> Option<Address> {
        let endpoint = Url::parse(&self.endpoint).ok()?;
        let url = endpoint
            .join(location)
            .ok()
            .filter(|url| url.scheme() == "https" || endpoint.scheme() == "http")?;
        Some(Address {
            url: url.into(),
            resource: "upload session",
            has_token: false,
        })
    }

    fn join(&self, resource: &'static str, path: &str, query: &[(&str, &str)]) -> Address {
        let payer = self
            .options
            .billing_project
            .as_deref()
            .map(|project| ("userProject", project));
        let pairs = query
            .iter()
            .copied()
            .chain(payer)
            .map(|(name, value)| format!("{name}={}", segment(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let url = format!(
            "{}{path}{}{query}",
            self.endpoint,
            if query.is_empty() { "" } else { "?" }
        );
        Address {
            url,
            resource,
            has_token: true,
        }
    }

    /// Makes a call once. It may last while bytes go up or come down; silence ends it.
    pub(super) async fn call(
        &self,
        method: Method,
        address: &Address,
        body: Bytes,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder + Send,
    ) -> Result<Answer, Failed> {
        self.call_in_pieces(method, address, vec![body], shape)
            .await
    }

    /// As `call`, with a body of several pieces that follow each other.
    pub(super) async fn call_in_pieces(
        &self,
        method: Method,
        address: &Address,
        body: Vec<Bytes>,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder + Send,
    ) -> Result<Answer, Failed> {
        let (begun, name) = (Instant::now(), method_name(&method));
        let answer = self.answer(method, address, body, shape).await;
        let outcome = answer
            .as_ref()
            .map_or(Outcome::Failed, |answer| Outcome::Status(answer.status));
        self.observer.request(Request {
            method: name,
            resource: address.resource,
            outcome,
            duration: begun.elapsed(),
        });
        answer
    }

    async fn answer(
        &self,
        method: Method,
        address: &Address,
        body: Vec<Bytes>,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder + Send,
    ) -> Result<Answer, Failed> {
        let session = self.session().await?;
        let idle = self.options.idle_timeout;
        let mut request = session.http.request(method, &address.url);
        if address.has_token {
            let headers = google::headers(&session.credentials, idle)
                .await
                .map_err(|none| match none {
                    NoToken::Passing(found) => Failed::passing(found),
                    NoToken::Finally(found) => Failed::Finally(StoreError::Unauthorized {
                        call: "credentials".to_owned(),
                        found,
                    }),
                })?;
            request = request.headers(headers);
        }
        let pulse = Pulse::new();
        let len: usize = body.iter().map(Bytes::len).sum();
        let request = shape(request).header(http::header::CONTENT_LENGTH, len);
        let request = if len == 0 {
            request
        } else {
            let steps = stream::iter(Steps::new(body, pulse.clone())).map(Ok::<_, Infallible>);
            request.body(reqwest::Body::wrap_stream(steps))
        };
        let request = request.build().map_err(broke)?;
        let answered = async {
            let mut answer: Response = session.http.execute(request).await.map_err(broke)?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let mut body = Vec::new();
            while let Some(bytes) = answer.chunk().await.map_err(broke)? {
                pulse.beat();
                if body.len() + bytes.len() > ANSWER_MAX_BYTES {
                    return Err(Failed::passing("an answer without an end"));
                }
                body.extend_from_slice(&bytes);
            }
            Ok(Answer {
                session: session.made,
                status,
                headers,
                body: body.into(),
            })
        };
        let answered = pulse.watch(idle, answered).await;
        answered.unwrap_or_else(|| {
            Err(Failed::passing(format!(
                "nothing within {} s",
                idle.as_secs_f64()
            )))
        })
    }
}

/// What an error of the storage crate amounts to.
pub(super) fn crate_error(
    session: &Session,
    error: &google_cloud_storage::Error,
    name: &str,
    permission: &'static str,
) -> Failed {
    if let Some(status) = error.http_status_code() {
        let headers = error.http_headers().cloned().unwrap_or_default();
        return failed(
            session.made,
            status,
            &headers,
            error.http_payload().map_or(&[], |body| body.as_ref()),
            name,
            permission,
        );
    }
    if error.is_authentication() {
        return Failed::Finally(StoreError::Unauthorized {
            call: "credentials".to_owned(),
            found: "some for which no token is given",
        });
    }
    if error.is_binding() {
        return Failed::Finally(StoreError::Rejected {
            name: name.to_owned(),
            found: "a name that is none in Cloud Storage".to_owned(),
        });
    }
    Failed::passing(if error.is_timeout() {
        "no answer in time"
    } else {
        "a broken connection"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_addresses_have_tls_where_the_endpoint_has() {
        let session = |endpoint: &str, location: &str| {
            let cloud = Cloud::at(endpoint, false, CloudOptions::default());
            cloud
                .session_address(location)
                .map(|address| (address.url, address.has_token))
        };
        let other = "https://storage.example.com/upload?upload_id=1";
        assert_eq!(session(ENDPOINT, other), Some((other.to_owned(), false)));
        assert_eq!(
            session(ENDPOINT, "/upload?upload_id=1").map(|(url, _)| url),
            Some(format!("{ENDPOINT}/upload?upload_id=1"))
        );
        for location in [
            "http://storage.googleapis.com/upload?upload_id=1",
            "http://127.0.0.1/",
            "ftp://storage.googleapis.com/",
            "https://",
        ] {
            assert_eq!(session(ENDPOINT, location), None, "{location}");
        }
        assert!(session("http://127.0.0.1:4443", "http://localhost:4443/upload").is_some());
    }

    #[test]
    fn refusals_show_known_reasons_and_no_words() {
        let body =
            br#"{"error":{"message":"Object 'secret-name' is subject to the bucket's retention policy until 2030. Key: secret-key"}}"#;
        assert_eq!(
            refusal("HTTP 403", &message(body)),
            "HTTP 403: the bucket's retention policy forbids it"
        );
        let unknown = b"ann@example.com is not welcome at https://example.com/?token=abc";
        assert_eq!(refusal("HTTP 403", &message(unknown)), "HTTP 403");
        assert_eq!(refusal("HTTP 400", &message(&[0xff, 0x00])), "HTTP 400");
    }

    #[test]
    fn debug_output_shows_no_address() {
        let cloud = Cloud::at("http://ann:secret@127.0.0.1", true, CloudOptions::default());
        let session = cloud.session_address("http://127.0.0.1/?upload_id=secret");
        let shown = format!("{cloud:?} {session:?}");
        assert!(
            !shown.contains("secret") && shown.contains("upload session"),
            "{shown}"
        );
    }
}
