//! Unplanned failover: run an item at its recovery site, from one of its points.
//!
//!   lock ─▶ fence ─▶ seal ─▶ choose ─▶ pin ─▶ recover ─▶│ start ─▶ check ─▶ commit pending
//!                                        cancel until here
//!
//! Invariants: 1. Nothing starts before the source is fenced, or a named person accepted that it is not. 2. The point is
//! chosen once, from a replica that takes no more points, so a retry recovers the same one. 3. Until the machine is first
//! powered on everything can be put back, and is. 4. The chosen point stays pinned until commit. 5. Once a machine may have
//! been powered on, no later failover lets the source go or makes another machine: it takes up what was started.

use std::time::Duration;

use chrono::{DateTime, Utc};
use recovery::{ChosenPoint, Fact, Fence, Generation, ItemName, OldMachine, Operation, PointChoice, PointId, ReplicationPolicy, SiteName, Step, resolve};
use sdk::{CallError, Context, Failure, Saga, TaskQueue, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{
        CheckMachine, DiscardMachine, FenceMachine, LiftFence, PinPoint, RecoverMachine, ReopenReplica, SealReplica, StartMachine, StartReplication,
        UnpinPoint,
    },
    site_queue,
    tracked::Tracked,
};

/// Longest wait for a recovered machine to serve, before the failover ends without that proof.
const SERVE_LIMIT: Duration = Duration::from_secs(300);
/// Longest work on a fence that was picked up: a site that dies in the middle of it must not hold the failover.
const FENCE_WORK: Duration = Duration::from_secs(60);
/// Longest try at one part of giving a source back.
const UNDO_LIMIT: Duration = Duration::from_secs(180);
/// Longest wait for the source's agent when replication is to go on there after a failover was given up.
const RESUME_LIMIT: Duration = Duration::from_secs(30);

/// Somebody takes it upon themselves that the source may still run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What to fail over, and to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailoverInput {
    /// Which.
    pub item: ItemName,
    /// Which point.
    pub choice: PointChoice,
    /// Goes on although the fence could not be proven.
    pub accept_unfenced: Option<Acceptance>,
    /// How long the source's agent may take to pick the fence up.
    pub fence_timeout_ms: u64,
}

/// A machine that runs at the recovery site, not yet committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedOver {
    /// Where.
    pub site: SiteName,
    /// From this point.
    pub point: PointId,
    /// When that was taken, by the source's clock.
    pub point_taken_at: DateTime<Utc>,
    /// Whether the source is known to be unable to write.
    pub fenced: bool,
    /// Whether its checks held in time.
    pub serves: bool,
    /// What was asked and answered, or why they did not hold.
    pub evidence: String,
    /// From the request until it served (or until the wait ended).
    pub rto_actual_ms: u64,
    /// From the point until the request.
    pub rpo_actual_ms: u64,
}

/// The workflow.
pub struct Failover;

impl Workflow for Failover {
    const NAME: &'static str = "failover";
    type Input = FailoverInput;
    type Output = FailedOver;

    async fn run(ctx: Context, input: FailoverInput) -> Result<FailedOver, Failure> {
        let requested_at = ctx.now();
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        item.record()?;
        item.step(Step::Begin { operation: Operation::Failover })?;
        if let Some(started) = item.record()?.powered_on {
            return take_up(&mut item, &input, started, requested_at).await;
        }
        item.note(Fact::Granted { generation: item.generation })?;
        let mut saga = item.ctx.saga();
        let ready = make_ready(&mut item, &mut saga, &input).await;
        let ready = match saga.settle(ready).await {
            Ok(ready) => ready,
            Err(failure) => return item.end(Operation::Failover, Err(failure)),
        };
        let running = power_on(&mut item, &ready, requested_at).await;
        item.end(Operation::Failover, running)
    }
}

/// An earlier failover of the item failed past its point of no return: its machine may run. It is started again, which is once,
/// and no other is made. Above all the source is not let go, whatever comes of this: two would write.
async fn take_up(item: &mut Tracked, input: &FailoverInput, started: Generation, requested_at: DateTime<Utc>) -> Result<FailedOver, Failure> {
    item.leave();
    item.generation = started;
    let running = match ready_again(item, input) {
        Ok(ready) => power_on(item, &ready, requested_at).await,
        Err(failure) => Err(failure),
    };
    item.end(Operation::Failover, running)
}

