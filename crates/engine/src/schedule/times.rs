//! From a calendar in wall clock time to instants.
//!
//! ```text
//!   cron ─▶ times of day on paper ─▶ exists once: that instant
//!                                    left out (clock goes forward): the moment of the change, or none
//!                                    comes twice (clock goes back): first, second or both
//! ```
//!
//! Invariants: 1. Instants come in order and none twice, whatever the clocks do. 2. The cron library never sees a zone: what
//! happens at a change of the clock is decided here and nowhere else. 3. Jitter moves a start, never past the next fire time.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use uuid::Uuid;

use super::{ClockChange, Missing, Repeated, ScheduleError, ScheduleSpec};

/// Longest step of a clock that any zone has made, and an hour more: times on paper so far before an instant may lie after it.
const LONGEST_STEP: TimeDelta = TimeDelta::hours(25);
/// Longest text of a calendar that is read: five full lists of numbers are shorter.
const LONGEST_CRON: usize = 500;

/// A time at which a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireTime {
    /// Its identity: the instant that the calendar means.
    pub at: DateTime<Utc>,
    /// When its run starts: `at` and the jitter of this time.
    pub due_at: DateTime<Utc>,
    /// `at` in the schedule's zone, with weekday and offset.
    pub local: String,
    /// What the clock did to it.
    pub clock: Clock,
}

/// What the clock did to a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// Nothing: it exists once.
    Plain,
    /// It comes twice; this is the first.
    First,
    /// It comes twice; this is the second.
    Second,
    /// It is left out on that day; this is the moment of the change.
    Missing {
        /// The time of day on paper.
        wall: NaiveDateTime,
    },
}

/// A calendar in a zone.
#[derive(Clone, Debug)]
pub struct Timetable {
    name: String,
    cron: Cron,
    zone: Tz,
    clock_change: ClockChange,
    jitter: Duration,
}

/// The next `count` fire times of a schedule after an instant.
///
/// # Errors
/// [`ScheduleError`]: what is wrong with the schedule.
pub fn fire_times(name: &str, spec: &ScheduleSpec, after: DateTime<Utc>, count: usize) -> Result<Vec<FireTime>, ScheduleError> {
    Ok(spec.timetable(name)?.after(after).take(count).collect())
}

