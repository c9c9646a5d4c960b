//! Credentials, and who may see a token.
//!
//! No token stands in any message.

use std::fmt;
use std::time::Duration;

use google_cloud_auth::credentials::{self, CacheableResource};
use http::HeaderMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::is_loopback;

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Another try may help.
    Transient(&'static str),
    /// No other try can help.
    Permanent(&'static str),
}

/// Makes credentials.
type CredentialsFactory =
    Box<dyn Fn() -> Result<credentials::Credentials, &'static str> + Send + Sync>;

/// Credentials, made at the first token, and made anew where a token is not accepted.
pub struct Credentials {
    factory: CredentialsFactory,
    current: Mutex<Option<(TokenSource, credentials::Credentials)>>,
}

/// Tells the credentials that gave a token from those that were made before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSource(Instant);

/// What goes into the head of a request, and where it came from.
#[derive(Clone)]
pub struct Token {
    /// The headers.
    pub headers: HeaderMap,
    /// The credentials that gave it.
    pub source: TokenSource,
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
        Credentials::with_factory(move || find_credentials(scope))
    }

    /// No credentials: requests carry no token.
    pub fn anonymous() -> Self {
        Credentials::with_factory(|| Ok(credentials::anonymous::Builder::new().build()))
    }

    /// Credentials that are made in another way.
    pub fn with_factory(
        factory: impl Fn() -> Result<credentials::Credentials, &'static str> + Send + Sync + 'static,
    ) -> Self {
        Credentials {
            factory: Box::new(factory),
            current: Mutex::default(),
        }
    }

    /// The credentials themselves, for clients that ask for tokens on their own.
    ///
    /// # Errors
    /// [`TokenError::Permanent`].
    pub async fn current(&self) -> Result<(TokenSource, credentials::Credentials), TokenError> {
        let mut current = self.current.lock().await;
        if let Some(current) = current.as_ref() {
            return Ok(current.clone());
        }
        let credentials = (self.factory)().map_err(TokenError::Permanent)?;
        Ok(current
            .insert((TokenSource(Instant::now()), credentials))
            .clone())
    }

    /// A token that is good by its own word.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self, timeout: Duration) -> Result<Token, TokenError> {
        let (source, credentials) = self.current().await?;
        Ok(Token {
            headers: headers(&credentials, timeout).await?,
            source,
        })
    }

    /// After a token was not accepted: the next one comes from new credentials. Others, made since,
    /// may be good.
    pub async fn renew(&self, source: TokenSource) {
        self.current
            .lock()
            .await
            .take_if(|current| current.0 == source);
    }
}

/// Looks for credentials where every client of Google's does.
///
/// # Errors
/// What there is instead. Details may quote the credentials, and are not told.
fn find_credentials(scope: &str) -> Result<credentials::Credentials, &'static str> {
    let found = credentials::Builder::default().with_scopes([scope]).build();
    found.map_err(|error| {
        if error.is_loading() {
            "the file with the credentials cannot be read"
        } else {
            "the file holds no credentials"
        }
    })
}

/// The headers of a request with these credentials.
///
/// # Errors
/// [`TokenError`].
async fn headers(
    credentials: &credentials::Credentials,
    timeout: Duration,
) -> Result<HeaderMap, TokenError> {
    match tokio::time::timeout(timeout, credentials.headers(http::Extensions::new())).await {
        Err(_) => Err(TokenError::Transient("no token in time")),
        Ok(Err(error)) if error.is_transient() => {
            Err(TokenError::Transient("Google gives no token at present"))
        }
        Ok(Err(_)) => Err(TokenError::Permanent("Google gives no token for them")),
        Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
        Ok(Ok(CacheableResource::NotModified)) => Ok(HeaderMap::new()),
    }
}

/// Whether a token may go there: over TLS, or to this very machine.
pub fn may_see_tokens(address: &str) -> bool {
    is_loopback(address)
        || reqwest::Url::parse(address).is_ok_and(|address| address.scheme() == "https")
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
        assert!(may_see_tokens("http://[::1]:8080") && may_see_tokens("http://0.0.0.0:8080"));
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
}
