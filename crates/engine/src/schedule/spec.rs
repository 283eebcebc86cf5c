//! What a schedule says: when, in which zone, and what to do where the calendar and the world disagree.
//!
//! Invariant: what [`ScheduleSpec::timetable`] accepts can be computed for ever; a text that fires never is refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Timetable;

/// Longest delay by jitter: with more, the day of a daily run would be a matter of chance.
pub(super) const MOST_JITTER: Duration = Duration::from_secs(24 * 3600);
/// Longest look back: what is a week late belongs to another week.
pub(super) const MOST_CATCH_UP: Duration = Duration::from_secs(7 * 24 * 3600);

/// What to start, and when. Kept as JSON; `v` is the version of that form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// Form of this text, 1.
    pub v: u32,
    /// Five fields, minute to weekday; read in the zone's wall clock time.
    pub cron: String,
    /// IANA name of the zone, such as `Europe/Berlin`.
    pub zone: String,
    /// Each run starts up to this much later, milliseconds; the same for the same name and time.
    pub jitter_ms: u64,
    /// What happens while the run before is open.
    pub overlap: Overlap,
    /// What happens to times that passed while nobody was there.
    pub catch_up: CatchUp,
    /// What happens on the days on which the clock is changed.
    pub clock_change: ClockChange,
    /// Registered name of what is started.
    pub workflow: String,
    /// What the run is about: at most one open run has it.
    pub workflow_id: String,
    /// Its input.
    pub input: Value,
}

/// What happens when a time comes and the run before is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The time is missed.
    Skip,
    /// The time waits until that run has ended.
    Wait,
}

/// What happens to times that passed while nobody was there to start anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// How late a run may start, milliseconds.
    pub within_ms: u64,
    /// Which of those that are not too late.
    pub which: CatchUpRuns,
}

/// Which of the times that passed are made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUpRuns {
    /// The last one.
    Last,
    /// Each, one after the other.
    All,
    /// None.
    None,
}

/// What happens on the days on which the clock is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockChange {
    /// A time of day that is left out.
    pub missing: Missing,
    /// A time of day that comes twice.
    pub repeated: Repeated,
}

/// What happens to a time of day that is left out when the clock goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It fires at the moment of the change.
    RunAfter,
    /// It does not fire on that day.
    Skip,
}

/// What happens to a time of day that comes twice when the clock goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeated {
    /// It fires at the first.
    First,
    /// It fires at the second.
    Second,
    /// It fires at both.
    Both,
}

/// Why a schedule can't be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A newer build wrote it.
    #[error("the schedule is written in form {found}; this build reads form 1")]
    Form {
        /// What it says.
        found: u32,
    },
    /// The text is no calendar.
    #[error("{cron:?} is not five fields of minute, hour, day, month and weekday: {why}")]
    Cron {
        /// What was given.
        cron: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names a day that no year has.
    #[error("{cron:?} never fires: no year has such a day")]
    Never {
        /// What was given.
        cron: String,
    },
    /// No such zone.
    #[error("{zone:?} is no time zone of the IANA database, such as Europe/Berlin")]
    Zone {
        /// What was given.
        zone: String,
    },
    /// Too much chance.
    #[error("a jitter of {given_ms} ms is more than a day")]
    Jitter {
        /// What was given.
        given_ms: u64,
    },
    /// Too long a look back.
    #[error("a catch-up window of {given_ms} ms is more than seven days")]
    Window {
        /// What was given.
        given_ms: u64,
    },
    /// Each of those that were missed, and none while another is open: all but the first would be missed again.
    #[error("catching up on all runs needs the overlap `wait`: with `skip` the second would be missed because the first is open")]
    AllNeedsWait,
}

impl ScheduleSpec {
    /// The form that this build writes.
    pub const FORM: u32 = 1;

    /// The calendar of a schedule of that name.
    ///
    /// # Errors
    /// [`ScheduleError`]: what is wrong with it.
    pub fn timetable(&self, name: &str) -> Result<Timetable, ScheduleError> {
        if self.v != Self::FORM {
            return Err(ScheduleError::Form { found: self.v });
        }
        if u128::from(self.jitter_ms) > MOST_JITTER.as_millis() {
            return Err(ScheduleError::Jitter { given_ms: self.jitter_ms });
        }
        if u128::from(self.catch_up.within_ms) > MOST_CATCH_UP.as_millis() {
            return Err(ScheduleError::Window { given_ms: self.catch_up.within_ms });
        }
        if self.catch_up.which == CatchUpRuns::All && self.overlap == Overlap::Skip {
            return Err(ScheduleError::AllNeedsWait);
        }
        Timetable::new(name, &self.cron, &self.zone, self.clock_change, Duration::from_millis(self.jitter_ms))
    }
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { within_ms: 3_600_000, which: CatchUpRuns::Last }
    }
}

impl Default for ClockChange {
    fn default() -> Self {
        Self { missing: Missing::RunAfter, repeated: Repeated::First }
    }
}
