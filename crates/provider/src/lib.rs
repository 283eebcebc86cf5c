//! What a site offers to activities, whatever the platform: machines, fencing, received points, and replication.
//!
//! ```text
//!   activities ──▶ Site = Compute + Fence + ReplicaStore + Replication + TestCopies + Guests + Reports, and Actions beside it
//!                    ├── sim::SimSite      in memory, faults on demand, outside ledger of effects
//!                    └── provider-kvm      libvirt and QEMU
//! ```
//!
//! Invariants that every provider keeps (`contract` proves them): 1. A mutating call carries an [`EffectToken`] and is refused
//! with [`ProviderError::StaleToken`], changing nothing, once a greater one was seen for its item. 2. Every mutating call may be
//! repeated: the second call finds the first one's effect and gives the same answer. 3. A call whose future is dropped either
//! happens whole or can be repeated. 4. What exists outside is read from outside (`observe_machine`, `replica`, `inventory`),
//! never remembered. 5. No call but `final_sync` waits for the other site.
//!
//! [`EffectToken`]: recovery::EffectToken

mod actions;
mod asking;
mod call;
mod compute;
pub mod contract;
mod error;
mod fence;
pub mod group;
mod guests;
mod machine;
mod replica;
mod replication;
pub mod retention;
pub mod sim;
mod test_copy;

use std::fmt::Debug;

use recovery::{Profile, SiteName};

pub use actions::{ActionError, Actions, Done, Order, Said, Wanted};
pub use asking::ask;
pub use call::{Call, Progress, ProgressSink, Quiet};
pub use compute::{Compute, Inventory, NetworkChoice, ObjectKind, OwnedObject, RecoverMachine, Recovered, RecoveredState, Started, Written};
pub use error::{Applied, ProviderError};
pub use fence::{Fence, FenceMethod, FenceProof, FenceState};
pub use guests::{GuestProgram, GuestRun, Guests, Link, Whose};
pub use machine::{Definition, Disk, Machine, PowerState};
pub use replica::{Base, Endpoint, ExtentMap, Pin, Point, PrepareReplica, Replica, ReplicaStore};
pub use replication::{AUTOSTART_PATIENCE, ItemReport, Phase, PointRequest, Replicate, Replication, Requested, ReplicationStatus, Reports, SourceMachine};
pub use test_copy::{Isolation, RecoverTest, TestCopies, TestStarted};

/// All ports of one site behind one object.
pub trait Site: Compute + Fence + ReplicaStore + Replication + TestCopies + Guests + Reports + Debug {
    /// The name under which the site is enrolled.
    fn name(&self) -> &SiteName;

    /// Whether it has an adapter for machines of that profile.
    fn operates(&self, profile: Profile) -> bool;
}
