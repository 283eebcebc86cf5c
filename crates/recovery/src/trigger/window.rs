//! Maintenance windows: times at which alerts start nothing. Once, or every week at the same wall-clock time.
//!
//! Invariants: 1. A weekly window begins on its days and may end on the next. 2. It follows its zone's clock: an hour that is
//! repeated is in it twice, one that is skipped never.

use chrono::{DateTime, Datelike, Days, NaiveTime, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// A time without failovers by alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Window {
    /// Once, from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Once, until here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Or every week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Daily>,
    /// Why.
    pub reason: String,
}

/// The same hours on some days of each week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Daily {
    /// On which days it begins.
    pub days: Vec<Weekday>,
    /// Wall-clock time, `HH:MM`.
    pub begins: String,
    /// Wall-clock time, `HH:MM`; on the next day if it is not later than the beginning.
    pub ends: String,
    /// IANA name.
    pub zone: String,
}

/// Why a window is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// It is neither or both.
    #[error("a maintenance window has either from and until, or weekly")]
    Kind,
    /// It ends before it begins.
    #[error("a maintenance window ends at {until}, before it begins at {from}")]
    Order {
        /// Its beginning.
        from: DateTime<Utc>,
        /// Its end.
        until: DateTime<Utc>,
    },
    /// A time of day can't be read.
    #[error("{text:?} is no time of day of the form 22:30")]
    Time {
        /// What was given.
        text: String,
    },
    /// Nobody knows the zone.
    #[error("{text:?} is no time zone such as Europe/Berlin")]
    Zone {
        /// What was given.
        text: String,
    },
    /// It would never begin.
    #[error("a weekly maintenance window needs at least one day")]
    Days,
}

impl Window {
    /// Checks what reading can't.
    ///
    /// # Errors
    /// [`InvalidWindow`].
    pub fn check(&self) -> Result<(), InvalidWindow> {
        match (self.from, self.until, &self.weekly) {
            (Some(from), Some(until), None) if until <= from => Err(InvalidWindow::Order { from, until }),
            (Some(_), Some(_), None) => Ok(()),
            (None, None, Some(daily)) if daily.days.is_empty() => Err(InvalidWindow::Days),
            (None, None, Some(daily)) => daily.read().map(drop),
            _ => Err(InvalidWindow::Kind),
        }
    }

    /// Until when it lasts, if `now` lies in it.
    #[must_use]
    pub fn lasts(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match (self.from, self.until, &self.weekly) {
            (Some(from), Some(until), _) => (from <= now && now < until).then_some(until),
            (_, _, Some(daily)) => daily.lasts(now),
            _ => None,
        }
    }
}

impl Daily {
    fn read(&self) -> Result<(NaiveTime, NaiveTime, Tz), InvalidWindow> {
        let time = |text: &String| NaiveTime::parse_from_str(text, "%H:%M").ok().ok_or_else(|| InvalidWindow::Time { text: text.clone() });
        let zone = self.zone.parse().ok().ok_or_else(|| InvalidWindow::Zone { text: self.zone.clone() })?;
        Ok((time(&self.begins)?, time(&self.ends)?, zone))
    }

    fn lasts(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (begins, ends, zone) = self.read().ok()?;
        let local = now.with_timezone(&zone).naive_local();
        let over_midnight = ends <= begins;
        let days = [local.date(), local.date().checked_sub_days(Days::new(1))?];
        let end = days.into_iter().filter(|day| self.days.contains(&day.weekday())).find_map(|day| {
            let last = if over_midnight { day.checked_add_days(Days::new(1))? } else { day };
            (day.and_time(begins) <= local && local < last.and_time(ends)).then(|| last.and_time(ends))
        })?;
        // An end that the clock skips is looked at again an hour later.
        let end = end.and_local_timezone(zone).latest().unwrap_or_else(|| (now + chrono::TimeDelta::hours(1)).with_timezone(&zone));
        Some(end.with_timezone(&Utc))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn nightly() -> Window {
        let weekly = Daily { days: vec![Weekday::Sat], begins: "22:00".into(), ends: "02:00".into(), zone: "Europe/Berlin".into() };
        Window { from: None, until: None, weekly: Some(weekly), reason: "switches".into() }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_weekly_window_begins_on_its_day_and_goes_on_over_midnight() {
        let window = nightly();
        window.check().unwrap();
        let end = Some(at("2026-11-22T01:00:00Z"));
        assert_eq!(window.lasts(at("2026-11-21T20:59:59Z")), None);
        assert_eq!(window.lasts(at("2026-11-21T21:00:00Z")), end);
        assert_eq!(window.lasts(at("2026-11-22T00:59:59Z")), end);
        assert_eq!(window.lasts(at("2026-11-22T01:00:00Z")), None);
        assert_eq!(window.lasts(at("2026-11-22T22:00:00Z")), None, "Sunday has none");
    }

    #[test]
    fn a_window_follows_its_zones_clock_over_a_change() {
        // In the night of 2026-10-25 Berlin repeats the hour from 2 to 3; the window ends at the first 2 o'clock that is the last.
        assert_eq!(nightly().lasts(at("2026-10-24T20:00:00Z")), Some(at("2026-10-25T01:00:00Z")));
    }

    #[test]
    fn a_window_of_no_kind_or_of_two_is_refused() {
        let once = Window { from: Some(at("2026-11-22T01:00:00Z")), until: Some(at("2026-11-22T00:00:00Z")), weekly: None, reason: String::new() };
        assert!(matches!(once.check(), Err(InvalidWindow::Order { .. })));
        assert_eq!(Window { from: None, ..once.clone() }.check(), Err(InvalidWindow::Kind));
        assert_eq!(Window { weekly: nightly().weekly, ..once }.check(), Err(InvalidWindow::Kind));
        let mut wrong = nightly();
        wrong.weekly.as_mut().unwrap().zone = "Berlin".into();
        assert!(matches!(wrong.check(), Err(InvalidWindow::Zone { .. })));
    }
}
