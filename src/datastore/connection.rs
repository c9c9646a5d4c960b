//! Single requests to a Datastore over HTTP, and what the answers say. What that means for a call is
//! for the clients to know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::Method;
use tokio::sync::OnceCell;

use super::emulator_product::{EmulatorProduct, PROBE_TIMEOUT, probe_path};
use super::error::DatastoreError;
use super::status::{Code, Status};
use crate::google::http::{
    HttpClient, HttpRequest, NoResponse, TimeLimit, is_loopback, retry_after,
};
use crate::google::retry::{Attempts, CallError};
use crate::google::{Credentials, TokenError, TokenSource};
use crate::model::address::without_user;

/// Where a request about a project is led to.
const ROUTING: HeaderName = HeaderName::from_static("x-goog-request-params");

/// A service at an address, and who is asking.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    http: HttpClient,
    base: String,
    /// None for an emulator: requests are made by nobody.
    credentials: Option<Arc<Credentials>>,
    /// Which emulator this is; found out when it is first requested.
    product: OnceCell<EmulatorProduct>,
}

/// A request of one of the clients.
#[derive(Debug)]
pub(crate) struct ServiceRequest<'a> {
    pub(crate) method: Method,
    /// What follows the address of the service.
    pub(crate) path: &'a str,
    /// What is there, as people may see it.
    pub(crate) resource: &'static str,
    /// The form of the body, and the body.
    pub(crate) body: Option<(&'static str, Bytes)>,
    /// Headers that go along with a token only.
    pub(crate) routing: Option<HeaderValue>,
    /// How long it may take, answer included.
    pub(crate) timeout: Duration,
}

/// Why a request was not answered with a success.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// There is no token.
    NoToken(TokenError),
    /// There is no answer.
    NoResponse(NoResponse),
    /// The answer is a refusal.
    Refused(ServiceRefusal),
}

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct ServiceRefusal {
    pub(crate) http: u16,
    pub(crate) code: Code,
    /// In the service's own words, which may quote keys and values.
    pub(crate) message: String,
    /// When the service asks to come back.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the service itself said so, and not something before it.
    pub(crate) is_of_service: bool,
    /// What gave the token of the request, where it had one.
    pub(crate) source: Option<TokenSource>,
}

impl CallError for DatastoreError {
    fn exhausted(call: &str, attempts: Attempts, found: String) -> Self {
        DatastoreError::Service {
            call: call.to_owned(),
            tries: attempts.count,
            seconds: attempts.since_start.as_secs(),
            found,
            is_emulator: !attempts.has_credentials,
        }
    }

    fn unauthorized(call: &str, is_renewed: bool) -> Self {
        let fault = if is_renewed {
            "the service accepts no token of these credentials (HTTP 401)"
        } else {
            "the service asks for credentials (HTTP 401)"
        };
        DatastoreError::Unauthorized {
            call: call.to_owned(),
            fault,
        }
    }
}

