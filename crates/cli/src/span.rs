//! Times as people write and read them: `500ms`, `5s`, `90m`, `72h`, `3d`.

use std::time::Duration;

use recovery::span::{InvalidSpan, Span};

/// Reads one.
pub(crate) fn parse(text: &str) -> Result<Duration, InvalidSpan> {
    text.parse::<Span>().map(Span::duration)
}

/// Writes the time between two moments; none if the clock went back.
pub(crate) fn words(ms: i64) -> String {
    took(u64::try_from(ms).unwrap_or(0))
}

/// Writes milliseconds, at the precision that matters.
pub(crate) fn took(ms: u64) -> String {
    match ms {
        ms @ 0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        ms @ 10_000..600_000 => format!("{}s", ms / 1000),
        ms @ 600_000..36_000_000 => format!("{}m", ms / 60_000),
        ms @ 36_000_000..864_000_000 => format!("{}h", ms / 3_600_000),
        ms => format!("{}d", ms / 86_400_000),
    }
}

/// Writes whole seconds in the largest unit that holds them exactly: it can be read back.
pub(crate) fn seconds(seconds: u64) -> String {
    Span::seconds(seconds).to_string()
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
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_at_the_precision_that_matters() {
        let told = [0, 9_999, 10_000, 599_999, 600_000, 35_999_999, 36_000_000, 864_000_000, u64::MAX].map(took);
        assert_eq!(told, ["0.0s", "9.9s", "10s", "599s", "10m", "599m", "10h", "10d", "213503982334d"]);
        assert_eq!(words(-5), "0.0s");
    }
}
