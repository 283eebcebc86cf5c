//! Random schedules, and what must have become of each of their times.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use engine::{
    memory::MemoryStore,
    schedule::{CatchUp, CatchUpRuns, ClockChange, Missing, NewSchedule, NextFire, Overlap, Recorded, Repeated, ScheduleSpec, ScheduleStore, fire_times},
    sim::Rng,
};
use sdk::{RunId, Workflow};
use switchback_tests::until_stored;

use super::{
    Doing,
    work::{Due, DueInput},
};

/// A schedule's name and a time at which it started something.
pub(super) type StartedAt = (String, DateTime<Utc>);

/// Half an hour to some before the clocks of these zones are changed, and a plain day.
const BEGINNINGS: [&str; 4] = ["2027-03-27T23:10:00Z", "2027-10-30T22:40:00Z", "2027-11-07T04:20:00Z", "2027-06-15T08:05:00Z"];
const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"];
const CRONS: [&str; 6] = ["*/30 * * * *", "10,45 * * * *", "15 * * * *", "30 */2 * * *", "30 1-3 * * *", "*/20 0-12 * * *"];
/// Beyond any world's length in times of any of these.
const MOST_TIMES: usize = 400;

/// A schedule that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    pub(super) name: String,
    place: u64,
    spec: ScheduleSpec,
}

/// One that is kept, with the times that it must have.
pub(super) struct Kept {
    name: String,
    times: BTreeMap<DateTime<Utc>, DateTime<Utc>>,
}

pub(super) fn beginning(rng: &mut Rng) -> DateTime<Utc> {
    chosen(rng, &BEGINNINGS).parse().unwrap_or_default()
}

fn chosen<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[usize::try_from(rng.below(all.len() as u64).unwrap_or(0)).unwrap_or(0)]
}

impl Calendar {
    pub(super) fn grown(rng: &mut Rng, place: u64) -> Self {
        let name = format!("calendar {place}");
        let overlap = chosen(rng, &[Overlap::Skip, Overlap::Wait]);
        let which = match overlap {
            Overlap::Wait => chosen(rng, &[CatchUpRuns::All, CatchUpRuns::All, CatchUpRuns::Last, CatchUpRuns::None]),
            Overlap::Skip => chosen(rng, &[CatchUpRuns::Last, CatchUpRuns::None]),
        };
        // Who makes up for all has the time for it, whatever happens in a world.
        let within_ms = if which == CatchUpRuns::All { 7 * 86_400_000 } else { chosen(rng, &[0, 600_000, 3_600_000]) };
        let clock_change = ClockChange {
            missing: chosen(rng, &[Missing::RunAfter, Missing::Skip]),
            repeated: chosen(rng, &[Repeated::First, Repeated::Second, Repeated::Both]),
        };
        // Most end before their next time, some do not.
        let seconds = chosen(rng, &[0, 5, 300, 600, 2_400]);
        let spec = ScheduleSpec {
            v: ScheduleSpec::FORM,
            cron: chosen(rng, &CRONS).to_owned(),
            zone: chosen(rng, &ZONES).to_owned(),
            jitter_ms: chosen(rng, &[0, 45_000, 600_000]),
            overlap,
            catch_up: CatchUp { within_ms, which },
            clock_change,
            workflow: Due::NAME.to_owned(),
            workflow_id: format!("due:{name}"),
            input: serde_json::to_value(DueInput { seconds: if which == CatchUpRuns::All { seconds.min(600) } else { seconds } }).unwrap_or_default(),
        };
        Self { name, place, spec }
    }

    /// Whether every one of its times starts something, however late: nobody pauses it.
    pub(super) fn makes_up_for_all(&self, doings: &[(u64, Doing)]) -> bool {
        let paused = |doing: &Doing| matches!(doing, Doing::Pause(place) if *place as u64 == self.place);
        self.spec.catch_up.which == CatchUpRuns::All && !doings.iter().any(|(_, doing)| paused(doing))
    }

