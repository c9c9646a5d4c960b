//! When an export may be started: as the user's queue allows, and never more often than the
//! service takes.
//!
//! Time is tokio's, so that tests run in virtual time.

use std::ops::Add;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::request::QueueOptions;
use crate::google::rate_limit::RateLimit;

/// How many exports and imports of one project the service starts in any minute.
pub(super) const SERVICE_STARTS: usize = 20;

/// The time in which [`SERVICE_STARTS`] are counted.
pub(super) const SERVICE_WINDOW: Duration = Duration::from_secs(60);

/// How many exports and imports of one project the service runs at once.
const MAX_SERVICE_CONCURRENT: usize = 50;

/// Tokio's clock, for the rate limiter.
#[derive(Debug, Clone, Copy)]
struct TokioClock;

/// A point of tokio's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Instant);

impl Clock for TokioClock {
    type Instant = TokioInstant;

    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        TokioInstant(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Add<Nanos> for TokioInstant {
    type Output = Self;

    fn add(self, duration: Nanos) -> Self {
        TokioInstant(self.0.checked_add(duration.into()).unwrap_or(self.0))
    }
}

/// Whose limits hold besides the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceLimits {
    /// The real service.
    Hold,
    /// An emulator, which has none.
    None,
}

/// Admits the exports of one run.
#[derive(Debug)]
pub(super) struct StartQueue {
    bucket: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>,
    service: Mutex<RateLimit>,
    running: Semaphore,
    /// Held by the next export to be started, so that none overtakes it.
    turn: tokio::sync::Mutex<()>,
}

impl StartQueue {
    pub(super) fn new(options: &QueueOptions, limits: ServiceLimits) -> Self {
        let asked = usize::try_from(options.max_concurrent.get()).unwrap_or(usize::MAX);
        let (starts, max_concurrent) = match limits {
            ServiceLimits::Hold => (SERVICE_STARTS, asked.min(MAX_SERVICE_CONCURRENT)),
            ServiceLimits::None => (usize::MAX, asked),
        };
        StartQueue {
            bucket: RateLimiter::direct_with_clock(quota(options), TokioClock),
            service: Mutex::new(RateLimit::new(starts, SERVICE_WINDOW)),
            running: Semaphore::new(max_concurrent.min(Semaphore::MAX_PERMITS)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Waits until an export may be started. The permit is held until the export has ended.
    pub(super) async fn admit(&self) -> SemaphorePermit<'_> {
        let permit = self.admit_running().await;
        let _turn = self.turn.lock().await;
        while let Some(wait) = self.take_start() {
            tokio::time::sleep(wait).await;
        }
        permit
    }

    /// Waits for the place of an export that is running already.
    pub(super) async fn admit_running(&self) -> SemaphorePermit<'_> {
        let permit = self.running.acquire().await;
        permit.expect("nobody closes the semaphore")
    }

    /// The place of an export that is running already, where one is free.
    pub(super) fn try_admit_running(&self) -> Option<SemaphorePermit<'_>> {
        self.running.try_acquire().ok()
    }

    /// Takes a start; where there is none yet, says how long to wait.
    fn take_start(&self) -> Option<Duration> {
        let mut service = self.service();
        let now = Instant::now();
        // The user's bucket is asked last: what it gives is used at once.
        service.wait(now).or_else(|| match self.bucket.check() {
            Ok(()) => service.acquire(now),
            Err(refused) => Some(refused.wait_time_from(TokioInstant(now))),
        })
    }

    /// Starts nothing for so long: the service has requested it.
    pub(super) fn pause(&self, wait: Duration) {
        self.service().pause_until(Instant::now(), wait);
    }

    /// Counts a start that an earlier process made so long ago.
    pub(super) fn count_earlier_start(&self, age: Duration) {
        if let Some(start) = Instant::now().checked_sub(age) {
            self.service().acquire(start);
        }
    }

    fn service(&self) -> MutexGuard<'_, RateLimit> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quota(options: &QueueOptions) -> Quota {
    let quota = Quota::with_period(options.rate.interval());
    let quota = quota.expect("the interval of a rate is at least a nanosecond");
    quota.allow_burst(options.bucket_size)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn options(rate: &str, bucket_size: u32, max_concurrent: u32) -> QueueOptions {
        QueueOptions {
            rate: rate.parse().unwrap(),
            bucket_size: NonZeroU32::new(bucket_size).unwrap(),
            max_concurrent: NonZeroU32::new(max_concurrent).unwrap(),
            ..QueueOptions::default()
        }
    }

    /// When `count` exports that take no time are started.
    async fn starts(queue: &StartQueue, count: usize) -> Vec<Duration> {
        let begin = Instant::now();
        let mut starts = Vec::new();
        for _ in 0..count {
            drop(queue.admit().await);
            starts.push(begin.elapsed());
        }
        starts
    }

    fn most_in_a_minute(starts: &[Duration]) -> usize {
        let in_window = |from: &Duration| {
            let window = *from..*from + SERVICE_WINDOW;
            starts
                .iter()
                .filter(|start| window.contains(*start))
                .count()
        };
        starts.iter().map(in_window).max().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn rate_and_bucket_size_pace_the_starts() {
        let queue = StartQueue::new(&options("1/s", 3, 1), ServiceLimits::None);
        let starts = starts(&queue, 6).await;
        let seconds: Vec<u64> = starts.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 0, 0, 1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_takes_twenty_starts_a_minute() {
        for (rate, bucket_size) in [("1000/s", 500), ("10/s", 1), ("21/m", 7)] {
            let queue = StartQueue::new(&options(rate, bucket_size, 50), ServiceLimits::Hold);
            let starts = starts(&queue, 100).await;
            assert_eq!(most_in_a_minute(&starts), 20, "{rate}");
            assert!(starts[99] < Duration::from_secs(305), "{rate}: {starts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn starts_of_an_earlier_process_count() {
        let queue = StartQueue::new(&options("10/s", 1, 50), ServiceLimits::Hold);
        // Without a clock that reaches back there is nothing to count.
        tokio::time::advance(Duration::from_secs(100)).await;
        for age in (20..40).rev() {
            queue.count_earlier_start(Duration::from_secs(age));
        }
        let starts = starts(&queue, 2).await;
        assert_eq!(starts[0].as_secs(), 21);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_run_at_once_than_are_allowed() {
        for (asked, limits, allowed) in [
            (1, ServiceLimits::Hold, 1),
            (3, ServiceLimits::None, 3),
            (500, ServiceLimits::Hold, 50),
        ] {
            let queue = StartQueue::new(&options("1000/s", 1000, asked), limits);
            let mut running = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(3_600), async {
                loop {
                    running.push(queue.admit().await);
                }
            });
            assert!(ended.await.is_err());
            assert_eq!(running.len(), allowed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requested_pause_holds_for_all_exports() {
        let queue = StartQueue::new(&options("10/s", 1, 5), ServiceLimits::Hold);
        let begin = Instant::now();
        let first = queue.admit().await;
        queue.pause(Duration::from_secs(30));
        let second = queue.admit().await;
        assert_eq!(begin.elapsed().as_secs(), 30);
        drop((first, second));
    }
}
