//! How the real service is used: its quotas, and how patient calls are.

use std::time::Duration;

use crate::google::retry::{Backoff, LastAttempt, RetryPolicy};

/// How the service is used.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// How many imports are started within [`ServiceOptions::within`]. The service takes 20 a
    /// minute, exports included.
    pub starts: usize,
    /// See [`ServiceOptions::starts`].
    pub within: Duration,
    /// How many go on at once. The service takes 50, exports included.
    pub at_once: usize,
    /// How long one call may last.
    pub call_time: Duration,
    /// How long a call is tried.
    pub retry_timeout: Duration,
    /// How long an operation is looked for when the answer to its start was lost, before it counts
    /// as never started.
    pub settle_time: Duration,
    /// The first pause between tries and between questions after an operation; each is about twice
    /// as long as the one before.
    pub first_pause: Duration,
    /// No pause is longer, unless the service asks for it.
    pub longest_pause: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        ServiceOptions {
            starts: 15,
            within: Duration::from_secs(60),
            at_once: 40,
            call_time: Duration::from_secs(60),
            retry_timeout: Duration::from_secs(600),
            settle_time: Duration::from_secs(60),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl ServiceOptions {
    pub(super) fn pauses(&self) -> Backoff {
        Backoff::new(self.first_pause, self.longest_pause)
    }

    pub(super) fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            first_delay: self.first_pause,
            max_delay: self.longest_pause,
            timeout: self.retry_timeout,
            last_attempt: LastAttempt::BeforeTimeout { min_attempts: 1 },
        }
    }
}
