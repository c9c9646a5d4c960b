//! How long a call is tried: growing delays with jitter, within a bounded time, with one new token.
//!
//! The one loop that all clients share. It knows what an attempt came to, not what was asked.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::auth::{Credentials, TokenSource};
use super::http::CANNOT_CONNECT;
use crate::progress::{Event, Observer};

/// A longer wait is reported.
const SILENT_WAIT: Duration = Duration::from_secs(2);

/// Answers that bring nothing follow each other without a delay up to this number.
const UNPACED_ATTEMPTS: u32 = 16;

/// What a failed attempt means for the next one.
#[derive(Debug)]
pub enum AttemptError<E> {
    /// Another attempt may help.
    Transient {
        /// What happened.
        found: String,
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
    },
    /// The token was not accepted: a new one may be.
    Unauthorized {
        /// What gave the token, where one was sent.
        source: Option<TokenSource>,
    },
    /// No other attempt can help.
    Permanent(E),
}

impl<E> AttemptError<E> {
    /// Another attempt may help, and the service asks for no delay.
    pub fn transient(found: impl Into<String>) -> Self {
        AttemptError::Transient {
            found: found.into(),
            retry_after: None,
        }
    }
}

/// The attempts of a call that was tried in vain.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// How many since something came through.
    pub count: u32,
    /// Whether they carried credentials, as those of an emulator never do.
    pub has_credentials: bool,
    /// The time since the first of all.
    pub since_start: Duration,
    /// The time since something came through.
    pub since_progress: Duration,
}

/// What a client says of a call that is given up.
pub trait CallError: Sized {
    /// All attempts failed.
    fn exhausted(call: &str, attempts: Attempts, found: String) -> Self;

    /// No token is accepted; `is_renewed` where a new one was not accepted either.
    fn unauthorized(call: &str, is_renewed: bool) -> Self;
}

/// A failed attempt as a client knows it.
pub trait FailedAttempt {
    /// What the client says of a call that is given up.
    type Error: CallError;

    /// What it means for the next attempt of `call`.
    fn classify(self, call: &str) -> AttemptError<Self::Error>;
}

impl<E: CallError> FailedAttempt for AttemptError<E> {
    type Error = E;

    fn classify(self, _: &str) -> Self {
        self
    }
}

/// When the attempts end.
#[derive(Debug, Clone, Copy)]
pub enum LastAttempt {
    /// The last one is made when the time is over.
    AtTimeout,
    /// None is made after the time, but so many at least: a single one may take all the time.
    BeforeTimeout {
        /// How many.
        min_attempts: u32,
    },
}

/// How a call is tried.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The first delay; each one is twice as long as the one before.
    pub first_delay: Duration,
    /// No delay is longer, unless the service asks for it.
    pub max_delay: Duration,
    /// How long a call is tried without anything coming through.
    pub timeout: Duration,
    /// When the attempts end.
    pub last_attempt: LastAttempt,
}

/// One call and its attempts.
pub struct RetryLoop<'a> {
    call: String,
    /// What is waited for, as people may see it.
    place: Option<String>,
    policy: RetryPolicy,
    credentials: Option<&'a Credentials>,
    observer: Option<&'a dyn Observer>,
    started: Instant,
    last_progress: Instant,
    backoff: Backoff,
    /// Attempts that have failed since the last progress.
    attempts: u32,
    is_renewed: bool,
    /// Whether the wait was reported.
    is_reported: bool,
}

impl<'a> RetryLoop<'a> {
    /// `call` says in an error what was tried, such as `list of gs://bucket/`. A token that is not
    /// accepted is renewed in `credentials`.
    pub fn new(
        call: impl Into<String>,
        policy: RetryPolicy,
        credentials: Option<&'a Credentials>,
    ) -> Self {
        let now = Instant::now();
        RetryLoop {
            call: call.into(),
            place: None,
            policy,
            credentials,
            observer: None,
            started: now,
            last_progress: now,
            backoff: Backoff::new(policy.first_delay, policy.max_delay),
            attempts: 0,
            is_renewed: false,
            is_reported: false,
        }
    }

    /// The same, with somebody who is told of each attempt that is made again.
    pub fn observed_by(self, observer: &'a dyn Observer) -> Self {
        RetryLoop {
            observer: Some(observer),
            ..self
        }
    }

    /// The same, with the address that is named where the wait is long.
    pub fn with_place(self, place: impl Into<String>) -> Self {
        RetryLoop {
            place: Some(place.into()),
            ..self
        }
    }

    /// Whether an attempt has failed since the last progress.
    pub fn has_failed(&self) -> bool {
        self.attempts > 0
    }

    /// Something came through: the time that is allowed begins anew.
    pub fn progress(&mut self) {
        self.last_progress = Instant::now();
        self.backoff.reset();
        self.attempts = 0;
        self.is_renewed = false;
    }

