//! The part that all failovers share: from a replica that takes no more points to a machine that serves.
//!
//!   seal ─▶ choose ─▶ pin ─▶ recover ─▶│ start ─▶ check
//!
//! What comes before it makes sure that the source can't write. What was started by an earlier try that failed is taken up, and
//! nothing else is made beside it; so is what a failover has started that the store has lost.

use std::time::Duration;

use chrono::{DateTime, Utc};
use recovery::{Check, ChosenPoint, Fact, Fence, Generation, Operation, PointChoice, PointId, RecoveryPoint, SiteName, Step, resolve};
use sdk::{Failure, Saga};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{CheckMachine, DiscardMachine, PinPoint, RecoverMachine, SealReplica, Standing, StartMachine, UnpinPoint},
    part::{self, Part},
    site_queue,
    tracked::Tracked,
    undone,
};

/// Longest wait for a recovered machine or a copy to serve, before it is left as it is without that proof.
pub(crate) const SERVE_LIMIT: Duration = Duration::from_secs(300);
/// Longest wait for the target's agent to pick up that the machine is to be started: then the failover has failed, and is taken up again
/// or ended by a person.
const START_PICK_UP: Duration = Duration::from_secs(600);

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

/// A machine that needs only to be started.
pub(crate) struct Ready {
    pub(crate) chosen: ChosenPoint,
    pub(crate) fenced: bool,
    /// Asked beside the item's own.
    pub(crate) checks: Vec<Check>,
    pub(crate) serve_within: Duration,
}

impl Ready {
    pub(crate) fn new(chosen: ChosenPoint, fenced: bool, part: &Part) -> Self {
        let serve_within = part.serve_within_ms.map_or(SERVE_LIMIT, Duration::from_millis);
        Self { chosen, fenced, checks: part.checks.clone(), serve_within }
    }
}

/// The pin of the point that a failover's machine runs on.
pub(crate) fn pin_of(generation: Generation) -> String {
    format!("failover-{generation}")
}

/// Everything that can be put back. Ends with the point of no return.
pub(crate) async fn made_ready(item: &mut Tracked, saga: &mut Saga, choice: PointChoice, fenced: bool, part: &Part) -> Result<Ready, Failure> {
    let (chosen, sealed) = sealed(item, choice, part).await?;
    let requested = item.record()?.requested.as_ref().map_or(chosen.requested, |requested| requested.choice);
    let chosen = ChosenPoint { requested, ..chosen };
    item.note(Fact::PointChosen { chosen: chosen.clone() })?;
    let ctx = item.ctx.clone();
    let target = site_queue(item.record()?.target_site());
    let (name, generation, point) = (item.name.clone(), item.generation, chosen.point);
    let unpin = UnpinPoint { item: name.clone(), point, pin: pin_of(generation) };
    undone::step(&ctx, saga, &target, ctx.call(target.clone(), &PinPoint { item: name.clone(), point, pin: pin_of(generation) }), unpin.clone()).await?;
    let recovered = recovered(item, saga, point).await;
    if let Some(standing) = recovered.as_ref().err().and_then(|why| item.unknown_machine(why)) {
        return left_by_a_lost_one(item, saga, standing, &unpin, (chosen, &sealed, fenced), part).await;
    }
    recovered?;
    part::gate(&ctx, &item.name, part, point).await?;
    let site = item.record()?.target_site();
    let reason = format!("the machine is being powered on at {site}; from here on only undo or commit end the failover");
    ctx.point_of_no_return(&reason)?;
    saga.keep();
    item.step(Step::PowerOn)?;
    Ok(Ready::new(chosen, fenced, part))
}

/// The target has a machine that was started by a failover of which nothing is recorded: the store has lost its last commits. It may have been
/// written to since, so nothing else is made; above all the source is not let go: two would write.
async fn left_by_a_lost_one(
    item: &mut Tracked,
    saga: &mut Saga,
    standing: Standing,
    unpin: &UnpinPoint,
    (chosen, sealed, fenced): (ChosenPoint, &[RecoveryPoint], bool),
    part: &Part,
) -> Result<Ready, Failure> {
    let Standing { generation, point } = standing;
    let ctx = item.ctx.shielded();
    let site = item.record()?.target_site().clone();
    let target = site_queue(&site);
    ctx.point_of_no_return(&format!("the machine runs at {site} since a failover that the database has lost; it is taken up"))?;
    saga.keep();
    item.leave();
    let taken = sealed.iter().find(|known| known.id == point);
    let taken = taken.ok_or_else(|| Failure::fatal("no-recovery-point", format!("item {} was started from point {point}, which is gone", item.name)))?;
    let chosen = ChosenPoint { requested: chosen.requested, point, consistency: taken.consistency, taken_at: taken.taken_at };
    item.note(Fact::TakenUp { generation, chosen: chosen.clone() })?;
    item.generation = generation;
    item.step(Step::PowerOn)?;
    ctx.call(target.clone(), &PinPoint { item: item.name.clone(), point, pin: pin_of(generation) }).await?;
    ctx.call(target, unpin).await?;
    part::gate(&item.ctx, &item.name, part, point).await?;
    Ok(Ready::new(chosen, fenced, part))
}

