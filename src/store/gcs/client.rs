//! The connection to Cloud Storage: credentials, one HTTP client, single tries of JSON calls, and
//! what their answers mean.
//!
//! Nothing here is tried twice. No token, no session address and no words of the service go into
//! any message.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::Storage;
use google_cloud_storage::read_resume_policy::NeverResume;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinHandle;

use crate::google::http::{
    HttpClient, HttpRequest, HttpResponse, NoResponse, TimeLimit, retry_after,
};
use crate::google::refusal::refusal;
use crate::google::retry::{self, Attempts, CallError, LastAttempt, RetryLoop, RetryPolicy};
use crate::google::{Credentials, TokenError, TokenSource, may_see_tokens};
use crate::model::address;
use crate::progress::{NoProgress, Observer};
use crate::store::StoreError;

/// Where the service is, unless `STORAGE_EMULATOR_HOST` says otherwise.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// What a token of ours is for.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.full_control";

/// The first delay between attempts; each one is twice as long as the one before.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// No delay is longer, unless the service asks for it.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The content type of all that is said to the service.
pub(super) const JSON: &str = "application/json";

/// What of an error's body is searched for known reasons.
const MAX_WORDS_BYTES: usize = 4096;

/// Phrases of refusals that are not about permissions.
const FORBIDDING: [&str; 3] = ["retention policy", "-based hold", "temporary hold"];

/// No connection takes longer.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a process that ends waits for what it has to say to the service.
const PARTING_TIME: Duration = Duration::from_secs(3);

/// How Cloud Storage is used.
#[derive(Debug, Clone)]
pub struct GcsOptions {
    /// Who pays, for buckets where the requester does.
    pub billing_project: Option<String>,
    /// How long a call may bring nothing before it is tried again.
    pub idle_timeout: Duration,
    /// How long a call is tried without anything coming through.
    pub retry_timeout: Duration,
}

/// How objects are written to Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadOptions {
    /// The storage class of new objects; the bucket's own without one.
    pub storage_class: Option<String>,
    /// The key that new objects are encrypted with; the bucket's own without one.
    pub kms_key: Option<String>,
    /// Archives that may grow longer than this go up in parts.
    pub cutoff_bytes: u64,
    /// How long a part is.
    pub chunk_bytes: usize,
    /// Whether parts stay when their archive is finished.
    pub keep_parts: bool,
}

impl Default for GcsOptions {
    fn default() -> Self {
        GcsOptions {
            billing_project: None,
            idle_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(300),
        }
    }
}

impl Default for UploadOptions {
    fn default() -> Self {
        UploadOptions {
            storage_class: None,
            kms_key: None,
            cutoff_bytes: 256 << 20,
            chunk_bytes: 8 << 20,
            keep_parts: false,
        }
    }
}

/// Cloud Storage, as one process uses it. Connects to nothing before its first request.
pub struct GcsClient {
    /// Without a slash at its end.
    endpoint: String,
    /// Where the endpoint was named by a variable that holds no address: that variable, and what it
    /// holds.
    bad_address: Option<(&'static str, String)>,
    anonymous: bool,
    options: GcsOptions,
    observer: Arc<dyn Observer>,
    credentials: Credentials,
    /// Made at the first call.
    http: OnceCell<HttpClient>,
    /// For reads, with the credentials that it was made with.
    storage: Mutex<Option<(TokenSource, Storage)>>,
    /// What is still to be said to the service of work that was given up.
    partings: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// A failed attempt of a call.
pub(super) type GcsAttemptError = retry::AttemptError<StoreError>;

impl CallError for StoreError {
    fn exhausted(call: &str, attempts: Attempts, found: String) -> Self {
        StoreError::Service {
            call: call.to_owned(),
            tries: attempts.count,
            seconds: attempts.since_progress.as_secs(),
            found,
        }
    }

    fn unauthorized(call: &str, _: bool) -> Self {
        StoreError::Unauthorized {
            call: call.to_owned(),
            fault: "the service accepts no token of these credentials (HTTP 401)",
        }
    }
}

impl From<NoResponse> for GcsAttemptError {
    fn from(error: NoResponse) -> Self {
        GcsAttemptError::transient(error.found)
    }
}

impl From<TokenError> for GcsAttemptError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Transient(found) => GcsAttemptError::transient(found),
            TokenError::Permanent(found) => GcsAttemptError::Permanent(unauthorized(found)),
        }
    }
}

