//! Unprotect: end replication of an item and remove its replica. The machine itself is not touched.
//!
//!   lock ─▶│ stop replication (a dead source does not stop us) ─▶ clean test copy ─▶ drop replica ─▶ what earlier turns left ─▶ unprotected
//!   cancel until here

use std::time::Duration;

use recovery::{ItemName, Operation};
use sdk::{CallError, Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    clean_test,
    declared::{DropReplica, StopReplication},
    site_queue,
    tracked::Tracked,
};

/// How long the source's agent may take to pick the stop up.
const SOURCE_LIMIT: Duration = Duration::from_secs(30);

/// What to unprotect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnprotectInput {
    /// Which.
    pub item: ItemName,
}

/// An item without replication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unprotected {
    /// False: the source's agent did not answer; its loop ends by itself when it finds the replica gone.
    pub source_stopped: bool,
}

/// The workflow.
pub struct Unprotect;

impl Workflow for Unprotect {
    const NAME: &'static str = "unprotect";
    type Input = UnprotectInput;
    type Output = Unprotected;

    async fn run(ctx: Context, input: UnprotectInput) -> Result<Unprotected, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        item.ctx.point_of_no_return("replication is being dismantled")?;
        item.begin(Operation::Unprotect)?;
        let ended = dismantle(&mut item).await;
        item.end(Operation::Unprotect, ended)
    }
}

async fn dismantle(item: &mut Tracked) -> Result<Unprotected, Failure> {
    let record = item.record()?;
    let (source, target) = (site_queue(record.source_site()), site_queue(record.target_site()));
    let name = item.name.clone();
    let stop = item.ctx.call(source.clone(), &StopReplication { item: name.clone() }).queue_timeout(SOURCE_LIMIT);
    let source_stopped = match stop.await {
        Ok(()) => true,
        // Also one that died with the task in its hands.
        Err(CallError::Timeout(_)) => false,
        Err(other) => return Err(other.into()),
    };
    clean_test::removed(item).await?;
    item.ctx.call(target.clone(), &DropReplica { item: name.clone() }).await?;
    // An item that has been to the other site and back has left records of the other direction.
    let ctx = &item.ctx;
    let stop = ctx.call(target, &StopReplication { item: name.clone() }).queue_timeout(SOURCE_LIMIT);
    let dropped = ctx.call(source, &DropReplica { item: name }).queue_timeout(SOURCE_LIMIT);
    stop.await?;
    if source_stopped {
        match dropped.await {
            Ok(()) | Err(CallError::Timeout(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(Unprotected { source_stopped })
}
