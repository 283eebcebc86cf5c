//! What is asked of a site's machines: look, fence, recover, start, check, flatten, discard.

use chrono::{DateTime, Utc};
use recovery::{Check, Disk, Generation, ItemName, PointId, Profile};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CALL, COPY, LONG, UNDO, asking, declare};

/// A machine that can be protected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspected {
    /// What is replicated.
    pub disks: Vec<Disk>,
    /// The platform's own description, handed on unread to the other site.
    pub machine: Value,
}

/// What a site sees of an item's machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Whether the machine runs that is or was replicated from there; absent if there is none.
    pub source_runs: Option<bool>,
    /// Whether it would start with its host.
    pub autostart: bool,
    /// It was ended there because the item runs elsewhere.
    pub quarantined: bool,
    /// Whether a machine runs that was recovered there; absent if there is none.
    pub recovered_runs: Option<bool>,
}

/// A source that can't write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fenced {
    /// What was done and seen.
    pub evidence: String,
    /// By the site's clock.
    pub at: DateTime<Utc>,
}

/// A machine that could be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// What it was made from.
    pub point: PointId,
}

/// A machine that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartedMachine {
    /// By the site's clock.
    pub since: DateTime<Utc>,
}

/// How much was written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Written {
    /// Blocks of 64 KiB that were touched.
    pub blocks: u64,
    /// On all disks.
    pub bytes: u64,
}

/// A machine that answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Served {
    /// What was asked and answered.
    pub evidence: String,
}

declare! {
    /// Describes a machine at its source, or says why it can't be protected.
    InspectMachine {
        /// Name on the platform.
        machine: String,
        /// Whose rules the item follows.
        #[serde(default, skip_serializing_if = "Profile::is_default")]
        profile: Profile,
    } is "inspect-machine", Idempotent, Read, CALL => Inspected
}

declare! {
    /// Looks which machines of an item are at a site, and changes nothing.
    LookAtMachines {
        /// Which.
        item: ItemName,
        /// Name on the platform.
        machine: String,
        /// Of the machine that a recovery may have started there.
        generation: Generation,
    } is "look-at-machines", Idempotent, Read, CALL => Looked
}

declare! {
    /// Ends the source machine hard, keeps it from starting with its host, and looks.
    FenceMachine {
        /// Which.
        item: ItemName,
        /// Name on the platform.
        machine: String,
    } is "fence-machine", Idempotent, Prod, CALL => Fenced
}

declare! {
    /// Asks the source's guest to shut down and waits until it has; then the machine is fenced. A guest that stays is left running.
    ShutDownMachine {
        /// Which.
        item: ItemName,
        /// Name on the platform.
        machine: String,
        /// How long the guest may take.
        patience_ms: u64,
    } is "shut-down-machine", Idempotent, Prod, LONG => Fenced
}

declare! {
    /// Takes a fence back; the machine runs again if it did before.
    LiftFence {
        /// Which.
        item: ItemName,
        /// Name on the platform.
        machine: String,
    } is "lift-fence", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Ends a fence or a quarantine and starts the source's machine, whatever it did before.
    StartSource {
        /// Which.
        item: ItemName,
        /// Name on the platform.
        machine: String,
    } is "start-source", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Makes throw-away disks on a point and a machine that uses them. Starts nothing.
    RecoverMachine {
        /// Which.
        item: ItemName,
        /// Names what is made.
        generation: Generation,
        /// From this.
        point: PointId,
    } is "recover-machine", Probeable, Prod, CALL => Recovered
}

declare! {
    /// Powers the recovered machine on, with its network.
    StartMachine {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
    } is "start-machine", Probeable, Prod, CALL => StartedMachine
}

declare! {
    /// Removes the recovered machine with all it has written.
    DiscardMachine {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
    } is "discard-machine", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Counts what the recovered machine has written since it was started.
    MeasureWrites {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
    } is "measure-writes", Idempotent, Read, CALL => Written
}

declare! {
    /// Takes a machine that was failed over from and that a recovery had made from the hypervisor. Its disks stay.
    RetireMachine {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
    } is "retire-machine", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Asks the machine until it serves.
    CheckMachine {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
        /// All of them must hold; none: it must run.
        checks: Vec<Check>,
    } is "check-machine", Idempotent, Read, asking(250, 1_100) => Served
}

declare! {
    /// Copies what the running machine still reads from points into its own disks.
    FlattenMachine {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
    } is "flatten-machine", Idempotent, Prod, COPY => ()
}