fn unauthorized(fault: &'static str) -> StoreError {
    StoreError::Unauthorized {
        call: "credentials".to_owned(),
        fault,
    }
}

impl fmt::Debug for GcsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The endpoint may hold a password.
        f.debug_struct("Cloud").finish_non_exhaustive()
    }
}

/// Where a request goes.
#[derive(Clone)]
pub(super) struct RequestUrl {
    url: String,
    /// What is there, as people may see it.
    resource: &'static str,
    /// Whether a token goes there. Whoever has the address of an upload session may write without
    /// one.
    has_token: bool,
}

impl fmt::Debug for RequestUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// What the service says of an object. Numbers come as text.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectResource {
    pub(super) name: String,
    pub(super) size: String,
    pub(super) generation: String,
    pub(super) metageneration: String,
    pub(super) crc32c: String,
    pub(super) updated: String,
    pub(super) content_encoding: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) metadata: std::collections::BTreeMap<String, String>,
}

impl ObjectResource {
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

/// An answer of the service.
#[derive(Debug)]
pub(super) struct Response {
    /// What gave the token of the request, where it had one.
    source: Option<TokenSource>,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Response {
    fn new(source: Option<TokenSource>, response: HttpResponse) -> Self {
        Response {
            source,
            status: response.status,
            headers: response.headers,
            body: response.body,
        }
    }

    /// An answer to a request that had no token.
    #[cfg(feature = "test-util")]
    pub(super) fn without_token(status: u16, body: Bytes) -> Self {
        Response {
            source: None,
            status,
            headers: HeaderMap::new(),
            body,
        }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, GcsAttemptError> {
        // A cut answer is no answer: the call is made again.
        serde_json::from_slice(&self.body)
            .map_err(|_| GcsAttemptError::transient("the answer is not valid JSON"))
    }

    /// What may be shown of a failure.
    pub(super) fn refusal(&self) -> String {
        refusal(&format!("HTTP {}", self.status), &message(&self.body))
    }

    /// What an answer that is no success amounts to, for a call that needs `permission` on `name`.
    pub(super) fn failed(&self, name: &str, permission: &'static str) -> GcsAttemptError {
        failed(
            self.source,
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
    source: Option<TokenSource>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    name: &str,
    permission: &'static str,
) -> GcsAttemptError {
    let words = error_message(body);
    let found = refusal(&format!("HTTP {status}"), &message(body));
    match status {
        401 => GcsAttemptError::Unauthorized { source },
        400 | 403 if words.contains("requester pays") => {
            GcsAttemptError::Permanent(StoreError::BillingProjectRequired {
                name: name.to_owned(),
            })
        }
        // No permission would help.
        403 | 412 if FORBIDDING.iter().any(|phrase| words.contains(phrase)) => {
            GcsAttemptError::Permanent(StoreError::Held {
                name: name.to_owned(),
                found,
            })
        }
        403 => GcsAttemptError::Permanent(StoreError::Denied {
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
            GcsAttemptError::Permanent(StoreError::NoBucket {
                bucket: format!("gs://{bucket}"),
            })
        }
        404 => GcsAttemptError::Permanent(StoreError::NotFound {
            name: name.to_owned(),
            what: "object",
        }),
        408 | 429 | 500..=599 => GcsAttemptError::Transient {
            found,
            retry_after: retry_after(headers),
        },
        _ => GcsAttemptError::Permanent(StoreError::Refused {
            name: name.to_owned(),
            found,
        }),
    }
}

/// The beginning of an error's body in small letters. It may hold names, addresses and keys of
/// anybody: it is searched and never shown.
fn error_message(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..MAX_WORDS_BYTES).unwrap_or(body)).to_lowercase()
}

/// What the service says in an error's body.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json
        .as_ref()
        .and_then(|json| json.pointer("/error/message")?.as_str());
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

/// What stands as it is in a segment of a path or in a query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, UNRESERVED)
}

/// What is wrong with the address of a service; none where it can be used.
fn bad_address(variable: &'static str, address: &str) -> Option<(&'static str, String)> {
    address::base(address)
        .is_none()
        .then(|| (variable, address::without_user(address)))
}

impl GcsClient {
    /// Cloud Storage, or what the variables of every Google client name in its place:
    /// `STORAGE_EMULATOR_HOST` a server that wants no credentials,
    /// `CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE` a private address of the service itself.
    pub fn new(options: GcsOptions) -> Self {
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
            None => GcsClient::at(ENDPOINT, false, options),
            Some((variable, address)) => GcsClient {
                bad_address: bad_address(variable, &address),
                ..GcsClient::at(&address, anonymous, options)
            },
        }
    }

    /// A server at an address; one that is `anonymous` wants no credentials.
    pub fn at(endpoint: &str, anonymous: bool, options: GcsOptions) -> Self {
        let bad_address = bad_address("endpoint", endpoint);
        // Google's own tools write the path of the JSON API behind it. What is no address is refused
        // at the first call.
        let endpoint = address::base(endpoint)
            .unwrap_or_default()
            .trim_end_matches("/storage/v1")
            .to_owned();
        let credentials = if anonymous {
            Credentials::anonymous()
        } else {
            Credentials::new(SCOPE)
        };
        GcsClient {
            endpoint,
            bad_address,
            anonymous,
            options,
            observer: Arc::new(NoProgress),
            credentials,
            http: OnceCell::new(),
            storage: Mutex::default(),
            partings: std::sync::Mutex::default(),
        }
    }

    /// The same, with somebody who listens to retries.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        GcsClient { observer, ..self }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.observer.as_ref()
    }

