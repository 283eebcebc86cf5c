//! A recovery plan, carried out: actions, groups in order, machines at the same time.
//!
//! ```text
//!   plan ── before ─▶ groups: prepare ═▶ all are prepared ─▶ group 1: start ─▶ ended ─▶ group 2: start ─▶ ended … ─▶ after
//!    └ group (child) ── machines: a child each, up to the gate ══▶ prepared ── start ─▶ before ─▶ machines let through ─▶ after
//!         └ item's own workflow (child) ── … recover ─▶ ready ── gate ── power on ─▶ serves
//! ```
//!
//! Invariants: 1. No machine is powered on before every group is prepared, or the plan says that it goes on without one. 2. A plan that
//! stops lets through nobody else: what waits at the gate is put back. 3. A machine that is where the plan wants it is left alone, so
//! a plan that stopped is gone on with by running it again. 4. Every step is recorded when it begins and when it ends.

mod acts;
mod asks;
mod book;
mod group;
mod member;
mod moving;
mod way;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use recovery::{
    Location, PlanName, PointChoice, SiteName, Sync,
    plan::{Forecast, OnError, Plan as Spec, StepRun, StepState, Then, Timeline, Work, place},
};
use sdk::{Applied, Child, ChildError, ClosePolicy, Context, Failure, Workflow};
use serde::{Deserialize, Serialize};

use self::{acts::Stage, book::Book, group::{GroupEnded, GroupInput}, member::Kept};
use crate::{
    Acceptance,
    declared::{DropDeadline, SetDeadline},
    tracked::server_queue,
};

pub use asks::{Question, Reply, answer_signal};
pub use book::{PLAN_PROJECTION, PlanFact, PlanNote};
pub use group::PlanGroup;
pub use way::makes_way;

/// What a run's result names of its steps, in each list: the rest is in its timeline.
const MOST_NAMED: usize = 100;

/// What to do with a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanInput {
    /// The plan as it stands.
    pub plan: Spec,
    /// Counts its changes, from 1.
    pub version: i64,
    /// SHA-256 of its text, lower-case hex.
    pub sha256: String,
    /// What.
    pub work: Work,
    /// How.
    pub options: PlanOptions,
}

/// What is asked for beside the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// From which points; as the plan says if nothing is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointChoice>,
    /// Goes on with machines whose source can't be fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_unfenced: Option<Acceptance>,
    /// How long a source's agent may take to pick a fence up.
    pub fence_timeout_ms: u64,
    /// How long a guest may take to shut down.
    pub shut_down_ms: u64,
    /// Asks the guests to shut down first and to send the rest, whatever comes of it: for a failover that is not planned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub try_shut_down: bool,
    /// Who agreed to what an older point loses, and why: for a failback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<Acceptance>,
    /// When a failback copies.
    #[serde(default)]
    pub sync: Sync,
    /// Onto what a reprotect copies.
    #[serde(default)]
    pub location: Location,
    /// Of a test failover: its copies are removed after so long, if nobody has done that; two weeks if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Only what was failed over until then: what begins by itself judges the failover that it was set for, and no later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_over_until: Option<DateTime<Utc>>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { point: None, accept_unfenced: None, fence_timeout_ms: 30_000, shut_down_ms: 300_000, try_shut_down: false, accept_loss: None, sync: Sync::default(), location: Location::default(), ttl_ms: None, failed_over_until: None }
    }
}

/// How a plan ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanEnded {
    /// Which.
    pub plan: PlanName,
    /// What was done.
    pub work: Work,
    /// Whether every step ended well.
    pub whole: bool,
    /// How many steps ended how.
    pub counts: Counts,
    /// Those that did not end well, the first hundred.
    pub wrong: Vec<StepRun>,
    /// From the request to the end of the last step.
    pub rto_actual_ms: u64,
    /// As the plan wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_target_ms: Option<u64>,
    /// The greatest loss of a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_actual_ms: Option<u64>,
    /// As the plan wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_target_ms: Option<u64>,
    /// What the steps alone would have taken, in the plan's order.
    pub critical_path_ms: u64,
    /// The steps that made it as long, the first hundred.
    pub critical: Vec<String>,
}

/// How many steps ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Well.
    pub done: usize,
    /// Badly.
    pub failed: usize,
    /// There was nothing to do, or they were left out.
    pub skipped: usize,
    /// Done and undone.
    pub put_back: usize,
}

