//! Unprotect: end replication of an item and remove its replica. The machine itself is not touched.
//!
//!   lock ─▶│ stop replication ─▶ look at the target ─▶ clean test copy ─▶ drop replica ─▶ what earlier turns left ─▶ unprotected
//!   cancel until here        └────────────────────┴─ a dead site does not stop us: what is there stays there, and that is said
//!
//!   after an operation that failed past its point of no return, before the drop:
//!   flatten what it has started: that is the item's machine now; or, if nothing was ever started, discard it and let the source go
//!
//!   after one that failed before it and could not put everything back: discard what it made ready, and let the source go at last
//!
//! Invariant: no machine that was ever started is removed here, and no source is let go beside one.

use std::time::Duration;

use recovery::{Fact, Generation, GroupName, ItemName, ItemRecord, MainState, Operation, Rest, SiteName, SourceLeft};
use sdk::{CallError, ChildError, ClosePolicy, Context, Failure, Retry, RunId, TaskQueue, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    ChangeGroup, ChangeGroupInput, clean_test,
    declared::{DiscardMachine, DropReplica, FlattenMachine, LiftFence, ListPoints, StopReplication},
    group_workflow_id, site_queue,
    tracked::Tracked,
    undo::nobody_answers,
};

/// How long the source's agent may take to pick the stop up.
const SOURCE_LIMIT: Duration = Duration::from_secs(30);
/// How long the target's agent may take while there are points at it: an outage that passes leaves none behind.
const TARGET_LIMIT: Duration = Duration::from_secs(900);
/// Half a minute: whose hypervisor does not answer then is taken for gone.
const STOP: Retry = Retry { max_attempts: 10, first_ms: 300, factor: 2.0, max_ms: 5_000 };
/// Longest try at letting the source go.
const LIFT_LIMIT: Duration = Duration::from_secs(60);

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
    /// The target's site, if nobody there has answered: the replica and what belongs to it are still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<SiteName>,
    /// Why the machine at the source stays off although nothing runs in its place; `None` where that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_off: Option<String>,
    /// The replication group that it has left; `None` if it was in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_group: Option<LeftGroup>,
}

/// A replication group that an item has left because it is not protected any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftGroup {
    /// Which.
    pub group: GroupName,
    /// The run that tells the others, or removes the group if one is left alone; `None` if the group is being changed by somebody else:
    /// then it has to be changed once more.
    pub told_by: Option<RunId>,
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
        let (uncommitted, unstarted) = (uncommitted(item.record()?), unstarted(item.record()?));
        item.begin(Operation::Unprotect)?;
        let ended = match dismantle(&mut item, uncommitted, unstarted).await {
            Ok(ended) => let_go(&mut item, unstarted, ended).await,
            Err(failure) => Err(failure),
        };
        let ended = match ended {
            Ok(ended) => left_group(&mut item, ended).await,
            Err(failure) => Err(failure),
        };
        item.end(Operation::Unprotect, ended)
    }
}

/// The machine that a failed operation may have started at the target.
fn uncommitted(record: &ItemRecord) -> Option<Generation> {
    // What is reprotected was accepted, and runs at the source.
    let MainState::Failed { of, before } = record.state.main else { return None };
    let perhaps = of != Operation::Reprotect && matches!(before, None | Some(Rest::CommitPending));
    record.powered_on.filter(|_| perhaps)
}

/// What a failed operation may have made ready at the target, and never started; its source may still be fenced.
fn unstarted(record: &ItemRecord) -> Option<Generation> {
    let MainState::Failed { of, before } = record.state.main else { return None };
    let moves = matches!(of, Operation::Failover | Operation::PlannedFailover | Operation::Failback | Operation::Unprotect);
    let never = match before {
        None => moves && record.powered_on.is_none(),
        Some(rest) => (of, rest) == (Operation::Failback, Rest::Committed),
    };
    never.then_some(record.state.generation)
}

/// Lets a source go that a failed operation has fenced and could not give back. Said, if it stays off.
async fn let_go(item: &mut Tracked, unstarted: Option<Generation>, ended: Unprotected) -> Result<Unprotected, Failure> {
    if unstarted.is_none() {
        return Ok(ended);
    }
    let record = item.record()?;
    let lift = LiftFence { item: item.name.clone(), machine: record.machine.clone() };
    let lifted = item.ctx.call(site_queue(record.source_site()), &lift).queue_timeout(SOURCE_LIMIT).total_timeout(LIFT_LIMIT).await;
    let source_off = lifted.err().map(|why| Failure::from(why).to_string());
    // Whoever gives sources back when their sites answer goes on with it.
    match &source_off {
        Some(why) => item.note(Fact::SourceNotGivenBack { left: SourceLeft { site: item.record()?.source_site().clone(), why: why.clone(), at: item.ctx.now() } })?,
        None if item.record()?.source_left.is_some() => item.note(Fact::SourceGivenBack)?,
        None => {}
    }
    Ok(Unprotected { source_off, ..ended })
}