impl Timetable {
    /// The calendar `cron` in `zone`; `name` chooses the jitter.
    ///
    /// # Errors
    /// [`ScheduleError`]: it can't be read, or never fires.
    pub(super) fn new(name: &str, cron: &str, zone: &str, clock_change: ClockChange, jitter: Duration) -> Result<Self, ScheduleError> {
        let refused = |why: String| ScheduleError::Cron { cron: cron.chars().take(LONGEST_CRON).collect(), why };
        if cron.len() > LONGEST_CRON {
            return Err(refused(format!("it has {} letters; {LONGEST_CRON} are read", cron.len())));
        }
        let Ok(zone) = zone.parse::<Tz>() else { return Err(ScheduleError::Zone { zone: zone.to_owned() }) };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|error| refused(error.to_string()))?;
        if parsed.find_next_occurrence(&DateTime::UNIX_EPOCH.naive_utc(), true).is_err() {
            return Err(ScheduleError::Never { cron: cron.to_owned() });
        }
        Ok(Self { name: name.to_owned(), cron: parsed, zone, clock_change, jitter })
    }

    /// All fire times after an instant, in order.
    pub fn after(&self, after: DateTime<Utc>) -> impl Iterator<Item = FireTime> + '_ {
        let start = after.with_timezone(&self.zone).naive_local().checked_sub_signed(LONGEST_STEP);
        let wall = start.and_then(|start| self.cron.find_next_occurrence(&start, true).ok());
        let mut instants = Instants { table: self, after, wall, ready: BTreeMap::new() }.peekable();
        std::iter::from_fn(move || {
            let (at, clock) = instants.next()?;
            let next = instants.peek().map(|(next, _)| *next);
            Some(FireTime { at, due_at: at + self.delay(at, next), local: self.local(at), clock })
        })
    }

    /// An instant as the zone's clock shows it.
    #[must_use]
    pub fn local(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).format("%a %Y-%m-%d %H:%M %:z").to_string()
    }

    /// The jitter of a fire time: the same on every server, and short of the next one.
    fn delay(&self, at: DateTime<Utc>, next: Option<DateTime<Utc>>) -> Duration {
        let gap = next.and_then(|next| (next - at).to_std().ok()).unwrap_or(self.jitter);
        let most = u64::try_from(self.jitter.min(gap).as_millis()).unwrap_or(u64::MAX);
        let (drawn, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{} {}", self.name, at.timestamp()).as_bytes()).as_u64_pair();
        Duration::from_millis(drawn.checked_rem(most).unwrap_or(0))
    }

    /// The first instant at which the clock shows `wall` or later.
    fn reached(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&wall) {
            LocalResult::Single(at) => Some(at.to_utc()),
            LocalResult::Ambiguous(one, other) => Some(one.min(other).to_utc()),
            LocalResult::None => GapInfo::new(&wall, &self.zone)?.end.map(|end| end.to_utc()),
        }
    }

    /// The instants that a time on paper stands for.
    fn instants(&self, wall: NaiveDateTime) -> Vec<(DateTime<Utc>, Clock)> {
        let ClockChange { missing, repeated } = self.clock_change;
        match (self.zone.from_local_datetime(&wall), missing, repeated) {
            (LocalResult::Single(at), _, _) => vec![(at.to_utc(), Clock::Plain)],
            (LocalResult::None, Missing::Skip, _) => vec![],
            (LocalResult::None, Missing::RunAfter, _) => self.reached(wall).map(|at| (at, Clock::Missing { wall })).into_iter().collect(),
            (LocalResult::Ambiguous(one, other), _, Repeated::First) => vec![(one.min(other).to_utc(), Clock::First)],
            (LocalResult::Ambiguous(one, other), _, Repeated::Second) => vec![(one.max(other).to_utc(), Clock::Second)],
            (LocalResult::Ambiguous(one, other), _, Repeated::Both) => {
                vec![(one.min(other).to_utc(), Clock::First), (one.max(other).to_utc(), Clock::Second)]
            }
        }
    }
}

/// Instants in order. Times on paper come in their own order; an instant is given out when no later one on paper can be before it.
struct Instants<'a> {
    table: &'a Timetable,
    after: DateTime<Utc>,
    wall: Option<NaiveDateTime>,
    ready: BTreeMap<DateTime<Utc>, Clock>,
}

impl Iterator for Instants<'_> {
    type Item = (DateTime<Utc>, Clock);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bound = self.wall.and_then(|wall| self.table.reached(wall));
            if let Some(first) = self.ready.first_entry()
                && bound.is_none_or(|bound| *first.key() < bound)
            {
                return Some(first.remove_entry());
            }
            let wall = self.wall?;
            for (at, clock) in self.table.instants(wall).into_iter().filter(|(at, _)| *at > self.after) {
                let kept = self.ready.entry(at).or_insert(clock);
                *kept = clock.min(*kept);
            }
            self.wall = self.table.cron.find_next_occurrence(&wall, false).ok();
        }
    }
}

impl FireTime {
    /// What a person should know about this time, if anything.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        match self.clock {
            Clock::Plain => None,
            Clock::First => Some("the clock shows this time twice on that day; this is the first".to_owned()),
            Clock::Second => Some("the clock shows this time twice on that day; this is the second".to_owned()),
            Clock::Missing { wall } => Some(format!("the clock leaves out {} on that day; this is the moment of the change", wall.format("%H:%M"))),
        }
    }
}

#[cfg(test)]
mod tests;
