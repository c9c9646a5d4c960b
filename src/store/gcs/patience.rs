//! How long one call is tried: growing pauses with jitter, within a bounded time. Knows what one try came to, not what was asked.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::cloud::Cloud;
use crate::store::StoreError;

/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// No pause is longer, unless the service asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What one try came to, where it came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// Another try may help.
    Passing {
        /// What happened.
        found: String,
        /// How long the service asks to wait.
        after: Option<Duration>,
    },
    /// The token was not accepted: a new one may be.
    Unauthorized {
        /// When the session that gave it was made.
        session: Instant,
    },
    /// No other try can help.
    Finally(StoreError),
}

impl Failed {
    pub(super) fn passing(found: impl Into<String>) -> Self {
        Failed::Passing { found: found.into(), after: None }
    }
}

/// One call and its tries.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    cloud: &'a Cloud,
    call: String,
    begun: Instant,
    last_progress: Instant,
    pause: Duration,
    tries: u32,
    renewed: bool,
}

impl<'a> Patience<'a> {
    /// `call` says in an error what was tried, such as `list of gs://bucket/`.
    pub(super) fn new(cloud: &'a Cloud, call: impl Into<String>) -> Self {
        let now = Instant::now();
        Patience { cloud, call: call.into(), begun: now, last_progress: now, pause: FIRST_PAUSE, tries: 0, renewed: false }
    }

    /// Whether anything has failed before: then what is found there may be our own.
    pub(super) fn has_failed(&self) -> bool {
        self.tries > 0
    }

    /// Something came through: the time that is allowed begins anew.
    pub(super) fn progress(&mut self) {
        self.last_progress = Instant::now();
        self.pause = FIRST_PAUSE;
        self.renewed = false;
    }

    /// Waits until the next try.
    ///
    /// # Errors
    /// What the failure amounts to, where no other try can help or the time is over.
    pub(super) async fn failed(&mut self, failed: Failed) -> Result<(), StoreError> {
        self.tries += 1;
        let (found, after) = match failed {
            Failed::Finally(error) => return Err(error),
            Failed::Unauthorized { session } if !self.renewed => {
                self.renewed = true;
                self.cloud.renew(session).await;
                return Ok(());
            }
            Failed::Unauthorized { .. } => {
                return Err(StoreError::Unauthorized { call: self.call.clone(), found: "HTTP 401, also with a new token" });
            }
            Failed::Passing { found, after } => (found, after),
        };
        let total = self.cloud.options().retry_time;
        // Between half of it and all of it, so that many callers do not come back together.
        let random = RandomState::new().hash_one(self.tries) % 1024;
        let longest = LONGEST_PAUSE.min(total / 4);
        let pause = (self.pause.min(longest) / 2).mul_f64(1.0 + random as f64 / 1024.0).max(after.unwrap_or_default());
        if self.last_progress.elapsed() + pause > total {
            return Err(StoreError::Service { call: self.call.clone(), tries: self.tries, seconds: self.begun.elapsed().as_secs(), found });
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
