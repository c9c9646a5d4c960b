//! What a call of Datastore can come to instead of an answer.

use super::emulator_product::EmulatorProduct;

/// What a call of Datastore can come to instead of an answer. Only the command line adds hints and
/// exit codes.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum DatastoreError {
    /// A service failed after all retries.
    #[error("{call} failed after {tries} {} in {seconds} s: {found}", if *.tries == 1 { "try" } else { "tries" })]
    Service {
        /// Which call.
        call: String,
        /// How often it was tried.
        tries: u32,
        /// For how long.
        seconds: u64,
        /// What the last try came to.
        found: String,
        /// Whether it is an emulator.
        is_emulator: bool,
    },
    /// A service refused a request.
    #[error("{call}: the service refuses the request: {found}")]
    Refused {
        /// Which call.
        call: String,
        /// What the service answered.
        found: String,
    },
    /// A server that does not know a call of Datastore.
    #[error("{call}: the server does not know this call, so it is probably not a Datastore")]
    UnknownCall {
        /// Which call.
        call: String,
    },
    /// The address of an emulator names a host that does not exist.
    #[error("{call}: no host has this name")]
    UnknownHost {
        /// Which call.
        call: String,
    },
    /// An emulator that imports nothing.
    #[error("{call}: this emulator has no import")]
    NoImport {
        /// Which call.
        call: String,
    },
    /// An emulator that lists no kinds.
    #[error(
        "{call}: the {product} cannot be backed up, because it lists no kinds and cannot export one kind alone; the Datastore emulator can"
    )]
    NoKindList {
        /// Which call.
        call: String,
        /// Which emulator.
        product: EmulatorProduct,
    },
    /// The credentials do not allow a call.
    #[error("{call}: the credentials do not allow it: {found}")]
    Denied {
        /// Which call.
        call: String,
        /// What the service answered.
        found: String,
    },
    /// There are no credentials, or the service does not take them.
    #[error("{call}: {fault}")]
    Unauthorized {
        /// Which call.
        call: String,
        /// What is wrong with them.
        fault: &'static str,
    },
    /// The answer of a service makes no sense.
    #[error("{call}: the answer holds no {missing}")]
    UnexpectedResponse {
        /// Which call.
        call: String,
        /// What should have come.
        missing: &'static str,
    },
}