    pub(super) fn options(&self) -> &GcsOptions {
        &self.options
    }

    /// The attempts of one call, which `call` names in an error, such as `list of gs://bucket/`.
    pub(super) fn retry_loop(&self, call: impl Into<String>) -> RetryLoop<'_> {
        let timeout = self.options.retry_timeout;
        let policy = RetryPolicy {
            first_delay: FIRST_DELAY,
            max_delay: MAX_DELAY.min(timeout / 4),
            timeout,
            last_attempt: LastAttempt::AtTimeout,
        };
        RetryLoop::new(call, policy, Some(&self.credentials))
            .observed_by(self.observer())
            .with_place(address::without_user(&self.endpoint))
    }

    /// Does what is to be done about work that was given up, beside everything else; see
    /// [`GcsClient::finish_cleanup`].
    pub(super) fn defer_cleanup(&self, parting: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.partings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(runtime.spawn(parting));
        }
    }

    /// Waits a moment for what is still to be said of work that was given up. Whatever is not said
    /// then, the service forgets by itself.
    pub(crate) async fn finish_cleanup(&self) {
        let partings =
            std::mem::take(&mut *self.partings.lock().unwrap_or_else(PoisonError::into_inner));
        let all = futures_util::future::join_all(partings);
        tokio::time::timeout(PARTING_TIME, all).await.ok();
    }

    /// Refuses an endpoint to which nothing may be sent.
    fn check_endpoint(&self) -> Result<(), StoreError> {
        if let Some((variable, found)) = &self.bad_address {
            return Err(StoreError::InvalidAddress {
                variable,
                found: found.clone(),
            });
        }
        if !self.anonymous && !may_see_tokens(&self.endpoint) {
            return Err(unauthorized(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE without TLS",
            ));
        }
        Ok(())
    }

    /// The client of the JSON API, made at the first call.
    async fn http(&self) -> Result<&HttpClient, GcsAttemptError> {
        let connect = || async {
            self.check_endpoint().map_err(GcsAttemptError::Permanent)?;
            let connect_timeout = self.options.idle_timeout.min(MAX_CONNECT_TIMEOUT);
            HttpClient::new(connect_timeout, !self.anonymous).map_err(|_| {
                GcsAttemptError::Permanent(unauthorized(
                    "a machine without usable root certificates",
                ))
            })
        };
        self.http.get_or_try_init(connect).await
    }

    /// The client that reads objects, and what its credentials are known by.
    pub(super) async fn storage(&self) -> Result<(TokenSource, Storage), GcsAttemptError> {
        self.check_endpoint().map_err(GcsAttemptError::Permanent)?;
        let (source, credentials) = self.credentials.current().await?;
        let mut storage = self.storage.lock().await;
        if let Some(storage) = storage.as_ref().filter(|storage| storage.0 == source) {
            return Ok(storage.clone());
        }
        let client = Storage::builder()
            .with_endpoint(self.endpoint.clone())
            .with_credentials(credentials)
            .with_retry_policy(NeverRetry)
            .with_read_resume_policy(NeverResume)
            .build()
            .await
            .map_err(|_| {
                GcsAttemptError::Permanent(unauthorized(
                    "some that the storage client does not take",
                ))
            })?;
        Ok(storage.insert((source, client)).clone())
    }

    /// The address of a call on a bucket: `…/storage/v1/b/BUCKET` and what follows.
    pub(super) fn address(
        &self,
        resource: &'static str,
        bucket: &str,
        rest: &str,
        query: &[(&str, &str)],
    ) -> RequestUrl {
        self.join(
            resource,
            &format!("/storage/v1/b/{}{rest}", segment(bucket)),
            query,
        )
    }

    /// The address at which uploads to a bucket begin.
    pub(super) fn upload_address(&self, bucket: &str, query: &[(&str, &str)]) -> RequestUrl {
        self.join(
            "upload",
            &format!("/upload/storage/v1/b/{}/o", segment(bucket)),
            query,
        )
    }

    /// The address of an upload session, as the service gave it. None that has less protection than
    /// the endpoint.
    pub(super) fn session_address(&self, location: &str) -> Option<RequestUrl> {
        let endpoint = Url::parse(&self.endpoint).ok()?;
        let url = endpoint
            .join(location)
            .ok()
            .filter(|url| url.scheme() == "https" || endpoint.scheme() == "http")?;
        Some(RequestUrl {
            url: url.into(),
            resource: "upload session",
            has_token: false,
        })
    }

    fn join(&self, resource: &'static str, path: &str, query: &[(&str, &str)]) -> RequestUrl {
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
        RequestUrl {
            url,
            resource,
            has_token: true,
        }
    }

    /// Makes a call once. It may last while bytes go up or come down; silence ends it.
    pub(super) async fn call(
        &self,
        method: Method,
        address: &RequestUrl,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Response, GcsAttemptError> {
        self.call_with_pieces(method, address, vec![body], headers)
            .await
    }

    /// As `call`, with a body of several pieces that follow each other.
    pub(super) async fn call_with_pieces(
        &self,
        method: Method,
        address: &RequestUrl,
        body: Vec<Bytes>,
        headers: HeaderMap,
    ) -> Result<Response, GcsAttemptError> {
        let http = self.http().await?;
        let idle_timeout = self.options.idle_timeout;
        let (source, mut all_headers) = if address.has_token {
            let token = self.credentials.token(idle_timeout).await?;
            (Some(token.source), token.headers)
        } else {
            (None, HeaderMap::new())
        };
        all_headers.extend(headers);
        let request = HttpRequest {
            method,
            url: &address.url,
            resource: address.resource,
            headers: all_headers,
            body,
            limit: TimeLimit::Idle(idle_timeout),
        };
        Ok(Response::new(source, http.send(request).await?))
    }
}

