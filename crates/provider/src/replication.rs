//! The source's own loop: it takes points and sends them, whatever the orchestrator does.
//!
//! `start_replication` hands the policy over; from then on the loop needs nobody. It goes on after restarts of the agent, of the
//! machine and of the line.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Generation, ItemName, PointId, ReplicationPolicy};
use serde::{Deserialize, Serialize};

use crate::{Call, Endpoint, ProviderError, Replica};

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicate {
    pub item: ItemName,
    /// Name on the platform.
    pub machine: String,
    pub generation: Generation,
    pub policy: ReplicationPolicy,
    pub endpoint: Endpoint,
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
    /// A newer generation has the item: the loop has ended.
    Superseded,
    /// It was told to stop.
    Stopped,
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
    /// The newest one the target has acknowledged.
    pub last_point: Option<PointId>,
    /// When that was taken, by the source's clock: the data before it is safe.
    pub last_point_taken_at: Option<DateTime<Utc>>,
    /// Gone when a point succeeds.
    pub last_error: Option<String>,
    /// Payload sent since replication was started.
    pub bytes_sent_total: u64,
}

/// Replication of machines at their source.
#[async_trait]
pub trait Replication: Send + Sync {
    /// Stores what to do on local disk and starts the loop. Called again, it changes policy, endpoint or generation.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchMachine`, `DiskNotQcow2`, `NotProtectable`, `Superseded`, `Storage`.
    async fn start_replication(&self, call: &Call, wanted: Replicate) -> Result<(), ProviderError>;

    /// Ends the loop for good and removes its marks from the machine's disks. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `Platform`, `Storage`.
    async fn stop_replication(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError>;

    /// How it goes; `None` if the item was never replicated from here.
    ///
    /// # Errors
    /// `Storage`.
    async fn replication_status(&self, item: &ItemName) -> Result<Option<ReplicationStatus>, ProviderError>;
}

/// News about one item at a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReport {
    pub item: ItemName,
    /// What the site holds of the item now, whole; `None` if it is no target of the item.
    pub replica: Option<Replica>,
    /// How its replication from here is; `None` if it is no source of the item.
    pub replication: Option<ReplicationStatus>,
}

/// What an agent forwards to its server without being asked.
pub trait Reports: Send + Sync {
    /// Items whose replica or replication has changed since the last call; all of them at the first call. Never blocks for
    /// long. A report that could not be forwarded is made up for by [`Reports::report_all_again`].
    fn reports(&self) -> Vec<ItemReport>;

    /// Lets the next `reports` return every item.
    fn report_all_again(&self);
}
