//! Why a site did not do what it was asked, and whether it may have done it all the same.
//!
//! Two questions decide what a workflow does next: may the same call be repeated with hope ([`ProviderError::retryable`]), and
//! is it certain that nothing happened ([`ProviderError::not_applied`]). An effect that may have happened is probed, never
//! guessed.

use chrono::{DateTime, Utc};
use recovery::{EffectToken, Generation, ItemName, PointId};
use serde::{Deserialize, Serialize};

/// Whether a failed call may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// Certainly not.
    No,
    /// Perhaps, or in part; a repeat completes it.
    Unknown,
}

/// Why a call to a site failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "code")]
pub enum ProviderError {
    /// A newer call for the item came first; its maker has the right, this one has lost it.
    #[error("token {given} for {item} is older than {seen}, which this site has seen")]
    StaleToken { item: ItemName, given: EffectToken, seen: EffectToken },
    /// A newer agent process has taken over the host.
    #[error("this agent process (writer {ours}) was replaced by writer {newest}")]
    NotWriter { ours: i64, newest: i64 },
    /// Objects of a newer generation exist, or appends of this one are no longer taken.
    #[error("generation {given} of {item} is superseded by {newest}")]
    Superseded { item: ItemName, given: Generation, newest: Generation },
    /// The item's machine was started at this site under a newer generation: the asking source must not run.
    #[error("{item} runs at {site} since {since}, under generation {newest}")]
    RunsHere { item: ItemName, site: String, newest: Generation, since: DateTime<Utc> },
    #[error("no machine {machine} at this site")]
    NoSuchMachine { machine: String },
    /// It did not go, and goes on as before.
    #[error("machine {machine} still runs, {waited_ms} ms after it was asked to shut down")]
    StillRunning { machine: String, waited_ms: u64 },
    /// There is nothing whose disks could be built on.
    #[error("the old machine of {item} is not at this site: {detail}")]
    NoOldMachine { item: ItemName, detail: String },
    /// Its disks may still be written.
    #[error("the old machine {machine} of {item} is not fenced: {detail}")]
    NotFenced { item: ItemName, machine: String, detail: String },
    #[error("{item} is not replicated from this site")]
    NotReplicated { item: ItemName },
    /// A copy of another test failover has to be cleaned first.
    #[error("a copy of generation {existing} of {item} exists at this site")]
    TestCopyExists { item: ItemName, existing: Generation },
    /// Something could reach the copy or be reached by it; it was not started.
    #[error("network {network} is not isolated: {detail}")]
    NotIsolated { network: String, detail: String },
    /// The machine's network cards would be connected to nothing; it was not made.
    #[error("{machine} can't be started at this site, which lacks {missing}")]
    NoNetwork { machine: String, missing: String },
    /// A check did not hold.
    #[error("{machine} does not serve: {detail}")]
    NotServing { machine: String, detail: String },
    #[error("no replica of {item} at this site")]
    NoSuchReplica { item: ItemName },
    #[error("no recovery point {point} of {item}")]
    NoSuchPoint { item: ItemName, point: PointId },
    /// The points were withdrawn by a commit and are never offered again.
    #[error("the recovery points of {item} are withdrawn")]
    PointsWithdrawn { item: ItemName },
    #[error("nothing is recovered of {item} for generation {generation}")]
    NotRecovered { item: ItemName, generation: Generation },
    /// A started machine of an older generation holds data; nothing but `discard` may remove it.
    #[error("the machine of generation {older} of {item}, started from point {point}, still exists at this site")]
    OlderMachine { item: ItemName, older: Generation, point: PointId },
    #[error("disk {disk} of {machine} has the format {format}, not qcow2")]
    DiskNotQcow2 { machine: String, disk: String, format: String },
    /// The machine can't be protected as it is.
    #[error("machine {machine} can't be protected: {reason}")]
    NotProtectable { machine: String, reason: String },
    /// The replica belongs to a machine with other disks.
    #[error("the replica of {item} does not fit the machine: {reason}")]
    ReplicaMismatch { item: ItemName, reason: String },
    /// Point files are still beneath a disk in use; flattening it first lets them go.
    #[error("the points of {item} are still in use by {user}")]
    PointsInUse { item: ItemName, user: String },
    #[error("{path} has {available_bytes} bytes left, {needed_bytes} are needed")]
    NoSpace { path: String, needed_bytes: u64, available_bytes: u64 },
    /// Files or journal of a replica are not as recorded.
    #[error("the replica of {item} is damaged: {detail}")]
    Damaged { item: ItemName, detail: String },
    /// Something else works on the same machine, such as a backup.
    #[error("{operation} on {target} has to wait: {detail}")]
    Busy { operation: String, target: String, detail: String },
    /// The site or its hypervisor does not answer.
    #[error("{site} can't be reached: {detail}")]
    Unreachable { site: String, detail: String },
    /// The call was made; its answer did not arrive.
    #[error("no answer to {operation} on {target}: {detail}")]
    AnswerLost { operation: String, target: String, detail: String },
    /// The caller asked a long call to stop.
    #[error("{operation} on {target} was asked to stop")]
    Stopped { operation: String, target: String },
    /// The platform refused or failed.
    #[error("{operation} on {target} failed: {detail}")]
    Platform { operation: String, target: String, detail: String, applied: Applied },
    /// Reading or writing the site's own files failed.
    #[error("{operation} {path} failed: {detail}")]
    Storage { operation: String, path: String, detail: String, applied: Applied },
}

