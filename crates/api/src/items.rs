//! Items and their points, as they are asked for and shown.
//!
//! ```text
//!   GET  /v1/items   GET /v1/items/ITEM   GET /v1/items/ITEM/points
//!   POST /v1/items/ITEM/protect | failover | commit | unprotect   ─▶ 202 Accepted { run }
//! ```
//!
//! A POST may carry `Idempotency-Key`: repeated with it, the same request gets its first answer again.

use chrono::{DateTime, Utc};
use recovery::{Check, ItemRecord, Operation, PointChoice, RecoveryPoint, ReplicationPolicy, SiteName};
use sdk::RunId;
use serde::{Deserialize, Serialize};

use crate::agent::ReplicationStatus;

/// A list of what there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// All of it, in a stable order.
    pub items: Vec<T>,
}

/// An item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemView {
    /// Its record.
    pub record: ItemRecord,
    /// The main state in words.
    pub state: String,
    /// What may be asked for now.
    pub allowed_operations: Vec<Operation>,
    /// The run that has it now.
    pub open_run: Option<RunId>,
    /// How many points can be chosen.
    pub points: u64,
    /// The newest of them.
    pub newest_point: Option<RecoveryPoint>,
    /// How replication goes, as last reported.
    pub replication: Option<ReplicationView>,
    /// Changes with every recorded change.
    pub version: i64,
    /// When that was.
    pub updated_at: DateTime<Utc>,
}

/// How replication goes, and how old that knowledge is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicationView {
    /// Who said so.
    pub site: SiteName,
    /// What.
    pub status: ReplicationStatus,
    /// When, by the database's clock.
    pub reported_at: DateTime<Utc>,
}

/// A point and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// Where it is kept.
    pub site: SiteName,
    /// The point.
    pub point: RecoveryPoint,
}

/// Begins replication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectRequest {
    /// Where it runs.
    pub from: SiteName,
    /// Where its points go.
    pub to: SiteName,
    /// Name of the machine on the platform; the item's by default.
    #[serde(default)]
    pub machine: Option<String>,
    /// How often and how long.
    #[serde(default)]
    pub policy: ReplicationPolicy,
    /// How a recovered machine is asked whether it serves.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// Fails over, whether or not the source answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverRequest {
    /// Which point.
    pub point: PointChoice,
    /// Go on although the fence can't be proven; who asks takes that upon themselves.
    #[serde(default)]
    pub accept_unfenced: Option<AcceptUnfenced>,
    /// How long the source's agent may take to pick the fence up.
    #[serde(default = "default_fence_timeout_ms")]
    pub fence_timeout_ms: u64,
}

/// Ten seconds: a few polls of an agent that lives.
#[must_use]
pub fn default_fence_timeout_ms() -> u64 {
    10_000
}

/// Why a failover goes on without proof that the source can't write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptUnfenced {
    /// Kept in the history, with the name of who asked.
    pub reason: String,
}

/// Accepts a failover, or ends replication: nothing more to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainRequest {}

/// Work that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// By this run.
    pub run: RunId,
}
