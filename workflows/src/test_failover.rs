//! Test failover: a copy of an item on a network of its own, from one of its points. Production and replication do not notice.
//!
//!   lock ─▶ list points ─▶ choose ─▶ pin ─▶ make the copy ─▶ prove its network isolated, start ─▶ check ─▶ ready to be looked at
//!
//! Invariants: 1. What fails or is cancelled leaves nothing behind. 2. A copy that does not serve stays, to be looked at; it is
//! cleaned by `clean-test-failover`. 3. The main state does not move.

use std::time::Duration;

use chrono::{DateTime, Utc};
use recovery::{Check, Fact, ItemName, Operation, PointChoice, PointId, SiteName, TestCopy, TestFailover as State, allowed_operations, resolve};
use sdk::{CallError, Context, Failure, Saga, TaskQueue, Workflow};
use serde::{Deserialize, Serialize};

use crate::{
    declared::{CheckTest, CleanTest, ListPoints, PinPoint, RecoverTest, StartTest, UnpinPoint},
    part::{self, Part},
    promote::SERVE_LIMIT,
    site_queue,
    tracked::Tracked,
};

/// Choices of a point that went before it could be pinned: one that lasts as long as a few points are apart meets another each time.
const CHOICES: u32 = 5;

/// What to copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestFailoverInput {
    /// Which.
    pub item: ItemName,
    /// Which point.
    pub choice: PointChoice,
    /// Asked beside the item's own checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// It is removed after so long, if nobody has done that; two weeks if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// As a part of a plan.
    #[serde(default, skip_serializing_if = "Part::is_none")]
    pub part: Part,
}

/// A copy that runs on its own network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Where.
    pub site: SiteName,
    /// From this point.
    pub point: PointId,
    /// When that was taken, by the source's clock.
    pub point_taken_at: DateTime<Utc>,
    /// Whether its checks held in time.
    pub serves: bool,
    /// What was asked and answered, or why they did not hold.
    pub evidence: String,
    /// How its network was seen to reach nothing.
    pub isolation: String,
    /// From the request until it served (or until the wait ended).
    pub rto_actual_ms: u64,
    /// How long each part of that took.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// A part of a recovery, by the clock of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What was done.
    pub name: String,
    /// When it was done.
    pub ended_at: DateTime<Utc>,
    /// Since the stage before.
    pub took_ms: u64,
}

/// Notes stages as they end.
pub(crate) struct Stages {
    since: DateTime<Utc>,
    ended: Vec<Stage>,
}

impl Stages {
    pub(crate) fn since(since: DateTime<Utc>) -> Self {
        Self { since, ended: vec![] }
    }

    pub(crate) fn end(&mut self, name: &str, now: DateTime<Utc>) {
        self.ended.push(Stage { name: name.to_owned(), ended_at: now, took_ms: elapsed_ms(self.since, now) });
        self.since = now;
    }

    pub(crate) fn all(self) -> Vec<Stage> {
        self.ended
    }
}

pub(crate) fn elapsed_ms(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    u64::try_from((to - from).num_milliseconds()).unwrap_or(0)
}

/// The workflow.
pub struct TestFailover;

impl Workflow for TestFailover {
    const NAME: &'static str = "test-failover";
    type Input = TestFailoverInput;
    type Output = Tested;

    async fn run(ctx: Context, input: TestFailoverInput) -> Result<Tested, Failure> {
        let requested_at = ctx.now();
        let mut item = Tracked::lock(&ctx, &input.item).await?;
        possible(&item)?;
        item.granted()?;
        item.note(Fact::TestFailoverIs { test_failover: State::Running, copy: None })?;
        let mut saga = item.ctx.saga();
        let tested = copy(&mut item, &mut saga, &input, requested_at).await;
        let settled = saga.settle(tested).await;
        if let Err(failure) = &settled {
            let copy = item.record()?.test_copy.clone();
            let clean = failure.detail.get("left_behind").is_none();
            let (test_failover, copy) = if clean { (State::None, None) } else { (State::Failed, copy) };
            item.note(Fact::TestFailoverIs { test_failover, copy })?;
        }
        settled
    }
}

fn possible(item: &Tracked) -> Result<(), Failure> {
    let record = item.record()?;
    let state = record.state;
    if allowed_operations(&state, record.profile).contains(&Operation::TestFailover) {
        return Ok(());
    }
    let message = format!("item {} is {} and its test failover {:?}: no test failover now", item.name, state.main, state.test_failover);
    Err(Failure::fatal("not-allowed-in-this-state", message).not_applied())
}

