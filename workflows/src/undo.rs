//! Undo: give a failover up before its commit, or one that failed and was not put back. The failed-over machine goes with all it has written, and the source runs again.
//!
//!   lock ─▶ look at source and target ─▶│ measure ─▶ discard ─▶ unpin ─▶ reopen replica ─▶ start replication ─▶ start source ─▶ protected
//!            cancel until here
//!
//! Invariants: 1. Nothing is discarded while the source's site does not answer. 2. What the discarded machine had written is
//! measured and recorded. 3. The source is let go only after the machine at the target is gone.

use std::time::Duration;

use recovery::{Fact, ItemName, Operation};
use sdk::{CallError, Context, Failure, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    back::{Back, Then},
    declared::{DiscardMachine, InspectMachine, ListPoints, UnpinPoint},
    discarded,
    promote::pin_of,
    site_queue,
    tracked::Tracked,
};

/// How long the source's agent may take to answer.
const PICK_UP: Duration = Duration::from_secs(60);

/// What to undo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoInput {
    /// Which.
    pub item: ItemName,
}

/// An item that runs at its source again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undone {
    /// Where it runs.
    pub site: recovery::SiteName,
}

/// The workflow.
pub struct Undo;

impl Workflow for Undo {
    const NAME: &'static str = "undo";
    type Input = UndoInput;
    type Output = Undone;

    async fn run(ctx: Context, input: UndoInput) -> Result<Undone, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        item.may(Operation::Undo)?;
        // Nothing is begun while it can't be carried out: what else is allowed now stays allowed.
        let machine = item.record()?.machine.clone();
        reachable(&item, &machine).await?;
        target_reachable(&item).await?;
        item.ctx.point_of_no_return("the failed-over machine is discarded and the source started again")?;
        item.begin(Operation::Undo)?;
        item.leave();
        let undone = give_up(&mut item).await;
        item.end(Operation::Undo, undone)
    }
}

async fn give_up(item: &mut Tracked) -> Result<Undone, Failure> {
    let record = item.record()?;
    let (site, target) = (record.source_site().clone(), site_queue(record.target_site()));
    let (running, chosen) = (record.running_generation(), record.chosen.clone());
    discarded::measure(item, running).await?;
    let name = item.name.clone();
    item.ctx.call(target.clone(), &DiscardMachine { item: name.clone(), generation: running }).await?;
    if let Some(chosen) = chosen {
        item.ctx.call(target, &UnpinPoint { item: name, point: chosen.point, pin: pin_of(running) }).await?;
    }
    item.granted()?;
    Back::of(item)?.given_back(item.ctx.shielded(), Then::Runs).await?;
    item.note(Fact::MachineRunning { site: site.clone(), at: item.ctx.now() })?;
    Ok(Undone { site })
}

/// Refuses while nobody can discard what runs at the target: it might go on there beside the source.
async fn target_reachable(item: &Tracked) -> Result<(), Failure> {
    let site = item.record()?.target_site().clone();
    match item.ctx.call(site_queue(&site), &ListPoints { item: item.name.clone() }).queue_timeout(PICK_UP).await {
        Ok(_) => Ok(()),
        Err(why) if nobody_answers(&why) => Err(Failure::fatal(
            "target-not-reached",
            format!(
                "nobody at site {site} answers, so the machine there can't be discarded, and starting the source beside it would run the item \
                 twice; nothing has changed. Repeat when the site is back; if it is lost for good, start the source by hand on its host"
            ),
        )
        .not_applied()),
        Err(other) => Err(other.into()),
    }
}

/// No agent, or one whose hypervisor does not answer.
pub(crate) fn nobody_answers<E>(why: &CallError<E>) -> bool {
    match why {
        CallError::Timeout(TimeoutKind::Queue) => true,
        CallError::Exhausted { last, .. } => last.code == "unreachable",
        CallError::App(_) | CallError::Timeout(_) | CallError::Cancelled | CallError::Unknown(_) | CallError::Unreadable(_) => false,
    }
}

/// Refuses while the source can't be started again.
async fn reachable(item: &Tracked, machine: &str) -> Result<(), Failure> {
    let record = item.record()?;
    let (site, profile) = (record.source_site().clone(), record.profile);
    let next = if record.source_left.is_some() { "It is given back by itself when the site answers; or fail over again" } else { "Commit, or repeat when it is back" };
    let look = item.ctx.call(site_queue(&site), &InspectMachine { machine: machine.to_owned(), profile });
    match look.queue_timeout(PICK_UP).await {
        Ok(_) => Ok(()),
        Err(why) if nobody_answers(&why) => Err(Failure::fatal(
            "source-not-reached",
            format!("nobody at site {site} answers, so {machine} could not be started there again; nothing has changed. {next}"),
        )
        .not_applied()),
        Err(other) => Err(other.into()),
    }
}