/// Makes a machine of this run's generation.
pub(crate) async fn recovered(item: &Tracked, saga: &mut Saga, point: PointId) -> Result<(), Failure> {
    let target = site_queue(item.record()?.target_site());
    let (name, generation) = (item.name.clone(), item.generation);
    let discard = DiscardMachine { item: name.clone(), generation };
    undone::step(&item.ctx, saga, &target, item.ctx.call(target.clone(), &RecoverMachine { item: name, generation, point }), discard).await?;
    Ok(())
}

/// Seals the replica and settles on a point of it.
pub(crate) async fn chosen(item: &Tracked, choice: PointChoice, part: &Part) -> Result<ChosenPoint, Failure> {
    sealed(item, choice, part).await.map(|(chosen, _)| chosen)
}

/// The same with all points that it has.
async fn sealed(item: &Tracked, choice: PointChoice, part: &Part) -> Result<(ChosenPoint, Vec<RecoveryPoint>), Failure> {
    let target = site_queue(item.record()?.target_site());
    let (name, generation) = (item.name.clone(), item.generation);
    let seal = item.ctx.call(target, &SealReplica { item: name.clone(), generation });
    let sealed = seal.await?;
    let meant = part::meant(&item.ctx, &name, choice, &sealed.points, part).await?;
    let point = resolve(&sealed.points, meant).map_err(|why| Failure::fatal("no-recovery-point", format!("item {name}: {why}")))?;
    let found = sealed.points.iter().find(|p| p.id == point);
    let found = found.ok_or_else(|| Failure::fatal("no-recovery-point", format!("item {name} has no point {point}")))?;
    Ok((ChosenPoint { requested: choice, point, consistency: found.consistency, taken_at: found.taken_at }, sealed.points))
}

/// An earlier failover of the item failed past its point of no return: its machine may run. It is started again, which is once,
/// and no other is made. Above all the source is not let go, whatever comes of this: two would write.
pub(crate) async fn taken_up(
    item: &mut Tracked,
    operation: Operation,
    choice: PointChoice,
    started: Generation,
    requested_at: DateTime<Utc>,
    part: &Part,
) -> Result<FailedOver, Failure> {
    item.leave();
    item.generation = started;
    let running = match ready_again(item, choice, part).await {
        Ok(ready) => power_on(item, &ready, requested_at).await,
        Err(failure) => Err(failure),
    };
    item.end(operation, running)
}

async fn ready_again(item: &mut Tracked, choice: PointChoice, part: &Part) -> Result<Ready, Failure> {
    let record = item.record()?;
    let fenced = matches!(record.fence, Some(Fence::Proven { .. }));
    let (chosen, site) = (record.chosen.clone(), record.target_site().clone());
    let chosen = chosen.ok_or_else(|| Failure::fatal("no-recovery-point", format!("item {} was started from no point", item.name)))?;
    if let PointChoice::Exact(wanted) = choice
        && wanted != chosen.point
    {
        let message = format!(
            "an earlier failover has already started item {} from point {}; repeat without --point to take that up, then change the \
             point to {wanted}",
            item.name, chosen.point
        );
        return Err(Failure::fatal("already-started", message).not_applied());
    }
    part::gate(&item.ctx, &item.name, part, chosen.point).await?;
    item.ctx.point_of_no_return(&format!("the machine may run at {site} since an earlier failover"))?;
    item.step(Step::PowerOn)?;
    Ok(Ready::new(chosen, fenced, part))
}

/// Past the point of no return: a failure here leaves the item failed, with the machine's state to be looked at.
pub(crate) async fn power_on(item: &mut Tracked, ready: &Ready, requested_at: DateTime<Utc>) -> Result<FailedOver, Failure> {
    let ctx = item.ctx.shielded();
    let record = item.record()?;
    let (site, checks) = (record.target_site().clone(), [record.checks.clone(), ready.checks.clone()].concat());
    let target = site_queue(&site);
    let (name, generation) = (item.name.clone(), item.generation);
    let started = ctx.call(target.clone(), &StartMachine { item: name.clone(), generation }).queue_timeout(START_PICK_UP).await?;
    item.note(Fact::MachineRunning { site: site.clone(), at: started.since })?;
    let check = ctx.call(target, &CheckMachine { item: name, generation, checks }).total_timeout(ready.serve_within);
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

fn between_ms(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    u64::try_from((to - from).num_milliseconds()).unwrap_or(0)
}
