//! What all of Google's services have in common: credentials, single attempts over HTTP, and how
//! they are made again.
//!
//! Knows headers and addresses. Must not know any one service, and puts no token into any message.

mod auth;
pub(crate) mod http;
mod idle_timeout;
pub(crate) mod rate_limit;
pub(crate) mod refusal;
pub mod retry;

pub use auth::{Credentials, Token, TokenError, TokenSource, may_see_tokens};

/// How we call ourselves.
pub const USER_AGENT: &str = concat!("kindpack/", env!("CARGO_PKG_VERSION"));

/// The address of Datastore.
const DATASTORE: &str = "https://datastore.googleapis.com";

/// What a restore asks for.
pub const DATASTORE_SCOPE: &str = "https://www.googleapis.com/auth/datastore";

/// The address of Firestore, whose Admin API serves databases of Datastore as well.
const FIRESTORE: &str = "https://firestore.googleapis.com";

/// Where Datastore is, unless `CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE` names a private address
/// of it.
pub fn datastore_endpoint() -> String {
    endpoint("CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE", DATASTORE)
}

/// Where Firestore is, unless `CLOUDSDK_API_ENDPOINT_OVERRIDES_FIRESTORE` names a private address
/// of it.
pub fn firestore_endpoint() -> String {
    endpoint("CLOUDSDK_API_ENDPOINT_OVERRIDES_FIRESTORE", FIRESTORE)
}

/// The address that a variable of gcloud's names, or else the public one.
fn endpoint(variable: &str, public: &str) -> String {
    let private = std::env::var(variable).ok().filter(|said| !said.is_empty());
    private
        .unwrap_or_else(|| public.to_owned())
        .trim_end_matches('/')
        .to_owned()
}
