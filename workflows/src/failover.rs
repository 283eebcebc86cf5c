//! Unplanned failover: run an item at its recovery site, from one of its points.
//!
//!   lock ─▶ (shut down ─▶ send the rest | one more point) ─▶ fence ─▶ seal ─▶ choose ─▶ pin ─▶ recover ─▶│ start ─▶ check ─▶ commit pending
//!                                        cancel until here
//!
//! Invariants: 1. Nothing starts before the source is fenced, or a named person accepted that it is not. 2. The point is
//! chosen once, from a replica that takes no more points, so a retry recovers the same one. 3. Until the machine is first
//! powered on everything can be put back, and is. 4. The chosen point stays pinned until commit. 5. Once a machine may have
//! been powered on, no later failover lets the source go or makes another machine: it takes up what was started, also by a failover that the store
//! has lost. 6. What was asked for
//! and what is looked for are two facts; a point that somebody named is never exchanged for another. 7. A source that does not answer holds
//! nobody: where a fence may be up and can't be lifted, the record says so.

use std::time::Duration;

use recovery::{Fact, ItemName, OldMachine, Operation, PointChoice, RequestedPoint, profile::shutdown::effective};
use sdk::{CallError, Context, Failure, Saga, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    back::{self, Back, PUT_SOURCE_BACK, Then},
    declared::FenceMachine,
    last_changes,
    part::Part,
    promote::{self, FailedOver, Ready, power_on},
    tracked::Tracked,
};

/// Longest work on a fence that was picked up: a site that dies in the middle of it must not hold the failover.
const FENCE_WORK: Duration = Duration::from_secs(60);

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
    /// Asks the source's guest to shut down first, for so long, and to send the rest; goes on whatever comes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shut_down_ms: Option<u64>,
    /// As a part of a plan.
    #[serde(default, skip_serializing_if = "Part::is_none")]
    pub part: Part,
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
        item.begin(Operation::Failover)?;
        if let Some(started) = item.started_before() {
            return promote::taken_up(&mut item, Operation::Failover, input.choice, started, requested_at, &input.part).await;
        }
        item.granted()?;
        let requested = RequestedPoint { choice: input.choice, shut_down: input.shut_down_ms.is_some(), at: requested_at };
        item.note(Fact::PointRequested { requested })?;
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

/// Everything that can be put back. Ends with the point of no return.
async fn make_ready(item: &mut Tracked, saga: &mut Saga, input: &FailoverInput) -> Result<Ready, Failure> {
    let left_before = back::left_before(item, saga)?;
    let given = last_changes::asked_for(item, saga, input, left_before).await?;
    let fenced = if given.fenced { true } else { fence(item, saga, input, given.returns).await? };
    let (looked_for, why) = effective(input.choice, given.outcome);
    item.note(Fact::PointSettled { looked_for, why: why.to_owned() })?;
    promote::made_ready(item, saga, looked_for, fenced, &input.part).await
}

/// True: proven. False: accepted unproven. `returns`: a way back for the source is registered.
async fn fence(item: &mut Tracked, saga: &mut Saga, input: &FailoverInput, returns: bool) -> Result<bool, Failure> {
    let back = Back::of(item)?;
    let (name, machine) = (item.name.clone(), back.machine.clone());
    let fence = item.ctx.call(back.source.clone(), &FenceMachine { item: name, machine });
    let limit = Duration::from_millis(input.fence_timeout_ms);
    let answer = fence.queue_timeout(limit).total_timeout(limit + FENCE_WORK).await;
    if matches!(answer, Err(CallError::Cancelled)) {
        return Err(sdk::Cancelled.into());
    }
    let begun = !back::never_begun(&answer);
    if !returns && (begun || input.accept_unfenced.is_some()) {
        let then = if begun { Then::AsBefore } else { Then::AsItIs };
        saga.on_failure(PUT_SOURCE_BACK, move |ctx| back.given_back(ctx, then));
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

