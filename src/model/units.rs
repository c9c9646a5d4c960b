//! How durations and sizes are written.

use std::time::Duration;

/// No duration may be longer: whatever it is added to, the sum is a time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reads `2h`, `90s`, `1h 30m`, `3d`.
pub fn read_duration(text: &str) -> Result<Duration, String> {
    let wrong = || match text.trim().parse::<u64>() {
        Ok(number) => format!("{text:?} has no unit: write {number}s, {number}m or {number}h"),
        Err(_) => format!("{text:?} is not a duration such as 90s, 2h or 3d"),
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let signed = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    let duration =
        Duration::try_from(signed).map_err(|_| format!("the duration {text:?} is negative"))?;
    if duration > LONGEST {
        Err(format!("the duration {text:?} is longer than 366 days"))
    } else {
        Ok(duration)
    }
}

/// Reads `256MiB`, `1G`, `1048576`: powers of two, as memory is counted.
pub fn read_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 64MiB or 1GiB");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0);
    bytes.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_what_people_write() {
        assert_eq!(
            (read_size("256MiB"), read_size("1g"), read_size("4096")),
            (Ok(256 << 20), Ok(1 << 30), Ok(4096))
        );
        assert!(
            read_size("").is_err()
                && read_size("12 parsecs").is_err()
                && read_size("99999999999T").is_err()
                && read_size("0").is_err()
        );
        assert_eq!(
            (read_duration("2h"), read_duration("90s")),
            (Ok(Duration::from_secs(7200)), Ok(Duration::from_secs(90)))
        );
        assert_eq!(
            (
                read_duration("1h 30m"),
                read_duration("2d"),
                read_duration("366d")
            ),
            (
                Ok(Duration::from_secs(5400)),
                Ok(Duration::from_secs(172_800)),
                Ok(LONGEST)
            )
        );
        assert!(read_duration("soon").is_err() && read_duration("-5s").is_err());
    }

    #[test]
    fn durations_that_no_clock_can_add_are_refused() {
        for text in [
            "9223372036854775807s",
            "99999999999999999999s",
            "8784h 1s",
            "367d",
            "1y",
            "2mo",
        ] {
            assert!(read_duration(text).is_err(), "{text}");
        }
    }
}
