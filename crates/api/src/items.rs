//! Items and their points, as they are asked for and shown.
//!
//! ```text
//!   GET  /v1/items   GET /v1/items/ITEM   GET /v1/items/ITEM/points
//!   POST /v1/items/ITEM/OPERATION   ─▶ 202 Accepted { run }
//!        protect, test-failover, clean-test-failover, planned-failover, failback, failover, change-point, commit, undo,
//!        reprotect, resync, change-policy, hold, release, unprotect, resolve, forget, drill
//! ```
//!
//! A POST may carry `Idempotency-Key`: repeated with it, the same request gets its first answer again.

use chrono::{DateTime, Utc};
use recovery::{
    Check, ItemRecord, Location, OldMachineSeen, Operation, PointChoice, PointId, Profile, RecoveryPoint, ReplicationPolicy, Rest, Seen, SiteName, Sync,
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
    /// Whether points are taken where it runs. After a failover that is not so until it is reprotected.
    #[serde(default)]
    pub protected: bool,
    /// Until when another point may be chosen, before the commit.
    #[serde(default)]
    pub change_until: Option<DateTime<Utc>>,
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
    /// Asks the source's guest to shut down first, for so long, and to send the rest; goes on whatever comes of it.
    #[serde(default)]
    pub shut_down_ms: Option<u64>,
}

/// Ten seconds: a few polls of an agent that lives.
#[must_use]
pub fn default_fence_timeout_ms() -> u64 {
    10_000
}

/// Moves an item to its other site without loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRequest {
    /// How long the guest may take to shut down.
    #[serde(default = "default_shut_down_ms")]
    pub shut_down_ms: u64,
    /// For a failback: when data is copied.
    #[serde(default)]
    pub sync: Sync,
    /// For a failback: from which point; the one that is made when it is off if nothing is said, which loses nothing.
    #[serde(default)]
    pub point: Option<PointChoice>,
    /// What was written after that point may be lost; who asks takes that upon themselves.
    #[serde(default)]
    pub accept_loss: Option<AcceptLoss>,
}

/// Why a failback takes an older point than the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptLoss {
    /// Kept in the history, with the name of who asked and what is lost.
    pub reason: String,
}

/// Keeps a recovery point: there is no commit until it is released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Which.
    pub point: PointId,
    /// Why.
    pub reason: String,
}

/// Lets a held point go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Why.
    pub reason: String,
}

/// Takes an item off the list that is not replicated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// What a site still keeps of it stays there; without this such an item is not forgotten.
    #[serde(default)]
    pub leave_behind: bool,
}

/// Changes parts of a replication policy; what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePolicyRequest {
    /// Seconds from one point to the next.
    #[serde(default)]
    pub interval_s: Option<u32>,
    /// Most points that are kept.
    #[serde(default)]
    pub retention_points: Option<u32>,
    /// Seconds over which they are spread.
    #[serde(default)]
    pub retention_window_s: Option<u64>,
    /// Bytes per second of the line; 0 is without a limit.
    #[serde(default)]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Seconds from one app-consistent point to the next; 0 takes none.
    #[serde(default)]
    pub app_consistent_interval_s: Option<u32>,
    /// Age in seconds from which the newest point is too old; 0 goes by the interval alone.
    #[serde(default)]
    pub rpo_threshold_s: Option<u32>,
    /// Seconds after a failover in which its point can be changed; 0 goes by the profile.
    #[serde(default)]
    pub change_window_s: Option<u64>,
}

/// Compares record and reality; with a state it says which holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The state that holds.
    #[serde(default)]
    pub rest: Option<Rest>,
    /// Where the item runs; where it is recorded to run if nothing is said.
    #[serde(default)]
    pub site: Option<SiteName>,
    /// Why; needed with a state.
    #[serde(default)]
    pub reason: Option<String>,
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
    /// It is removed after so long, if nobody has done that; two weeks if nothing is said.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
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
