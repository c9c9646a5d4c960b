//! One attempt of a call over HTTP: sent, limited in time, its answer bounded. Nothing here is
//! tried twice, and no address stands in any message.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use reqwest::{Client, Method, Request, RequestBuilder, Url};
use tokio::time::Instant;

use super::USER_AGENT;
use super::idle_timeout::{ChunkedBody, IdleTimer};
use crate::model::address::is_this_machine;
use crate::progress::{RequestOutcome, RequestReport};

/// No answer with words in it is longer: a page of a listing is the longest.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// What `Retry-After` asks for is never longer: nobody waits that long, and sums of longer times
/// would not be times any more.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Sends requests, and reports each through `tracing`.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
}

/// How long one attempt may take.
#[derive(Debug, Clone, Copy)]
pub enum TimeLimit {
    /// All of it, answer included.
    Total(Duration),
    /// As long as it needs; so long a silence ends it.
    Idle(Duration),
}

/// What is to be sent.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: &'a str,
    /// What is there, as people may see it.
    pub resource: &'static str,
    /// Headers besides those that every request has.
    pub headers: HeaderMap,
    /// Pieces that follow each other.
    pub body: Vec<Bytes>,
    /// How long it may take.
    pub limit: TimeLimit,
}

/// A status and the whole body of an answer.
#[derive(Debug)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl HttpResponse {
    /// Whether the status says that it was done.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct NoResponse {
    /// What happened.
    pub found: String,
    /// Whether the request may have arrived.
    pub may_have_arrived: bool,
    /// Whether it took too long.
    pub is_timeout: bool,
    /// Whether no host has the name that was called. A resolver that could not find out does not
    /// say so.
    pub is_unknown_host: bool,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client that gives a connection `connect_timeout` to be made, and follows no redirect.
    ///
    /// # Errors
    /// Where the machine has no usable root certificates.
    pub fn new(connect_timeout: Duration, use_proxy: bool) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(connect_timeout)
            // 308 means "go on" in Cloud Storage, not "elsewhere".
            .redirect(reqwest::redirect::Policy::none());
        let client = if use_proxy { client } else { client.no_proxy() };
        Ok(HttpClient {
            client: client.build()?,
        })
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// [`NoResponse`]: no answer, or none that is whole.
    pub async fn send(&self, request: HttpRequest<'_>) -> Result<HttpResponse, NoResponse> {
        let (start, method, resource) = (
            Instant::now(),
            method_name(&request.method),
            request.resource,
        );
        let response = self.attempt(request).await;
        let outcome = response
            .as_ref()
            .map_or(RequestOutcome::Failed, |response| {
                RequestOutcome::Status(response.status)
            });
        RequestReport {
            method,
            resource,
            outcome,
            duration: start.elapsed(),
        }
        .trace();
        response
    }

    async fn attempt(&self, request: HttpRequest<'_>) -> Result<HttpResponse, NoResponse> {
        let HttpRequest {
            method,
            url,
            headers,
            body,
            limit,
            ..
        } = request;
        let request = self.client.request(method, url).headers(headers);
        match limit {
            TimeLimit::Total(timeout) => self.attempt_within(timeout, request, body).await,
            TimeLimit::Idle(timeout) => self.attempt_while_moving(timeout, request, body).await,
        }
    }

    async fn attempt_within(
        &self,
        timeout: Duration,
        request: RequestBuilder,
        body: Vec<Bytes>,
    ) -> Result<HttpResponse, NoResponse> {
        let request = match body.into_iter().next() {
            Some(body) => request.body(body),
            None => request,
        };
        let request = request.build().map_err(connection_error)?;
        let exchange = self.exchange(request, || {});
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(NoResponse::timeout(no_answer_within(timeout))))
    }

    async fn attempt_while_moving(
        &self,
        idle: Duration,
        request: RequestBuilder,
        body: Vec<Bytes>,
    ) -> Result<HttpResponse, NoResponse> {
        let timer = IdleTimer::new();
        let len: usize = body.iter().map(Bytes::len).sum();
        let request = request.header(http::header::CONTENT_LENGTH, len);
        let request = if len == 0 {
            request
        } else {
            let chunks = ChunkedBody::new(body, timer.clone()).map(Ok::<_, Infallible>);
            request.body(reqwest::Body::wrap_stream(stream::iter(chunks)))
        };
        let request = request.build().map_err(connection_error)?;
        let exchange = self.exchange(request, || timer.reset());
        let silence = format!("nothing within {} s", idle.as_secs_f64());
        timer
            .watch(idle, exchange)
            .await
            .unwrap_or_else(|| Err(NoResponse::timeout(silence)))
    }

    async fn exchange(
        &self,
        request: Request,
        on_chunk: impl Fn(),
    ) -> Result<HttpResponse, NoResponse> {
        let mut response = self
            .client
            .execute(request)
            .await
            .map_err(connection_error)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(connection_error)? {
            on_chunk();
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(NoResponse {
                    found: "the answer does not end".to_owned(),
                    may_have_arrived: true,
                    is_timeout: false,
                    is_unknown_host: false,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse {
            status,
            headers,
            body: body.into(),
        })
    }
}

impl NoResponse {
    fn timeout(found: String) -> Self {
        NoResponse {
            found,
            may_have_arrived: true,
            is_timeout: true,
            is_unknown_host: false,
        }
    }
}

/// What a call without an answer found.
pub fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}