    /// An answer was good and brought nothing: the call goes on while there is time, after a few of
    /// them at a slower pace.
    ///
    /// # Errors
    /// [`CallError::exhausted`] when the time is over.
    pub async fn no_progress<E: CallError>(&mut self, found: &str) -> Result<(), E> {
        self.attempts = self.attempts.saturating_add(1);
        let left = self.time_left();
        if left.is_zero() {
            return Err(self.exhausted(found.to_owned()));
        }
        if self.attempts > UNPACED_ATTEMPTS {
            tokio::time::sleep(self.policy.first_delay.min(left)).await;
        }
        Ok(())
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// What the failure amounts to, where no other attempt can help or the time is over.
    pub async fn failed<A: FailedAttempt>(&mut self, attempt: A) -> Result<(), A::Error> {
        self.attempts = self.attempts.saturating_add(1);
        let (found, retry_after) = match attempt.classify(&self.call) {
            AttemptError::Permanent(error) => return Err(error),
            AttemptError::Unauthorized { source } => return self.renew(source).await,
            AttemptError::Transient { found, retry_after } => (found, retry_after),
        };
        let delay = self.delay(&found, retry_after)?;
        self.report(&found, delay);
        self.report_wait(&found, delay);
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// What is said of a call that is not tried again after this attempt.
    pub fn give_up<E: CallError>(&mut self, found: String) -> E {
        self.attempts = self.attempts.saturating_add(1);
        self.exhausted(found)
    }

    /// How long to wait before the next attempt, while there is time for one.
    fn delay<E: CallError>(
        &mut self,
        found: &str,
        retry_after: Option<Duration>,
    ) -> Result<Duration, E> {
        match self.policy.last_attempt {
            LastAttempt::AtTimeout => {
                let left = self.time_left();
                if let Some(asked) = retry_after.filter(|asked| *asked > left) {
                    let asked = asked.as_secs();
                    return Err(self.exhausted(format!("{found} with Retry-After {asked} s")));
                }
                if left.is_zero() {
                    return Err(self.exhausted(found.to_owned()));
                }
                Ok(self.backoff.next_delay(retry_after).min(left))
            }
            LastAttempt::BeforeTimeout { min_attempts } => {
                let delay = self.backoff.next_delay(retry_after);
                let timeout = self.policy.timeout;
                let is_over = self.last_progress.elapsed().saturating_add(delay) > timeout;
                // What the service asks for may be longer than all the time there is.
                if is_over && (self.attempts >= min_attempts || delay > timeout) {
                    return Err(self.exhausted(found.to_owned()));
                }
                Ok(delay)
            }
        }
    }

    /// Sees to a new token, once.
    async fn renew<E: CallError>(&mut self, source: Option<TokenSource>) -> Result<(), E> {
        let Some(credentials) = self.credentials.filter(|_| !self.is_renewed) else {
            return Err(E::unauthorized(&self.call, self.is_renewed));
        };
        self.is_renewed = true;
        if let Some(source) = source {
            credentials.renew(source).await;
        }
        self.report("HTTP 401", Duration::ZERO);
        Ok(())
    }

    fn time_left(&self) -> Duration {
        self.policy
            .timeout
            .saturating_sub(self.last_progress.elapsed())
    }

    fn exhausted<E: CallError>(&self, found: String) -> E {
        let attempts = Attempts {
            count: self.attempts,
            has_credentials: self.credentials.is_some(),
            since_start: self.started.elapsed(),
            since_progress: self.last_progress.elapsed(),
        };
        E::exhausted(&self.call, attempts, found)
    }

    /// Reports a wait that gets long, once.
    fn report_wait(&mut self, found: &str, delay: Duration) {
        let is_long = self.last_progress.elapsed().saturating_add(delay) > SILENT_WAIT;
        if !is_long || self.is_reported {
            return;
        }
        self.is_reported = true;
        let place = self.place.as_ref().unwrap_or(&self.call);
        let found = found.strip_prefix(CANNOT_CONNECT).unwrap_or(found);
        tracing::warn!("waiting for {place}: {found}");
    }

    fn report(&self, reason: &str, delay: Duration) {
        if let Some(observer) = self.observer {
            observer.event(Event::Retry {
                call: self.call.clone(),
                attempt: self.attempts,
                reason: reason.to_owned(),
                pause_seconds: delay.as_secs_f64(),
            });
        }
    }
}

/// Delays between attempts: each about twice as long as the one before.
///
/// Not the one of google-cloud-gax, whose jitter takes any time from nothing on, nor the one of
/// backon, whose jitter goes beyond the longest delay: here each is between a half and the whole.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    random: RandomState,
    number: u32,
}

impl Backoff {
    /// The first delay, and what none is longer than unless the service asks for it.
    pub fn new(first: Duration, max: Duration) -> Self {
        Backoff {
            first,
            max,
            next: first,
            random: RandomState::new(),
            number: 0,
        }
    }

    /// The next delay; at least as long as the service asks for. Between half of it and all of it,
    /// so that many callers do not come back together.
    pub fn next_delay(&mut self, asked: Option<Duration>) -> Duration {
        self.number += 1;
        let random = self.random.hash_one(self.number) % 1024;
        let delay = (self.next.min(self.max) / 2).mul_f64(1.0 + random as f64 / 1024.0);
        self.next = (self.next * 2).min(self.max);
        asked.map_or(delay, |asked| delay.max(asked))
    }

    /// Something came through: the delays begin anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for most in [1, 2, 4, 4, 4] {
            let delay = backoff.next_delay(None).as_secs_f64();
            assert!(
                delay >= f64::from(most) / 2.0 && delay <= f64::from(most),
                "{delay} of {most}"
            );
        }
        assert_eq!(
            backoff.next_delay(Some(Duration::from_secs(9))),
            Duration::from_secs(9)
        );
        backoff.reset();
        assert!(backoff.next_delay(None) <= Duration::from_secs(1));
    }
}
