//! How long one call is tried: growing pauses with jitter, within a bounded time. Knows what one try came to, not what was asked.

use std::time::Duration;

use tokio::time::Instant;

use super::cloud::Cloud;
use crate::google::Pauses;
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
    pauses: Pauses,
    tries: u32,
    renewed: bool,
}

impl<'a> Patience<'a> {
    /// `call` says in an error what was tried, such as `list of gs://bucket/`.
    pub(super) fn new(cloud: &'a Cloud, call: impl Into<String>) -> Self {
        let now = Instant::now();
        let pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE.min(cloud.options().retry_timeout / 4));
        Patience { cloud, call: call.into(), begun: now, last_progress: now, pauses, tries: 0, renewed: false }
    }

    /// Whether anything has failed before: then what is found there may be our own.
    pub(super) fn has_failed(&self) -> bool {
        self.tries > 0
    }

    /// Something came through: the time that is allowed begins anew.
    pub(super) fn progress(&mut self) {
        self.last_progress = Instant::now();
        self.pauses.reset();
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
        let total = self.cloud.options().retry_timeout;
        let pause = self.pauses.next(after);
        if self.last_progress.elapsed() + pause > total {
            return Err(StoreError::Service { call: self.call.clone(), tries: self.tries, seconds: self.begun.elapsed().as_secs(), found });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
