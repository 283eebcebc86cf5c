//! What to do about a schedule that is due: which of the times that have come are missed and why, which one is started, and
//! where it goes on.
//!
//! ```text
//!   due times ─▶ paused? ─▶ too late? ─▶ replaced by a later one? ─▶ start          (the last, or each in turn)
//! ```
//!
//! Invariants: 1. Each time that has come is in the plan once, or stays due. 2. A time is late only from the moment at which it
//! could have started: one that waited for the run before is not late because of it. 3. A plan is bounded, however long nobody
//! was there.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{CatchUpRuns, Due, FireTime, FiringKind, Missed, NextFire, Overlap, ScheduleError};

/// A start within this is on time, whatever the catch-up says: a database that fails over takes less.
pub(super) const ON_TIME: Duration = Duration::from_secs(60);
/// Most times looked at in one step: more than a window of seven days has minutes, so that a step always sees a whole window.
const MOST_TIMES: usize = 20_000;
/// Most times with a row each; more than these, after an outage of a schedule of minutes, are one row for each cause: nobody
/// reads them singly, and a firing stays a small transaction.
const MOST_ROWS: usize = 1_000;

/// What a due schedule should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is missed, in order.
    pub missed: Vec<Missed>,
    /// What is started: the time, and why it is late if it is.
    pub start: Option<(FireTime, Option<String>)>,
    /// Where it goes on.
    pub next: NextFire,
}

enum Fate {
    Start,
    Miss(FiringKind, String),
}

impl Due {
    /// The plan for this schedule at this time.
    ///
    /// # Errors
    /// [`ScheduleError`]: this build can't read the schedule.
    pub fn plan(&self) -> Result<Plan, ScheduleError> {
        let schedule = &self.schedule;
        let table = schedule.spec.timetable(&schedule.name)?;
        let mut times = table.after(schedule.next.at - Duration::from_millis(1)).peekable();
        let mut came = Vec::new();
        while came.len() < MOST_TIMES
            && let Some(time) = times.next_if(|time| time.due_at <= self.now)
        {
            came.push(time);
        }
        let never = || ScheduleError::Never { cron: schedule.spec.cron.clone() };
        let next = times.next().ok_or_else(never)?;
        Ok(self.sorted(came, next))
    }

    fn sorted(&self, came: Vec<FireTime>, next: FireTime) -> Plan {
        let mut fates: Vec<(FireTime, Fate)> = came.into_iter().map(|time| (self.fate(&time), time)).map(|(fate, time)| (time, fate)).collect();
        let more_came = next.due_at <= self.now;
        let chosen = match self.schedule.spec.catch_up.which {
            CatchUpRuns::All => fates.iter().position(|(_, fate)| matches!(fate, Fate::Start)),
            CatchUpRuns::Last | CatchUpRuns::None if more_came => None,
            CatchUpRuns::Last | CatchUpRuns::None => fates.iter().rposition(|(_, fate)| matches!(fate, Fate::Start)),
        };
        let each = self.schedule.spec.catch_up.which == CatchUpRuns::All;
        let mut start = None;
        let mut goes_on = next;
        if let Some(place) = chosen {
            let rest = if each { fates.split_off(place + 1) } else { fates.split_off(fates.len()) };
            goes_on = rest.into_iter().next().map_or(goes_on, |(time, _)| time);
            let (time, _) = fates.remove(place);
            let late = self.late(&time);
            let why = (late > ON_TIME).then(|| format!("started {} late: nobody was there at its time", span(late)));
            start = Some((time, why));
        }
        let by = start.as_ref().map_or(goes_on.at, |(time, _)| time.at);
        let missed = fates.into_iter().map(|(time, fate)| match fate {
            Fate::Start => one(&time, FiringKind::Replaced, format!("a later time took its place: {}", minute(by))),
            Fate::Miss(kind, cause) => one(&time, kind, cause),
        });
        Plan { missed: bounded(missed.collect()), start, next: NextFire { at: goes_on.at, due_at: goes_on.due_at } }
    }

    fn fate(&self, time: &FireTime) -> Fate {
        let paused = |pause: &&super::Pause| pause.until.is_none_or(|until| pause.from <= time.due_at && time.due_at < until);
        if let Some(pause) = self.schedule.pause.as_ref().filter(paused) {
            return Fate::Miss(FiringKind::Paused, format!("{} paused the schedule at {}: {}", pause.by, minute(pause.from), pause.reason));
        }
        let catch_up = self.schedule.spec.catch_up;
        let window = if catch_up.which == CatchUpRuns::None { ON_TIME } else { Duration::from_millis(catch_up.within_ms).max(ON_TIME) };
        if self.late(time) > window {
            let cause = format!("nobody was there to start it within {}; found at {}", span(window), minute(self.now));
            return Fate::Miss(FiringKind::TooLate, cause);
        }
        Fate::Start
    }

    /// How long a run could have been started and was not.
    fn late(&self, time: &FireTime) -> Duration {
        let waits = self.schedule.spec.overlap == Overlap::Wait;
        let could = self.free_since.filter(|_| waits).map_or(time.due_at, |free| free.max(time.due_at));
        (self.now - could).to_std().unwrap_or_default()
    }
}

fn one(time: &FireTime, kind: FiringKind, cause: String) -> Missed {
    Missed { at: time.at, until: time.at, count: 1, kind, cause }
}

/// A row each, or one for each stretch of the same cause.
fn bounded(missed: Vec<Missed>) -> Vec<Missed> {
    if missed.len() <= MOST_ROWS {
        return missed;
    }
    let mut rows: Vec<Missed> = Vec::new();
    for time in missed {
        match rows.last_mut().filter(|row| row.kind == time.kind) {
            Some(row) => {
                row.until = time.until;
                row.count += 1;
                row.cause = time.cause;
            }
            None => rows.push(time),
        }
    }
    rows
}

fn minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A time in the two units that say most.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, 0) => format!("{minutes}m"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, 0, _) => format!("{hours}h"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, 0, _, _) => format!("{days}d"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests;
