//! The store itself: whether its server is known, who can say what was committed, and what it has lost.
//!
//! ```text
//!   GET  /v1/store?all=BOOL   ─▶ StoreView       POST /v1/store/settle/{run}   Settle ─▶ StoreView
//! ```

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde::{Deserialize, Serialize};

/// Whether the database server is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// It holds what witnesses have seen, or what it lacks is held or listed.
    Known,
    /// It was started anew, and witnesses are asked; nobody writes meanwhile.
    Checking,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// Whether its server is known.
    pub state: StoreState,
    /// Grows whenever something may have been lost.
    pub era: i64,
    /// Of the cluster that was known last.
    pub system_identifier: String,
    /// Its timeline then.
    pub timeline: String,
    /// When the server that runs was started.
    pub started_at: DateTime<Utc>,
    /// When a server became known last.
    pub known_at: DateTime<Utc>,
    /// Since when witnesses are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_since: Option<DateTime<Utc>>,
    /// Who can say what was committed.
    pub witnesses: Vec<WitnessView>,
    /// What they saw and the store lacks.
    pub losses: Vec<LossView>,
}

impl StoreView {
    /// Whether nobody has anything to do: known, nobody silent, nothing to settle.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.state == StoreState::Known && self.witnesses.iter().all(|witness| witness.silent_at.is_none()) && self.losses.iter().all(|loss| !loss.waits())
    }
}

/// Somebody who can say what was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessView {
    /// `worker`, `server` or `agent`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its last sign of life, to some seconds.
    pub seen_at: DateTime<Utc>,
    /// Whether it has testified about the server that runs.
    pub testified: bool,
    /// Whether it is waited for.
    pub awaited: bool,
    /// When it was waited for in vain; what it alone has seen is not found until it comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_at: Option<DateTime<Utc>>,
}

/// Something that a witness saw and the store lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossView {
    /// Of which run.
    pub run: RunId,
    /// `run`: all of it; `shorter`: the end of its history; `differs`: it went on otherwise; `message`; `effect`: an attempt that was begun.
    pub what: String,
    /// Event that was seen last, or that scheduled the attempt; -1 where there is none.
    pub seq: i32,
    /// `held`, `lost`, `ended` (it has ended otherwise than was seen) or `adopted` (nobody has anything to do).
    pub became: String,
    /// What the run is about, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Who saw it.
    pub witness: String,
    /// When it was found.
    pub found_at: DateTime<Utc>,
    /// Whether the run is held now.
    pub held: bool,
    /// State of the run; none if there is no such run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_state: Option<String>,
    /// What a person has decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
}

impl LossView {
    /// Whether a person is to settle it.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.settled.is_none() && self.became != "adopted"
    }
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// When.
    pub at: DateTime<Utc>,
    /// Whose.
    pub by: String,
    /// `go_on`, `cancel` or `accept_loss`.
    pub how: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is to become of a run that lacks something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleHow {
    /// It goes on from what is recorded; attempts that are not are probed, or their results taken.
    GoOn,
    /// It is told to stop, and puts back what is recorded.
    Cancel,
    /// Nothing of it can go on; the loss is known.
    AcceptLoss,
}

impl SettleHow {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SettleHow::GoOn => "go_on",
            SettleHow::Cancel => "cancel",
            SettleHow::AcceptLoss => "accept_loss",
        }
    }
}

/// Settles a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// How.
    pub how: SettleHow,
    /// Why; kept.
    pub reason: String,
}
