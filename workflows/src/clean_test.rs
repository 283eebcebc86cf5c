//! Clean-up of a test failover: the copy goes, with its disks, its network and its pin.
//!
//!   lock ─▶│ remove the copy ─▶ unpin ─▶ nothing is left
//!   cancel until here
//!
//! Invariant: what is removed is named by the copy's generation, at the copy's site. What the item is doing does not matter, but for another run
//! that has it: it may have been failed over since, and run at that site itself, from disks and a point with pins of their own.

use recovery::{Fact, ItemName, Operation, PointId, TestFailover as State, allowed_operations};
use sdk::{Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{CleanTest, UnpinPoint},
    site_queue,
    tracked::Tracked,
};

/// What to clean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CleanTestInput {
    /// Which.
    pub item: ItemName,
}

/// A test failover of which nothing is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cleaned {
    /// What the copy was made from; `None` if it had not come that far.
    pub point: Option<PointId>,
}

/// The workflow.
pub struct CleanTestFailover;

impl Workflow for CleanTestFailover {
    const NAME: &'static str = "clean-test-failover";
    type Input = CleanTestInput;
    type Output = Cleaned;

    async fn run(ctx: Context, input: CleanTestInput) -> Result<Cleaned, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?;
        if !allowed_operations(&record.state, record.profile).contains(&Operation::CleanTestFailover) {
            let message = match &record.test_copy {
                None => format!("item {} has no test failover to be cleaned", item.name),
                Some(copy) => format!("the copy of item {} at {} can't be cleaned while the item is {}; repeat when that has ended", item.name, copy.site, record.state.main),
            };
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        }
        item.ctx.point_of_no_return("the copy is being removed")?;
        let point = item.record()?.test_copy.as_ref().map(|copy| copy.point);
        removed(&mut item).await?;
        Ok(Cleaned { point })
    }
}

/// Removes the copy of a test failover, if there is one. If that fails, the record says so, and it can be tried again.
pub(crate) async fn removed(item: &mut Tracked) -> Result<(), Failure> {
    let Some(copy) = item.record()?.test_copy.clone() else {
        if item.record()?.state.test_failover != State::None {
            item.note(Fact::TestFailoverIs { test_failover: State::None, copy: None })?;
        }
        return Ok(());
    };
    item.note(Fact::TestFailoverIs { test_failover: State::Cleaning, copy: Some(copy.clone()) })?;
    let target = site_queue(&copy.site);
    let clean = CleanTest { item: item.name.clone(), generation: copy.generation };
    let unpin = UnpinPoint { item: item.name.clone(), point: copy.point, pin: format!("test-{}", copy.generation) };
    let cleaned = async {
        item.ctx.call(target.clone(), &clean).await?;
        item.ctx.call(target, &unpin).await?;
        Ok::<(), Failure>(())
    };
    let cleaned = cleaned.await;
    let (test_failover, copy) = if cleaned.is_ok() { (State::None, None) } else { (State::Failed, Some(copy)) };
    item.note(Fact::TestFailoverIs { test_failover, copy })?;
    cleaned
}
