//! Commit: accept a failover. Its points go.
//!
//!   lock ─▶│ keep extent map ─▶ withdraw points (one event) ─▶ flatten ─▶ remove their files ─▶ committed
//!   cancel until here
//!
//! Invariants: 1. The map of what differs from the old source is kept before any point goes. 2. Once the event stands that
//! withdraws the points, none is offered again. 3. Files go only after the running machine no longer reads them.

use recovery::{Fact, ItemName, Operation, PointId, Step};
use sdk::{Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{ExtentMap, FlattenMachine, KeepExtentMap, RemovePoints, WithdrawPoints},
    site_queue,
    tracked::Tracked,
};

/// What to commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitInput {
    /// Which.
    pub item: ItemName,
}

/// A failover that stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Committed {
    /// What will have to be sent back, by its hash.
    pub extent_map: ExtentMap,
    /// Points that were withdrawn: this one and all before it.
    pub withdrawn_up_to: PointId,
}

/// The workflow.
pub struct Commit;

impl Workflow for Commit {
    const NAME: &'static str = "commit";
    type Input = CommitInput;
    type Output = Committed;

    async fn run(ctx: Context, input: CommitInput) -> Result<Committed, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        item.record()?;
        item.ctx.point_of_no_return("a commit runs to its end")?;
        item.step(Step::Begin { operation: Operation::Commit })?;
        let committed = accept(&mut item).await;
        item.end(Operation::Commit, committed)
    }
}

async fn accept(item: &mut Tracked) -> Result<Committed, Failure> {
    let ctx = item.ctx.clone();
    let record = item.record()?;
    let (site, generation, name) = (site_queue(record.active_site()), record.state.generation, item.name.clone());
    let extent_map = ctx.call(site.clone(), &KeepExtentMap { item: name.clone(), generation }).await?;
    item.note(Fact::PointsWithdrawn { up_to: extent_map.newest_point })?;
    // A commit that is tried again finds no points any more; the record knows how far they went.
    let withdrawn_up_to = item.record()?.withdrawn_up_to.unwrap_or(extent_map.newest_point);
    item.leave();
    ctx.call(site.clone(), &WithdrawPoints { item: name.clone() }).await?;
    ctx.call(site.clone(), &FlattenMachine { item: name.clone(), generation }).await?;
    ctx.call(site, &RemovePoints { item: name }).await?;
    Ok(Committed { extent_map, withdrawn_up_to })
}
