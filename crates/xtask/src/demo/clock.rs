//! Points in time as milliseconds since 1970, and reading them from RFC 3339 text.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) i64);

impl Moment {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self(i64::try_from(since.as_millis()).expect("fits for millions of years"))
    }

    /// Reads `2026-11-22T23:47:57.818Z`, also with a blank for `T` and with an offset such as `+0000` or `+00:00`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        read(text).map(Self).with_context(|| format!("{text:?} is no time"))
    }

    /// Seconds from another moment to this one; negative if that is later.
    pub(crate) fn seconds_after(self, other: Self) -> f64 {
        Self::seconds(self.0 - other.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "differences of hours are far below 2^52 ms")]
    fn seconds(ms: i64) -> f64 {
        ms as f64 / 1000.0
    }
}

fn read(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = clock.find(['Z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let mut clock = clock.splitn(3, ':');
    let (hours, minutes) = (clock.next()?.parse::<i64>().ok()?, clock.next()?.parse::<i64>().ok()?);
    let (seconds, fraction) = clock.next().map(|text| text.split_once('.').unwrap_or((text, "")))?;
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let days = days_since_1970(year, month, day);
    let total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds.parse::<i64>().ok()?;
    Some((total - offset_seconds(zone)?) * 1000 + ms)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let digits = zone.replace(':', "");
    match digits.as_str() {
        "" | "Z" => Some(0),
        _ => {
            let sign = if digits.starts_with('-') { -1 } else { 1 };
            let hours: i64 = digits.get(1..3)?.parse().ok()?;
            let minutes: i64 = digits.get(3..5)?.parse().ok()?;
            Some(sign * (hours * 60 + minutes) * 60)
        }
    }
}

/// The proleptic Gregorian calendar, with years that begin in March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form_that_we_meet() {
        let expected = Moment(1_795_391_277_818);
        for text in ["2026-11-22T23:47:57.818Z", "2026-11-22 23:47:57.818+0000", "2026-11-23T00:47:57.818123+01:00"] {
            assert_eq!(Moment::parse(text).expect(text), expected, "{text}");
        }
        assert_eq!(Moment::parse("1970-01-01T00:00:00Z").expect("the start"), Moment(0));
        assert_eq!(Moment::parse("2024-02-29T00:00:00Z").expect("a leap day"), Moment(1_709_164_800_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert!(Moment::parse("yesterday").is_err());
    }
}
