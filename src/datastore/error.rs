//! What a call of Datastore can come to instead of an answer.

/// What a call of Datastore can come to instead of an answer. Only the command line adds hints and
/// exit codes.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    /// A service failed after all retries.
    #[error("{call}: expected an answer within {tries} tries and {seconds} s, found {found}")]
    Service {
        /// Which call.
        call: String,
        /// How often it was tried.
        tries: u32,
        /// For how long.
        seconds: u64,
        /// What came instead.
        found: String,
    },
    /// A service refused a request.
    #[error("{call}: expected it to be accepted, found {found}")]
    Refused {
        /// Which call.
        call: String,
        /// What the service answered.
        found: String,
    },
    /// An emulator that imports nothing.
    #[error("{call}: this emulator has no import")]
    NoImport {
        /// Which call.
        call: String,
    },
    /// The credentials do not allow a call.
    #[error("{call}: expected leave to do it, found {found}")]
    Denied {
        /// Which call.
        call: String,
        /// What the service answered.
        found: String,
    },
    /// There are no credentials, or the service does not take them.
    #[error("{call}: expected credentials that are accepted, found {found}")]
    Unauthorized {
        /// Which call.
        call: String,
        /// What there is instead.
        found: &'static str,
    },
    /// The answer of a service makes no sense.
    #[error("{call}: expected {expected}, found {found}")]
    UnexpectedResponse {
        /// Which call.
        call: String,
        /// What should have come.
        expected: &'static str,
        /// What came.
        found: String,
    },
}