/// Why a plan begins nothing more.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Somebody wants it to stop.
    Cancelled,
    /// A step failed.
    Failed(Failure),
}

impl From<sdk::Cancelled> for Stop {
    fn from(_: sdk::Cancelled) -> Self {
        Stop::Cancelled
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        if failure.code == "cancelled" { Stop::Cancelled } else { Stop::Failed(failure) }
    }
}

/// Workflow id of everything that is done with a plan: one at a time.
#[must_use]
pub fn plan_workflow_id(plan: &PlanName) -> String {
    format!("plan:{plan}")
}

/// The workflow.
pub struct Plan;

impl Workflow for Plan {
    const NAME: &'static str = "plan";
    type Input = PlanInput;
    type Output = PlanEnded;

    async fn run(ctx: Context, input: PlanInput) -> Result<PlanEnded, Failure> {
        let book = Book::new(&ctx, &input.plan.name, ctx.run_id());
        let mut conduct = Conduct { requested_at: ctx.now(), ctx, book, input, rpo_ms: None };
        conduct.began();
        let mut outcome = conduct.carried_out().await;
        if outcome.is_ok() {
            outcome = conduct.left_a_word().await;
        }
        conduct.ended(outcome)
    }
}

struct Conduct {
    ctx: Context,
    requested_at: DateTime<Utc>,
    book: Book,
    input: PlanInput,
    rpo_ms: Option<u64>,
}

/// Groups that go on.
type Going = BTreeMap<String, Child<PlanGroup>>;

impl Conduct {
    fn began(&self) {
        let PlanInput { version, sha256, work, plan, .. } = &self.input;
        let (rto, rpo) = (plan.rto_target.map(|span| span.ms()), plan.rpo_target.map(|span| span.ms()));
        self.book.fact(PlanFact::Began { work: *work, version: *version, sha256: sha256.clone(), rto_target_ms: rto, rpo_target_ms: rpo });
    }

    async fn carried_out(&mut self) -> Result<(), Stop> {
        self.actions("before").await?;
        match self.input.work.mode() {
            None => self.all_alike().await?,
            Some(_) => self.in_order().await?,
        }
        self.actions("after").await
    }

    /// What is to become of a failover that nobody judges; who judges it ends that.
    async fn left_a_word(&self) -> Result<(), Stop> {
        let PlanInput { plan, work, version, sha256, .. } = &self.input;
        let name = plan_workflow_id(&plan.name);
        match (work, plan.commit) {
            (Work::Planned | Work::Unplanned | Work::Failback, Some(policy)) => {
                let work = if policy.then == Then::Commit { Work::Commit } else { Work::Undo };
                let options = PlanOptions { failed_over_until: Some(self.ctx.now()), ..PlanOptions::default() };
                let input = PlanInput { plan: plan.clone(), version: *version, sha256: sha256.clone(), work, options };
                let set = SetDeadline {
                    name: name.clone(),
                    after_ms: policy.after.ms(),
                    workflow: Plan::NAME.to_owned(),
                    workflow_id: name,
                    input: serde_json::to_value(input).unwrap_or_default(),
                    cause: format!("commit policy of plan {}", plan.name),
                };
                Ok(self.ctx.call(server_queue(), &set).await.map_err(Failure::from)?)
            }
            (Work::Commit | Work::Undo, _) => Ok(self.ctx.call(server_queue(), &DropDeadline { name }).await.map_err(Failure::from)?),
            _ => Ok(()),
        }
    }

    async fn actions(&self, when: &str) -> Result<(), Stop> {
        let Some(mode) = self.input.work.mode() else { return Ok(()) };
        let (plan, (target, source)) = (&self.input.plan, self.input.plan.ends(mode));
        let actions = if when == "before" { &plan.before } else { &plan.after };
        let kept = Kept { ctx: &self.ctx, book: &self.book, plan: &plan.name, roles: &plan.roles, target, source, on_error: plan.on_error };
        acts::chain(&kept, &Stage { mode, group: None, item: None, place: place(None, None, when) }, actions).await
    }

