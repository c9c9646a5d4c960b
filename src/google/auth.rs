//! Credentials, and who may see a token.
//!
//! No token stands in any message.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use google_cloud_auth::credentials::{self, CacheableResource};
use google_cloud_auth::errors::CredentialsError;
use http::HeaderMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::http::is_loopback;

/// How long the machine's metadata server is waited for where no file holds credentials. It may
/// start after kindpack does.
const METADATA_START: Duration = Duration::from_secs(5);

/// The delay between two connections to it.
const METADATA_DELAY: Duration = Duration::from_millis(500);

/// No answer of it takes longer.
const METADATA_TIMEOUT: Duration = Duration::from_secs(8);

/// What is wrong where nothing gives a token.
const NO_CREDENTIALS: TokenError = TokenError::Permanent("no Google credentials were found");

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
    /// Whether there may be no credentials: no file holds any, and no metadata server has given a
    /// token yet.
    is_doubtful: AtomicBool,
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
        Credentials {
            is_doubtful: AtomicBool::new(!has_credentials_file()),
            ..Credentials::with_factory(move || find_credentials(scope))
        }
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
            is_doubtful: AtomicBool::new(false),
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
        if self.is_doubtful.load(Ordering::Relaxed) {
            return self.metadata_token(timeout.min(METADATA_TIMEOUT)).await;
        }
        let (source, credentials) = self.current().await?;
        let headers = headers(&credentials, timeout)
            .await
            .map_err(|none| none.error)?;
        Ok(Token { headers, source })
    }

    /// A token of the machine's metadata server. Where there is no such server, there are no
    /// credentials.
    async fn metadata_token(&self, timeout: Duration) -> Result<Token, TokenError> {
        let start = Instant::now();
        loop {
            let (source, credentials) = self.current().await?;
            let none = match headers(&credentials, timeout).await {
                Ok(headers) => {
                    self.is_doubtful.store(false, Ordering::Relaxed);
                    return Ok(Token { headers, source });
                }
                Err(none) if !none.is_silent => return Err(none.error),
                Err(none) => none,
            };
            // The old ones would repeat their answer.
            self.renew(source).await;
            if none.is_timeout || start.elapsed() >= METADATA_START {
                return Err(NO_CREDENTIALS);
            }
            tokio::time::sleep(METADATA_DELAY).await;
        }
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

/// Whether a file is named or stored where Google's clients look for credentials.
fn has_credentials_file() -> bool {
    let is_stored = |home| {
        let stored = ".config/gcloud/application_default_credentials.json";
        Path::new(&home).join(stored).exists()
    };
    std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").is_some()
        || std::env::var_os("HOME").is_some_and(is_stored)
}

/// Why credentials gave no headers.
struct NoHeaders {
    error: TokenError,
    /// Whether nothing answered.
    is_silent: bool,
    /// Whether it took too long.
    is_timeout: bool,
}

/// The headers of a request with these credentials.
///
/// # Errors
/// [`NoHeaders`].
async fn headers(
    credentials: &credentials::Credentials,
    timeout: Duration,
) -> Result<HeaderMap, NoHeaders> {
    match tokio::time::timeout(timeout, credentials.headers(http::Extensions::new())).await {
        Err(_) => Err(NoHeaders {
            error: TokenError::Transient("no token in time"),
            is_silent: true,
            is_timeout: true,
        }),
        Ok(Err(error)) => Err(NoHeaders::from_error(&error)),
        Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
        Ok(Ok(CacheableResource::NotModified)) => Ok(HeaderMap::new()),
    }
}

impl NoHeaders {
    fn from_error(error: &CredentialsError) -> Self {
        let token_error = if error.is_transient() {
            TokenError::Transient("Google gives no token at present")
        } else {
            TokenError::Permanent("Google gives no token for them")
        };
        NoHeaders {
            error: token_error,
            is_silent: is_not_connected(error),
            is_timeout: false,
        }
    }
}

/// Whether no connection was made, anywhere in the causes of an error.
fn is_not_connected(error: &CredentialsError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let http = error.downcast_ref::<reqwest::Error>();
        if http.is_some_and(reqwest::Error::is_connect) {
            return true;
        }
        cause = error.source();
    }
    false
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

    /// Credentials of a metadata server at an address, on a machine without a file of them.
    fn of_metadata_server(endpoint: String) -> Credentials {
        Credentials {
            is_doubtful: AtomicBool::new(true),
            ..Credentials::with_factory(move || {
                let builder = credentials::mds::Builder::default();
                builder
                    .with_endpoint(endpoint.clone())
                    .build()
                    .map_err(|_| "no credentials")
            })
        }
    }

    #[tokio::test]
    async fn missing_metadata_server_means_no_credentials() {
        // A port that is free a moment ago refuses connections.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let credentials = of_metadata_server(format!("http://{port}"));
        let token = credentials.token(Duration::from_secs(60)).await;
        assert_eq!(token.err(), Some(NO_CREDENTIALS));
    }

    #[tokio::test]
    async fn failing_metadata_server_is_asked_again() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let credentials = of_metadata_server(format!("http://{}", server.local_addr().unwrap()));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = server.accept().await {
                let request = connection.read(&mut [0; 4096]).await.unwrap();
                assert!(request > 0);
                let answer = b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                connection.write_all(answer).await.unwrap();
            }
        });
        let token = credentials.token(Duration::from_secs(60)).await;
        assert!(matches!(token.err(), Some(TokenError::Transient(_))));
    }
}
