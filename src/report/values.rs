//! How the page writes names, numbers and times.

use std::fmt;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use crate::model::control::escape_control;
use crate::model::{Kind, KindRef, Namespace, Timestamp, spelled_duration};

/// Below this many seconds a duration is written in milliseconds, or with a decimal.
const MAX_MILLISECONDS: f64 = 0.95;
const MAX_DECIMAL_SECONDS: f64 = 10.0;

/// Letters of a name in a chart; the tables hold all of it.
const MAX_LABEL_CHARS: usize = 60;

/// A kind as the page names it: what others wrote is harmless there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindName {
    pub namespace: String,
    pub kind: String,
}

impl KindName {
    pub fn new(namespace: &Namespace, kind: &Kind) -> Self {
        KindName {
            namespace: escape_control(&namespace.to_string()),
            kind: escape_control(kind.as_str()),
        }
    }

    pub fn from_pair(pair: &KindRef) -> Self {
        KindName::new(&pair.namespace, &pair.kind)
    }

    /// The kind, short enough for a chart.
    pub fn label(&self) -> String {
        if self.kind.chars().nth(MAX_LABEL_CHARS).is_none() {
            return self.kind.clone();
        }
        self.kind
            .chars()
            .take(MAX_LABEL_CHARS)
            .chain(['…'])
            .collect()
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.kind)
    }
}

/// A share of a length, such as `12.5%` in SVG and CSS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}%", self.0)
    }
}

/// What others wrote, without what steers.
pub fn text(text: &str) -> String {
    escape_control(text)
}

/// A number with separators, such as `20,000`.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A number with its noun, such as `1 kind` or `27 kinds`.
pub fn counted(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", count(number as u64))
}

/// Bytes, such as `338.40 KiB`.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// What part of a whole a number is, in percent.
pub fn percent_of(part: u64, whole: u64) -> Percent {
    if whole == 0 {
        return Percent(0.0);
    }
    Percent(part as f64 / whole as f64 * 100.0)
}

/// A share for people, such as `34.5 %`.
pub fn share(part: u64, whole: u64) -> String {
    match percent_of(part, whole).0 {
        _ if part == 0 => "0 %".to_owned(),
        small if small < 0.1 => "<0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// How long something took, such as `420 ms`, `3.5 s` or `1h 30m`.
pub fn duration(took: Duration) -> String {
    match took.as_secs_f64() {
        seconds if seconds < MAX_MILLISECONDS => format!("{:.0} ms", seconds * 1_000.0),
        seconds if seconds < MAX_DECIMAL_SECONDS => format!("{seconds:.1} s"),
        _ => spelled_duration(took),
    }
}

/// How long something took, where both ends are known.
pub fn duration_between(started: Option<Timestamp>, finished: Option<Timestamp>) -> String {
    let took = finished
        .zip(started)
        .map(|(finished, started)| finished.since(started));
    took.map(duration).unwrap_or_default()
}

/// Date and time to the second; empty where it is not known.
pub fn time(at: Option<Timestamp>) -> String {
    at.map(Timestamp::to_seconds_text).unwrap_or_default()
}

/// The place of each item when all are sorted by their keys; equal ones keep their order.
pub fn ranks<K: Ord>(items: usize, key: impl Fn(usize) -> K) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..items).collect();
    sorted.sort_by_cached_key(|&item| key(item));
    let mut places: Vec<(usize, usize)> = sorted.into_iter().zip(0..).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_harmless_and_short() {
        let name = KindName::new(&Namespace::default(), &Kind::new("a\u{202e}\n<b>"));
        assert_eq!(name.to_string(), r"(default)/a\u{202e}\n<b>");
        let long = KindName::new(&Namespace::default(), &Kind::new("語".repeat(1_000)));
        assert_eq!(long.label().chars().count(), MAX_LABEL_CHARS + 1);
    }

    #[test]
    fn shares_and_durations_read_well() {
        assert_eq!(share(0, 0), "0 %");
        assert_eq!(share(1, 100_000), "<0.1 %");
        assert_eq!(share(345, 1_000), "34.5 %");
        assert_eq!(duration(Duration::from_millis(420)), "420 ms");
        assert_eq!(duration(Duration::from_millis(3_460)), "3.5 s");
        assert_eq!(duration(Duration::from_secs(5_400)), "1h 30m");
    }

    #[test]
    fn ranks_are_places_in_sorted_order() {
        let keys = [30, 10, 20, 10];
        assert_eq!(ranks(4, |item| keys[item]), [3, 0, 2, 1]);
    }
}
