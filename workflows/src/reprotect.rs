//! Reprotect: replicate an item in the other direction, from where it runs now to where it ran before.
//!
//!   lock ─▶ inspect ─▶ old machine off ─▶ prepare replica (on the old machine's disks) ─▶ start replication ─▶ await first point ─▶ protected
//!
//! Invariants: 1. The machine that runs is not touched. 2. The old machine's disks are never written: what differs is received into
//! overlays on them. 3. What fails or is cancelled leaves the old machine as it was, off; one that a
//! recovery had made stays the base of the replica, for the next try.

use recovery::{Fact, ItemName, Location, Operation, PointId};
use sdk::{Context, Failure, Saga, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{AwaitFirstPoint, Base, DropReplica, InspectMachine, PrepareReplica, StartReplication, StopReplication},
    old_machine,
    site_queue,
    tracked::Tracked,
};

/// What to reprotect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReprotectInput {
    /// Which.
    pub item: ItemName,
    /// Onto what.
    #[serde(default)]
    pub location: Location,
}

/// An item that is replicated in the other direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reprotected {
    /// The first one.
    pub point: PointId,
}

/// The workflow.
pub struct Reprotect;

impl Workflow for Reprotect {
    const NAME: &'static str = "reprotect";
    type Input = ReprotectInput;
    type Output = Reprotected;

    async fn run(ctx: Context, input: ReprotectInput) -> Result<Reprotected, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        item.begin(Operation::Reprotect)?;
        item.granted()?;
        let mut saga = item.ctx.saga();
        let copied = copy(&mut item, &mut saga, input.location).await;
        let settled = saga.settle(copied).await;
        item.end(Operation::Reprotect, settled)
    }
}

async fn copy(item: &mut Tracked, saga: &mut Saga, location: Location) -> Result<Reprotected, Failure> {
    let ctx = item.ctx.clone();
    let record = item.record()?;
    let (source, target) = (site_queue(record.source_site()), site_queue(record.target_site()));
    let (name, generation) = (item.name.clone(), item.generation);
    let (machine, policy, returning) = (record.machine.clone(), record.policy_in_force(), record.powered_on);
    let profile = record.profile;
    let (record_of_old, group) = (record.recovered_as.is_some(), record.group.clone());
    let inspected = ctx.call(source.clone(), &InspectMachine { machine: machine.clone(), profile }).await?;
    item.note(Fact::DisksFound { disks: inspected.disks })?;
    old_machine::off(item).await?;
    let base = match location {
        Location::Original => Base::OldMachine,
        Location::Alternate => Base::Empty,
    };
    let prepare = PrepareReplica { item: name.clone(), generation, machine: inspected.machine, policy: policy.clone(), base };
    let drop_it = ctx.call(target.clone(), &DropReplica { item: name.clone() });
    // With the replica a base goes that a recovery had made: the next try would find nothing to build on, and send everything.
    let made_by_recovery = record_of_old && location == Location::Original;
    let endpoint = if made_by_recovery { ctx.call(target, &prepare).await? } else { saga.step(ctx.call(target, &prepare), drop_it).await? };
    let start = StartReplication { item: name.clone(), machine, generation, policy, endpoint, returning, group };
    let stop = ctx.call(source.clone(), &StopReplication { item: name.clone() });
    saga.step(ctx.call(source.clone(), &start), stop).await?;
    let point = ctx.call(source, &AwaitFirstPoint { item: name, generation }).await?;
    Ok(Reprotected { point })
}
