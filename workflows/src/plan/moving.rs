//! The workflow that moves or copies one machine, whichever it is: prepared, let through, ended.

use chrono::{DateTime, Utc};
use recovery::{
    ItemName, PlanName, PointChoice, SiteName,
    plan::{Member, Mode},
};
use sdk::{Child, ChildError, Context, Failure, RunId};

use super::{PlanOptions, way};
use crate::{
    Failback, FailedOver, Failover, FailoverInput, Part, PlannedFailover, PlannedInput, Prepared, TestFailover, TestFailoverInput, Tested, ToChooseFrom,
    part::{POINT, POWER_ON, ready_word, sealed_word},
};

/// A machine's workflow that goes on.
pub(crate) enum Moving {
    Test(Child<TestFailover>),
    Unplanned(Child<Failover>),
    Planned(Child<PlannedFailover>),
    Back(Child<Failback>),
}

/// What came of it.
pub(crate) struct Moved {
    pub(crate) serves: bool,
    pub(crate) evidence: String,
    /// From the point until the plan was asked for.
    pub(crate) rpo_ms: u64,
    pub(crate) site: SiteName,
}

macro_rules! each {
    ($moving:expr, $child:ident => $what:expr) => {
        match $moving {
            Moving::Test($child) => $what,
            Moving::Unplanned($child) => $what,
            Moving::Planned($child) => $what,
            Moving::Back($child) => $what,
        }
    };
}

/// How one machine takes part.
pub(crate) struct Wanted<'a> {
    pub(crate) plan: &'a PlanName,
    pub(crate) member: &'a Member,
    pub(crate) mode: Mode,
    pub(crate) choice: PointChoice,
    pub(crate) options: &'a PlanOptions,
    /// It waits for the others before it is powered on.
    pub(crate) gate: bool,
    /// Its point follows from those of others: it tells what it has, and is told which.
    pub(crate) asks: bool,
}

impl Wanted<'_> {
    fn part(&self) -> Part {
        let serve_within_ms = self.member.budget.map(|budget| budget.ms());
        let network = (self.mode == Mode::Test).then(|| self.plan.into());
        Part { asks: self.asks, gate: self.gate, checks: self.member.checks.clone(), serve_within_ms, network }
    }

    /// Begins it.
    pub(crate) async fn begun(&self, ctx: &Context) -> Result<Moving, Failure> {
        let (item, choice, part) = (self.member.item.clone(), self.choice, self.part());
        let PlanOptions { accept_unfenced, fence_timeout_ms, shut_down_ms, try_shut_down, accept_loss, sync, .. } = self.options.clone();
        let goes_first = Some(self.mode).filter(|mode| *mode != Mode::Test);
        Ok(match self.mode {
            Mode::Test => {
                let input = TestFailoverInput { item: item.clone(), choice, checks: part.checks.clone(), ttl_ms: self.options.ttl_ms, part: Part { checks: vec![], ..part } };
                Moving::Test(way::begun(ctx, &item, &input, goes_first).await?)
            }
            Mode::Planned => {
                let input = PlannedInput { item: item.clone(), shut_down_ms, sync: recovery::Sync::default(), choice: None, accept_loss: None, part };
                Moving::Planned(way::begun(ctx, &item, &input, goes_first).await?)
            }
            Mode::Failback => {
                let input = PlannedInput { item: item.clone(), shut_down_ms, sync, choice: self.options.point.map(|_| choice), accept_loss, part };
                Moving::Back(way::begun(ctx, &item, &input, goes_first).await?)
            }
            Mode::Unplanned => {
                let input = FailoverInput { item: item.clone(), choice, accept_unfenced, fence_timeout_ms, shut_down_ms: try_shut_down.then_some(shut_down_ms), part };
                Moving::Unplanned(way::begun(ctx, &item, &input, goes_first).await?)
            }
        })
    }
}

impl Moving {
    pub(crate) fn run(&self) -> RunId {
        each!(self, child => child.run())
    }

    /// What it could be recovered from, once that does not change any more; or how it ended.
    pub(crate) async fn to_choose_from(&self, item: &ItemName) -> Result<ToChooseFrom, Failure> {
        each!(self, child => child.word(&sealed_word(item)).await.map_err(early))
    }

    pub(crate) fn choose(&self, choice: PointChoice) -> Result<(), Failure> {
        Ok(each!(self, child => child.tell(POINT, &choice))?)
    }

    /// Waits until everything is there but power; or how it ended.
    pub(crate) async fn prepared(&self, item: &ItemName) -> Result<Prepared, Failure> {
        each!(self, child => child.word(&ready_word(item)).await.map_err(early))
    }

    pub(crate) fn power_on(&self) -> Result<(), Failure> {
        Ok(each!(self, child => child.tell(POWER_ON, &()))?)
    }

    pub(crate) fn cancel(&self, why: &str) {
        each!(self, child => child.cancel(why));
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self, requested_at: DateTime<Utc>) -> Result<Moved, Failure> {
        match self {
            Moving::Test(child) => Ok(tested(child.ended().await?, requested_at)),
            Moving::Unplanned(child) => Ok(failed_over(child.ended().await?)),
            Moving::Planned(child) => Ok(failed_over(child.ended().await?)),
            Moving::Back(child) => Ok(failed_over(child.ended().await?)),
        }
    }
}

/// It ended before it was prepared, which is never well.
fn early<T>(end: Result<T, ChildError>) -> Failure {
    match end {
        Ok(_) => Failure::fatal("not-prepared", "it ended before it was let through"),
        Err(why) => why.into(),
    }
}

fn failed_over(moved: FailedOver) -> Moved {
    let FailedOver { site, serves, evidence, rpo_actual_ms, .. } = moved;
    Moved { serves, evidence, rpo_ms: rpo_actual_ms, site }
}

fn tested(tested: Tested, requested_at: DateTime<Utc>) -> Moved {
    let Tested { site, serves, evidence, point_taken_at, .. } = tested;
    Moved { serves, evidence, rpo_ms: crate::test_failover::elapsed_ms(point_taken_at, requested_at), site }
}