    pub(super) fn kept(&self, store: &MemoryStore) -> Result<Kept, String> {
        let times = fire_times(&self.name, &self.spec, store.time(), MOST_TIMES).map_err(|error| error.to_string())?;
        let first = times.first().ok_or("it has no times")?;
        let next = NextFire { at: first.at, due_at: first.due_at };
        let new = NewSchedule { name: self.name.clone(), spec: self.spec.clone(), by: "ada".into(), next };
        // An answer that was lost is asked for again, and then the name is taken.
        until_stored(|| store.create_schedule(&new));
        Ok(Kept { name: self.name.clone(), times: times.into_iter().map(|time| (time.at, time.due_at)).collect() })
    }
}

pub(super) fn paused(store: &MemoryStore, name: &str) {
    until_stored(|| store.pause_schedule(name, "ada", "the storage is being moved"));
}

pub(super) fn resumed(store: &MemoryStore, name: &str) {
    until_stored(|| store.resume_schedule(name));
}

impl Kept {
    /// Ends it, so that nothing more is due; gives its next time, which stays without a row.
    pub(super) fn ended(&self, store: &MemoryStore) -> Result<DateTime<Utc>, String> {
        let row = until_stored(|| store.schedules(Some(&self.name))).pop().ok_or_else(|| format!("{} is gone", self.name))?;
        until_stored(|| store.remove_schedule(&self.name));
        Ok(row.next.at)
    }

    /// What it started.
    ///
    /// # Errors
    /// A time before its next one without a row, a row without a time, or one that says nothing.
    pub(super) fn judged(&self, store: &MemoryStore, next: DateTime<Utc>, clock_was_set: bool) -> Result<BTreeSet<StartedAt>, String> {
        let rows = self.rows(store);
        let came: Vec<DateTime<Utc>> = self.times.keys().copied().filter(|at| *at < next).collect();
        let recorded: Vec<DateTime<Utc>> = rows.keys().copied().collect();
        if came != recorded {
            let (missing, more) = (came.iter().filter(|at| !rows.contains_key(at)).collect::<Vec<_>>(), recorded.iter().filter(|at| !came.contains(at)).collect::<Vec<_>>());
            return Err(format!("{}: no row for {missing:?}, rows for {more:?} that are no times of it before {next}", self.name));
        }
        let due = |row: &Recorded| self.times.get(&row.at).copied().unwrap_or(row.at);
        for row in rows.values() {
            let wrong = match row.kind.started() {
                true => row.run.is_none() || !clock_was_set && row.recorded_at < due(row),
                false => row.cause.is_empty(),
            };
            if wrong || row.count != 1 || row.until != row.at {
                return Err(format!("{}: {row:?}, which was due at {}", self.name, due(row)));
            }
        }
        Ok(rows.into_values().filter(|row| row.kind.started()).map(|row| (self.name.clone(), row.at)).collect())
    }

    fn rows(&self, store: &MemoryStore) -> BTreeMap<DateTime<Utc>, Recorded> {
        store.fired().into_iter().filter(|(name, _)| *name == self.name).map(|(_, row)| (row.at, row)).collect()
    }
}

/// Every run of a schedule belongs to one time of one schedule.
///
/// # Errors
/// The runs of either side.
pub(super) fn each_run_has_its_time(store: &MemoryStore) -> Result<(), String> {
    let mut started: Vec<RunId> = store.fired().into_iter().filter(|(_, row)| row.kind.started()).filter_map(|(_, row)| row.run).collect();
    started.sort_unstable();
    let mut runs: Vec<RunId> = store.runs().into_iter().filter(|(_, run)| run.workflow == Due::NAME).map(|(id, _)| id).collect();
    runs.sort_unstable();
    if runs == started { Ok(()) } else { Err(format!("schedules recorded the start of {started:?}, and the runs are {runs:?}")) }
}

