//! Points in time, as exports have them: microseconds since 1970, UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};

use serde_with::{DeserializeFromStr, SerializeDisplay};

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// Microseconds since 1970-01-01T00:00:00Z, spelled as RFC 3339 with `Z` and 0, 3 or 6 digits of
/// fraction.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr,
)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first microsecond of the year 1.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800_000_000);
    /// The last microsecond of the year 9999.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999_999);

    /// The point that many microseconds after 1970, unless it lies outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0)
            .contains(&micros)
            .then_some(Timestamp(micros))
    }

    /// Whether an export can have been made at this time: in the years 2008, when Datastore began,
    /// to 2099. Some emulators write other times.
    pub fn is_plausible(self) -> bool {
        (2008..2100).contains(&self.civil().year())
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// How long after `earlier` the point is; nothing where it is before.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// The civil date and time in UTC.
    pub fn civil(self) -> DateTime {
        // Not by way of jiff's own timestamp, whose range ends a day before the year 9999 does.
        EPOCH.saturating_add(SignedDuration::from_micros(self.0))
    }

    /// Date and time to the second, such as `2026-01-31 02:15:00`, for tables that say UTC.
    pub fn to_seconds_text(self) -> String {
        let text = self.to_string();
        text.chars().take(19).collect::<String>().replace('T', " ")
    }

    /// Fourteen digits, `YYYYMMDDHHMMSS`, UTC: the form that stands in names of archives.
    pub fn to_archive_id(self) -> String {
        let t = self.civil();
        format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )?;
        match self.0.rem_euclid(1_000_000) {
            0 => {}
            micros if micros % 1_000 == 0 => write!(f, ".{:03}", micros / 1_000)?,
            micros => write!(f, ".{micros:06}")?,
        }
        f.write_str("Z")
    }
}

/// A duration in hours, minutes and seconds, such as `26h 30m`.
pub fn spelled_duration(duration: Duration) -> String {
    format!(
        "{:#}",
        SignedDuration::from_secs(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
    )
}

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as 2026-01-31T02:15:00Z")]
pub struct TimeError(String);

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError(text.chars().take(80).collect());
        let civil: DateTime = text
            .strip_suffix('Z')
            .ok_or_else(wrong)?
            .parse()
            .map_err(|_| wrong())?;
        let micros = i64::try_from(civil.duration_since(EPOCH).as_micros()).map_err(|_| wrong())?;
        Timestamp::from_micros(micros).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_has_no_three_or_six_digits() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_381_539_723_456_789, "2013-10-12T01:02:03.456789Z"),
            (1_381_539_723_456_000, "2013-10-12T01:02:03.456Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (Timestamp::MIN.0, "0001-01-01T00:00:00Z"),
            (Timestamp::MAX.0, "9999-12-31T23:59:59.999999Z"),
        ] {
            let time = Timestamp::from_micros(micros).unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
        assert_eq!(Timestamp::from_micros(Timestamp::MAX.0 + 1), None);
        assert_eq!(
            Timestamp::from_micros(1_381_539_723_456_789)
                .unwrap()
                .to_archive_id(),
            "20131012010203"
        );
    }

    #[test]
    fn times_outside_2008_to_2099_are_not_plausible() {
        let is_plausible = |text: &str| text.parse::<Timestamp>().unwrap().is_plausible();
        assert!(
            is_plausible("2008-01-01T00:00:00Z") && is_plausible("2099-12-31T23:59:59.999999Z")
        );
        assert!(
            !is_plausible("2007-12-31T23:59:59.999999Z") && !is_plausible("2100-01-01T00:00:00Z")
        );
        // Seconds where microseconds belong, as an emulator of 2021 wrote them.
        assert!(
            !Timestamp::from_micros(1_639_071_612)
                .unwrap()
                .is_plausible()
        );
    }
}
