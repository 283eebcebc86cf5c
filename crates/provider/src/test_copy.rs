//! A throw-away copy of an item on a network of its own: the machine of a test failover.
//!
//! ```text
//!   Absent ─recover_test─▶ Prepared ─start_test─▶ Running      beside replication, which goes on
//!      ▲                      │                      │
//!      └──────clean_test──────┴──────clean_test──────┘
//! ```
//!
//! Invariants: 1. The copy is named by its generation and is never mistaken for a recovered machine: `recover`, `discard` and
//! `observe_machine` do not see it. 2. It is powered on only after its network was seen to reach nothing: no uplink, no address
//! on the host, no port but those of the copies that share it. 3. While it exists, nothing that it reads from is pruned. 4. After
//! `clean_test` the inventory has nothing of it, whatever happened before; a network that copies share goes with the last of them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{Check, Generation, ItemName, PointId, TestNetwork};
use serde::{Deserialize, Serialize};

use crate::{Call, ProviderError, Recovered, RecoveredState};

/// Which point of an item is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverTest {
    pub item: ItemName,
    /// Names everything that is made.
    pub generation: Generation,
    pub point: PointId,
    /// The isolated network that it shares with the other copies of a plan: each host of a site has one of that name, which
    /// reaches no other host. `None`: one that no other copy is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<TestNetwork>,
}

/// What was seen of the copy's network before the copy was powered on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Its name on the platform.
    pub network: String,
    /// What was looked at and found, for people.
    pub detail: String,
    /// By the site's clock.
    pub observed_at: DateTime<Utc>,
}

/// A copy that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStarted {
    pub point: PointId,
    /// Its name on the platform.
    pub machine: String,
    /// When it was first powered on, by the site's clock.
    pub since: DateTime<Utc>,
    pub isolation: Isolation,
}

/// Copies for tests at a site.
#[async_trait]
pub trait TestCopies: Send + Sync {
    /// Makes throw-away disks on a point, an isolated network, and a definition that uses both and nothing else of the host's
    /// networks. Starts nothing. A copy of another generation is refused: it is cleaned first.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchReplica`, `NoSuchPoint`, `PointsWithdrawn`, `Superseded`, `TestCopyExists`, `Storage`, `Platform`.
    async fn recover_test(&self, call: &Call, wanted: RecoverTest) -> Result<Recovered, ProviderError>;

    /// Proves that the network is isolated, then powers the copy on. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `NotRecovered`, `NotIsolated`, `Platform`.
    async fn start_test(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<TestStarted, ProviderError>;

    /// Asks the running copy, from within its network and under an address that nobody in it has. Returns what was asked and answered.
    ///
    /// # Errors
    /// `NotRecovered`, `NotServing` (with what did not hold), `Platform`.
    async fn check_test(&self, item: &ItemName, generation: Generation, checks: &[Check]) -> Result<String, ProviderError>;

    /// Removes the copy, whatever its generation up to this one, with its disks, its network and everything else that was made
    /// for it. A network that it shares stays until the last copy on it is cleaned. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `Platform`, `Storage`.
    async fn clean_test(&self, call: &Call, item: &ItemName, generation: Generation) -> Result<(), ProviderError>;

    /// What exists of that generation's copy; for probes.
    ///
    /// # Errors
    /// `Unreachable`.
    async fn observe_test(&self, item: &ItemName, generation: Generation) -> Result<RecoveredState, ProviderError>;
}
