//! What is asked of replicas and of the replication between sites.

use recovery::{Generation, Group, ItemName, PointId, RecoveryPoint, ReplicationPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CALL, COPY, UNDO, asking, declare};

/// Where the source sends its data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// What the receiver's certificate must be valid for.
    pub tls_name: String,
}

/// A replica as it is; after a seal, as it stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// What there is to choose from, by number.
    pub points: Vec<RecoveryPoint>,
}

/// A replica that takes points.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Where the source sends its data.
    pub endpoint: Endpoint,
    /// Which it takes them of.
    pub generation: Generation,
}

/// What the first point of a replica is laid upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Nothing: everything is copied.
    #[default]
    Empty,
    /// The disks of the item's old machine there, which is off: what differs is copied, into overlays.
    OldMachine,
}

/// What differs from the old source's last known state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExtentMap {
    /// SHA-256 of the stored map, lower-case hex.
    pub hash: String,
    /// Blocks of 64 KiB.
    pub blocks: u64,
    /// On all disks.
    pub bytes: u64,
    /// The last point that there is.
    pub newest_point: PointId,
}

declare! {
    /// Makes the replica at the target, or opens it for this generation.
    PrepareReplica {
        /// Which.
        item: ItemName,
        /// Appends of this one will be taken.
        generation: Generation,
        /// As inspected at the source.
        machine: Value,
        /// How it is replicated.
        policy: ReplicationPolicy,
        /// What it is laid upon.
        base: Base,
    } is "prepare-replica", Idempotent, Prod, CALL => Endpoint
}

declare! {
    /// Removes the replica with all its points.
    DropReplica {
        /// Which.
        item: ItemName,
    } is "drop-replica", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Hands the replication policy to the source's own loop.
    StartReplication {
        /// Which.
        item: ItemName,
        /// Name on the platform.
        machine: String,
        /// Appends carry it.
        generation: Generation,
        /// How it is replicated.
        policy: ReplicationPolicy,
        /// Where to.
        endpoint: Endpoint,
        /// The machine was recovered there under this generation and goes back to where it came from.
        returning: Option<Generation>,
        /// The replication group that it is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<Group>,
    } is "start-replication", Idempotent, Prod, CALL => ()
}

declare! {
    /// Tells the source's loop which replication group the item is in now.
    RegroupReplication {
        /// Which.
        item: ItemName,
        /// The group; none if it has left.
        group: Option<Group>,
    } is "regroup-replication", Idempotent, Prod, CALL => ()
}

declare! {
    /// Sends what is missing at the target of a machine that is off, as one more point; the loop has ended then.
    FinalSync {
        /// Which.
        item: ItemName,
    } is "final-sync", Idempotent, Prod, COPY => PointId
}

declare! {
    /// Ends the source's loop for good.
    StopReplication {
        /// Which.
        item: ItemName,
    } is "stop-replication", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Waits at the source until the target has acknowledged a point. Seeding may take days.
    AwaitFirstPoint {
        /// Which.
        item: ItemName,
        /// Taken under this one.
        generation: Generation,
    } is "await-first-point", Idempotent, Read, asking(500, 2_000_000) => PointId
}

declare! {
    /// Lets the source begin a point at once.
    RequestPoint {
        /// Which.
        item: ItemName,
        /// Names the request.
        by: Generation,
        /// Both sides are compared whole.
        compare: bool,
    } is "request-point", Idempotent, Prod, CALL => ()
}

declare! {
    /// Waits at the source until the target has the point of a request. A comparison of large disks may take a day.
    AwaitPoint {
        /// Which.
        item: ItemName,
        /// The request.
        by: Generation,
        /// Waits while the machine is off.
        patient: bool,
    } is "await-point", Idempotent, Read, asking(500, 200_000) => PointId
}

declare! {
    /// Puts another policy in force at the target, for whoever sends there now.
    ApplyPolicy {
        /// Which.
        item: ItemName,
        /// From now on.
        policy: ReplicationPolicy,
    } is "apply-policy", Idempotent, Prod, CALL => Opened
}

declare! {
    /// Ends appends at the target and lists what there is.
    SealReplica {
        /// Which.
        item: ItemName,
        /// The failover's.
        generation: Generation,
    } is "seal-replica", Idempotent, Prod, CALL => Sealed
}

declare! {
    /// Lists what there is, and changes nothing.
    ListPoints {
        /// Which.
        item: ItemName,
    } is "list-points", Idempotent, Read, CALL => Sealed
}

declare! {
    /// Takes a seal back.
    ReopenReplica {
        /// Which.
        item: ItemName,
        /// The one that sealed it.
        generation: Generation,
    } is "reopen-replica", Idempotent, Prod, UNDO => Endpoint
}

declare! {
    /// Keeps a point from being pruned.
    PinPoint {
        /// Which.
        item: ItemName,
        /// Which point.
        point: PointId,
        /// Why, as a name.
        pin: String,
    } is "pin-point", Idempotent, Prod, CALL => ()
}

declare! {
    /// Takes a pin away.
    UnpinPoint {
        /// Which.
        item: ItemName,
        /// Which point.
        point: PointId,
        /// The pin's name.
        pin: String,
    } is "unpin-point", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Computes and stores what will have to be sent back.
    KeepExtentMap {
        /// Which.
        item: ItemName,
        /// The failover's.
        generation: Generation,
    } is "keep-extent-map", Idempotent, Prod, CALL => ExtentMap
}

declare! {
    /// Offers no point ever again.
    WithdrawPoints {
        /// Which.
        item: ItemName,
    } is "withdraw-points", Idempotent, Prod, UNDO => ()
}

declare! {
    /// Removes the files of withdrawn points.
    RemovePoints {
        /// Which.
        item: ItemName,
    } is "remove-points", Idempotent, Prod, UNDO => ()
}