/// What a failure begins with where no connection was made.
pub const CANNOT_CONNECT: &str = "cannot connect: ";

/// What the C libraries of Linux and macOS call a name that no host has.
const UNKNOWN_HOST: [&str; 3] = [
    "Name or service not known",
    "Name does not resolve",
    "nodename nor servname provided, or not known",
];

/// Why a connection broke, without any address.
fn connection_error(error: reqwest::Error) -> NoResponse {
    let (may_have_arrived, is_timeout) = (!error.is_connect(), error.is_timeout());
    let deed = if may_have_arrived {
        "the connection broke: "
    } else {
        CANNOT_CONNECT
    };
    let error = error.without_url();
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    NoResponse {
        found: format!("{deed}{}", plain_cause(cause)),
        may_have_arrived,
        is_timeout,
        is_unknown_host: !may_have_arrived && is_unknown_host(cause),
    }
}

/// Whether a resolver has answered that no host has the name. The standard library gives the text
/// of the C library alone; a failure that may pass has another text.
fn is_unknown_host(cause: &(dyn std::error::Error + 'static)) -> bool {
    let text = cause.to_string();
    let found = text.strip_prefix("failed to lookup address information: ");
    found.is_some_and(|found| UNKNOWN_HOST.contains(&found))
}

/// The cause of a failure in plain words.
fn plain_cause(cause: &(dyn std::error::Error + 'static)) -> String {
    use std::io::ErrorKind;
    let kind = cause
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    match kind {
        Some(ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        _ => cause.to_string(),
    }
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

/// Whether an address is one of this very machine, without TLS.
pub fn is_loopback(address: &str) -> bool {
    Url::parse(address).is_ok_and(|address| {
        address.scheme() == "http" && address.host_str().is_some_and(is_this_machine)
    })
}

/// How long `Retry-After` asks to wait, a day at the most: a number of seconds, or the time of day
/// at which to come back.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let asked = if is_number {
        // A number that is too large for any type asks for more than the most.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        time_until(text)?
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

/// How long it is until a date; what has passed asks for no wait.
fn time_until(date: &str) -> Option<Duration> {
    let until = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let left = jiff::Timestamp::now().duration_until(until);
    Some(left.try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_final_answer_of_the_resolver_is_final() {
        let failed = |text: &str| {
            let text = format!("failed to lookup address information: {text}");
            is_unknown_host(&std::io::Error::other(text))
        };
        assert!(failed("Name or service not known"));
        assert!(!failed("Temporary failure in name resolution"));
        assert!(!failed("No address associated with hostname"));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!is_unknown_host(&refused));
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_date() {
        let asked = |text: &str| {
            retry_after(&HeaderMap::from_iter([(
                http::header::RETRY_AFTER,
                text.parse().unwrap(),
            )]))
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = jiff::fmt::rfc2822::to_string(
            &(jiff::Timestamp::now() + Duration::from_secs(90)).to_zoned(jiff::tz::TimeZone::UTC),
        );
        assert!(asked(&soon.unwrap()).is_some_and(|after| after > Duration::from_secs(30)));
        assert_eq!(asked("soon"), None);
        for too_long in [
            "18446744073709551615",
            "99999999999999999999999",
            "Thu, 31 Dec 9998 23:59:59 GMT",
        ] {
            assert_eq!(asked(too_long), Some(MAX_RETRY_AFTER), "{too_long}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn loopback_addresses_are_known_without_tls_only() {
        for here in ["http://[::1]:8081", "http://[::1]", "http://127.0.0.1/v1"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["https://[::1]", "http://[2001:db8::1]:80", "[::1]:80"] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
