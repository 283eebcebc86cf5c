//! Change point: recover a failed-over item again, from another point, before the commit.
//!
//!   lock ─▶ seal ─▶ choose ─▶ pin ─▶│ measure ─▶ discard ─▶ unpin ─▶ recover ─▶ start ─▶ check ─▶ commit pending
//!             cancel until here
//!
//! Invariants: 1. Nothing is discarded before the other point is there and pinned. 2. What the discarded machine had written is
//! measured and recorded. 3. The source stays fenced throughout. 4. A try that failed after the discard is repeated, with this point or
//! another, or undone.

use recovery::{Fact, Fence, ItemName, Operation, PointChoice, Step};
use sdk::{Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{DiscardMachine, PinPoint, UnpinPoint},
    discarded,
    part::Part,
    promote::{self, FailedOver, Ready, pin_of},
    site_queue,
    tracked::Tracked,
};

/// What to recover again, and from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangePointInput {
    /// Which.
    pub item: ItemName,
    /// Which point.
    pub choice: PointChoice,
}

/// The workflow.
pub struct ChangePoint;

impl Workflow for ChangePoint {
    const NAME: &'static str = "change-point";
    type Input = ChangePointInput;
    type Output = FailedOver;

    async fn run(ctx: Context, input: ChangePointInput) -> Result<FailedOver, Failure> {
        let requested_at = ctx.now();
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        in_time(&item)?;
        item.begin(Operation::ChangePoint)?;
        let ready = exchange(&mut item, input.choice).await;
        let running = match ready {
            Ok(ready) => promote::power_on(&mut item, &ready, requested_at).await,
            Err(failure) => Err(failure),
        };
        item.end(Operation::ChangePoint, running)
    }
}

/// Refuses when the profile's window has closed: what was failed over is used by then.
fn in_time(item: &Tracked) -> Result<(), Failure> {
    let record = item.record()?;
    let Some(until) = record.change_until().filter(|until| item.ctx.now() > *until) else { return Ok(()) };
    let message = format!(
        "another point of item {} could be chosen until {}, {} hours after its failover, by the rules of {}; nothing has changed. Commit, or undo",
        item.name,
        until.format("%Y-%m-%d %H:%M:%S UTC"),
        record.profile.change_window().num_hours(),
        record.profile
    );
    Err(Failure::fatal("change-window-closed", message).not_applied())
}

async fn exchange(item: &mut Tracked, choice: PointChoice) -> Result<Ready, Failure> {
    let record = item.record()?;
    let (old, before) = (record.running_generation(), record.chosen.clone());
    let fenced = matches!(record.fence, Some(Fence::Proven { .. }));
    let target = site_queue(record.target_site());
    let (name, generation) = (item.name.clone(), item.generation);

    let mut first = item.ctx.saga();
    let kept = async {
        let chosen = promote::chosen(item, choice, &Part::default()).await?;
        let pin = PinPoint { item: name.clone(), point: chosen.point, pin: pin_of(generation) };
        let unpin = UnpinPoint { item: name.clone(), point: chosen.point, pin: pin_of(generation) };
        first.step(item.ctx.call(target.clone(), &pin), item.ctx.call(target.clone(), &unpin)).await?;
        item.ctx.point_of_no_return("the machine is discarded and recovered again from another point")?;
        Ok(chosen)
    };
    let kept = kept.await;
    let chosen = first.settle(kept).await?;

    item.leave();
    discarded::measure(item, old).await?;
    item.ctx.call(target.clone(), &DiscardMachine { item: name.clone(), generation: old }).await?;
    if let Some(before) = before {
        item.ctx.call(target.clone(), &UnpinPoint { item: name, point: before.point, pin: pin_of(old) }).await?;
    }
    item.granted()?;
    let mut second = item.ctx.saga();
    let unpin = item.ctx.call(target, &UnpinPoint { item: item.name.clone(), point: chosen.point, pin: pin_of(generation) });
    second.on_failure("unpin-point", move |_| async move { Ok(unpin.compensating().await?) });
    let recovered = promote::recovered(item, &mut second, chosen.point).await;
    second.settle(recovered).await?;
    item.note(Fact::PointChosen { chosen: chosen.clone() })?;
    item.step(Step::PowerOn)?;
    Ok(Ready::new(chosen, fenced, &Part::default()))
}
