//! Lengths of time as people write them: `500ms`, `5s`, `90m`, `72h`, `3d`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Units from the largest, with their length.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Longest that anybody means: ten years.
const LONGEST_MS: u64 = 3_660 * 86_400_000;

/// A length of time, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no length of time: a number with ms, s, m, h or d, such as 5s, up to ten years")]
pub struct InvalidSpan {
    /// What was given.
    pub text: String,
}

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// For timers.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// For calendars.
    #[must_use]
    pub fn delta(self) -> chrono::TimeDelta {
        chrono::TimeDelta::milliseconds(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;
    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = if unit == "min" { "m" } else { unit };
        let unit_ms = UNITS.iter().find(|(word, _)| *word == unit).map(|(_, ms)| *ms);
        let ms = number.parse::<u64>().ok().zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
        ms.filter(|ms| *ms <= LONGEST_MS).map(Self).ok_or_else(|| InvalidSpan { text: text.to_owned() })
    }
}

/// In the largest unit that holds it exactly, so that it reads back.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, ms) = UNITS.into_iter().find(|(_, ms)| self.0 > 0 && self.0.is_multiple_of(*ms)).unwrap_or(("s", 1_000));
        write!(f, "{}{word}", self.0 / ms)
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;
    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_number_with_its_unit_and_reads_back() {
        for (text, ms) in [("0s", 0), ("5s", 5_000), ("90s", 90_000), ("3d", 259_200_000), ("25h", 90_000_000), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(text.parse::<Span>().unwrap(), Span(ms));
            assert_eq!(Span(ms).to_string(), text);
        }
        assert_eq!("7min".parse::<Span>().unwrap(), Span::seconds(420));
        for text in ["", "5", "s", "5 s", "-5s", "5x", "99999999999999999999s", "99999999999999999h", "4000d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
