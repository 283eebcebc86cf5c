//! Regroup: one item joins a replication group, knows another definition of its group, or leaves it. A part of `change-group`.
//!
//!   lock ─▶ may it? ─▶ tell the source, if it is replicated ─▶ recorded
//!
//! Invariants: 1. An item joins only while it is protected, and only if it is in no other group. 2. Where a group becomes smaller, that
//! is so even if a source does not answer: then it is said, and that source is told with the next start of replication.

use std::time::Duration;

use recovery::{Fact, Group, GroupName, ItemName, MainState, SiteName};
use sdk::{CallError, Context, Failure, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{declared::RegroupReplication, site_queue, tracked::Tracked};

/// How long the source's agent may take to pick it up: longer than one that is started anew.
const PICK_UP: Duration = Duration::from_secs(120);
/// The same where it is recorded anyway.
const PICK_UP_ANYWAY: Duration = Duration::from_secs(30);
/// And how long all tries may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Which item, and what it is to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegroupInput {
    /// Which.
    pub item: ItemName,
    /// Of which group this is.
    pub name: GroupName,
    /// The group as it is now; none: the item leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// It is recorded even if the source is not reached.
    #[serde(default)]
    pub anyway: bool,
}

/// What an item knows now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regrouped {
    /// The source's site, if nobody there has answered: it goes on with what it knew until replication is started there anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<SiteName>,
}

/// The workflow.
pub struct Regroup;

impl Workflow for Regroup {
    const NAME: &'static str = "regroup";
    type Input = RegroupInput;
    type Output = Regrouped;

    async fn run(ctx: Context, input: RegroupInput) -> Result<Regrouped, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?;
        let before = record.group.clone().filter(|group| *group.name() == input.name);
        if before.is_none() && input.group.is_none() {
            return Ok(Regrouped { untold: None });
        }
        if before.is_none() && record.state.main != MainState::Protected {
            let message = format!("item {} is {}; only a protected item can join replication group {}", input.item, record.state.main, input.name);
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        }
        let (source, replicated) = (record.source_site().clone(), record.state.main == MainState::Protected);
        item.note(Fact::Grouped { group: input.group.clone() })?;
        if !replicated {
            // Its source is told when replication is started.
            return Ok(Regrouped { untold: None });
        }
        let tell = |ctx: &Context, group: &Option<Group>| {
            let tell = RegroupReplication { item: input.item.clone(), group: group.clone() };
            ctx.call(site_queue(&source), &tell).queue_timeout(PICK_UP).total_timeout(LIMIT)
        };
        if input.anyway {
            let told = tell(&item.ctx.shielded(), &input.group).queue_timeout(PICK_UP_ANYWAY).await;
            return Ok(Regrouped { untold: told.err().map(|_why| source) });
        }
        let mut saga = item.ctx.saga();
        let told = saga.step(tell(&item.ctx, &input.group), tell(&item.ctx, &before)).await;
        let settled = saga.settle(told.map_err(|why| refusal(why, &source))).await;
        if settled.is_err() {
            item.note(Fact::Grouped { group: before })?;
        }
        settled.map(|()| Regrouped { untold: None })
    }
}

fn refusal(why: CallError<crate::declared::SiteError>, source: &SiteName) -> Failure {
    if matches!(why, CallError::Timeout(TimeoutKind::Queue)) {
        let message = format!("nobody at site {source} answers, and its agent takes the common moments; nothing has changed");
        return Failure::fatal("source-not-reached", message).not_applied();
    }
    why.into()
}