async fn copy(item: &mut Tracked, saga: &mut Saga, input: &TestFailoverInput, requested_at: DateTime<Utc>) -> Result<Tested, Failure> {
    let ctx = item.ctx.clone();
    let mut stages = Stages::since(requested_at);
    let record = item.record()?;
    let (site, checks) = (record.target_site().clone(), [record.checks.clone(), input.checks.clone()].concat());
    let (target, name, generation) = (site_queue(&site), item.name.clone(), item.generation);
    let (point, taken_at) = pinned(item, saga, &target, input).await?;
    let mut made = TestCopy { generation, point, site: site.clone(), since: None, evidence: vec![], expires_at: Some(expiry(input, ctx.now())) };
    stages.end("choose the point", ctx.now());
    let clean = ctx.call(target.clone(), &CleanTest { item: name.clone(), generation });
    let recover = RecoverTest { item: name.clone(), generation, point, network: input.part.network.clone() };
    saga.step(ctx.call(target.clone(), &recover), clean).await?;
    part::gate(&ctx, &name, &input.part, point).await?;
    stages.end("make the copy", ctx.now());
    let started = ctx.call(target.clone(), &StartTest { item: name.clone(), generation }).await?;
    stages.end("prove the isolation and start", ctx.now());
    let check = ctx.call(target, &CheckTest { item: name, generation, checks }).total_timeout(SERVE_LIMIT);
    let (serves, evidence) = match check.await {
        Ok(served) => (true, served.evidence),
        Err(CallError::Cancelled) => return Err(sdk::Cancelled.into()),
        Err(why) => (false, Failure::from(why).to_string()),
    };
    made.since = Some(started.since);
    made.evidence = vec![started.isolation.clone(), evidence.clone()];
    item.note(Fact::TestFailoverIs { test_failover: State::Ready, copy: Some(made) })?;
    saga.keep();
    stages.end("check", ctx.now());
    let rto_actual_ms = elapsed_ms(requested_at, ctx.now());
    Ok(Tested { site, point, point_taken_at: taken_at, serves, evidence, isolation: started.isolation, rto_actual_ms, stages: stages.all() })
}

fn expiry(input: &TestFailoverInput, now: DateTime<Utc>) -> DateTime<Utc> {
    let stays = input.ttl_ms.map_or(TestCopy::STAYS.duration(), Duration::from_millis).min(TestCopy::MAY_STAY.duration());
    now + stays
}

/// The point that is meant, pinned. Replication goes on: the one that was the newest may be gone before it is pinned, and then
/// another one is.
async fn pinned(item: &mut Tracked, saga: &mut Saga, target: &TaskQueue, input: &TestFailoverInput) -> Result<(PointId, DateTime<Utc>), Failure> {
    let (choice, part) = (input.choice, &input.part);
    let (ctx, name, generation) = (item.ctx.clone(), item.name.clone(), item.generation);
    let site = item.record()?.target_site().clone();
    let none = |why: String| Failure::fatal("no-recovery-point", format!("item {name}: {why}"));
    let mut choices = 1;
    loop {
        let points = ctx.call(target.clone(), &ListPoints { item: name.clone() }).await?.points;
        let meant = part::meant(&ctx, &name, choice, &points, part).await?;
        let point = resolve(&points, meant).map_err(|why| none(why.to_string()))?;
        let taken_at = points.iter().find(|p| p.id == point).map(|p| p.taken_at).ok_or_else(|| none(format!("no point {point}")))?;
        let made = TestCopy { generation, point, site: site.clone(), since: None, evidence: vec![], expires_at: Some(expiry(input, ctx.now())) };
        item.note(Fact::TestFailoverIs { test_failover: State::Running, copy: Some(made) })?;
        let pin = format!("test-{generation}");
        let unpin = ctx.call(target.clone(), &UnpinPoint { item: name.clone(), point, pin: pin.clone() });
        let pinned = saga.step(ctx.call(target.clone(), &PinPoint { item: name.clone(), point, pin }), unpin).await;
        let gone = matches!(&pinned, Err(CallError::App(error)) if error.code == "no-such-point");
        if !gone || choices == CHOICES || part.asks || matches!(choice, PointChoice::Exact(_)) {
            pinned?;
            return Ok((point, taken_at));
        }
        choices += 1;
    }
}
