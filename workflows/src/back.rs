//! Giving a source back: replication goes on there, and its machine runs as before.
//!
//! Invariants: 1. What was perhaps begun at a source is undone, what provably was not isn't. 2. A site that does not answer holds nobody: the
//! source is left then, which the item's record says, and a later failover, an undo or its site's return makes that good. 3. What an earlier
//! failover has left is put back by the next one that is given up, wherever that fails.

use recovery::{FailoverKind, Fact, Generation, Group, ItemName, MainState, ReplicationPolicy, SourceLeft};
use sdk::{CallError, Context, Failure, Saga, TaskQueue};

use crate::{
    declared::{LiftFence, ReopenReplica, StartReplication, StartSource},
    site_queue,
    tracked::Tracked,
    undone::{self, Patience},
};

/// How the undoing is called, in what a failure says was left behind.
pub(crate) const PUT_SOURCE_BACK: &str = "put-source-back";

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
            policy: record.policy_in_force(),
            generation: item.generation,
        })
    }

    /// Lets replication go on under the new generation, then lifts the fence: the machine runs last, but it runs, whatever
    /// becomes of replication. A production machine that stays off is worse than one that is not replicated.
    pub(crate) async fn given_back(self, ctx: Context, then: Then) -> Result<(), Failure> {
        let patience = if then == Then::Runs { Patience::Long } else { Patience::UntilItPasses };
        let (resumed, answers) = self.resumed(&ctx, patience).await;
        let resumed = resumed.map_err(|why| worse("replication did not go on", why));
        let (item, machine, source) = (self.item.clone(), self.machine.clone(), self.source.clone());
        let let_go = match then {
            Then::AsItIs => Ok(()),
            Then::AsBefore => self.lifted(&ctx, if answers { Patience::UntilItPasses } else { Patience::Once }).await,
            Then::Runs => undone::call(&ctx, &source, &StartSource { item, machine }, Patience::Long).await,
        };
        match (let_go.map_err(|why| self.not_known(why)), resumed) {
            (Err(off), Err(behind)) => Err(Failure { message: format!("{}; {}", off.message, behind.message), ..off }),
            (let_go, resumed) => let_go.and(resumed),
        }
    }

    /// The machine does what it did before it was fenced; of replication nothing is touched.
    pub(crate) async fn let_go(self, ctx: Context) -> Result<(), Failure> {
        self.lifted(&ctx, Patience::UntilItPasses).await.map_err(|why| self.not_known(why))
    }

    async fn lifted(&self, ctx: &Context, patience: Patience) -> Result<(), Failure> {
        let lift = LiftFence { item: self.item.clone(), machine: self.machine.clone() };
        undone::call(ctx, &self.source, &lift, patience).await
    }

    fn not_known(&self, why: Failure) -> Failure {
        worse(&format!("it is not known whether machine {} runs at {}", self.machine, self.source), why)
    }

    /// And whether the source's site has answered, if it came to that.
    async fn resumed(&self, ctx: &Context, patience: Patience) -> (Result<(), Failure>, bool) {
        let Self { source, target, item, machine, policy, generation, returning, group } = self;
        let reopen = ReopenReplica { item: item.clone(), generation: *generation };
        let endpoint = match undone::call(ctx, target, &reopen, patience).await {
            Ok(endpoint) => endpoint,
            Err(why) => return (Err(why), true),
        };
        let start = StartReplication {
            item: item.clone(),
            machine: machine.clone(),
            generation: *generation,
            policy: policy.clone(),
            endpoint,
            returning: *returning,
            group: group.clone(),
        };
        let started = undone::call(ctx, source, &start, patience).await;
        let answers = started.is_ok();
        (started, answers)
    }
}

/// Whether a call provably changed nothing: nobody took it up, or every attempt said so.
pub(crate) fn never_begun<T, E>(answer: &Result<T, CallError<E>>) -> bool {
    match answer {
        Err(CallError::Timeout(sdk::TimeoutKind::Queue) | CallError::Cancelled) => true,
        Err(CallError::Exhausted { last, .. }) => last.applied == sdk::Applied::No,
        Ok(_) | Err(CallError::App(_) | CallError::Timeout(_) | CallError::Unknown(_) | CallError::Unreadable(_)) => false,
    }
}

/// Whether an earlier failover has left the source; then it is given back if this one is given up, wherever it fails.
pub(crate) fn left_before(item: &Tracked, saga: &mut Saga) -> Result<bool, Failure> {
    let record = item.record()?;
    if record.source_left.is_none() {
        return Ok(false);
    }
    let replicated = !matches!(record.state.main, MainState::FailingOver { kind: FailoverKind::FullFailback, .. });
    let back = Back::of(item)?;
    saga.on_failure(PUT_SOURCE_BACK, move |ctx| async move { if replicated { back.given_back(ctx, Then::AsBefore).await } else { back.let_go(ctx).await } });
    Ok(true)
}

/// What a failure says of a source that could not be given back.
pub(crate) fn left_by(item: &Tracked, failure: &Failure) -> Option<Fact> {
    let undos = failure.detail.get("left_behind")?.as_array()?;
    let ours = undos.iter().find(|undo| undo["undo"] == PUT_SOURCE_BACK)?;
    let why = ours["failure"]["message"].as_str().map_or_else(String::new, str::to_owned);
    let site = item.record().ok()?.source_site().clone();
    Some(Fact::SourceNotGivenBack { left: SourceLeft { site, why, at: item.ctx.now() } })
}

/// The same failure, led by what it means.
fn worse(meaning: &str, why: Failure) -> Failure {
    Failure { message: format!("{meaning}: {}", why.message), ..why }
}
