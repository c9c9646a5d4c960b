//! A line of time: where points and bars are on it, and which times are written below it.

use super::values::Percent;
use crate::model::Timestamp;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Distances between ticks, in microseconds.
const STEPS: [i64; 36] = [
    1_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    4 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    91 * DAY,
    365 * DAY,
    5 * 365 * DAY,
    20 * 365 * DAY,
    2_000 * 365 * DAY,
];

/// More ticks than that would run into one another: of short texts, and of long ones.
const MAX_TICKS: i64 = 5;
const MAX_LONG_TICKS: i64 = 3;

/// The narrowest bar that can be seen, in percent of the line.
const MIN_BAR: f64 = 0.25;

/// How near to an end a tick's text would stand out of the line, in percent.
const EDGE: f64 = 9.0;

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeAxis {
    start: i64,
    span: i64,
}

/// A time that is written below the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub x: Percent,
    pub label: String,
    /// Which part of the text is at the tick: `start`, `middle` or `end`.
    pub anchor: &'static str,
}

/// A time from one point to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    pub x: Percent,
    pub width: Percent,
}

impl TimeAxis {
    /// From the first of these points to the last one; none where there is no point.
    pub fn from_times(times: impl Iterator<Item = Timestamp> + Clone) -> Option<Self> {
        let (first, last) = (times.clone().min()?, times.max()?);
        Some(TimeAxis {
            start: first.micros(),
            span: last.micros().saturating_sub(first.micros()).max(1),
        })
    }

    /// Where a point is.
    pub fn position(&self, at: Timestamp) -> Percent {
        let passed = at.micros().saturating_sub(self.start) as f64;
        Percent((passed / self.span as f64 * 100.0).clamp(0.0, 100.0))
    }

    /// Where a time is that has passed.
    pub fn bar(&self, started: Timestamp, finished: Timestamp) -> Bar {
        let (Percent(from), Percent(to)) = (self.position(started), self.position(finished));
        let width = (to - from).max(MIN_BAR);
        Bar {
            x: Percent(from.min(100.0 - width)),
            width: Percent(width),
        }
    }

    /// Round times on the line.
    pub fn ticks(&self) -> Vec<Tick> {
        let fits = |step: &&i64| self.span / **step <= self.max_ticks(**step);
        let step = STEPS.iter().find(fits).copied().unwrap_or(DAY * 730_000);
        let first = self.start.div_euclid(step) + i64::from(self.start.rem_euclid(step) > 0);
        let last = self.start.saturating_add(self.span).div_euclid(step);
        let times = (first..=last).filter_map(|number| {
            let micros = number.checked_mul(step)?;
            Timestamp::from_micros(micros)
        });
        times.map(|at| self.tick(at, step)).collect()
    }

    fn max_ticks(&self, step: i64) -> i64 {
        let is_short = (SECOND..DAY).contains(&step) && self.span < DAY;
        if is_short { MAX_TICKS } else { MAX_LONG_TICKS }
    }

    fn tick(&self, at: Timestamp, step: i64) -> Tick {
        let x = self.position(at);
        let anchor = match x.0 {
            near if near < EDGE => "start",
            far if far > 100.0 - EDGE => "end",
            _ => "middle",
        };
        let label = self.label(at, step);
        Tick { x, label, anchor }
    }

    /// As much of a time as makes neighbours differ.
    fn label(&self, at: Timestamp, step: i64) -> String {
        let text = at.to_seconds_text();
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        match step {
            step if step < SECOND => {
                let millis = at.micros().rem_euclid(SECOND) / 1_000;
                format!("{}.{millis:03}", part(11, 19))
            }
            step if step < MINUTE => part(11, 19).to_owned(),
            step if step < DAY && self.span < DAY => part(11, 16).to_owned(),
            step if step < DAY => part(5, 16).to_owned(),
            _ => part(0, 10).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn axis(first: &str, last: &str) -> TimeAxis {
        TimeAxis::from_times([at(first), at(last)].into_iter()).unwrap()
    }

    #[test]
    fn ticks_are_round_times_at_every_span() {
        for (first, last, labels) in [
            (
                "2026-01-31T02:15:10Z",
                "2026-01-31T02:32:00Z",
                &["02:20", "02:25", "02:30"][..],
            ),
            (
                "2026-01-31T02:15:00.1Z",
                "2026-01-31T02:15:00.4Z",
                &[
                    "02:15:00.100",
                    "02:15:00.200",
                    "02:15:00.300",
                    "02:15:00.400",
                ],
            ),
            (
                "2026-01-31T20:00:00Z",
                "2026-02-01T23:00:00Z",
                &["02-01 00:00", "02-01 12:00"],
            ),
        ] {
            let ticks = axis(first, last).ticks();
            let found: Vec<&str> = ticks.iter().map(|tick| tick.label.as_str()).collect();
            assert_eq!(found, labels, "{first} {last}");
        }
    }

    #[test]
    fn all_times_have_few_ticks() {
        for (first, last) in [
            (Timestamp::MIN, Timestamp::MAX),
            (Timestamp::MIN, Timestamp::MIN),
        ] {
            let axis = TimeAxis::from_times([first, last].into_iter()).unwrap();
            assert!(axis.ticks().len() < 8, "{first} {last}");
        }
        assert_eq!(TimeAxis::from_times(std::iter::empty()), None);
    }

    #[test]
    fn bars_stay_on_the_line() {
        let axis = axis("2026-01-31T02:00:00Z", "2026-01-31T03:00:00Z");
        let bar = axis.bar(at("2026-01-31T03:00:00Z"), at("2026-01-31T03:00:00Z"));
        assert_eq!(bar.x.0 + bar.width.0, 100.0);
        let bar = axis.bar(at("2026-01-31T02:30:00Z"), at("2026-01-31T02:10:00Z"));
        assert_eq!((bar.x.0, bar.width.0), (50.0, MIN_BAR));
    }
}
