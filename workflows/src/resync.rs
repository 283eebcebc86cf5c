//! Resync: compare both sides of a replicated item whole, and send what differs.
//!
//!   lock ─▶ ask the source ─▶ wait for the point that came of it ─▶ as before
//!                 cancel: the comparison that was begun goes on by itself, and `resync` says that it is needed
//!
//! Invariants: 1. The source's own loop compares, so the machine runs on and points go on. 2. The resync has ended when the target has a
//! point that was begun after the request, by comparison.

use std::time::Duration;

use recovery::{Fact, ItemName, Operation, PointId, Resync as Need, allowed_operations};
use sdk::{CallError, Context, Failure, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{AwaitPoint, RequestPoint},
    site_queue,
    tracked::Tracked,
};

/// How long the source's agent may take to answer.
const PICK_UP: Duration = Duration::from_secs(60);

/// What to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResyncInput {
    /// Which.
    pub item: ItemName,
}

/// Two sides that are the same as of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resynced {
    /// The point that the comparison made.
    pub point: PointId,
}

/// The workflow.
pub struct Resync;

impl Workflow for Resync {
    const NAME: &'static str = "resync";
    type Input = ResyncInput;
    type Output = Resynced;

    async fn run(ctx: Context, input: ResyncInput) -> Result<Resynced, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?;
        if !allowed_operations(&record.state, record.profile).contains(&Operation::Resync) {
            let message = format!("item {} is {} and its resync {:?}: no resync now", item.name, record.state.main, record.state.resync);
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        }
        let (before, site) = (record.state.resync, record.source_site().clone());
        let (source, by) = (site_queue(&site), item.generation);
        item.granted()?;
        item.note(Fact::ResyncIs { resync: Need::Running })?;
        let ask = RequestPoint { item: item.name.clone(), by, compare: true };
        let asked = item.ctx.call(source.clone(), &ask).queue_timeout(PICK_UP).await;
        if let Err(why) = asked {
            let never = matches!(why, CallError::Timeout(TimeoutKind::Queue) | CallError::Cancelled);
            item.note(Fact::ResyncIs { resync: if never { before } else { Need::Needed } })?;
            return Err(unasked(why, site.as_str()));
        }
        let made = item.ctx.call(source, &AwaitPoint { item: item.name.clone(), by, patient: true }).await;
        item.note(Fact::ResyncIs { resync: if made.is_ok() { Need::None } else { Need::Needed } })?;
        Ok(Resynced { point: made? })
    }
}

fn unasked(why: CallError<crate::declared::SiteError>, site: &str) -> Failure {
    if !matches!(why, CallError::Timeout(TimeoutKind::Queue)) {
        return why.into();
    }
    let message = format!("nobody at site {site}, where the machine runs, answers; nothing has changed. Repeat when the site is back");
    Failure::fatal("source-not-reached", message).not_applied()
}
