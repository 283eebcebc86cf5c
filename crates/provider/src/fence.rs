//! Making a machine unable to write, with proof; and lifting that again.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use recovery::{EffectToken, ItemName};
use serde::{Deserialize, Serialize};

use crate::{Call, PowerState, ProviderError};

/// How a machine was made unable to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceMethod {
    /// Its process was ended.
    Destroyed,
    /// It was found off.
    AlreadyOff,
    /// Its guest shut down when it was asked to.
    ShutDown,
}

/// What was seen after fencing. It holds for the time of the look: what keeps it true is the disabled autostart and the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceProof {
    pub machine: String,
    pub method: FenceMethod,
    /// Seen after the effect; a proof always has `Off`.
    pub power: PowerState,
    /// Seen after the effect; a proof always has `true`.
    pub autostart_off: bool,
    /// By the site's clock.
    pub observed_at: DateTime<Utc>,
    /// What was done and seen, for people.
    pub detail: String,
}

/// Whether a machine is fenced now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum FenceState {
    /// A fence is recorded and the machine is seen off.
    Fenced { token: EffectToken, proof: FenceProof },
    /// A fence is recorded, yet the machine is not off or would start with its host: somebody else started it.
    Broken { token: EffectToken, power: PowerState, autostart: bool },
    /// No fence is in force.
    Open { power: PowerState, autostart: bool },
}

/// Fencing of source machines.
#[async_trait]
pub trait Fence: Send + Sync {
    /// Ends the machine hard, disables its autostart, stops its replication, remembers how it was, and looks. Twice is once. One that
    /// was shut down before is fenced by that; its replication is stopped all the same. One that was taken from the hypervisor,
    /// retired or as a base, is fenced by that.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchMachine`, `Unreachable`, `Platform` (it could not be proven).
    async fn fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<FenceProof, ProviderError>;

    /// Asks the guest to shut down, by its agent and then by the power button, waits until the machine is off, disables its
    /// autostart and remembers how it was: the gentle way into a fence. Replication is not stopped. A guest that does not go
    /// within `patience` goes on running as before, with autostart as before. Twice is once.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchMachine`, `Unreachable`, `StillRunning`, `Platform`.
    async fn shut_down(&self, call: &Call, item: &ItemName, machine: &str, patience: Duration) -> Result<FenceProof, ProviderError>;

    /// Whether the machine is fenced now.
    ///
    /// # Errors
    /// `NoSuchMachine`, `Unreachable`.
    async fn observe_fence(&self, item: &ItemName, machine: &str) -> Result<FenceState, ProviderError>;

    /// Puts autostart back, and starts the machine if it was running when it was fenced. Replication is not taken up again.
    /// Does nothing if no fence is in force. Never call it once a recovered machine was started.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchMachine`, `Unreachable`, `Platform`.
    async fn lift_fence(&self, call: &Call, item: &ItemName, machine: &str) -> Result<(), ProviderError>;

    /// Lets the machine be the item's again after what ran in its place was removed: ends a fence or a quarantine, puts autostart
    /// back as far as it is known, and starts the machine, whatever it did before. Twice is once. Never call it while a recovered
    /// machine may run.
    ///
    /// # Errors
    /// `StaleToken`, `NoSuchMachine`, `Unreachable`, `Platform`.
    async fn start_source(&self, call: &Call, item: &ItemName, machine: &str) -> Result<(), ProviderError>;
}
