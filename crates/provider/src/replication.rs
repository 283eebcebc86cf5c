//! The source's own loop: it takes points and sends them, whatever the orchestrator does.
//!
//! `start_replication` hands the policy over; from then on the loop needs nobody. It goes on after restarts of the agent, of the
//! machine and of the line.
//!
//! While an item is replicated the agent starts its machine with the host, in the platform's place: first it asks the target
//! whether the machine was started there meanwhile. If so, the machine here is quarantined. If nobody answers for
//! [`AUTOSTART_PATIENCE`], it is started: a site that is cut off must come up again after a power failure.
//!
//! Items of a replication group are also taken at common moments: all their machines are paused, all points begun, all machines let
//! go. A member that can't come holds nobody: then there is no common moment, each goes on alone, and the status says why. The pause
//! ends at the group's limit whatever happens, and with the next agent if this one dies. See [`crate::group`].

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Generation, Group, GroupStatus, ItemName, PointId, ReplicationPolicy, readiness::Capacity};
use serde::{Deserialize, Serialize};

use crate::{Call, Endpoint, PowerState, ProgressSink, ProviderError, Replica};

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicate {
    pub item: ItemName,
    /// Name on the platform.
    pub machine: String,
    pub generation: Generation,
    pub policy: ReplicationPolicy,
    pub endpoint: Endpoint,
    /// The machine was recovered here under this generation and is replicated back to where it came from: what the kept extent
    /// map lists, what it has written since it was started, and what the target's old machine wrote after its last point is
    /// enough to send. If any of these is not known for sure, both sides are compared.
    pub returning: Option<Generation>,
    /// The replication group that the item is in. Members that are replicated from here, and know the same group, also take points at
    /// common moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
}

/// One more point than the loop's rhythm has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointRequest {
    pub item: ItemName,
    /// Names the request: asked again, it is the same one.
    pub by: Generation,
    /// Both sides are compared whole, whatever is known of changes.
    pub compare: bool,
}

/// A request for a point, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    pub by: Generation,
    pub compare: bool,
    /// The point, once the target has acknowledged it. It was begun after the request.
    pub made: Option<PointId>,
}

/// What the loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// First full copy.
    Seeding,
    /// Points are taken.
    Replicating,
    /// Full comparison, because the record of changes was lost.
    Resyncing,
    /// Nothing to send: the machine is off.
    Paused,
    /// It fails, and is tried again; `last_error` says why.
    Broken,
    /// A newer generation has the item, and no point of this one is taken any more. The loop asks on, now and then, whether the
    /// machine was started there.
    Superseded,
    /// It was told to stop.
    Stopped,
    /// The item's machine was started elsewhere while this site was away. The machine here was ended and kept from starting.
    Quarantined,
}

/// How replication of an item is, seen from the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationStatus {
    pub generation: Generation,
    pub phase: Phase,
    /// Of the copy that is running.
    pub bytes_done: u64,
    /// Of the copy that is running.
    pub bytes_total: u64,
    /// The newest one the target has acknowledged under this generation.
    pub last_point: Option<PointId>,
    /// When that was taken, by the source's clock: the data before it is safe.
    pub last_point_taken_at: Option<DateTime<Utc>>,
    /// The newest app-consistent one that the target has acknowledged, if the policy asks for such points.
    pub last_app_point: Option<PointId>,
    /// Why the last try at an app-consistent point became a crash-consistent one.
    pub app_error: Option<String>,
    /// Gone when a point succeeds.
    pub last_error: Option<String>,
    /// Payload sent since replication was started.
    pub bytes_sent_total: u64,
    /// The last request for a point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Requested>,
    /// How the item's replication group goes, seen from here; `None` if it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupStatus>,
}

/// How long a machine that starts with its host waits for the target's word.
pub const AUTOSTART_PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// Replication of machines at their source.
#[async_trait]
pub trait Replication: Send + Sync {
    /// Stores what to do on local disk and starts the loop. Called again, it changes policy, endpoint or generation; a machine that
    /// waits for its start after its host has booted goes on waiting.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchMachine`, `DiskNotQcow2`, `NotProtectable`, `Superseded`, `Storage`.
    async fn start_replication(&self, call: &Call, wanted: Replicate) -> Result<(), ProviderError>;

    /// Ends the loop for good and removes its marks from the machine's disks. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `Platform`, `Storage`.
    async fn stop_replication(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError>;

    /// Sends what the target does not have yet of a machine that is off, as one more point, and ends the loop for good. If the
    /// target already has everything, it gets a point all the same: the one that a planned failover recovers. Its consistency is
    /// `App`, since the guest has shut down. Called again after it succeeded, it returns the same point.
    ///
    /// # Errors
    /// `StaleToken`, `NotReplicated`, `StillRunning`, `Superseded`, `Stopped` (asked by `progress`), `Unreachable` (the target),
    /// `Platform`, `Storage`.
    async fn final_sync(&self, call: &Call, item: &ItemName, progress: Arc<dyn ProgressSink>) -> Result<PointId, ProviderError>;

    /// Lets the loop begin a point at once, if its machine runs; does not wait for it. It is made as soon as that is possible, restarts of
    /// the agent included. The same request twice is one; a newer one takes its place.
    ///
    /// # Errors
    /// `StaleToken`, `NotReplicated` (no loop goes on here), `Storage`.
    async fn request_point(&self, call: &Call, wanted: PointRequest) -> Result<(), ProviderError>;

    /// Tells the loop which replication group its item is in now; `None`: in none. Kept on local disk as what `start_replication`
    /// has handed over. Points that are there stay.
    ///
    /// # Errors
    /// `StaleToken`, `NotReplicated` (there is no loop that goes on), `Storage`.
    async fn regroup(&self, call: &Call, item: &ItemName, group: Option<Group>) -> Result<(), ProviderError>;

    /// How it goes; `None` if the item was never replicated from here.
    ///
    /// # Errors
    /// `Storage`.
    async fn replication_status(&self, item: &ItemName) -> Result<Option<ReplicationStatus>, ProviderError>;
}

/// The machine that an item is replicated from here, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMachine {
    pub machine: String,
    pub power: PowerState,
    /// Whether it would start with its host: by the platform, or by the agent in its place.
    pub autostart: bool,
}

/// News about one item at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReport {
    pub item: ItemName,
    /// What the site holds of the item now, whole; `None` if it is no target of the item.
    pub replica: Option<Replica>,
    /// How its replication from here is; `None` if it is no source of the item.
    pub replication: Option<ReplicationStatus>,
    /// The machine that is or was replicated from here; `None` if there is none, or it has not been looked at yet.
    #[serde(default)]
    pub source: Option<SourceMachine>,
    /// Whether a machine that was recovered here runs; `None` if there is none.
    #[serde(default)]
    pub recovered: Option<PowerState>,
}

/// What an agent forwards to its server without being asked.
pub trait Reports: Send + Sync {
    /// Items whose replica or replication has changed since the last call; all of them at the first call. Never blocks for
    /// long. A report that could not be forwarded is made up for by [`Reports::report_all_again`].
    fn reports(&self) -> Vec<ItemReport>;

    /// What the host has, in all and left, and what machines would take there. May block for some seconds.
    ///
    /// # Errors
    /// `Unreachable`, `Platform`, `Storage`.
    fn capacity(&self) -> Result<Capacity, ProviderError>;

    /// Lets the next `reports` return every item.
    fn report_all_again(&self);
}
