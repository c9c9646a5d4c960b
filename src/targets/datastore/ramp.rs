//! How many writes a second a kind may be given: 500 at first, half as many again every five
//! minutes, as the service asks for.
//!
//! Pure: the time comes from outside. Must not know what is written.

use std::time::Duration;

/// Writes a second at the beginning.
const FIRST_RATE: f64 = 500.0;

/// What the rate is multiplied by after each [`RAISE_AFTER`].
const RAISE: f64 = 1.5;

/// How long one rate holds.
const RAISE_AFTER: Duration = Duration::from_secs(300);

/// No rate is higher: by then other limits are met.
const MAX_RATE: f64 = 100_000.0;

/// Time without any write counts as so much: who rests does not warm up.
const MAX_REST_TIME: Duration = Duration::from_secs(10);

/// A bucket of leaves to write, which fills with time. It holds those of one second, and can be in
/// debt to those who wait already.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteRamp {
    /// Time during which there were writes.
    busy: Duration,
    last: Option<Duration>,
    leaves: f64,
}

impl WriteRamp {
    /// Takes leave for so many writes, `now` being the time since any fixed moment. Returns how
    /// long to wait before they are sent.
    pub(super) fn acquire(&mut self, writes: usize, now: Duration) -> Duration {
        match self.last {
            None => self.leaves = FIRST_RATE,
            Some(last) => {
                let passed = now.saturating_sub(last);
                self.leaves = (self.leaves + passed.as_secs_f64() * self.rate()).min(self.rate());
                self.busy += passed.min(MAX_REST_TIME);
            }
        }
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        self.leaves -= writes as f64;
        Duration::from_secs_f64((-self.leaves / self.rate()).max(0.0))
    }

    fn rate(&self) -> f64 {
        let raises = self.busy.as_secs() / RAISE_AFTER.as_secs();
        (FIRST_RATE * RAISE.powf(raises as f64)).min(MAX_RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many writes somebody gets through who always has more, until that time.
    fn written(pace: &mut WriteRamp, from: Duration, until: Duration) -> usize {
        let (mut now, mut written) = (from, 0);
        loop {
            now += pace.acquire(500, now);
            if now >= until {
                return written;
            }
            written += 500;
        }
    }

    #[test]
    fn ramp_starts_at_500_and_grows() {
        let mut pace = WriteRamp::default();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut rates = Vec::new();
        for quarter in 0..4 {
            let writes = written(&mut pace, minutes(5 * quarter), minutes(5 * (quarter + 1)));
            rates.push((writes as f64 / 300.0).round());
        }
        for (rate, expected) in rates.iter().zip([500.0, 750.0, 1_125.0, 1_687.5]) {
            assert!((rate - expected).abs() / expected < 0.02, "{rates:?}");
        }
    }

    #[test]
    fn ramp_allows_at_most_one_second_ahead() {
        let mut pace = WriteRamp::default();
        assert_eq!(pace.acquire(500, Duration::ZERO), Duration::ZERO);
        let after_rest = Duration::from_secs(86_400);
        assert_eq!(pace.acquire(500, after_rest), Duration::ZERO);
        assert_eq!(
            pace.acquire(500, after_rest),
            Duration::from_secs(1),
            "a day of rest is no day of warming up"
        );
        assert_eq!(
            pace.acquire(500, after_rest),
            Duration::from_secs(2),
            "who comes later waits longer"
        );
    }

    #[test]
    fn ramp_is_bounded_and_survives_clock_steps() {
        let mut pace = WriteRamp {
            busy: Duration::from_secs(10_000_000),
            ..WriteRamp::default()
        };
        assert_eq!(pace.rate(), MAX_RATE);
        pace.acquire(1, Duration::from_secs(5));
        assert_eq!(pace.acquire(1, Duration::from_secs(4)), Duration::ZERO);
    }
}
