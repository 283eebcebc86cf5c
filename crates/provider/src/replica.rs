//! Where a site keeps the points it receives.
//!
//! ```text
//!   prepare ─▶ appends of its generation ─▶ seal ─▶ withdraw_points ─▶ remove_points ─▶ drop_replica
//!      ▲                                     │
//!      └──────────── prepare again ──────────┘   (a newer generation, or the sealing one after an undo)
//! ```
//!
//! Invariants: 1. A point is there whole or not at all. 2. The newest point and pinned points are never pruned. 3. A point's
//! number is never used again. 4. After `seal` no append of an older generation is taken, and of that generation none.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Consistency, Generation, GroupMoment, ItemName, PointId, RecoveryPoint, ReplicationPolicy};
use serde::{Deserialize, Serialize};

use crate::{Call, Machine, ProviderError};

/// Where the source sends its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// What the receiver's certificate must be valid for: a DNS name or an address.
    pub tls_name: String,
}

/// What the first point of a replica is laid upon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Nothing: the first copy is whole.
    #[default]
    Empty,
    /// The disks of the item's old machine at this site, which is off and fenced. It is taken from the hypervisor, so that nobody
    /// starts it by mistake, and its disks are never written: only what differs is received, into overlays on them.
    OldMachine,
}

/// What a replica is made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareReplica {
    pub item: ItemName,
    /// Appends of this one will be taken.
    pub generation: Generation,
    /// As inspected at the source; kept, since the source can't be asked when it matters.
    pub machine: Machine,
    pub policy: ReplicationPolicy,
    /// Ignored where the replica already has points or a base.
    pub base: Base,
}

/// Keeps a point from being pruned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pin(pub String);

/// A recovery point as its site's journal has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub id: PointId,
    pub generation: Generation,
    pub consistency: Consistency,
    /// By the source's clock. Points are ordered by number, never by this.
    pub taken_at: DateTime<Utc>,
    /// By this site's clock: when it became usable.
    pub recorded_at: DateTime<Utc>,
    /// What it took on the line.
    pub bytes: u64,
    /// Sorted.
    pub pins: Vec<Pin>,
    /// The moment that it shares with points of other items; `None` if it was taken alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupMoment>,
}

impl Point {
    /// As recovery knows it. A withdrawn one is not offered.
    #[must_use]
    pub fn listed(&self, withdrawn: bool) -> RecoveryPoint {
        RecoveryPoint {
            id: self.id,
            consistency: self.consistency,
            taken_at: self.taken_at,
            generation: self.generation,
            size_bytes: self.bytes,
            group: self.group.clone(),
            pinned: !self.pins.is_empty(),
            withdrawn,
        }
    }
}

/// What a site holds of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    pub item: ItemName,
    /// The newest one shown to this replica.
    pub generation: Generation,
    /// No appends are taken.
    pub sealed: bool,
    /// Points are not offered any more.
    pub withdrawn: bool,
    /// By number; empty once withdrawn.
    pub points: Vec<Point>,
    /// The machine as it was at the source.
    pub machine: Machine,
    pub policy: ReplicationPolicy,
}

/// What differs from the source's state at its last point: the part that has to be sent back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentMap {
    /// SHA-256 of the stored map, lower-case hex.
    pub hash: String,
    /// Blocks of 64 KiB.
    pub blocks: u64,
    /// On all disks.
    pub bytes: u64,
}

/// Received points at a site.
#[async_trait]
pub trait ReplicaStore: Send + Sync {
    /// Makes the replica, or opens the existing one for appends of this generation under this policy. Points that exist stay.
    /// A replica whose points are withdrawn and removed is begun anew by a newer generation; numbers of points go on. With
    /// [`Base::OldMachine`] that machine must be off, and fenced here unless a recovery had made it: the newest one of those that
    /// were started here before this generation, else the one that the item was replicated from. What is given as the machine is
    /// kept with the name and the definition that the old machine has here.
    ///
    /// # Errors
    /// `StaleToken`, `Superseded`, `ReplicaMismatch`, `PointsWithdrawn` (their files are still there), `NoOldMachine`, `NotFenced`,
    /// `NoSpace`, `Storage`.
    async fn prepare(&self, call: &Call, wanted: PrepareReplica) -> Result<Endpoint, ProviderError>;

    /// Takes no more appends of older generations, nor of this one. Returns what there is to choose from.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`, `Superseded`.
    async fn seal(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Replica, ProviderError>;

    /// What is there.
    ///
    /// # Errors
    /// `NoSuchReplica`, `Damaged`.
    async fn replica(&self, item: &ItemName) -> Result<Replica, ProviderError>;

    /// Keeps a point. The same pin twice is one.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`, `NoSuchPoint`, `PointsWithdrawn`.
    async fn pin(&self, call: &Call, item: &ItemName, point: PointId, pin: Pin) -> Result<(), ProviderError>;

    /// Takes a pin away; does nothing if it is not there, nor its point.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`.
    async fn unpin(&self, call: &Call, item: &ItemName, point: PointId, pin: Pin) -> Result<(), ProviderError>;

    /// Computes and stores which blocks differ from the source's last known state: those of points newer than the recovered
    /// one, and those written since the recovered machine was started; all of them if that record is lost, since a commit must be
    /// possible after a power failure. Once stored, the same map is returned again.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`, `NotRecovered`, `Busy`, `Platform`.
    async fn keep_extent_map(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<ExtentMap, ProviderError>;

    /// Offers no point ever again. Their files stay, for a disk that still needs them.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`.
    async fn withdraw_points(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError>;

    /// Removes the files of withdrawn points, and of a base that a recovery had made; the disks of a base that was there before us
    /// are left alone. A fence in force here ends: the recovered machine has taken the place of what was fenced. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `PointsInUse`, `Platform` (points are not withdrawn), `Storage`.
    async fn remove_points(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError>;

    /// Removes the replica with all its points, pinned ones too, and all records. Twice is once. A recovered machine stays. An old
    /// machine whose disks were its base is known to the hypervisor again, off and without autostart, unless a recovered machine
    /// here has taken its place; one that a recovery had made and that was retired is removed with its disks.
    ///
    /// Where no point was ever made on the base, it holds what this site wrote last and nothing has taken its place. Then one that a
    /// recovery had made is given back too, with its disks, marks and records as they were: known again, off and without autostart,
    /// or still retired if it was before it became the base. It may become a base again, which sends only what differs.
    ///
    /// # Errors
    /// `StaleToken`, `PointsInUse`, `Storage`.
    async fn drop_replica(&self, call: &Call, item: &ItemName) -> Result<(), ProviderError>;
}
