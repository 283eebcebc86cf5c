//! Schedules: what is started when, and what became of each time.
//!
//! ```text
//!   GET  /v1/schedules   POST /v1/schedules   GET /v1/schedules/NAME
//!   GET  /v1/schedules/NAME/history?limit=   GET /v1/schedules/NAME/preview?count=   POST /v1/schedules/preview
//!   POST /v1/schedules/NAME/pause | resume | run-now | remove
//! ```

use chrono::{DateTime, Utc};
use recovery::ItemName;
use sdk::RunId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::items::DrillRequest;

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Five fields, minute to weekday; read in the zone's wall clock time.
    pub cron: String,
    /// IANA name of the zone.
    pub zone: String,
    /// Each run starts up to this much later.
    #[serde(default)]
    pub jitter_ms: u64,
    /// What happens while the run before is open.
    #[serde(default)]
    pub overlap: Overlap,
    /// How late a run may start.
    #[serde(default = "default_catch_up_ms")]
    pub catch_up_ms: u64,
    /// Which of the times that passed while nobody was there are made up for.
    #[serde(default)]
    pub catch_up_runs: CatchUpRuns,
    /// What happens to a time of day that is left out when the clock goes forward.
    #[serde(default)]
    pub missing_hour: MissingHour,
    /// What happens to a time of day that comes twice when the clock goes back.
    #[serde(default)]
    pub repeated_hour: RepeatedHour,
}

/// An hour: the next night is too late for a drill of this night, a restart of the server is not.
#[must_use]
pub fn default_catch_up_ms() -> u64 {
    3_600_000
}

/// What happens when a time comes and the run before is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// The time is missed.
    #[default]
    Skip,
    /// The time waits.
    Wait,
}

/// Which of the times that passed are made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUpRuns {
    /// The last one.
    #[default]
    Last,
    /// Each, one after the other.
    All,
    /// None.
    None,
}

/// What happens to a time of day that is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingHour {
    /// It fires at the moment of the change.
    #[default]
    RunAfter,
    /// It does not fire on that day.
    Skip,
}

/// What happens to a time of day that comes twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepeatedHour {
    /// It fires at the first.
    #[default]
    First,
    /// It fires at the second.
    Second,
    /// It fires at both.
    Both,
}

/// A new schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// Its name: lower-case letters, digits and dashes, at most 63.
    pub name: String,
    /// When.
    pub calendar: Calendar,
    /// What.
    pub starts: Starts,
}

/// What a schedule starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "workflow", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Starts {
    /// A drill.
    Drill {
        /// Of this item.
        item: ItemName,
        /// As it would be asked for by hand.
        drill: DrillRequest,
    },
}

/// When a calendar would fire, before anything is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// The calendar.
    pub calendar: Calendar,
    /// How many times, at most 1000.
    #[serde(default = "default_count")]
    pub count: u32,
}

/// Ten: a look at the coming days.
#[must_use]
pub fn default_count() -> u32 {
    10
}

/// A time that comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComingView {
    /// The instant that the calendar means.
    pub at: DateTime<Utc>,
    /// When its run starts: later by the jitter, which goes by the schedule's name; without a name the same as `at`.
    pub due_at: DateTime<Utc>,
    /// `at` by the zone's clock.
    pub local: String,
    /// What the clock does to it.
    pub note: Option<String>,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When.
    pub calendar: Calendar,
    /// Registered name of what it starts.
    pub workflow: String,
    /// What its runs are about; one at a time.
    pub workflow_id: String,
    /// Their input.
    pub input: Value,
    /// The time that comes next.
    pub next: ComingView,
    /// Why nothing is started now, if so.
    pub pause: Option<PauseView>,
    /// What may be asked for now.
    #[serde(default)]
    pub allowed_operations: Vec<String>,
    /// The open run of its workflow id.
    pub open_run: Option<RunId>,
    /// What became of the last time.
    pub last: Option<FiringView>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// A pause that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseView {
    /// Since when.
    pub from: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What became of a time, or of a row of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiringView {
    /// The time, or the first of them.
    pub at: DateTime<Utc>,
    /// The last of them.
    pub until: DateTime<Utc>,
    /// How many.
    pub count: u32,
    /// Whether a run was started.
    pub started: bool,
    /// `on_time`, `caught_up`, `by_hand`; missed: `too_late`, `paused`, `replaced`, `overlap`.
    pub kind: String,
    /// Why, for people.
    pub cause: String,
    /// The run that was started, or because of which it was missed.
    pub run: Option<RunId>,
    /// What became of the run that was started: `passed`, `not passed`, or its state.
    pub outcome: Option<String>,
    /// When this was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// Stops a schedule for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Kept beside each time that is missed because of it.
    pub reason: String,
}

/// A schedule that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Always.
    pub removed: bool,
}
