//! Numbers, sizes and times for people.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, HumanDuration};

use crate::model::KindCounts;

/// Bytes, such as `338.4 KiB`.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Bytes for tables: three digits, such as `12.3 MiB`.
pub fn short_bytes(bytes: u64) -> String {
    let (number, unit) = scaled(bytes);
    match number {
        _ if unit == "B" => format!("{bytes} B"),
        number if number < 10.0 => format!("{number:.2} {unit}"),
        number if number < 100.0 => format!("{number:.1} {unit}"),
        number => format!("{number:.0} {unit}"),
    }
}

/// Bytes without decimals, such as `12 MiB`.
pub fn whole_bytes(bytes: u64) -> String {
    let (number, unit) = scaled(bytes);
    format!("{number:.0} {unit}")
}

fn scaled(bytes: u64) -> (f64, &'static str) {
    let mut number = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be rounded up to four digits takes the next unit.
    while number >= 999.5 {
        let Some(larger) = units.next() else { break };
        (number, unit) = (number / 1_024.0, larger);
    }
    (number, unit)
}

/// A number with separators, such as `20,000`.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Seconds, such as `5 minutes`.
pub fn duration(seconds: u64) -> String {
    HumanDuration(Duration::from_secs(seconds)).to_string()
}

/// A number with its noun, such as `1 kind` or `27 kinds`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The size of a backup, such as `27 exports (9 kinds in 3 namespaces)`.
pub fn exports(counts: &KindCounts) -> String {
    let kinds = counted(counts.kinds, "kind", "kinds");
    let exports = counted(counts.exports, "export", "exports");
    match counts.namespaces {
        0 | 1 if counts.exports == counts.kinds => kinds,
        0 | 1 => format!("{exports} ({kinds})"),
        many => format!("{exports} ({kinds} in {} namespaces)", count(many)),
    }
}

/// The count of companions, appended to that of other objects; empty if there are none.
pub fn and_companions(companions: u64) -> String {
    match companions {
        0 => String::new(),
        some => format!(", {} among them", counted(some, "companion", "companions")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_named_where_there_are_several() {
        let counts = |exports, pairs: &[(&str, &str)]| {
            super::exports(&KindCounts::new(exports, pairs.iter().copied()))
        };
        assert_eq!(counts(0, &[]), "0 kinds");
        assert_eq!(counts(2, &[("", "A"), ("", "B")]), "2 kinds");
        assert_eq!(counts(1, &[("", "A"), ("", "B")]), "1 export (2 kinds)");
        let shop = [("", "A"), ("x", "A"), ("x", "B")];
        assert_eq!(counts(3, &shop), "3 exports (2 kinds in 2 namespaces)");
    }

    #[test]
    fn sizes_in_tables_have_three_digits() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "0.98 KiB"),
            (5_870, "5.73 KiB"),
            (47_964, "46.8 KiB"),
            (235_509, "230 KiB"),
            (1_023 * 1_024, "1.00 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(short_bytes(size), text);
        }
        assert_eq!(whole_bytes(12_876_543), "12 MiB");
    }
}
