//! Giving a source back: replication goes on there, and its machine runs as before.

use std::time::Duration;

use recovery::{Generation, Group, ItemName, ReplicationPolicy};
use sdk::{Context, Failure, TaskQueue};

use crate::{
    declared::{LiftFence, ReopenReplica, StartReplication, StartSource},
    site_queue,
    tracked::Tracked,
};

/// Longest try at one part of giving a source back.
const UNDO_LIMIT: Duration = Duration::from_secs(180);
/// Longest wait for an agent when replication is to go on after a failover was given up.
const RESUME_LIMIT: Duration = Duration::from_secs(15);

/// What the source's machine is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nobody has touched it.
    AsItIs,
    /// What it did before it was fenced.
    AsBefore,
    /// Run, whatever it did before: what ran in its place was discarded.
    Runs,
}

/// What is needed to let the source go on as before.
pub(crate) struct Back {
    returning: Option<Generation>,
    group: Option<Group>,
    pub(crate) source: TaskQueue,
    target: TaskQueue,
    item: ItemName,
    pub(crate) machine: String,
    policy: ReplicationPolicy,
    generation: Generation,
}

impl Back {
    pub(crate) fn of(item: &Tracked) -> Result<Self, Failure> {
        let record = item.record()?;
        Ok(Self {
            returning: record.recovered_as,
            group: record.group.clone(),
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
    pub(crate) async fn given_back(self, ctx: Context, then: Then) -> Result<(), Failure> {
        let resumed = self.resumed(&ctx).await.map_err(|why| worse("replication did not go on", why));
        let (item, machine, source) = (self.item.clone(), self.machine.clone(), self.source.clone());
        let let_go = match then {
            Then::AsItIs => Ok(()),
            Then::AsBefore => {
                ctx.call(source, &LiftFence { item, machine }).queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await.map_err(Failure::from)
            }
            Then::Runs => {
                ctx.call(source, &StartSource { item, machine }).queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await.map_err(Failure::from)
            }
        };
        let off = format!("it is not known whether machine {} runs at {}", self.machine, self.source);
        let_go.map_err(|why| worse(&off, why))?;
        resumed
    }

    async fn resumed(&self, ctx: &Context) -> Result<(), Failure> {
        let Self { source, target, item, machine, policy, generation, returning, group } = self;
        let reopen = ctx.call(target.clone(), &ReopenReplica { item: item.clone(), generation: *generation });
        let endpoint = reopen.queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await?;
        let start = StartReplication {
            item: item.clone(),
            machine: machine.clone(),
            generation: *generation,
            policy: policy.clone(),
            endpoint,
            returning: *returning,
            group: group.clone(),
        };
        Ok(ctx.call(source.clone(), &start).queue_timeout(RESUME_LIMIT).total_timeout(UNDO_LIMIT).await?)
    }
}

/// The same failure, led by what it means.
fn worse(meaning: &str, why: Failure) -> Failure {
    Failure { message: format!("{meaning}: {}", why.message), ..why }
}