/// Takes the item out of its replication group, and lets the others be told.
async fn left_group(item: &mut Tracked, ended: Unprotected) -> Result<Unprotected, Failure> {
    let Some(group) = item.record()?.group.clone() else { return Ok(ended) };
    item.note(Fact::Grouped { group: None })?;
    let others = group.members().iter().filter(|member| **member != item.name).cloned().collect();
    let name = group.name().clone();
    let change = ChangeGroupInput { group: name.clone(), after: group.clone().with_members(others).ok(), before: Some(group), gone: Some(item.name.clone()) };
    let told_by = match item.ctx.child::<ChangeGroup>(group_workflow_id(&name), &change, ClosePolicy::Leave).await {
        Ok(child) => Some(child.run()),
        Err(ChildError::AlreadyOpen(_)) => None,
        Err(why) => return Err(why.into()),
    };
    Ok(Unprotected { left_group: Some(LeftGroup { group: name, told_by }), ..ended })
}

async fn dismantle(item: &mut Tracked, uncommitted: Option<Generation>, unstarted: Option<Generation>) -> Result<Unprotected, Failure> {
    let record = item.record()?;
    let (source, target) = (site_queue(record.source_site()), site_queue(record.target_site()));
    let target_limit = if replicated(record) { TARGET_LIMIT } else { SOURCE_LIMIT };
    let name = item.name.clone();
    let source_stopped = stopped(item, &source).await?;
    if !answers(item, &target, target_limit).await? {
        return left_there(item, uncommitted, source_stopped).await;
    }
    clean_test::removed(item).await?;
    let source_off = settled(item, uncommitted).await?;
    if let Some(generation) = unstarted {
        item.ctx.call(target.clone(), &DiscardMachine { item: name.clone(), generation }).await?;
    }
    item.ctx.call(target.clone(), &DropReplica { item: name }).await?;
    old_machine_gone(item).await?;
    // A machine that was its base is known again, with the marks of an earlier turn.
    stopped(item, &target).await?;
    earlier_turn_gone(item, source_stopped).await?;
    Ok(Unprotected { source_stopped, source_off, left_at: None, left_group: None })
}

/// Whether a loop at that site has ended; not, if nobody answers, or who has picked it up died with it.
async fn stopped(item: &Tracked, at: &TaskQueue) -> Result<bool, Failure> {
    match item.ctx.call(at.clone(), &StopReplication { item: item.name.clone() }).queue_timeout(SOURCE_LIMIT).retry(STOP).await {
        Ok(()) => Ok(true),
        Err(CallError::Timeout(_)) => Ok(false),
        Err(why) if nobody_answers(&why) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Whether anybody is at that site, whatever the answer.
async fn answers(item: &Tracked, at: &TaskQueue, limit: Duration) -> Result<bool, Failure> {
    match item.ctx.call(at.clone(), &ListPoints { item: item.name.clone() }).queue_timeout(limit).await {
        Err(CallError::Timeout(TimeoutKind::Queue)) => Ok(false),
        Err(CallError::Cancelled) => Err(sdk::Cancelled.into()),
        Ok(_) | Err(_) => Ok(true),
    }
}

/// Whether points may still be worth something: after a commit there are none.
fn replicated(record: &ItemRecord) -> bool {
    record.powered_on.is_none()
}

/// The target's site is gone: what is there stays there. Where the item's own machine may run there, that is not accepted.
async fn left_there(item: &Tracked, uncommitted: Option<Generation>, source_stopped: bool) -> Result<Unprotected, Failure> {
    let site = item.record()?.target_site().clone();
    if uncommitted.is_some() {
        let message = format!("nobody at site {site} answers, and the machine of {} may run there; repeat when the site is back", item.name);
        return Err(Failure::fatal("target-not-reached", message));
    }
    earlier_turn_gone(item, source_stopped).await?;
    Ok(Unprotected { source_stopped, source_off: None, left_at: Some(site), left_group: None })
}

/// An item that has been to the other site and back has left records of the other direction.
async fn earlier_turn_gone(item: &Tracked, source_stopped: bool) -> Result<(), Failure> {
    if !source_stopped {
        return Ok(());
    }
    let source = site_queue(item.record()?.source_site());
    match item.ctx.call(source, &DropReplica { item: item.name.clone() }).queue_timeout(SOURCE_LIMIT).await {
        Ok(()) | Err(CallError::Timeout(_)) => Ok(()),
        Err(other) => Err(other.into()),
    }
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