impl ProviderError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::NotWriter { .. }
            | Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::AnswerLost { .. }
            | Self::Stopped { .. }
            | Self::NotServing { .. }
            | Self::Platform { .. }
            | Self::Storage { .. } => true,
            Self::StaleToken { .. }
            | Self::Superseded { .. }
            | Self::RunsHere { .. }
            | Self::StillRunning { .. }
            | Self::NoOldMachine { .. }
            | Self::NotFenced { .. }
            | Self::NotReplicated { .. }
            | Self::TestCopyExists { .. }
            | Self::NotIsolated { .. }
            | Self::NoNetwork { .. }
            | Self::NoSuchMachine { .. }
            | Self::NoSuchReplica { .. }
            | Self::NoSuchPoint { .. }
            | Self::PointsWithdrawn { .. }
            | Self::NotRecovered { .. }
            | Self::OlderMachine { .. }
            | Self::DiskNotQcow2 { .. }
            | Self::NotProtectable { .. }
            | Self::ReplicaMismatch { .. }
            | Self::PointsInUse { .. }
            | Self::NoSpace { .. }
            | Self::Damaged { .. } => false,
        }
    }

    /// Whether it is certain that the call changed nothing outside.
    #[must_use]
    pub fn not_applied(&self) -> bool {
        match self {
            Self::AnswerLost { .. } | Self::Stopped { .. } => false,
            Self::Platform { applied, .. } | Self::Storage { applied, .. } => *applied == Applied::No,
            Self::StaleToken { .. }
            | Self::NotWriter { .. }
            | Self::Superseded { .. }
            | Self::RunsHere { .. }
            | Self::StillRunning { .. }
            | Self::NoOldMachine { .. }
            | Self::NotFenced { .. }
            | Self::NotReplicated { .. }
            | Self::TestCopyExists { .. }
            | Self::NotIsolated { .. }
            | Self::NoNetwork { .. }
            | Self::NotServing { .. }
            | Self::NoSuchMachine { .. }
            | Self::NoSuchReplica { .. }
            | Self::NoSuchPoint { .. }
            | Self::PointsWithdrawn { .. }
            | Self::NotRecovered { .. }
            | Self::OlderMachine { .. }
            | Self::DiskNotQcow2 { .. }
            | Self::NotProtectable { .. }
            | Self::ReplicaMismatch { .. }
            | Self::PointsInUse { .. }
            | Self::NoSpace { .. }
            | Self::Damaged { .. }
            | Self::Busy { .. }
            | Self::Unreachable { .. } => true,
        }
    }

    /// Stable word for tables and problem codes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::StaleToken { .. } => "stale_token",
            Self::NotWriter { .. } => "not_writer",
            Self::Superseded { .. } => "superseded",
            Self::RunsHere { .. } => "runs_here",
            Self::NoSuchMachine { .. } => "no_such_machine",
            Self::StillRunning { .. } => "still_running",
            Self::NoOldMachine { .. } => "no_old_machine",
            Self::NotFenced { .. } => "not_fenced",
            Self::NotReplicated { .. } => "not_replicated",
            Self::TestCopyExists { .. } => "test_copy_exists",
            Self::NotIsolated { .. } => "not_isolated",
            Self::NoNetwork { .. } => "no_network",
            Self::NotServing { .. } => "not_serving",
            Self::NoSuchReplica { .. } => "no_such_replica",
            Self::NoSuchPoint { .. } => "no_such_point",
            Self::PointsWithdrawn { .. } => "points_withdrawn",
            Self::NotRecovered { .. } => "not_recovered",
            Self::OlderMachine { .. } => "older_machine",
            Self::DiskNotQcow2 { .. } => "disk_not_qcow2",
            Self::NotProtectable { .. } => "not_protectable",
            Self::ReplicaMismatch { .. } => "replica_mismatch",
            Self::PointsInUse { .. } => "points_in_use",
            Self::NoSpace { .. } => "no_space",
            Self::Damaged { .. } => "damaged",
            Self::Busy { .. } => "busy",
            Self::Unreachable { .. } => "unreachable",
            Self::AnswerLost { .. } => "answer_lost",
            Self::Stopped { .. } => "stopped",
            Self::Platform { .. } => "platform",
            Self::Storage { .. } => "storage",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::StaleToken { .. } | Self::Superseded { .. } => {
                "a newer operation has the item; look at its runs, this one must not go on"
            }
            Self::NotWriter { .. } => "nothing to do: the newer agent process takes the work over",
            Self::RunsHere { .. } => "leave the machine here off; reprotect from the site where it runs brings it up to date",
            Self::StillRunning { .. } => {
                "nothing has changed. If the guest goes down after all, later than it was waited for, it stays off until somebody starts \
                 it. Shut the machine down yourself and repeat, or use an unplanned failover, which loses what was \
                 written after the last point"
            }
            Self::NoOldMachine { .. } => "reprotect with --location alternate: everything is copied and a new machine is made there",
            Self::NotFenced { .. } => "shut the old machine down, then repeat; its disks must not be written while they are the base",
            Self::NotReplicated { .. } => "protect or reprotect the item first",
            Self::TestCopyExists { .. } => "clean the earlier test failover first",
            Self::NotIsolated { .. } => "the copy was not started; take what is named off the network, or clean the test failover",
            Self::NoNetwork { .. } => "make what is missing at this site, under the same name, and start it; then try again",
            Self::NotServing { .. } => "look at the machine's console; the check is asked again until its time is up",
            Self::NoSuchMachine { .. } => "check the machine's name and the site; `virsh list --all` shows what the host knows",
            Self::NoSuchReplica { .. } => "protect the item first, or check that this is its recovery site",
            Self::NoSuchPoint { .. } => "list the item's points and choose one of them",
            Self::PointsWithdrawn { .. } => "the failover is committed; protect the item again to get new points",
            Self::NotRecovered { .. } => "the machine has to be recovered from a point before it can be started",
            Self::OlderMachine { .. } => "commit or discard the earlier failover first",
            Self::DiskNotQcow2 { .. } => "convert the disk with `qemu-img convert -O qcow2` while the machine is off, then try again",
            Self::NotProtectable { .. } => "change the machine as the reason says, then try again",
            Self::ReplicaMismatch { .. } => "unprotect the item and protect it again: disks were added, removed or resized",
            Self::PointsInUse { .. } => "flatten the running machine's disk first; commit does that by itself",
            Self::NoSpace { .. } => "free space in the storage directory, or keep fewer points",
            Self::Damaged { .. } => "do not delete anything; the item needs a new seeding or repair",
            Self::Busy { .. } => "wait for the other operation to end; it is tried again",
            Self::Unreachable { .. } => "check the site, its agent and its hypervisor",
            Self::AnswerLost { .. } => "what happened is found out by looking; no action needed",
            Self::Stopped { .. } => "repeat the operation to complete it",
            Self::Platform { .. } => "read the hypervisor's message and its log",
            Self::Storage { .. } => "check the file system of the agent's storage and state directories",
        }
    }
}
