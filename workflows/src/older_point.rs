//! The point from which an item goes home, where it is not the last one: chosen, told of what it loses, and pinned, before anything is touched.
//!
//! Invariants: 1. Nothing goes home without a point. 2. An older point than the last is taken only if a named person agreed to what that
//! loses; what it loses is recorded as it was told.

use std::time::Duration;

use recovery::{Fact, PointId, profile::failback::{RECOMMENDED, from_point}};
use sdk::{CallError, Failure, Saga, TimeoutKind};

use crate::{
    declared::{ListPoints, PinPoint, UnpinPoint},
    part,
    planned::PlannedInput,
    promote::pin_of,
    site_queue,
    tracked::Tracked,
    undone,
};

/// How long the agent of the site at home may take to answer.
const PICK_UP: Duration = Duration::from_secs(60);

/// The older point that is meant; `None` if it is to be the last one.
pub(crate) async fn chosen(item: &mut Tracked, saga: &mut Saga, input: &PlannedInput) -> Result<Option<PointId>, Failure> {
    let ctx = item.ctx.clone();
    let (name, site) = (item.name.clone(), item.record()?.target_site().clone());
    let target = site_queue(&site);
    let points = match ctx.call(target.clone(), &ListPoints { item: name.clone() }).queue_timeout(PICK_UP).await {
        Ok(listed) => listed.points,
        Err(CallError::Timeout(TimeoutKind::Queue)) => {
            let message = format!("nobody at site {site}, where item {name} is to go home, answers; nothing has changed. Repeat when the site is back");
            return Err(Failure::fatal("target-not-reached", message).not_applied());
        }
        Err(other) => return Err(other.into()),
    };
    let none = |why| Failure::fatal("no-recovery-point", format!("item {name} can't go home: {why}; nothing has changed")).not_applied();
    let choice = part::meant(&ctx, &name, input.choice.unwrap_or(RECOMMENDED), &points, &input.part).await?;
    let loss = from_point(&name, &points, choice, ctx.now()).map_err(none)?;
    let Some(loss) = loss else { return Ok(None) };
    let Some(accepted) = &input.accept_loss else {
        let message = format!("{loss}; nothing has changed. Leave --point out and nothing is lost, or repeat with --accept-loss --reason");
        return Err(Failure::fatal("loss-not-accepted", message).not_applied());
    };
    item.note(Fact::LossAccepted { by: accepted.by.clone(), statement: format!("{loss} ({})", accepted.reason) })?;
    let (point, pin) = (loss.point, pin_of(item.generation));
    let unpin = UnpinPoint { item: name.clone(), point, pin: pin.clone() };
    undone::step(&ctx, saga, &target, ctx.call(target.clone(), &PinPoint { item: name, point, pin }), unpin).await?;
    Ok(Some(point))
}
