//! How much of each kind is restored: a share of its entities, or a number of them.
//!
//! Knows the spelling only. Which entities those are is for `transform::sample`.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

/// How much of each kind is restored. Spelled `5%`, `0.5%` or `100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, SerializeDisplay, DeserializeFromStr)]
pub enum Sample {
    /// A share, in millionths: 50,000 for `5%`. At most 1,000,000.
    Share(u32),
    /// At most that many entities.
    Limit(u64),
}

impl Sample {
    /// Nothing: of a kind that is restored only as far as others need it.
    pub const NONE: Sample = Sample::Limit(0);
}

/// A text that is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a share such as 5% or 0.5% nor a number of entities")]
pub struct SampleError {
    /// The text.
    text: String,
}

/// A percent in millionths.
const PERCENT: f64 = 10_000.0;

impl FromStr for Sample {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, SampleError> {
        let wrong = || SampleError {
            text: text.to_owned(),
        };
        let is_plain = |digits: &str| digits.bytes().all(|c| c.is_ascii_digit() || c == b'.');
        let Some(percent) = text.strip_suffix('%') else {
            return text
                .parse()
                .ok()
                .filter(|limit| *limit > 0)
                .map(Sample::Limit)
                .ok_or_else(wrong);
        };
        let percent: f64 = Some(percent)
            .filter(|digits| is_plain(digits))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(wrong)?;
        let millionths = (percent * PERCENT).round();
        // Both ends are checked, so that the number fits.
        if (1.0..=100.0 * PERCENT).contains(&millionths) {
            Ok(Sample::Share(millionths as u32))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sample::Share(millionths) => write!(f, "{}%", f64::from(*millionths) / PERCENT),
            Sample::Limit(limit) => write!(f, "{limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_parse_only_what_they_print() {
        for (text, sample) in [
            ("5%", Sample::Share(50_000)),
            ("0.5%", Sample::Share(5_000)),
            ("100%", Sample::Share(1_000_000)),
            ("100", Sample::Limit(100)),
        ] {
            assert_eq!(text.parse(), Ok(sample));
            assert_eq!(sample.to_string(), text);
        }
        for wrong in [
            "", "%", "0", "0%", "-5%", "101%", "5 %", "1e1%", "nan%", "inf%", "many", "-1", "1.5",
        ] {
            assert!(wrong.parse::<Sample>().is_err(), "{wrong}");
        }
    }
}
