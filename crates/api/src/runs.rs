//! Runs and their histories.
//!
//! ```text
//!   GET  /v1/runs?item=&open=&limit=   GET /v1/runs/RUN   GET /v1/runs/RUN/history?after=   GET /v1/runs/RUN/why
//!   POST /v1/runs/RUN/cancel | resume
//! ```

use chrono::{DateTime, Utc};
use sdk::{Event, Failure, Lease, RunId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Work goes on.
    Open,
    /// Set aside until a person resumes it.
    Suspended,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl RunState {
    /// The word that is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Open => "open",
            RunState::Suspended => "suspended",
            RunState::Completed => "completed",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
        }
    }

    /// What may be asked for in that state.
    #[must_use]
    pub fn allowed_operations(self) -> Vec<String> {
        let words: &[&str] = match self {
            RunState::Open => &["cancel"],
            RunState::Suspended => &["resume", "cancel"],
            RunState::Completed | RunState::Failed | RunState::Cancelled => &["export", "report"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn ended(self) -> bool {
        match self {
            RunState::Open | RunState::Suspended => false,
            RunState::Completed | RunState::Failed | RunState::Cancelled => true,
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Which.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// What it is about.
    pub workflow_id: String,
    /// Who asked for it.
    pub requested_by: String,
    /// How it stands.
    pub state: RunState,
    /// What may be asked for now.
    #[serde(default)]
    pub allowed_operations: Vec<String>,
    /// Why it failed or was set aside.
    pub problem: Option<Failure>,
    /// Who takes its turns now.
    pub owner: Option<Lease>,
    /// How often it was claimed.
    pub epoch: i64,
    /// When it was asked for.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub closed_at: Option<DateTime<Utc>>,
    /// How many events it has.
    pub events: i64,
    /// The database lacks something of it, and nobody carries it on before a person has settled that: `switchback store settle`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Under which traces have it.
    pub trace_id: Option<String>,
    /// Its open tasks.
    pub tasks: Vec<TaskView>,
}

/// A task that is not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// For which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// Where it waits or waited.
    pub queue: String,
    /// Declared name.
    pub activity: String,
    /// `queued`, `claimed` or `dead`.
    pub state: String,
    /// Attempts begun.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i32,
    /// An earlier attempt may have had its effect.
    pub in_doubt: bool,
    /// Who has it.
    pub holder: Option<Lease>,
    /// The holder's name, if it is an agent.
    pub agent: Option<String>,
    /// When it was scheduled.
    pub scheduled_at: DateTime<Utc>,
    /// When it can be claimed.
    pub not_before: DateTime<Utc>,
    /// Last progress.
    pub progress: Option<Value>,
    /// Last failure.
    pub problem: Option<Failure>,
}

/// A run's events, all or those behind a position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    /// Which run.
    pub run: RunId,
    /// How it stands now.
    pub state: RunState,
    /// In order; the chain of hashes was checked.
    pub events: Vec<Event>,
    /// The last link of the chain, lower-case hex.
    pub head: String,
}

/// What a run waits for, in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyView {
    /// Which run.
    pub run: RunId,
    /// The line.
    pub why: String,
}

/// Asks a run to stop, or to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// Kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}
