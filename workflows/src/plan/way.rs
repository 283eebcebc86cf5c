//! A machine's own workflow as a child: begun as soon as nobody else has the machine; a drill makes way for the real thing.

use std::time::Duration;

use recovery::{ItemName, plan::{Mode, Work}};
use sdk::{Child, ChildError, ClosePolicy, Context, Failure, RunId, Workflow};
use serde::Serialize;

use crate::{
    declared::{MakeWay, Way},
    item_workflow_id,
    tracked::server_queue,
};

/// Between two looks whether a drill has made way.
const AGAIN: Duration = Duration::from_secs(1);
/// Looks in all: what a cleaned-up copy takes is seconds, and a real failover waits for no drill longer than this.
const LOOKS: u32 = 120;

/// Whether a run of this workflow ends when a real failover wants its item.
#[must_use]
pub fn makes_way(workflow: &str) -> bool {
    [crate::TestFailover::NAME, crate::CleanTestFailover::NAME, crate::GiveBack::NAME].contains(&workflow)
}

/// Begins it. What goes first, a real failover, ends a test failover of the item that is being made or removed.
pub(crate) async fn begun<W: Workflow>(ctx: &Context, item: &ItemName, input: &W::Input, goes_first: Option<Mode>) -> Result<Child<W>, Failure>
where
    W::Input: Serialize,
{
    let mut looks = 0;
    loop {
        match (ctx.child::<W>(item_workflow_id(item), input, ClosePolicy::Cancel).await, goes_first) {
            (Ok(child), _) => return Ok(child),
            (Err(ChildError::AlreadyOpen(open)), Some(mode)) if looks < LOOKS => made_way(ctx, item, open, mode).await?,
            (Err(why), _) => return Err(why.into()),
        }
        looks += 1;
    }
}

async fn made_way(ctx: &Context, item: &ItemName, open: RunId, mode: Mode) -> Result<(), Failure> {
    let way = ctx.call(server_queue(), &MakeWay { item: item.clone(), run: open, work: Work::from(mode).to_string() }).await?;
    match way {
        Way::Free => Ok(()),
        Way::Drill => Ok(ctx.sleep(AGAIN).await?),
        Way::Busy { workflow } => Err(Failure::fatal("already-running", format!("run {open} ({workflow}) has item {item} and has not ended")).not_applied()),
    }
}