impl Connection {
    /// A service at `base`, without a slash at its end.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub(crate) fn new(
        base: String,
        credentials: Option<Arc<Credentials>>,
        connect_timeout: Duration,
    ) -> Result<Self, DatastoreError> {
        // What a proxy would do to a target on this machine nobody wants.
        let use_proxy = credentials.is_some() && !is_loopback(&base);
        let http = HttpClient::new(connect_timeout, use_proxy);
        let http = http.map_err(|_| DatastoreError::Refused {
            call: "TLS".to_owned(),
            found: "this machine has no usable root certificates".to_owned(),
        })?;
        Ok(Connection {
            http,
            base,
            credentials,
            product: OnceCell::new(),
        })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The service's address as it may be shown.
    pub(crate) fn display_base(&self) -> String {
        without_user(&self.base)
    }

    /// None for an emulator.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_deref()
    }

    /// Which emulator this is. An emulator is asked once.
    pub(crate) async fn emulator_product(
        &self,
        project: &str,
    ) -> Result<EmulatorProduct, RequestError> {
        let ask = || async {
            let request = ServiceRequest {
                method: Method::POST,
                path: &probe_path(project),
                resource: "emulator",
                body: Some(("application/json", Bytes::from_static(b"{}"))),
                routing: None,
                timeout: PROBE_TIMEOUT,
            };
            product_of(self.send(request).await)
        };
        self.product.get_or_try_init(ask).await.copied()
    }

    /// The headers that say who asks, and what gave the token in them. None go to an emulator.
    async fn authorize(
        &self,
        routing: Option<HeaderValue>,
        timeout: Duration,
    ) -> Result<(Option<TokenSource>, HeaderMap), RequestError> {
        let Some(credentials) = self.credentials() else {
            return Ok((None, HeaderMap::new()));
        };
        let token = credentials.token(timeout).await;
        let token = token.map_err(RequestError::NoToken)?;
        let mut headers = token.headers;
        headers.extend(routing.map(|routing| (ROUTING, routing)));
        Ok((Some(token.source), headers))
    }

    /// Makes a request once, and gives the body of a success.
    pub(crate) async fn send(&self, request: ServiceRequest<'_>) -> Result<Bytes, RequestError> {
        let (source, mut headers) = self.authorize(request.routing, request.timeout).await?;
        let mut body = Vec::new();
        if let Some((content_type, bytes)) = request.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            body.push(bytes);
        }
        let response = self
            .http
            .send(HttpRequest {
                method: request.method,
                url: &format!("{}{}", self.base, request.path),
                resource: request.resource,
                headers,
                body,
                limit: TimeLimit::Total(request.timeout),
            })
            .await
            .map_err(RequestError::NoResponse)?;
        if response.is_success() {
            return Ok(response.body);
        }
        let header = retry_after(&response.headers);
        Err(RequestError::Refused(ServiceRefusal::new(
            response.status,
            Status::parse(&response.body),
            header,
            source,
        )))
    }
}

/// The emulator that answers so to the import of nothing; an error where the server did not answer,
/// or is not well.
fn product_of(answer: Result<Bytes, RequestError>) -> Result<EmulatorProduct, RequestError> {
    let refusal = match answer {
        Ok(_) => return Ok(EmulatorProduct::Datastore),
        Err(RequestError::Refused(refusal)) => refusal,
        Err(error) => return Err(error),
    };
    match refusal.code {
        Code::InvalidArgument if refusal.is_of_service => Ok(EmulatorProduct::Firestore),
        Code::Internal | Code::Unavailable => Err(RequestError::Refused(refusal)),
        _ => Ok(EmulatorProduct::Datastore),
    }
}

impl ServiceRefusal {
    fn new(
        http: u16,
        status: Option<Status>,
        header: Option<Duration>,
        source: Option<TokenSource>,
    ) -> Self {
        let is_of_service = status.is_some();
        let Status {
            code,
            message,
            retry_after,
        } = status.unwrap_or(Status {
            code: Code::Other,
            message: String::new(),
            retry_after: None,
        });
        ServiceRefusal {
            http,
            code: if code == Code::Other {
                Code::from_http(http)
            } else {
                code
            },
            message,
            retry_after: header.max(retry_after),
            is_of_service,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code, is_of_service: bool) -> Result<Bytes, RequestError> {
        Err(RequestError::Refused(ServiceRefusal {
            http: 400,
            code,
            message: String::new(),
            retry_after: None,
            is_of_service,
            source: None,
        }))
    }

    #[test]
    fn only_its_own_refusal_is_the_firestore_emulator() {
        let product = |answer| product_of(answer).ok();
        let (firestore, datastore) = (EmulatorProduct::Firestore, EmulatorProduct::Datastore);
        let refusal = refused(Code::InvalidArgument, true);
        assert_eq!(product(refusal), Some(firestore));
        for other in [
            Ok(Bytes::new()),
            refused(Code::InvalidArgument, false),
            refused(Code::Unimplemented, false),
            refused(Code::PermissionDenied, true),
        ] {
            assert_eq!(product(other), Some(datastore));
        }
        for ill in [Code::Internal, Code::Unavailable] {
            assert_eq!(product(refused(ill, false)), None);
        }
    }
}
