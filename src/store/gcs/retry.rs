//! How long one call is tried: growing pauses with jitter, within a bounded time. Knows what one
//! try came to, not what was asked.

use std::time::Duration;

use tokio::time::Instant;

use super::client::Cloud;
use crate::google::Pauses;
use crate::progress::Event;
use crate::store::StoreError;

/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// No pause is longer, unless the service asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Answers that bring nothing follow each other without a pause up to this number.
const UNPACED: u32 = 16;

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
        Failed::Passing {
            found: found.into(),
            after: None,
        }
    }
}

/// One call and its tries.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    cloud: &'a Cloud,
    call: String,
    last_progress: Instant,
    pauses: Pauses,
    /// Tries that have failed since the last progress.
    tries: u32,
    renewed: bool,
}

impl<'a> Patience<'a> {
    /// `call` says in an error what was tried, such as `list of gs://bucket/`.
    pub(super) fn new(cloud: &'a Cloud, call: impl Into<String>) -> Self {
        let pauses = Pauses::new(
            FIRST_PAUSE,
            LONGEST_PAUSE.min(cloud.options().retry_timeout / 4),
        );
        Patience {
            cloud,
            call: call.into(),
            last_progress: Instant::now(),
            pauses,
            tries: 0,
            renewed: false,
        }
    }

    /// Whether a try has failed since the last progress.
    pub(super) fn has_failed(&self) -> bool {
        self.tries > 0
    }

    /// Something came through: the time that is allowed begins anew.
    pub(super) fn progress(&mut self) {
        self.last_progress = Instant::now();
        self.pauses.reset();
        self.tries = 0;
        self.renewed = false;
    }

    /// An answer was good and brought nothing: the call goes on while there is time, after a few of
    /// them at a slower pace.
    ///
    /// # Errors
    /// [`StoreError::Service`] when the time is over.
    pub(super) async fn no_progress(&mut self, found: &str) -> Result<(), StoreError> {
        self.tries = self.tries.saturating_add(1);
        let left = self.left();
        if left.is_zero() {
            return Err(self.over(found.to_owned()));
        }
        if self.tries > UNPACED {
            tokio::time::sleep(FIRST_PAUSE.min(left)).await;
        }
        Ok(())
    }

    /// Waits until the next try.
    ///
    /// # Errors
    /// What the failure amounts to, where no other try can help or the time is over.
    pub(super) async fn failed(&mut self, failed: Failed) -> Result<(), StoreError> {
        self.tries = self.tries.saturating_add(1);
        let (found, after) = match failed {
            Failed::Finally(error) => return Err(error),
            Failed::Unauthorized { session } if !self.renewed => {
                self.renewed = true;
                self.cloud.renew(session).await;
                self.tell("HTTP 401", Duration::ZERO);
                return Ok(());
            }
            Failed::Unauthorized { .. } => {
                return Err(StoreError::Unauthorized {
                    call: self.call.clone(),
                    found: "HTTP 401, also with a new token",
                });
            }
            Failed::Passing { found, after } => (found, after),
        };
        let left = self.left();
        if let Some(asked) = after.filter(|asked| *asked > left) {
            return Err(self.over(format!("{found} with Retry-After {} s", asked.as_secs())));
        }
        if left.is_zero() {
            return Err(self.over(found));
        }
        // The last try comes when the time is over, not before.
        let pause = self.pauses.next(after).min(left);
        self.tell(&found, pause);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// How much of the time is left.
    fn left(&self) -> Duration {
        self.cloud
            .options()
            .retry_timeout
            .saturating_sub(self.last_progress.elapsed())
    }

    fn over(&self, found: String) -> StoreError {
        let seconds = self.last_progress.elapsed().as_secs();
        StoreError::Service {
            call: self.call.clone(),
            tries: self.tries,
            seconds,
            found,
        }
    }

    fn tell(&self, reason: &str, pause: Duration) {
        let (call, reason) = (self.call.clone(), reason.to_owned());
        self.cloud.observer().event(Event::Retry {
            call,
            attempt: self.tries,
            reason,
            pause_seconds: pause.as_secs_f64(),
        });
    }
}
