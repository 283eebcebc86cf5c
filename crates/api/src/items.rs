//! Items and their points, as they are asked for and shown.
//!
//! ```text
//!   GET  /v1/items   GET /v1/items/ITEM   GET /v1/items/ITEM/points
//!   POST /v1/items/ITEM/OPERATION   ─▶ 202 Accepted { run }
//!        protect, test-failover, clean-test-failover, planned-failover, failback, failover, change-point, commit, undo,
//!        reprotect, unprotect, drill
//! ```
//!
//! A POST may carry `Idempotency-Key`: repeated with it, the same request gets its first answer again.

use chrono::{DateTime, Utc};
use recovery::{
    Check, ItemRecord, Location, OldMachineSeen, Operation, PointChoice, Profile, RecoveryPoint, ReplicationPolicy, Seen, SiteName, Sync,
};
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
    /// What holds of the machine that the item was failed over from.
    pub old_machine: OldMachineSeen,
    /// What the sites see of its machines, as last reported.
    pub machines: Vec<Seen>,
    /// What somebody has to do something about at once, in words.
    pub alarms: Vec<String>,
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
    /// Which platform's rules it follows.
    #[serde(default)]
    pub profile: Profile,
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

/// Moves an item to its other site without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRequest {
    /// How long the guest may take to shut down.
    #[serde(default = "default_shut_down_ms")]
    pub shut_down_ms: u64,
    /// For a failback: when data is copied.
    #[serde(default)]
    pub sync: Sync,
}

/// Five minutes: services end, caches are written.
#[must_use]
pub fn default_shut_down_ms() -> u64 {
    300_000
}

/// Longest time a guest may be given to shut down: one hour; beyond it somebody has to look.
pub const MAX_SHUT_DOWN_MS: u64 = 3_600_000;

/// Recovers a failed-over item again, from another point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePointRequest {
    /// Which point.
    pub point: PointChoice,
    /// The machine that runs now is discarded with all it has written; this must be true.
    #[serde(default)]
    pub discard_writes: bool,
}

/// Gives a failover up before its commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// The machine that runs now is discarded with all it has written; this must be true.
    #[serde(default)]
    pub discard_writes: bool,
}

/// Replicates an item in the other direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReprotectRequest {
    /// Onto what.
    #[serde(default)]
    pub location: Location,
}

/// Starts an isolated copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFailoverRequest {
    /// From which point.
    pub point: PointChoice,
}

/// Rehearses a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// From which point.
    pub point: PointChoice,
    /// Asked beside the item's own checks.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Longest time until the copy serves.
    #[serde(default)]
    pub rto_target_ms: Option<u64>,
    /// Greatest age of the point.
    #[serde(default)]
    pub rpo_target_ms: Option<u64>,
    /// Why, for whoever reads the report.
    #[serde(default)]
    pub note: Option<String>,
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
