//! What all of Google's services have in common: credentials, who may see a token, how long to wait
//! between tries.
//!
//! Knows headers and addresses. Must not know any one service, and puts no token into any message.

pub(crate) mod rate_limit;
pub(crate) mod refusal;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use google_cloud_auth::credentials::{self, CacheableResource};
use http::HeaderMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How we call ourselves.
pub const USER_AGENT: &str = concat!("kindpack/", env!("CARGO_PKG_VERSION"));

/// What `Retry-After` asks for is never longer: nobody waits that long, and sums of longer times
/// would not be times any more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// The address of Datastore.
const DATASTORE: &str = "https://datastore.googleapis.com";

/// What a restore asks for.
pub const DATASTORE_SCOPE: &str = "https://www.googleapis.com/auth/datastore";

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoToken {
    /// Another try may help.
    Passing(&'static str),
    /// No other try can help.
    Finally(&'static str),
}

/// How credentials are made.
type Make = Box<dyn Fn() -> Result<credentials::Credentials, &'static str> + Send + Sync>;

/// Credentials, made at the first token, and made anew where a token is not accepted.
pub struct Credentials {
    make: Make,
    held: Mutex<Option<(Instant, credentials::Credentials)>>,
}

/// What goes into the head of a request, and when the credentials were made that gave it.
#[derive(Clone)]
pub struct Token {
    /// The headers.
    pub headers: HeaderMap,
    made: Instant,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

impl Credentials {
    /// The credentials that Google's clients find by themselves, for some scope.
    pub fn new(scope: &'static str) -> Self {
        Credentials::made_by(move || find_credentials(scope))
    }

    /// Credentials that are made in another way.
    pub fn made_by(
        make: impl Fn() -> Result<credentials::Credentials, &'static str> + Send + Sync + 'static,
    ) -> Self {
        Credentials {
            make: Box::new(make),
            held: Mutex::default(),
        }
    }

    /// A token that is good by its own word.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn token(&self, within: Duration) -> Result<Token, NoToken> {
        let mut held = self.held.lock().await;
        let (made, credentials) = match held.as_ref() {
            Some(held) => held.clone(),
            None => held
                .insert((Instant::now(), (self.make)().map_err(NoToken::Finally)?))
                .clone(),
        };
        drop(held);
        Ok(Token {
            headers: headers(&credentials, within).await?,
            made,
        })
    }

    /// After a token was not accepted: the next one comes from new credentials. Others, made since,
    /// may be good.
    pub async fn renew(&self, token: &Token) {
        self.held.lock().await.take_if(|held| held.0 == token.made);
    }
}

/// Looks for credentials where every client of Google's does.
///
/// # Errors
/// What there is instead. Details may quote the credentials, and are not told.
pub fn find_credentials(scope: &str) -> Result<credentials::Credentials, &'static str> {
    let found = credentials::Builder::default().with_scopes([scope]).build();
    found.map_err(|error| {
        if error.is_loading() {
            "a file that cannot be read"
        } else {
            "a file that holds none"
        }
    })
}

/// The headers of a request with these credentials.
///
/// # Errors
/// [`NoToken`].
pub async fn headers(
    credentials: &credentials::Credentials,
    within: Duration,
) -> Result<HeaderMap, NoToken> {
    match tokio::time::timeout(within, credentials.headers(http::Extensions::new())).await {
        Err(_) => Err(NoToken::Passing("no token in time")),
        Ok(Err(error)) if error.is_transient() => Err(NoToken::Passing("no token at this time")),
        Ok(Err(_)) => Err(NoToken::Finally("some for which no token is given")),
        Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
        Ok(Ok(CacheableResource::NotModified)) => Ok(HeaderMap::new()),
    }
}

/// Where Datastore is, unless `CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE` names a private address
/// of it.
pub fn datastore_endpoint() -> String {
    let private = std::env::var("CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE")
        .ok()
        .filter(|said| !said.is_empty());
    private
        .unwrap_or_else(|| DATASTORE.to_owned())
        .trim_end_matches('/')
        .to_owned()
}

/// Whether that is this very machine, without TLS.
pub fn is_loopback(address: &str) -> bool {
    let Ok(address) = reqwest::Url::parse(address) else {
        return false;
    };
    let is_here = |host: &str| {
        host == "localhost"
            || host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    };
    address.scheme() == "http" && address.host_str().is_some_and(is_here)
}

/// Whether a token may go there: over TLS, or to this very machine.
pub fn may_see_tokens(address: &str) -> bool {
    is_loopback(address)
        || reqwest::Url::parse(address).is_ok_and(|address| address.scheme() == "https")
}

/// How long `Retry-After` asks to wait, a day at the most: a number of seconds, or the time of day
/// at which to come back.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for any type asks for more than the most.
        return Some(
            text.parse()
                .map_or(RETRY_AFTER_MAX, Duration::from_secs)
                .min(RETRY_AFTER_MAX),
        );
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // What has passed asks for no wait.
    let asked: Duration = jiff::Timestamp::now()
        .duration_until(until)
        .try_into()
        .unwrap_or_default();
    Some(asked.min(RETRY_AFTER_MAX))
}

/// Pauses between tries: each about twice as long as the one before.
#[derive(Debug, Clone)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
    random: RandomState,
    number: u32,
}

impl Pauses {
    /// The first pause, and what none is longer than unless the service asks for it.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Pauses {
            first,
            longest,
            next: first,
            random: RandomState::new(),
            number: 0,
        }
    }

    /// The next pause; at least as long as the service asks for. Between half of it and all of it,
    /// so that many callers do not come back together.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        self.number += 1;
        let random = self.random.hash_one(self.number) % 1024;
        let pause = (self.next.min(self.longest) / 2).mul_f64(1.0 + random as f64 / 1024.0);
        self.next = (self.next * 2).min(self.longest);
        pause.max(asked.unwrap_or_default())
    }

    /// Something came through: the pauses begin anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Why a connection broke, without any address.
pub fn broke(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("a broken connection: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_over_tls_or_nowhere() {
        assert!(may_see_tokens(
            "https://storage-shop.p.googleapis.com/storage/v1/"
        ));
        assert!(may_see_tokens("http://127.0.0.1:8080") && is_loopback("http://localhost:1"));
        for address in [
            "http://storage.example.com",
            "http://127.0.0.1@example.com",
            "storage.example.com",
            "ftp://127.0.0.1",
            "",
        ] {
            assert!(!may_see_tokens(address), "{address}");
        }
        assert!(!is_loopback("https://127.0.0.1"));
    }

    #[test]
    fn what_is_asked_by_retry_after_is_understood_as_seconds_and_as_a_date() {
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
            assert_eq!(asked(too_long), Some(RETRY_AFTER_MAX), "{too_long}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_shorter_than_what_is_asked() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(4));
        for most in [1, 2, 4, 4, 4] {
            let pause = pauses.next(None).as_secs_f64();
            assert!(
                pause >= f64::from(most) / 2.0 && pause <= f64::from(most),
                "{pause} of {most}"
            );
        }
        assert_eq!(
            pauses.next(Some(Duration::from_secs(9))),
            Duration::from_secs(9)
        );
        pauses.reset();
        assert!(pauses.next(None) <= Duration::from_secs(1));
    }
}
