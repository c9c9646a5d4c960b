//! How often a service may be asked to start something: so many times in any stretch of time, and
//! not while it asks for a pause. Pure: the caller says what time it is.
//!
//! A service counts the starts of the last minute. A token bucket, such as `governor` has, allows
//! up to its size and its rate together in one stretch, so it holds such a limit only where it is
//! smaller than the limit, and then it slows what the service would take. The user's own rate is a
//! token bucket: `backup/queue.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The starts of the last stretch of time.
#[derive(Debug)]
pub(crate) struct RateLimit {
    most: usize,
    within: Duration,
    starts: VecDeque<Instant>,
    quiet_until: Option<Instant>,
}

impl RateLimit {
    /// At most `most` starts (at least one) within any `within`.
    pub(crate) fn new(most: usize, within: Duration) -> Self {
        RateLimit {
            most: most.max(1),
            within,
            starts: VecDeque::new(),
            quiet_until: None,
        }
    }

    /// Takes a start at `now`; where it would be one too many, says how long to wait before asking
    /// once more.
    pub(crate) fn acquire(&mut self, now: Instant) -> Option<Duration> {
        let wait = self.wait(now);
        if wait.is_none() {
            self.starts.push_back(now);
        }
        wait
    }

    /// How long to wait before a start; `None` where one may be taken.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Duration> {
        while self
            .starts
            .front()
            .is_some_and(|start| now.duration_since(*start) >= self.within)
        {
            self.starts.pop_front();
        }
        let quiet = self
            .quiet_until
            .map(|until| until.saturating_duration_since(now))
            .filter(|wait| !wait.is_zero());
        let full = self
            .starts
            .front()
            .filter(|_| self.starts.len() >= self.most);
        quiet.max(full.map(|first| self.within.saturating_sub(now.duration_since(*first))))
    }

    /// No start for so long.
    pub(crate) fn pause_until(&mut self, now: Instant, wait: Duration) {
        // A moment that no clock reaches is no moment to wait for.
        self.quiet_until = self.quiet_until.max(now.checked_add(wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_minute_exceeds_the_start_limit() {
        let mut pace = RateLimit::new(15, MINUTE);
        let mut now = Instant::now();
        let mut starts = Vec::new();
        while starts.len() < 100 {
            match pace.acquire(now) {
                None => starts.push(now),
                Some(wait) => {
                    assert!(!wait.is_zero() && wait <= MINUTE);
                    now += wait;
                }
            }
            now += SECOND / 3;
        }
        for window in starts.windows(16) {
            assert!(window[15] - window[0] >= MINUTE);
        }
        assert!(
            starts[99] - starts[0] <= 7 * MINUTE,
            "and no more is waited than is needed"
        );
    }

    #[test]
    fn while_quiet_is_asked_for_nothing_starts() {
        let mut pace = RateLimit::new(15, MINUTE);
        let now = Instant::now();
        assert_eq!(pace.acquire(now), None);
        pace.pause_until(now, 10 * SECOND);
        pace.pause_until(now, 5 * SECOND);
        assert_eq!(pace.acquire(now + 4 * SECOND), Some(6 * SECOND));
        assert_eq!(pace.acquire(now + 10 * SECOND), None);
    }

    #[test]
    fn one_start_at_a_time_is_the_least() {
        let mut pace = RateLimit::new(0, SECOND);
        let now = Instant::now();
        assert_eq!(pace.acquire(now), None);
        assert_eq!(pace.acquire(now), Some(SECOND));
        assert_eq!(pace.acquire(now + SECOND), None);
    }
}
