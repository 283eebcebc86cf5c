//! Protect: begin replication of a machine to another site.
//!
//!   lock ─▶ inspect ─▶ prepare replica ─▶ start replication ─▶ await first point ─▶ protected
//!
//! Invariants: 1. The cycle of points is the source's own loop: this run ends with the first point and is needed no more.
//! 2. What fails or is cancelled leaves nothing at either site.

use recovery::{Check, Fact, ItemName, Operation, PointId, Profile, ReplicationPolicy, SiteName, Step};
use sdk::{Context, Failure, Saga, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{AwaitFirstPoint, Base, DropReplica, InspectMachine, PrepareReplica, StartReplication, StopReplication},
    site_queue,
    tracked::Tracked,
};

/// What to protect, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProtectInput {
    /// Name of the item.
    pub item: ItemName,
    /// Name of its machine on the platform.
    pub machine: String,
    /// Where it runs.
    pub from: SiteName,
    /// Where its points go.
    pub to: SiteName,
    /// How often and how long.
    pub policy: ReplicationPolicy,
    /// How a recovered machine is asked whether it serves.
    pub checks: Vec<Check>,
    /// Which platform's rules it follows; a site refuses one that it has no adapter for.
    #[serde(default)]
    pub profile: Profile,
}

/// An item with its first point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protected {
    /// The first one.
    pub point: PointId,
}

/// The workflow.
pub struct Protect;

impl Workflow for Protect {
    const NAME: &'static str = "protect";
    type Input = ProtectInput;
    type Output = Protected;

    async fn run(ctx: Context, input: ProtectInput) -> Result<Protected, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let ProtectInput { item: name, machine, from, to, policy, checks, profile } = input.clone();
        item.note(Fact::ItemRegistered { name, primary: from, recovery: to, machine, policy, checks, profile })?;
        item.step(Step::Begin { operation: Operation::Protect })?;
        item.granted()?;
        let mut saga = item.ctx.saga();
        let seeded = seed(&mut item, &mut saga, input).await;
        let settled = saga.settle(seeded).await;
        item.end(Operation::Protect, settled)
    }
}

async fn seed(item: &mut Tracked, saga: &mut Saga, input: ProtectInput) -> Result<Protected, Failure> {
    let ctx = item.ctx.clone();
    let (source, target) = (site_queue(&input.from), site_queue(&input.to));
    let ProtectInput { item: name, machine, policy, profile, .. } = input;
    let generation = item.generation;
    let inspected = ctx.call(source.clone(), &InspectMachine { machine: machine.clone(), profile }).await?;
    item.note(Fact::DisksFound { disks: inspected.disks })?;
    let prepare = PrepareReplica { item: name.clone(), generation, machine: inspected.machine, policy: policy.clone(), base: Base::Empty };
    let drop_it = ctx.call(target.clone(), &DropReplica { item: name.clone() });
    let endpoint = saga.step(ctx.call(target, &prepare), drop_it).await?;
    let start = StartReplication { item: name.clone(), machine, generation, policy, endpoint, returning: None, group: None };
    let stop = ctx.call(source.clone(), &StopReplication { item: name.clone() });
    saga.step(ctx.call(source.clone(), &start), stop).await?;
    let point = ctx.call(source, &AwaitFirstPoint { item: name, generation }).await?;
    Ok(Protected { point })
}
