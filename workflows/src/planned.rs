//! Planned failover, and failback: move an item to the other site without losing anything.
//!
//!   lock ─▶ shut down ─▶ final sync ─▶ seal ─▶ choose that point ─▶ pin ─▶ recover ─▶│ start ─▶ check ─▶ commit pending
//!                                        cancel until here
//!
//!   failback of an item that is not replicated (everything is copied while the machine is off):
//!   lock ─▶ inspect ─▶ fence old machine ─▶ shut down ─▶ prepare replica ─▶ start replication ─▶ final sync ─▶ … as above
//!
//! Invariants: 1. It fails closed: whatever goes wrong before the point of no return, the source runs and is replicated as before.
//! 2. A guest that does not shut down is left running, untouched. 3. What is recovered is the point that was taken after the
//! source was off, and no other.

use std::time::Duration;

use recovery::{Fact, ItemName, MainState, OldMachine, Operation, PointChoice, PointId, RequestedPoint, Rest, Sync, profile::failback::RECOMMENDED};
use sdk::{CallError, Context, Failure, Saga, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    back::{self, Back, PUT_SOURCE_BACK, Then},
    declared::{Base, DropReplica, FinalSync, InspectMachine, PrepareReplica, ShutDownMachine, StartReplication, StopReplication},
    failover::Acceptance,
    old_machine, older_point,
    part::Part,
    promote,
    promote::{FailedOver, Ready},
    site_queue,
    tracked::Tracked,
    undo::nobody_answers,
    undone,
};

/// How long an agent may take to pick a step up, before the planned failover is given up.
const PICK_UP: Duration = Duration::from_secs(60);

/// What to move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedInput {
    /// Which.
    pub item: ItemName,
    /// How long the guest may take to shut down.
    pub shut_down_ms: u64,
    /// When data is copied; a planned failover from the primary site knows only the first.
    #[serde(default)]
    pub sync: Sync,
    /// For a failback: from which point; the one that is made when it is off if nothing is said, which loses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<PointChoice>,
    /// Who agreed to what an older point loses, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<Acceptance>,
    /// As a part of a plan.
    #[serde(default, skip_serializing_if = "Part::is_none")]
    pub part: Part,
}

/// To the recovery site.
pub struct PlannedFailover;

/// Back to the primary site.
pub struct Failback;

impl Workflow for PlannedFailover {
    const NAME: &'static str = "planned-failover";
    type Input = PlannedInput;
    type Output = FailedOver;

    async fn run(ctx: Context, input: PlannedInput) -> Result<FailedOver, Failure> {
        moved(ctx, Operation::PlannedFailover, input).await
    }
}

impl Workflow for Failback {
    const NAME: &'static str = "failback";
    type Input = PlannedInput;
    type Output = FailedOver;

    async fn run(ctx: Context, input: PlannedInput) -> Result<FailedOver, Failure> {
        moved(ctx, Operation::Failback, input).await
    }
}

async fn moved(ctx: Context, operation: Operation, input: PlannedInput) -> Result<FailedOver, Failure> {
    let requested_at = ctx.now();
    let mut item = Tracked::lock(&ctx, &input.item).await?;
    fits(&item, operation, &input)?;
    item.begin(operation)?;
    if let Some(started) = item.started_before() {
        return promote::taken_up(&mut item, operation, PointChoice::LatestProcessed, started, requested_at, &input.part).await;
    }
    item.granted()?;
    let choice = input.choice.unwrap_or(RECOMMENDED);
    item.note(Fact::PointRequested { requested: RequestedPoint { choice, shut_down: true, at: requested_at } })?;
    let mut saga = item.ctx.saga();
    let ready = make_ready(&mut item, &mut saga, &input, operation).await;
    let ready = match saga.settle(ready).await {
        Ok(ready) => ready,
        Err(failure) => return item.end(operation, Err(failure)),
    };
    let running = promote::power_on(&mut item, &ready, requested_at).await;
    item.end(operation, running)
}

/// Refuses a way to copy that the item's state does not have, and a point where only the last one can be meant.
fn fits(item: &Tracked, operation: Operation, input: &PlannedInput) -> Result<(), Failure> {
    let sync = input.sync;
    let replicated_back = operation == Operation::Failback && sync == Sync::BeforeFailover;
    if input.choice.is_some_and(|choice| choice != RECOMMENDED) && !replicated_back {
        let message = format!("a {operation} of item {} runs from the point that is made when it is off, and from no other; leave the point out", item.name);
        return Err(Failure::fatal("point-not-offered", message).not_applied());
    }
    let state = item.record()?.state.main;
    if matches!(state, MainState::Failed { before: None, .. }) {
        return Ok(()); // what was started is taken up; nothing is copied
    }
    let replicated = !matches!(state, MainState::Committed | MainState::Failed { before: Some(Rest::Committed), .. });
    let why = match (replicated, sync) {
        (true, Sync::DuringFailover) => "it is replicated already; leave --sync out, only what is missing will be copied",
        (false, Sync::BeforeFailover) => {
            "it is not replicated; reprotect it first, or repeat with --sync during-failover, which copies everything while it is off"
        }
        (true, Sync::BeforeFailover) | (false, Sync::DuringFailover) => return Ok(()),
    };
    Err(Failure::fatal("sync-does-not-fit", format!("item {} can't be moved that way: {why}", item.name)).not_applied())
}

