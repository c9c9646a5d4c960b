//! Why a notification was not sent. No secret stands in any message.

use crate::google::retry::{Attempts, CallError};

/// Why a notification was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum NotifyError {
    /// A secret is not where the configuration says.
    #[error("cannot notify: reading {from} failed: {reason}")]
    Secret {
        /// Where it should be.
        from: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// An address, a certificate or a URL cannot be used.
    #[error("cannot notify: {what}: {reason}")]
    Setup {
        /// What cannot be used.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The server refuses.
    #[error("cannot notify: {call} failed: {reason}")]
    Refused {
        /// What was tried.
        call: String,
        /// What the server answered.
        reason: String,
    },
    /// The server could not be reached, or failed, each time.
    #[error("cannot notify: {call} failed after {attempts} {} in {seconds} s: {reason}", if *.attempts == 1 { "attempt" } else { "attempts" })]
    Exhausted {
        /// What was tried.
        call: String,
        /// How often.
        attempts: u32,
        /// For how long.
        seconds: u64,
        /// What the last attempt came to.
        reason: String,
    },
}

impl CallError for NotifyError {
    fn exhausted(call: &str, attempts: Attempts, found: String) -> Self {
        NotifyError::Exhausted {
            call: call.to_owned(),
            attempts: attempts.count,
            seconds: attempts.since_start.as_secs(),
            reason: found,
        }
    }

    fn unauthorized(call: &str, _: bool) -> Self {
        NotifyError::Refused {
            call: call.to_owned(),
            reason: "the credentials were not accepted".to_owned(),
        }
    }
}