    /// One after the other, once all are prepared.
    async fn in_order(&mut self) -> Result<(), Stop> {
        let mut going = Going::new();
        let outcome = self.conducted(&mut going).await;
        if let Err(stop) = &outcome {
            self.put_back(going, stop).await;
        }
        outcome
    }

    async fn conducted(&mut self, going: &mut Going) -> Result<(), Stop> {
        let work = self.input.work;
        let Some(mode) = work.mode() else { return Ok(()) };
        let names = |groups: Vec<&recovery::plan::Group>| groups.into_iter().map(|group| group.name.clone()).collect::<Vec<_>>();
        let (start, shut_down) = (names(self.input.plan.start_order(mode)), names(self.input.plan.shut_down_order(mode)));
        if matches!(work, Work::Planned | Work::Failback) {
            for name in shut_down {
                going.insert(name.clone(), self.begun(&name).await?);
                self.prepared(&name, going).await?;
            }
        } else {
            for name in &start {
                going.insert(name.clone(), self.begun(name).await?);
            }
            for name in &start {
                self.prepared(name, going).await?;
            }
        }
        for name in start {
            let Some(child) = going.remove(&name) else { continue };
            child.tell(group::START, &()).map_err(Failure::from)?;
            self.ended_group(&name, child.ended().await)?;
        }
        Ok(())
    }

    async fn begun(&self, name: &str) -> Result<Child<PlanGroup>, Stop> {
        let input = self.group_input(name)?;
        let id = format!("{}/{name}", plan_workflow_id(&self.input.plan.name));
        Ok(self.ctx.child::<PlanGroup>(id, &input, ClosePolicy::Cancel).await.map_err(Failure::from)?)
    }

    fn group_input(&self, name: &str) -> Result<GroupInput, Stop> {
        let PlanInput { plan, work, options, .. } = &self.input;
        let unknown = || Failure::fatal("no-such-group", format!("plan {} has no group {name}", plan.name));
        let group = plan.groups.iter().find(|group| group.name == name).cloned().ok_or_else(unknown)?;
        Ok(GroupInput {
            plan: plan.name.clone(),
            root: self.ctx.run_id(),
            roles: plan.roles.clone(),
            from: plan.from.clone(),
            to: plan.to.clone(),
            point: options.point.unwrap_or(plan.point),
            parallel: plan.parallel,
            on_error: plan.on_error,
            group,
            work: *work,
            options: options.clone(),
        })
    }

    /// Waits until a group is prepared; one that ends before it is has stopped the plan.
    async fn prepared(&mut self, name: &str, going: &mut Going) -> Result<(), Stop> {
        let Some(child) = going.get(name) else { return Ok(()) };
        match child.word::<()>(&group::prepared_word(name)).await {
            Ok(()) => Ok(()),
            Err(end) => {
                going.remove(name);
                self.ended_group(name, end)
            }
        }
    }

    /// Takes a group's steps over; fails if it stopped the plan.
    fn ended_group(&mut self, name: &str, end: Result<GroupEnded, ChildError>) -> Result<(), Stop> {
        match end {
            Ok(ended) => {
                self.rpo_ms = self.rpo_ms.max(ended.rpo_actual_ms);
                self.book.adopt(ended.steps);
                ended.stopped.map_or(Ok(()), |failure| Err(Stop::Failed(failure)))
            }
            Err(ChildError::Cancelled(failure)) => {
                self.book.adopt(GroupEnded::of_cancelled(&failure).steps);
                Err(Stop::Cancelled)
            }
            Err(other) => {
                let failure = Failure::from(other);
                Err(Stop::from(Failure { message: format!("group {name}: {}", failure.message), ..failure }))
            }
        }
    }

    /// Ends the groups that wait, and hears how they ended.
    async fn put_back(&mut self, going: Going, stop: &Stop) {
        let why = match stop {
            Stop::Cancelled => "the plan is being cancelled",
            Stop::Failed(_) => "the plan has stopped",
        };
        going.values().for_each(|child| child.cancel(why));
        for (name, child) in going {
            let end = child.ended().await;
            // Why the plan stopped is known already.
            let _known: Result<(), Stop> = self.ended_group(&name, end);
        }
    }