fn ready_again(item: &mut Tracked, input: &FailoverInput) -> Result<Ready, Failure> {
    let record = item.record()?;
    let fenced = matches!(record.fence, Some(Fence::Proven { .. }));
    let chosen = record.chosen.clone();
    let chosen = chosen.ok_or_else(|| Failure::fatal("no-recovery-point", format!("item {} was started from no point", item.name)))?;
    if let PointChoice::Exact(wanted) = input.choice
        && wanted != chosen.point
    {
        let message = format!(
            "an earlier failover has already started item {} from point {}; repeat without --point to take that up, point {wanted} \
             can't be had any more",
            item.name, chosen.point
        );
        return Err(Failure::fatal("already-started", message).not_applied());
    }
    item.ctx.point_of_no_return("the machine may run at the recovery site since an earlier failover")?;
    item.step(Step::PowerOn)?;
    Ok(Ready { chosen, fenced })
}

/// A machine that needs only to be started.
struct Ready {
    chosen: ChosenPoint,
    fenced: bool,
}

/// Everything that can be put back. Ends with the point of no return.
async fn make_ready(item: &mut Tracked, saga: &mut Saga, input: &FailoverInput) -> Result<Ready, Failure> {
    let fenced = fence(item, saga, input).await?;
    let chosen = choose(item, input).await?;
    let ctx = item.ctx.clone();
    let target = site_queue(item.record()?.target_site());
    let (name, generation, point) = (item.name.clone(), item.generation, chosen.point);
    let pin = format!("failover-{generation}");
    let unpin = ctx.call(target.clone(), &UnpinPoint { item: name.clone(), point, pin: pin.clone() });
    saga.step(ctx.call(target.clone(), &PinPoint { item: name.clone(), point, pin }), unpin).await?;
    let discard = ctx.call(target.clone(), &DiscardMachine { item: name.clone(), generation });
    saga.step(ctx.call(target, &RecoverMachine { item: name, generation, point }), discard).await?;
    ctx.point_of_no_return("the machine is being powered on at the recovery site; from here on only undo or commit end the failover")?;
    saga.keep();
    item.step(Step::PowerOn)?;
    Ok(Ready { chosen, fenced })
}

/// True: proven. False: accepted unproven.
async fn fence(item: &mut Tracked, saga: &mut Saga, input: &FailoverInput) -> Result<bool, Failure> {
    let back = Back::of(item)?;
    let (name, machine) = (item.name.clone(), back.machine.clone());
    let fence = item.ctx.call(back.source.clone(), &FenceMachine { item: name, machine });
    let limit = Duration::from_millis(input.fence_timeout_ms);
    let answer = fence.queue_timeout(limit).total_timeout(limit + FENCE_WORK).await;
    if matches!(answer, Err(CallError::Cancelled)) {
        return Err(sdk::Cancelled.into());
    }
    let begun = !matches!(answer, Err(CallError::Timeout(TimeoutKind::Queue)));
    if begun || input.accept_unfenced.is_some() {
        saga.on_failure("put-source-back", move |ctx| back.given_back(ctx, begun));
    }
    let why_not = match answer {
        Ok(proof) => {
            item.note(Fact::FenceProven { evidence: proof.evidence, at: proof.at })?;
            item.note(Fact::OldMachineIs { old_machine: OldMachine::Off })?;
            return Ok(true);
        }
        Err(other) => Failure::from(other),
    };
    let Some(Acceptance { by, reason }) = input.accept_unfenced.clone() else {
        let site = item.record()?.source_site().clone();
        return Err(Failure::fatal(
            "source-not-fenced",
            format!(
                "nobody at site {site} could prove that the machine of {} is off ({why_not}); nothing was started. If you know that it \
                 can't write, repeat with --accept-unfenced --reason; your name goes into the history",
                item.name
            ),
        ));
    };
    item.note(Fact::UnfencedAccepted { by, reason, at: item.ctx.now() })?;
    Ok(false)
}

