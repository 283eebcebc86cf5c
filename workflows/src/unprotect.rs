//! Unprotect: end replication of an item and remove its replica. The machine itself is not touched.
//!
//!   lock ─▶│ stop replication (a dead source does not stop us) ─▶ clean test copy ─▶ drop replica ─▶ what earlier turns left ─▶ unprotected
//!   cancel until here
//!
//!   after an operation that failed past its point of no return, before the drop:
//!   flatten what it has started: that is the item's machine now; or, if nothing was ever started, discard it and let the source go
//!
//! Invariant: no machine that was ever started is removed here, and no source is let go beside one.

use std::time::Duration;

use recovery::{Fact, Generation, ItemName, ItemRecord, MainState, Operation, Rest};
use sdk::{CallError, Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    clean_test,
    declared::{DiscardMachine, DropReplica, FlattenMachine, LiftFence, StopReplication},
    site_queue,
    tracked::Tracked,
};

/// How long the source's agent may take to pick the stop up.
const SOURCE_LIMIT: Duration = Duration::from_secs(30);
/// Longest try at letting the source go.
const LIFT_LIMIT: Duration = Duration::from_secs(180);

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
    /// Why the machine at the source stays off although nothing runs in its place; `None` where that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_off: Option<String>,
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
        let uncommitted = uncommitted(item.record()?);
        item.begin(Operation::Unprotect)?;
        let ended = dismantle(&mut item, uncommitted).await;
        item.end(Operation::Unprotect, ended)
    }
}

/// The machine that a failed operation may have started at the target.
fn uncommitted(record: &ItemRecord) -> Option<Generation> {
    let perhaps = matches!(record.state.main, MainState::Failed { before: None | Some(Rest::CommitPending), .. });
    record.powered_on.filter(|_| perhaps)
}

async fn dismantle(item: &mut Tracked, uncommitted: Option<Generation>) -> Result<Unprotected, Failure> {
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
    let source_off = settled(item, uncommitted).await?;
    item.ctx.call(target.clone(), &DropReplica { item: name.clone() }).await?;
    old_machine_gone(item).await?;
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
    Ok(Unprotected { source_stopped, source_off })
}

/// Removes an old machine that a recovery had made and that is no base; where nothing is replicated it is of no use any more. It is
/// looked for at the target alone, under the generation of the source's machine before the last turn: what runs bears another.
async fn old_machine_gone(item: &Tracked) -> Result<(), Failure> {
    let record = item.record()?;
    let Some(generation) = record.recovered_as else { return Ok(()) };
    let target = site_queue(record.target_site());
    Ok(item.ctx.call(target, &DiscardMachine { item: item.name.clone(), generation }).await?)
}

/// Makes what a failed operation may have started independent of the points. Returns why the source's machine stays off although
/// nothing runs in its place, if it does.
async fn settled(item: &mut Tracked, uncommitted: Option<Generation>) -> Result<Option<String>, Failure> {
    let Some(generation) = uncommitted else { return Ok(None) };
    let record = item.record()?;
    let site = record.target_site().clone();
    let (source, target) = (site_queue(record.source_site()), site_queue(record.target_site()));
    let (name, machine) = (item.name.clone(), record.machine.clone());
    match item.ctx.call(target.clone(), &FlattenMachine { item: name.clone(), generation }).await {
        Ok(()) => {
            item.note(Fact::MachineRunning { site, at: item.ctx.now() })?;
            return Ok(None);
        }
        Err(CallError::App(why)) if why.code == "not-recovered" => {}
        Err(other) => return Err(other.into()),
    }
    item.ctx.call(target, &DiscardMachine { item: name.clone(), generation }).await?;
    let lift = LiftFence { item: name, machine };
    let lifted = item.ctx.call(source, &lift).queue_timeout(SOURCE_LIMIT).total_timeout(LIFT_LIMIT).await;
    if lifted.is_ok() {
        let site = item.record()?.source_site().clone();
        item.note(Fact::MachineRunning { site, at: item.ctx.now() })?;
    }
    Ok(lifted.err().map(|why| Failure::from(why).to_string()))
}
