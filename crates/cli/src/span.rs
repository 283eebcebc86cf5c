//! Times as people write and read them: `500ms`, `5s`, `90m`, `72h`, `3d`.

use std::time::Duration;

/// Reads one.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a time is a number with ms, s, m, h or d, such as 5s".to_owned()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{number:?} is no number: {error}"))?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "that is too long".to_owned())
}

/// Writes one, at the precision that matters.
pub(crate) fn words(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        ms @ 10_000..600_000 => format!("{}s", ms / 1000),
        ms @ 600_000..36_000_000 => format!("{}m", ms / 60_000),
        ms @ 36_000_000..864_000_000 => format!("{}h", ms / 3_600_000),
        ms => format!("{}d", ms / 86_400_000),
    }
}

/// Writes whole seconds in the largest unit that holds them exactly: it can be read back.
pub(crate) fn seconds(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

/// Writes a size.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        10_485_760..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_its_unit() {
        assert_eq!(parse("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(parse("72h").unwrap(), Duration::from_secs(72 * 3600));
        assert_eq!(parse("500ms").unwrap(), Duration::from_millis(500));
        for text in ["", "5", "s", "5 s", "-5s", "5x", "99999999999999999999s", "99999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_seconds_read_back_as_written() {
        for (number, text) in [(0, "0s"), (5, "5s"), (90, "90s"), (300, "5m"), (259_200, "3d"), (90_000, "25h")] {
            assert_eq!(seconds(number), text);
            assert_eq!(parse(text).unwrap(), Duration::from_secs(number));
        }
    }
}
