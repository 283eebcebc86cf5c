//! Machines at a site: look at them, and bring one up from a recovery point.
//!
//! ```text
//!   Absent ─recover─▶ Prepared ─start_machine─▶ Running ─flatten─▶ Running, standalone
//!      ▲                  │                        │
//!      └────discard───────┴────────discard─────────┘
//! ```
//!
//! What `recover` makes is throw-away: the point itself is never written to.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{EffectToken, Generation, ItemName, PointId};
use serde::{Deserialize, Serialize};

use crate::{Call, Machine, PowerState, ProgressSink, ProviderError};

/// Which networks a recovered machine is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkChoice {
    /// Those that its definition names; networks of that name must exist at this site.
    AsDefined,
    /// Names of the definition replaced by these; a name that is not listed stays.
    Renamed(BTreeMap<String, String>),
}

/// Which point of an item becomes a machine. Its definition is the one kept with the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverMachine {
    pub item: ItemName,
    /// Names everything that is made.
    pub generation: Generation,
    pub point: PointId,
    pub network: NetworkChoice,
}

/// A machine that is ready to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Of the call that made it; an earlier attempt's if that had succeeded.
    pub token: EffectToken,
    pub point: PointId,
    /// Its name on the platform.
    pub machine: String,
}

/// A machine that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub token: EffectToken,
    pub point: PointId,
    pub machine: String,
    /// When it was first powered on, by the site's clock.
    pub since: DateTime<Utc>,
}

/// What exists of a recovered machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RecoveredState {
    Absent,
    /// Disks and definition exist; it was never started.
    Prepared { token: EffectToken, point: PointId },
    /// It was started, and is in `power` now.
    Started {
        token: EffectToken,
        point: PointId,
        since: DateTime<Utc>,
        power: PowerState,
        /// Its disks need no recovery point any more.
        standalone: bool,
    },
}

/// How much was written, in blocks of 64 KiB that were touched at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub blocks: u64,
    pub bytes: u64,
}

/// What an object at a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A file of a recovery point.
    PointFile,
    /// A disk of a recovered machine.
    MachineDisk,
    /// A machine known to the hypervisor that a recovery made.
    Machine,
    /// A mark in a disk from which changes are counted.
    Checkpoint,
    /// An isolated network of a test failover.
    Network,
    /// A journal, map, definition or record.
    Record,
    /// A file that is being written, or is to be removed at the next opportunity.
    Temporary,
}

/// Something at a site that exists because of us.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnedObject {
    pub kind: ObjectKind,
    /// `None` if it can't be told.
    pub item: Option<ItemName>,
    /// Path or name on the platform.
    pub name: String,
    /// Space on disk; 0 for what is not a file.
    pub bytes: u64,
    /// Made for a test failover, and gone when that is cleaned.
    #[serde(default)]
    pub of_test: bool,
}

/// Everything at a site that exists because of us, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    pub objects: Vec<OwnedObject>,
}

/// Machines at a site.
#[async_trait]
pub trait Compute: Send + Sync {
    /// Describes a machine that is to be protected.
    ///
    /// # Errors
    /// `NoSuchMachine`, `DiskNotQcow2`, `NotProtectable`, `Unreachable`.
    async fn inspect(&self, machine: &str) -> Result<Machine, ProviderError>;

    /// Makes throw-away disks on a point, and a definition that uses them. Starts nothing. Leftovers of earlier attempts and of
    /// older generations that were never started are removed first.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`, `NoSuchPoint`, `PointsWithdrawn`, `Superseded` (a newer generation is recovered),
    /// `OlderMachine`, `NoNetwork` (what its network cards need is not there), `Storage`.
    async fn recover(&self, call: &Call, wanted: RecoverMachine) -> Result<Recovered, ProviderError>;

    /// Powers the recovered machine on, with changes counted from its first instruction; it will not start with the host.
    /// Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `NotRecovered`, `Superseded`, `Platform`.
    async fn start_machine(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<Started, ProviderError>;

    /// Stops the recovered machine hard and removes it with its disks: **what it has written is lost**. Twice is once. One that was
    /// retired is kept as long as there is a replica here, whose next base it may be.
    ///
    /// # Errors
    /// `StaleToken`, `Platform`, `Storage`.
    async fn discard(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError>;

    /// How much the recovered machine has written since it was first started: what `discard` would lose.
    ///
    /// # Errors
    /// `NotRecovered`, `Busy`, `Unreachable`, `Platform` (its record of changes is lost).
    async fn written(&self, item: &ItemName, generation: Generation) -> Result<Written, ProviderError>;

    /// Takes a machine that was recovered here, was failed over from and is off, from the hypervisor. Its disks and the record of
    /// its changes stay, as the base of the next replica. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `NotRecovered`, `StillRunning`, `Platform`.
    async fn retire(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError>;

    /// What exists of that generation; for probes.
    ///
    /// # Errors
    /// `Unreachable`.
    async fn observe_machine(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError>;

    /// Lets the agent in the recovered machine's guest run a program, and waits for its end, at most some seconds. Returns what was
    /// run if it exits with 0.
    ///
    /// # Errors
    /// `NotRecovered`, `NotServing` (with what came of it), `Unreachable`, `Platform`.
    async fn run_in_guest(&self, item: &ItemName, generation: Generation, program: &str, arguments: &[String]) -> Result<String, ProviderError>;

    /// Copies what the running machine still reads from points into its own disks. The machine goes on running. It is accepted:
    /// from then on it starts with its host, if the machine that was replicated did.
    ///
    /// # Errors
    /// `StaleToken`, `NotRecovered`, `Busy`, `Stopped` (asked by `progress`), `Platform`.
    async fn flatten(
        &self,
        call: &Call,
        item: &ItemName,
        generation: Generation,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<(), ProviderError>;

    /// All objects at the site that exist because of us.
    ///
    /// # Errors
    /// `Unreachable`, `Storage`.
    async fn inventory(&self) -> Result<Inventory, ProviderError>;
}
