//! Hold and release: a recovery point that somebody needs stays, and until it is released nothing is begun that would remove it.
//!
//!   hold:  lock ─▶ pin ─▶ held          release:  lock ─▶ unpin ─▶ released
//!
//! Invariant: what the record says is held is pinned at its site; a commit and an unprotect are refused by the record itself.

use std::time::Duration;

use recovery::{Fact, Hold as Held, ItemName, Operation, PointId, allowed_operations};
use sdk::{CallError, Context, Failure, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{PinPoint, UnpinPoint},
    site_queue,
    tracked::Tracked,
};

/// One point of an item is held at a time, so one name is enough.
const PIN: &str = "hold";
/// How long the site's agent may take to answer.
const PICK_UP: Duration = Duration::from_secs(60);

/// What to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldInput {
    /// Which.
    pub item: ItemName,
    /// Which point.
    pub point: PointId,
    /// Who needs it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What to release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseInput {
    /// Which.
    pub item: ItemName,
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A point, held or not any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldPoint {
    /// Which.
    pub point: PointId,
}

/// Keeps a point.
pub struct Hold;

/// Lets it go.
pub struct Release;

impl Workflow for Hold {
    const NAME: &'static str = "hold";
    type Input = HoldInput;
    type Output = HeldPoint;

    async fn run(ctx: Context, input: HoldInput) -> Result<HeldPoint, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        possible(&item, Operation::Hold)?;
        let site = item.record()?.target_site().clone();
        let HoldInput { item: name, point, by, reason } = input;
        let target = site_queue(&site);
        let pin = PinPoint { item: name.clone(), point, pin: PIN.to_owned() };
        let unpin = ctx.call(target.clone(), &UnpinPoint { item: name, point, pin: PIN.to_owned() });
        let mut saga = item.ctx.saga();
        let pinned = saga.step(item.ctx.call(target, &pin).queue_timeout(PICK_UP), unpin).await.map_err(|why| unreached(why, site.as_str()));
        saga.settle(pinned).await?;
        item.note(Fact::Held { hold: Held { point, site, by, reason, at: ctx.now() } })?;
        Ok(HeldPoint { point })
    }
}

impl Workflow for Release {
    const NAME: &'static str = "release";
    type Input = ReleaseInput;
    type Output = HeldPoint;

    async fn run(ctx: Context, input: ReleaseInput) -> Result<HeldPoint, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        possible(&item, Operation::Release)?;
        let Some(Held { point, site, .. }) = item.record()?.hold.clone() else { return Err(refused(&item, Operation::Release)?) };
        let unpin = UnpinPoint { item: item.name.clone(), point, pin: PIN.to_owned() };
        let gone = item.ctx.call(site_queue(&site), &unpin).queue_timeout(PICK_UP).await;
        match gone {
            // The replica went with its site's records: there is nothing left to be held.
            Err(CallError::App(why)) if why.code == "no-such-replica" => {}
            other => other.map_err(|why| unreached(why, site.as_str()))?,
        }
        item.note(Fact::Released { by: input.by, reason: input.reason })?;
        Ok(HeldPoint { point })
    }
}

fn possible(item: &Tracked, operation: Operation) -> Result<(), Failure> {
    let record = item.record()?;
    if allowed_operations(&record.state, record.profile).contains(&operation) { Ok(()) } else { Err(refused(item, operation)?) }
}

fn refused(item: &Tracked, operation: Operation) -> Result<Failure, Failure> {
    let record = item.record()?;
    let held = record.hold.as_ref().map_or_else(|| "no point is held".to_owned(), |hold| format!("point {} is held", hold.point));
    let message = format!("item {} is {} and {held}: no {operation} now", item.name, record.state.main);
    Ok(Failure::fatal("not-allowed-in-this-state", message).not_applied())
}

fn unreached(why: CallError<crate::declared::SiteError>, site: &str) -> Failure {
    if !matches!(why, CallError::Timeout(TimeoutKind::Queue)) {
        return why.into();
    }
    let message = format!("nobody at site {site}, which keeps the point, answers; nothing has changed. Repeat when the site is back");
    Failure::fatal("target-not-reached", message).not_applied()
}
