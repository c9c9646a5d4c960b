//! What a progress bar shows, as one line that fits a terminal.

use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::numbers::{bytes, count, whole_bytes};
use super::text::shorten;

/// A bar is not longer.
const MAX_BAR: usize = 30;

/// A shorter bar shows nothing.
const MIN_BAR: usize = 8;

/// What a phase counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Entities,
    Exports,
}

impl Unit {
    /// What a phase counts, by its name.
    pub fn of_phase(phase: &str) -> Self {
        match phase {
            "restoring" => Unit::Entities,
            "exporting" => Unit::Exports,
            _ => Unit::Bytes,
        }
    }
}

/// A moment of a phase.
#[derive(Debug)]
pub struct ProgressLine<'a> {
    /// Such as `restoring`.
    pub phase: &'a str,
    /// What is worked on, such as `step 3 of 27 acme/Order`; shown instead of the phase.
    pub label: &'a str,
    pub unit: Unit,
    pub done: u64,
    pub total: u64,
    pub per_second: f64,
    pub left: Duration,
}

impl ProgressLine<'_> {
    /// For a pipe or a log.
    pub fn plain(&self) -> String {
        format!("{}: {}", self.head(), self.numbers().join(", "))
    }

    /// For a terminal: never wider than `columns`.
    pub fn fit(&self, columns: usize) -> String {
        let (head, numbers) = (self.head(), self.numbers().join("  "));
        let room = columns.saturating_sub(numbers.width() + 2);
        if room < self.phase.width() {
            return shorten(&numbers, columns);
        }
        let head = shorten(&head, room);
        let bar = room.saturating_sub(head.width() + 2).min(MAX_BAR);
        if bar < MIN_BAR {
            return format!("{head}  {numbers}");
        }
        format!("{head}  {}  {numbers}", self.bar(bar))
    }

    /// What goes on.
    fn head(&self) -> String {
        match self.label {
            "" => self.phase.to_owned(),
            label => label.to_owned(),
        }
    }

    /// The numbers, without those that nothing is known of yet.
    fn numbers(&self) -> Vec<String> {
        let (done, total) = (self.done, self.total);
        let mut numbers = vec![match self.unit {
            Unit::Bytes => format!("{}/{}", bytes(done), bytes(total)),
            Unit::Entities => format!("{}/{} entities", count(done), count(total)),
            Unit::Exports => format!("{}/{} exports", count(done), count(total)),
        }];
        if self.unit == Unit::Entities && done >= total {
            // All are written, and the target is asked what it holds.
            numbers.push("checking".to_owned());
        } else if self.unit != Unit::Exports && self.per_second >= 1.0 {
            numbers.push(self.rate());
            numbers.push(format!("{} left", short_duration(self.left)));
        }
        numbers
    }

    fn rate(&self) -> String {
        let per_second = self.per_second as u64;
        match self.unit {
            Unit::Bytes => format!("{}/s", whole_bytes(per_second)),
            Unit::Entities | Unit::Exports => format!("{}/s", count(per_second)),
        }
    }

    fn bar(&self, columns: usize) -> String {
        let share = self.done.min(self.total) as f64 / self.total.max(1) as f64;
        let full = (columns as f64 * share) as usize;
        "━".repeat(full) + &"╌".repeat(columns - full.min(columns))
    }
}

/// The largest unit of a duration, such as `5m`.
fn short_duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str) -> ProgressLine<'_> {
        ProgressLine {
            phase: "restoring",
            label,
            unit: Unit::Entities,
            done: 1_234,
            total: 45_678,
            per_second: 512.7,
            left: Duration::from_secs(125),
        }
    }

    #[test]
    fn bar_names_step_and_kind() {
        let line = line("step 3 of 27 acme/Order");
        assert_eq!(
            line.fit(80),
            "step 3 of 27 acme/Order  ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  1,234/45,678 entities  512/s  2m left"
        );
        assert_eq!(
            line.plain(),
            "step 3 of 27 acme/Order: 1,234/45,678 entities, 512/s, 2m left"
        );
    }

    #[test]
    fn whole_restore_is_being_checked() {
        let line = ProgressLine {
            done: 45_678,
            ..line("step 27 of 27 acme/Order")
        };
        let checking = "step 27 of 27 acme/Order: 45,678/45,678 entities, checking";
        assert_eq!(line.plain(), checking);
    }

    #[test]
    fn bar_never_wraps() {
        let long = "step 1,000 of 1,000 acme/".to_owned() + &"Größe価格".repeat(40);
        for label in ["", "step 3 of 27 acme/Order", &long] {
            for columns in 1..200 {
                let fitted = line(label).fit(columns);
                assert!(fitted.width() <= columns, "{columns}: {fitted}");
            }
        }
        assert!(line(&long).fit(80).contains('…'));
    }

    #[test]
    fn rates_have_no_decimals() {
        let bytes = ProgressLine {
            unit: Unit::Bytes,
            per_second: 12_876_543.21,
            ..line("")
        };
        assert!(bytes.fit(80).contains("  12 MiB/s  "), "{}", bytes.fit(80));
    }

    #[test]
    fn phase_without_progress_has_no_rate() {
        let line = ProgressLine {
            per_second: 0.0,
            ..line("")
        };
        assert_eq!(line.plain(), "restoring: 1,234/45,678 entities");
    }
}