/// Seals the replica and settles on a point of it.
async fn choose(item: &mut Tracked, input: &FailoverInput) -> Result<ChosenPoint, Failure> {
    let target = site_queue(item.record()?.target_site());
    let (name, generation) = (item.name.clone(), item.generation);
    let seal = item.ctx.call(target, &SealReplica { item: name.clone(), generation });
    let sealed = seal.await?;
    let point = resolve(&sealed.points, input.choice).map_err(|why| Failure::fatal("no-recovery-point", format!("item {name}: {why}")))?;
    let found = sealed.points.into_iter().find(|p| p.id == point);
    let found = found.ok_or_else(|| Failure::fatal("no-recovery-point", format!("item {name} has no point {point}")))?;
    let chosen = ChosenPoint { requested: input.choice, point, consistency: found.consistency, taken_at: found.taken_at };
    item.note(Fact::PointChosen { chosen: chosen.clone() })?;
    Ok(chosen)
}

/// What is needed to let the source go on as before.
struct Back {
    source: TaskQueue,
    target: TaskQueue,
    item: ItemName,
    machine: String,
    policy: ReplicationPolicy,
    generation: Generation,
}

impl Back {
    fn of(item: &Tracked) -> Result<Self, Failure> {
        let record = item.record()?;
        Ok(Self {
            source: site_queue(record.source_site()),
            target: site_queue(record.target_site()),
            item: item.name.clone(),
            machine: record.machine.clone(),
            policy: record.policy.clone(),
            generation: item.generation,
        })
    }

    /// Lets replication go on under the new generation, then lifts the fence: the machine runs last, but it runs, whatever
    /// becomes of replication. A production machine that stays off is worse than one that is not replicated.
    async fn given_back(self, ctx: Context, fenced: bool) -> Result<(), Failure> {
        let resumed = self.resumed(&ctx).await.map_err(|why| worse("replication did not go on", why));
        if fenced {
            let lift = LiftFence { item: self.item.clone(), machine: self.machine.clone() };
            let lifted = ctx.call(self.source.clone(), &lift).queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await;
            let off = format!("the machine {} stays off at {}", self.machine, self.source);
            lifted.map_err(|why| worse(&off, why.into()))?;
        }
        resumed
    }

    async fn resumed(&self, ctx: &Context) -> Result<(), Failure> {
        let Self { source, target, item, machine, policy, generation } = self;
        let reopen = ctx.call(target.clone(), &ReopenReplica { item: item.clone(), generation: *generation });
        let endpoint = reopen.queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await?;
        let start =
            StartReplication { item: item.clone(), machine: machine.clone(), generation: *generation, policy: policy.clone(), endpoint, returning: None };
        Ok(ctx.call(source.clone(), &start).queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await?)
    }
}

/// Past the point of no return: a failure here leaves the item failed, with the machine's state to be looked at.
async fn power_on(item: &mut Tracked, ready: &Ready, requested_at: DateTime<Utc>) -> Result<FailedOver, Failure> {
    let ctx = item.ctx.shielded();
    let record = item.record()?;
    let (site, checks) = (record.target_site().clone(), record.checks.clone());
    let target = site_queue(&site);
    let (name, generation) = (item.name.clone(), item.generation);
    let started = ctx.call(target.clone(), &StartMachine { item: name.clone(), generation }).await?;
    item.note(Fact::MachineRunning { site: site.clone(), at: started.since })?;
    let check = ctx.call(target, &CheckMachine { item: name, generation, checks }).total_timeout(SERVE_LIMIT);
    let (serves, evidence) = match check.await {
        Ok(served) => (true, served.evidence),
        Err(why) => (false, Failure::from(why).to_string()),
    };
    let rto_actual_ms = between_ms(requested_at, ctx.now());
    let rpo_actual_ms = between_ms(ready.chosen.taken_at, requested_at);
    item.note(Fact::Measured { rto_actual_ms, rpo_actual_ms })?;
    let ChosenPoint { point, taken_at, .. } = ready.chosen.clone();
    Ok(FailedOver { site, point, point_taken_at: taken_at, fenced: ready.fenced, serves, evidence, rto_actual_ms, rpo_actual_ms })
}

/// The same failure, led by what it means.
fn worse(meaning: &str, why: Failure) -> Failure {
    Failure { message: format!("{meaning}: {}", why.message), ..why }
}

fn between_ms(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    u64::try_from((to - from).num_milliseconds()).unwrap_or(0)
}
