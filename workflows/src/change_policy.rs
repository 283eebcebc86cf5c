//! Change policy: another interval, retention or bandwidth for an item that is replicated. Nothing is copied anew.
//!
//!   lock ─▶ look at the source ─▶ policy at the target ─▶ policy to the source's loop ─▶ recorded
//!
//! Invariants: 1. The generation stays: a source that is lost in between goes on sending, under its old policy. 2. What fails or is cancelled
//! puts the old policy back at both sides.

use std::time::Duration;

use recovery::{Fact, ItemName, Operation, ReplicationPolicy, allowed_operations};
use sdk::{CallError, Context, Failure, Saga, TimeoutKind, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{ApplyPolicy, InspectMachine, Opened, SiteError, StartReplication},
    site_queue,
    tracked::Tracked,
};

/// How long an agent may take to answer.
const PICK_UP: Duration = Duration::from_secs(60);

/// What to change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangePolicyInput {
    /// Which.
    pub item: ItemName,
    /// From now on.
    pub policy: ReplicationPolicy,
}

/// A policy in force at both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// The one before it.
    pub before: ReplicationPolicy,
}

/// The workflow.
pub struct ChangePolicy;

impl Workflow for ChangePolicy {
    const NAME: &'static str = "change-policy";
    type Input = ChangePolicyInput;
    type Output = PolicyChanged;

    async fn run(ctx: Context, input: ChangePolicyInput) -> Result<PolicyChanged, Failure> {
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        let record = item.record()?;
        if !allowed_operations(&record.state, record.profile).contains(&Operation::ChangePolicy) {
            let message = format!("item {} is {} and follows the rules of {}: its policy can't be changed now", item.name, record.state.main, record.profile);
            return Err(Failure::fatal("not-allowed-in-this-state", message).not_applied());
        }
        let before = record.policy.clone();
        let mut saga = item.ctx.saga();
        let changed = in_force(&item, &mut saga, &input.policy, &before).await;
        saga.settle(changed).await?;
        item.note(Fact::PolicyChanged { policy: input.policy })?;
        Ok(PolicyChanged { before })
    }
}

async fn in_force(item: &Tracked, saga: &mut Saga, policy: &ReplicationPolicy, before: &ReplicationPolicy) -> Result<(), Failure> {
    let (ctx, record, name) = (item.ctx.clone(), item.record()?, item.name.clone());
    let (from, to) = (record.source_site().clone(), record.target_site().clone());
    let (source, target) = (site_queue(&from), site_queue(&to));
    let (machine, returning, group) = (record.machine.clone(), record.recovered_as, record.group.clone());
    let look = InspectMachine { machine: machine.clone(), profile: record.profile };
    ctx.call(source.clone(), &look).queue_timeout(PICK_UP).await.map_err(|why| unreached(why, from.as_str()))?;
    let apply = |policy: &ReplicationPolicy| ApplyPolicy { item: name.clone(), policy: policy.clone() };
    let put_back = ctx.call(target.clone(), &apply(before));
    let opened = saga.step(ctx.call(target, &apply(policy)).queue_timeout(PICK_UP), put_back).await.map_err(|why| unreached(why, to.as_str()))?;
    let Opened { endpoint, generation } = opened;
    let start = |policy: &ReplicationPolicy| StartReplication {
        item: name.clone(),
        machine: machine.clone(),
        generation,
        policy: policy.clone(),
        endpoint: endpoint.clone(),
        returning,
        group: group.clone(),
    };
    let put_back = ctx.call(source.clone(), &start(before));
    saga.step(ctx.call(source, &start(policy)).queue_timeout(PICK_UP), put_back).await.map_err(|why| unreached(why, from.as_str()))
}

fn unreached(why: CallError<SiteError>, site: &str) -> Failure {
    if !matches!(why, CallError::Timeout(TimeoutKind::Queue)) {
        return why.into();
    }
    let message = format!("nobody at site {site} answers, and both sites have to hear of a new policy; the old one is in force. Repeat when the site is back");
    Failure::fatal("site-not-reached", message).not_applied()
}