    /// The same to all machines.
    async fn all_alike(&mut self) -> Result<(), Stop> {
        let names: Vec<String> = self.input.plan.groups.iter().map(|group| group.name.clone()).collect();
        let mut going = vec![];
        for name in names {
            going.push((name.clone(), self.begun(&name).await?));
        }
        let mut outcome = Ok(());
        for (name, child) in going {
            let ended = self.ended_group(&name, child.ended().await);
            outcome = outcome.and(ended);
        }
        outcome
    }

    fn ended(self, outcome: Result<(), Stop>) -> Result<PlanEnded, Failure> {
        let ended = self.measured(outcome.is_ok());
        let PlanInput { plan, work, .. } = &self.input;
        let detail = serde_json::to_value(&ended).unwrap_or_default();
        let result = match outcome {
            Ok(()) => Ok(ended),
            Err(Stop::Cancelled) => {
                let cancelled = Failure::from(sdk::Cancelled);
                let applied = if ended.counts.done == 0 { cancelled.applied } else { Applied::Unknown };
                Err(Failure { detail, applied, ..cancelled })
            }
            Err(Stop::Failed(failure)) => {
                let message = format!("{work} of plan {} stopped: {}; {}", plan.name, failure.message, stands_after(*work));
                Err(Failure { message, detail, retryable: false, ..failure })
            }
        };
        self.book.fact(PlanFact::Ended { failure: result.as_ref().err().map(ToString::to_string) });
        result
    }

    fn measured(&self, went_well: bool) -> PlanEnded {
        let PlanInput { plan, work, .. } = &self.input;
        let timeline = Timeline { steps: self.book.steps() };
        let Forecast { steps, total_ms } = timeline.critical_path(plan, *work);
        let counts = Counts::of(&timeline.steps);
        PlanEnded {
            plan: plan.name.clone(),
            work: *work,
            whole: went_well && counts.failed == 0,
            counts,
            wrong: timeline.steps.iter().filter(|step| step.state == StepState::Failed).take(MOST_NAMED).cloned().collect(),
            rto_actual_ms: u64::try_from((self.ctx.now() - self.requested_at).num_milliseconds()).unwrap_or(0),
            rto_target_ms: plan.rto_target.map(|span| span.ms()),
            rpo_actual_ms: self.rpo_ms,
            rpo_target_ms: plan.rpo_target.map(|span| span.ms()),
            critical_path_ms: total_ms,
            critical: steps.into_iter().filter(|timed| timed.critical).map(|timed| timed.step.key).take(MOST_NAMED).collect(),
        }
    }
}

/// What is true of the machines of a work that has stopped, and what to do next.
fn stands_after(work: Work) -> &'static str {
    match work {
        Work::Planned | Work::Unplanned | Work::Failback => {
            "what had not been powered on was put back, what had is left. Mend the cause and run it again: machines that are there already are left alone"
        }
        Work::Test => {
            "copies that had not been powered on were removed, the others run on their isolated network; production was not touched. Mend the \
             cause, clean the test failover and run it again"
        }
        Work::CleanTest => "copies that were removed are gone, the others are still there. Mend the cause and run it again: it removes what is left",
        Work::Commit => "machines that were committed stay so, none was put back. Mend the cause and run it again: it commits the others",
        Work::Undo => "machines that were undone run where they ran before, what became of the others their steps say. Mend the cause and run it again: it undoes those",
        Work::Reprotect => "machines that were reprotected are replicated back, none was put back. Mend the cause and run it again: it reprotects the others",
    }
}

impl Counts {
    fn of(steps: &[StepRun]) -> Self {
        let count = |state| steps.iter().filter(|step| step.state == state).count();
        Self { done: count(StepState::Done), failed: count(StepState::Failed), skipped: count(StepState::Skipped), put_back: count(StepState::PutBack) }
    }
}

/// What becomes of the plan, by whoever says it first: the step, its group, the plan.
pub(crate) fn on_error(step: Option<OnError>, group: Option<OnError>, plan: OnError) -> OnError {
    step.or(group).unwrap_or(plan)
}

/// Both ends of a move, as this work means them: where machines will run, and where they ran.
pub(crate) fn ends<'a>(work: Work, from: &'a SiteName, to: &'a SiteName) -> (&'a SiteName, &'a SiteName) {
    match work {
        Work::Failback | Work::Reprotect => (from, to),
        Work::Test | Work::Planned | Work::Unplanned | Work::CleanTest | Work::Commit | Work::Undo => (to, from),
    }
}