async fn make_ready(item: &mut Tracked, saga: &mut Saga, input: &PlannedInput, operation: Operation) -> Result<Ready, Failure> {
    let mut older = None;
    let returns = back::left_before(item, saga)?;
    match input.sync {
        Sync::BeforeFailover => {
            if operation == Operation::Failback {
                older = older_point::chosen(item, saga, input).await?;
            }
            shut_down(item, saga, input.shut_down_ms, (true, returns)).await?;
        }
        Sync::DuringFailover => {
            let prepare = prepared(item).await?;
            shut_down(item, saga, input.shut_down_ms, (false, returns)).await?;
            replica_from_nothing(item, saga, prepare).await?;
        }
    }
    // It is made though an older point was asked for: until the commit the point can be changed to it, and then nothing is lost.
    let last = synced(item).await?;
    promote::made_ready(item, saga, PointChoice::Exact(older.unwrap_or(last)), true, &input.part).await
}

/// Ends with a source that is off and fenced. `returns`: a way back for it is registered.
async fn shut_down(item: &mut Tracked, saga: &mut Saga, shut_down_ms: u64, (replicated, returns): (bool, bool)) -> Result<(), Failure> {
    let back = Back::of(item)?;
    let (name, machine) = (item.name.clone(), back.machine.clone());
    let site = item.record()?.source_site().clone();
    let stop = item.ctx.call(back.source.clone(), &ShutDownMachine { item: name, machine, patience_ms: shut_down_ms });
    let answer = stop.queue_timeout(PICK_UP).await;
    let begun = !back::never_begun(&answer);
    // It runs, and is replicated. If it goes down after all, a moment too late, it is started again.
    let stayed = matches!(&answer, Err(CallError::App(why)) if why.code == "still-running");
    if !returns && (stayed || begun && !replicated) {
        saga.on_failure(PUT_SOURCE_BACK, move |ctx| back.let_go(ctx));
    } else if !returns && begun {
        saga.on_failure(PUT_SOURCE_BACK, move |ctx| back.given_back(ctx, Then::AsBefore));
    }
    match answer {
        Ok(proof) => {
            item.note(Fact::FenceProven { evidence: proof.evidence, at: proof.at })?;
            item.note(Fact::OldMachineIs { old_machine: OldMachine::Off })
        }
        Err(why) if !begun && nobody_answers(&why) => Err(Failure::fatal(
            "source-not-reached",
            format!(
                "nobody at site {site} answers, and a planned failover needs it; nothing has changed. If the site is lost, use failover: it \
                 loses what was written after the last point"
            ),
        )
        .not_applied()),
        Err(other) => Err(other.into()),
    }
}

/// The point that holds everything.
async fn synced(item: &Tracked) -> Result<PointId, Failure> {
    let source = site_queue(item.record()?.source_site());
    Ok(item.ctx.call(source, &FinalSync { item: item.name.clone() }).queue_timeout(PICK_UP).await?)
}

/// What the target will be asked to prepare; nothing is changed yet but the old machine there, which is made sure to be off.
async fn prepared(item: &mut Tracked) -> Result<PrepareReplica, Failure> {
    old_machine::off(item).await?;
    let record = item.record()?;
    let (name, generation, policy) = (item.name.clone(), item.generation, record.policy_in_force());
    let inspect = InspectMachine { machine: record.machine.clone(), profile: record.profile };
    let inspected = item.ctx.call(site_queue(record.source_site()), &inspect).queue_timeout(PICK_UP).await?;
    Ok(PrepareReplica { item: name, generation, machine: inspected.machine, policy, base: Base::Empty })
}

async fn replica_from_nothing(item: &Tracked, saga: &mut Saga, prepare: PrepareReplica) -> Result<(), Failure> {
    let record = item.record()?;
    let (source, target) = (site_queue(record.source_site()), site_queue(record.target_site()));
    let (ctx, name, machine) = (&item.ctx, item.name.clone(), record.machine.clone());
    let (generation, policy, group) = (item.generation, record.policy_in_force(), record.group.clone());
    let endpoint = undone::step(ctx, saga, &target, ctx.call(target.clone(), &prepare), DropReplica { item: name.clone() }).await?;
    let start = StartReplication { item: name.clone(), machine, generation, policy, endpoint, returning: None, group };
    undone::step(ctx, saga, &source, ctx.call(source.clone(), &start), StopReplication { item: name }).await?;
    Ok(())
}
