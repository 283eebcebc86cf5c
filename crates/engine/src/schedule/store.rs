//! What a schedule needs from the store: its row, and one atomic step per firing.
//!
//! Invariants: 1. A firing carries what it believes (version, next fire time); one of a stale belief changes nothing. 2. The
//! rows of what was missed, the start of the run and the next fire time are one write. 3. Fire times stay when their schedule
//! is removed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sdk::RunId;
use serde::{Deserialize, Serialize};

use super::{Overlap, ScheduleSpec};
use crate::{StartRun, StoreError};

/// A new schedule.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// Its name; no other has it.
    pub name: String,
    /// What it says.
    pub spec: ScheduleSpec,
    /// Who makes it.
    pub by: String,
    /// Its first fire time.
    pub next: NextFire,
}

/// The fire time that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextFire {
    /// Its identity.
    pub at: DateTime<Utc>,
    /// When its run starts.
    pub due_at: DateTime<Utc>,
}

/// A time in which nothing is started, by somebody's wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub from: DateTime<Utc>,
    /// Until when, if it is over.
    pub until: Option<DateTime<Utc>>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// Grows with each change by a person; no two schedules ever had the same.
    pub version: i64,
    /// What it says.
    pub spec: ScheduleSpec,
    /// Its next fire time.
    pub next: NextFire,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last pause, over or not.
    pub pause: Option<Pause>,
    /// The open run of its workflow id, whoever started it.
    pub open_run: Option<RunId>,
}

/// A schedule whose next fire time is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// The schedule.
    pub schedule: Schedule,
    /// The store's time.
    pub now: DateTime<Utc>,
    /// When the last run of its workflow id ended.
    pub free_since: Option<DateTime<Utc>>,
}

/// A fire time, or a row of them, at which nothing is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The time, or the first of them.
    pub at: DateTime<Utc>,
    /// The last of them.
    pub until: DateTime<Utc>,
    /// How many.
    pub count: u32,
    /// Why, as a word.
    pub kind: FiringKind,
    /// Why, for people.
    pub cause: String,
}

/// What became of a fire time, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FiringKind {
    /// Started at its time.
    OnTime,
    /// Started later, within the window.
    CaughtUp,
    /// Started by a person, at no time of the calendar.
    ByHand,
    /// Missed: nobody was there in time.
    TooLate,
    /// Missed: the schedule was paused.
    Paused,
    /// Missed: a later time took its place.
    Replaced,
    /// Missed: the run before was open.
    Overlap,
}

/// What is written for a schedule in one step.
#[derive(Clone, Debug)]
pub struct Firing {
    /// Which schedule.
    pub schedule: String,
    /// The belief, and where the schedule goes on; `None` for a start by hand, which moves nothing.
    pub moves: Option<Moves>,
    /// What is missed.
    pub missed: Vec<Missed>,
    /// What is started.
    pub start: Option<FiringStart>,
}

/// From one fire time to the next.
#[derive(Clone, Copy, Debug)]
pub struct Moves {
    /// The version that was read.
    pub version: i64,
    /// The next fire time that was read.
    pub from: DateTime<Utc>,
    /// The next fire time from now on.
    pub to: NextFire,
}

/// A run that a firing starts.
#[derive(Clone, Debug)]
pub struct FiringStart {
    /// Its fire time.
    pub at: DateTime<Utc>,
    /// How it comes to be started.
    pub kind: FiringKind,
    /// For people: why it is late, or who asked.
    pub cause: String,
    /// If the run before is open.
    pub overlap: Overlap,
    /// The run.
    pub run: StartRun,
}

/// What became of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The run exists now, and all is recorded.
    Started(RunId),
    /// All is recorded; there was nothing to start.
    Recorded,
    /// The run before is open and the time is recorded as missed.
    Skipped(RunId),
    /// The run before is open and the time waits; nothing is recorded.
    Waits(RunId),
    /// Somebody else was first, or changed the schedule; nothing is recorded.
    Taken,
}

/// A fire time that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The time, or the first of them.
    pub at: DateTime<Utc>,
    /// The last of them.
    pub until: DateTime<Utc>,
    /// How many.
    pub count: u32,
    /// What became of it.
    pub kind: FiringKind,
    /// Why, for people; empty for a start on time.
    pub cause: String,
    /// The run that was started, or because of which it was missed.
    pub run: Option<RunId>,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// Schedules: rows and firings.
#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// Keeps a schedule; `false` if the name is taken.
    async fn create_schedule(&self, new: &NewSchedule) -> Result<bool, StoreError>;
    /// Forgets a schedule, not what it fired; `false` if there is none.
    async fn remove_schedule(&self, name: &str) -> Result<bool, StoreError>;
    /// Begins a pause; `false` if there is no such schedule or it is paused.
    async fn pause_schedule(&self, name: &str, by: &str, reason: &str) -> Result<bool, StoreError>;
    /// Ends a pause; `false` if there is no such schedule or it is not paused.
    async fn resume_schedule(&self, name: &str) -> Result<bool, StoreError>;
    /// All schedules by name, or the one of that name.
    async fn schedules(&self, name: Option<&str>) -> Result<Vec<Schedule>, StoreError>;
    /// What a schedule of that name fired or missed, the newest first.
    async fn firings(&self, name: &str, limit: u32) -> Result<Vec<Recorded>, StoreError>;
    /// Schedules that are due, the oldest first; not those that wait for an open run.
    async fn due_schedules(&self, limit: u32) -> Result<Vec<Due>, StoreError>;
    /// One firing, whole or not at all.
    async fn fire(&self, firing: &Firing) -> Result<Fired, StoreError>;
}

impl Schedule {
    /// The pause that holds now.
    #[must_use]
    pub fn paused(&self) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| pause.until.is_none())
    }
}

impl FiringKind {
    /// Whether a run was started.
    #[must_use]
    pub fn started(self) -> bool {
        match self {
            Self::OnTime | Self::CaughtUp | Self::ByHand => true,
            Self::TooLate | Self::Paused | Self::Replaced | Self::Overlap => false,
        }
    }
}