/// The header of a body in JSON.
pub(super) fn json_header() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(JSON))])
}

/// What an error of the storage crate amounts to.
pub(super) fn crate_error(
    source: TokenSource,
    error: &google_cloud_storage::Error,
    name: &str,
    permission: &'static str,
) -> GcsAttemptError {
    if let Some(status) = error.http_status_code() {
        let headers = error.http_headers().cloned().unwrap_or_default();
        return failed(
            Some(source),
            status,
            &headers,
            error.http_payload().map_or(&[], |body| body.as_ref()),
            name,
            permission,
        );
    }
    if error.is_authentication() {
        return GcsAttemptError::Permanent(StoreError::Unauthorized {
            call: "credentials".to_owned(),
            fault: "Google gives no token for them",
        });
    }
    if error.is_binding() {
        return GcsAttemptError::Permanent(StoreError::Refused {
            name: name.to_owned(),
            found: "the name is not valid in Cloud Storage".to_owned(),
        });
    }
    GcsAttemptError::transient(if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_addresses_have_tls_where_the_endpoint_has() {
        let session = |endpoint: &str, location: &str| {
            let cloud = GcsClient::at(endpoint, false, GcsOptions::default());
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
        let cloud = GcsClient::at("http://ann:secret@127.0.0.1", true, GcsOptions::default());
        let session = cloud.session_address("http://127.0.0.1/?upload_id=secret");
        let shown = format!("{cloud:?} {session:?}");
        assert!(
            !shown.contains("secret") && shown.contains("upload session"),
            "{shown}"
        );
    }
}
