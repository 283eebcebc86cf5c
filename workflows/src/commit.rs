//! Commit: accept a failover. Its points go.
//!
//!   lock ─▶│ keep extent map ─▶ withdraw points (one event) ─▶ flatten ─▶ remove their files ─▶ retire the old machine ─▶ committed
//!   cancel until here
//!
//! Invariants: 1. The map of what differs from the old source is kept before any point goes. 2. Once the event stands that
//! withdraws the points, none is offered again. 3. Files go only after the running machine no longer reads them. 4. An old machine
//! that a recovery had made leaves its hypervisor; its disks stay, as the base of the next replica. One that was there before us
//! is not touched.

use std::time::Duration;

use recovery::{Fact, ItemName, Operation, PointId, SiteName};
use sdk::{Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    clean_test,
    declared::{ExtentMap, FlattenMachine, KeepExtentMap, RemovePoints, RetireMachine, WithdrawPoints},
    site_queue,
    tracked::Tracked,
};

/// How long the agent beside the machine may take to pick the commit up; if it takes longer, nothing has changed.
const PICK_UP: Duration = Duration::from_secs(300);
/// How long the old machine's agent may take to pick up that it goes.
const RETIRE_PICK_UP: Duration = Duration::from_secs(30);
/// And how long all tries may take.
const RETIRE_LIMIT: Duration = Duration::from_secs(120);

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
    /// What became of the old machine, where a recovery had made it; `None` if it was there before us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
}

/// What became of an old machine that a recovery had made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retired {
    /// Where it was.
    pub site: SiteName,
    /// Why it is still known there, if it is; it is off, and the next reprotect takes care of it.
    pub left: Option<String>,
}

/// The workflow.
pub struct Commit;

impl Workflow for Commit {
    const NAME: &'static str = "commit";
    type Input = CommitInput;
    type Output = Committed;

    async fn run(ctx: Context, input: CommitInput) -> Result<Committed, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        item.ctx.point_of_no_return("a commit runs to its end")?;
        item.begin(Operation::Commit)?;
        let committed = accept(&mut item).await;
        item.end(Operation::Commit, committed)
    }
}

async fn accept(item: &mut Tracked) -> Result<Committed, Failure> {
    let ctx = item.ctx.clone();
    let record = item.record()?;
    let (site, generation, name) = (site_queue(record.active_site()), record.running_generation(), item.name.clone());
    let extent_map = ctx.call(site.clone(), &KeepExtentMap { item: name.clone(), generation }).queue_timeout(PICK_UP).await?;
    item.note(Fact::PointsWithdrawn { up_to: extent_map.newest_point })?;
    // A commit that is tried again finds no points any more; the record knows how far they went.
    let withdrawn_up_to = item.record()?.withdrawn_up_to.unwrap_or(extent_map.newest_point);
    item.leave();
    // A copy of a test failover reads from the points that go.
    clean_test::removed(item).await?;
    ctx.call(site.clone(), &WithdrawPoints { item: name.clone() }).await?;
    ctx.call(site.clone(), &FlattenMachine { item: name.clone(), generation }).await?;
    ctx.call(site, &RemovePoints { item: name }).await?;
    let retired = retired(item).await?;
    Ok(Committed { extent_map, withdrawn_up_to, retired })
}

/// Best effort: a site that does not answer holds no commit.
async fn retired(item: &Tracked) -> Result<Option<Retired>, Failure> {
    let record = item.record()?;
    let Some(generation) = record.recovered_as else { return Ok(None) };
    let site = record.other_site().clone();
    let retire = item.ctx.call(site_queue(&site), &RetireMachine { item: item.name.clone(), generation });
    let left = retire.queue_timeout(RETIRE_PICK_UP).total_timeout(RETIRE_LIMIT).await.err().map(|why| Failure::from(why).to_string());
    Ok(Some(Retired { site, left }))
}
