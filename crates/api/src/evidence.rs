//! Evidence: files of histories, the key that signs them, and heads that are noted outside the database.
//!
//! ```text
//!   GET  /v1/runs/RUN/export                                        the histories of a run's whole family, signed
//!   GET  /v1/runs/RUN/report?form=json|html&rto_target_ms=&rpo_target_ms=&previous_sha256=        the report on them, signed
//!   GET  /v1/evidence/key ─▶ KeyView                                 by which both are checked
//!   POST /v1/agent/heads  AskHeads ─▶ Heads                          for agents
//! ```
//!
//! Invariant: an anchor is a line of text that its agent writes once and reads for ever: its format has a version.

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde::{Deserialize, Serialize};

/// The key by which this server's files are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// `ed25519:` and 64 hexadecimal digits.
    pub key: String,
}

/// Asks for heads of runs that ended after a place in the order of their ends, and says what has been noted so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskHeads {
    /// Ended after this, or at this time with a higher id than `run`.
    pub after: DateTime<Utc>,
    /// See there.
    pub run: RunId,
    /// Runs that the agent has noted.
    pub anchored: u64,
    /// What it was told that is not what it had noted.
    #[serde(default)]
    pub alarm: Option<String>,
}

/// Heads in the order in which their runs ended, which is not the order in which that became visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// At most [`Heads::MOST`]; fewer mean that these are all.
    pub heads: Vec<Anchor>,
}

/// The end of a run's chain, as a server tells it and as an agent keeps it, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Version of this format.
    pub v: u32,
    /// Which run.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// What it was about.
    pub workflow_id: String,
    /// When it ended.
    pub closed_at: DateTime<Utc>,
    /// Its events.
    pub events: u64,
    /// The last link of its chain, lower-case hex.
    pub head: String,
}

impl Heads {
    /// Heads in one answer: some hundred bytes each.
    pub const MOST: usize = 500;
}

impl Anchor {
    /// The format that this build writes.
    pub const VERSION: u32 = 1;
}
