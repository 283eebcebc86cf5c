//! A group of a plan: its machines prepared at the same time, then, when its turn has come, started in the order that they need.
//!
//!   machines: begin ─▶ (points of all ─▶ what they have in common) ─▶ ready ═▶ "prepared" ─ "start" ─▶ before ─▶ let through ─▶ after
//!
//! Invariants: 1. Who waits at the gate when the group stops is put back, and that is awaited. 2. A group that stops has ended well as a
//! run: it says why, and what became of each step.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use recovery::{
    Consistency, GroupName, ItemName, Location, PlanName, PointChoice, SiteName, common_points,
    plan::{Fit, Group, Member, OnError, StepKind, StepRun, StepState, Work, fit, member_key, place},
};
use sdk::{Context, Failure, RunId, Workflow, join::join_all};
use serde::{Deserialize, Serialize};

use super::{
    PlanOptions, Stop,
    acts::{self, Stage},
    book::Book,
    ends,
    member::{Kept, Policy, Went},
    moving::{Moved, Moving, Wanted},
    on_error, way,
};
use crate::{
    CleanTestFailover, CleanTestInput, Commit, CommitInput, Reprotect, ReprotectInput, ToChooseFrom, Undo, UndoInput,
    declared::{CheckMachine, CheckTest, LoadItem},
    site_queue,
    tracked::server_queue,
};

/// Lets a group start.
pub(crate) const START: &str = "start";

/// Says that a group is prepared.
pub(crate) fn prepared_word(group: &str) -> String {
    format!("prepared:{group}")
}

/// What to do with a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupInput {
    /// Of which plan.
    pub plan: PlanName,
    /// The plan's run.
    pub root: RunId,
    /// The group as the plan has it.
    pub group: Group,
    /// What.
    pub work: Work,
    /// Where its machines run normally.
    pub from: SiteName,
    /// Where they are recovered.
    pub to: SiteName,
    /// From which points.
    pub point: PointChoice,
    /// How many are prepared at once.
    pub parallel: usize,
    /// What becomes of the plan when a step fails that says nothing else.
    pub on_error: OnError,
    /// Who plays which role.
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// What is asked for beside the plan.
    pub options: PlanOptions,
}

/// How a group ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupEnded {
    /// Its steps, in the order in which they ended.
    pub steps: Vec<StepRun>,
    /// The greatest loss of one of its machines.
    pub rpo_actual_ms: Option<u64>,
    /// Why it stopped the plan, if it did.
    pub stopped: Option<Failure>,
}

impl GroupEnded {
    /// Of a run that was cancelled.
    pub(crate) fn of_cancelled(failure: &Failure) -> Self {
        serde_json::from_value(failure.detail.clone()).unwrap_or_default()
    }
}

/// The workflow.
pub struct PlanGroup;

impl Workflow for PlanGroup {
    const NAME: &'static str = "plan-group";
    type Input = GroupInput;
    type Output = GroupEnded;

    async fn run(ctx: Context, input: GroupInput) -> Result<GroupEnded, Failure> {
        let group = Conducted { book: Book::new(&ctx, &input.plan, input.root), requested_at: ctx.now(), waiting: RefCell::default(), rpo_ms: Rc::default(), ctx, input };
        let outcome = match group.input.work.mode() {
            None => group.operated().await,
            Some(_) => group.moved().await,
        };
        group.ended(outcome).await
    }
}

struct Conducted {
    ctx: Context,
    book: Book,
    requested_at: chrono::DateTime<chrono::Utc>,
    input: GroupInput,
    /// Who waits at the gate.
    waiting: RefCell<BTreeMap<ItemName, Moving>>,
    rpo_ms: Rc<RefCell<Option<u64>>>,
}

impl Conducted {
    async fn moved(&self) -> Result<(), Stop> {
        self.prepared().await?;
        self.ctx.tell_parent(&prepared_word(&self.input.group.name), &()).map_err(Failure::from)?;
        self.ctx.word::<()>(START).await?;
        let group = &self.input.group;
        self.with_people(async |kept| acts::chain(kept, &self.stage(None, "before"), &group.before).await).await?;
        self.started().await?;
        self.with_people(async |kept| acts::chain(kept, &self.stage(None, "after"), &group.after).await).await
    }

    fn stage<'a>(&'a self, item: Option<&'a ItemName>, when: &str) -> Stage<'a> {
        let group = Some(self.input.group.name.as_str());
        Stage { mode: self.input.work.mode().unwrap_or(recovery::plan::Mode::Unplanned), group, item, place: place(group, item, when) }
    }

    /// What all steps of the group have in common.
    async fn with_people<T>(&self, then: impl AsyncFnOnce(&Kept<'_>) -> T) -> T {
        let GroupInput { plan, from, to, work, roles, group, .. } = &self.input;
        let (target, source) = ends(*work, from, to);
        let people = |asked: &BTreeSet<String>| asked.iter().filter_map(|role| roles.get(role)).flatten().cloned().collect();
        let on_error = on_error(None, group.on_error, self.input.on_error);
        then(&Kept { ctx: &self.ctx, book: &self.book, plan, people: &people, target, source, on_error }).await
    }

    fn policy(&self, member: &Member) -> Policy {
        let otherwise = on_error(None, self.input.group.on_error, self.input.on_error);
        let unsaid = if member.critical { otherwise } else { OnError::Continue };
        Policy { retries: member.retries, on_error: member.on_error.unwrap_or(unsaid) }
    }

    fn wanted<'a>(&'a self, member: &'a Member, gate: bool) -> Wanted<'a> {
        Wanted { member, work: self.input.work, choice: self.input.point, options: &self.input.options, gate }
    }

    fn of_many(&self) -> bool {
        let of_many = matches!(self.input.point, PointChoice::LatestMultiVmProcessed | PointChoice::LatestMultiVmAppConsistent);
        // Home goes what was last, unless somebody asks for an older point.
        let asked = self.input.work == Work::Failback && self.input.options.point.is_some();
        of_many && (asked || matches!(self.input.work, Work::Test | Work::Unplanned))
    }

    /// Everybody up to the gate.
    async fn prepared(&self) -> Result<(), Stop> {
        let members = self.input.group.in_order();
        if self.of_many() {
            return self.prepared_together(&members).await;
        }
        let each = members.into_iter().map(async |member| {
            let key = self.key(member, StepKind::Prepare);
            self.with_people(async |kept| kept.step(&key, self.policy(member), async |step| self.prepare(member, step).await).await).await.map(drop)
        });
        all_or_stop(join_all(each, self.input.parallel).await)
    }

    fn key(&self, member: &Member, kind: StepKind) -> String {
        member_key(&self.input.group, member, kind, self.input.work)
    }

    async fn prepare(&self, member: &Member, step: &mut StepRun) -> Result<Went<()>, Failure> {
        if let Some(nothing) = self.nothing_to_do(member).await? {
            return Ok(nothing);
        }
        let moving = self.wanted(member, true).begun(&self.ctx).await?;
        step.run = Some(moving.run().to_string());
        self.up_to_the_gate(member, moving).await
    }

    async fn up_to_the_gate(&self, member: &Member, moving: Moving) -> Result<Went<()>, Failure> {
        let prepared = moving.prepared(&member.item).await?;
        self.waiting.borrow_mut().insert(member.item.clone(), moving);
        Ok(Went::Done((), format!("ready to start from point {}", prepared.point)))
    }

    async fn nothing_to_do(&self, member: &Member) -> Result<Option<Went<()>>, Failure> {
        let GroupInput { work, from, to, .. } = &self.input;
        let record = self.ctx.call(server_queue(), &LoadItem { item: member.item.clone() }).await?;
        let unknown = || Failure::fatal("no-such-item", format!("no item is called {}", member.item)).not_applied();
        match fit(*work, from, to, &record.ok_or_else(unknown)?) {
            Fit::Do => Ok(None),
            Fit::There(why) => Ok(Some(Went::Nothing(why))),
            Fit::Not(why) => Err(Failure::fatal("not-allowed-in-this-state", format!("item {}: {why}", member.item)).not_applied()),
        }
    }

    /// The same where points follow from those of all: nobody chooses before everybody's points stand still.
    async fn prepared_together(&self, members: &[&Member]) -> Result<(), Stop> {
        let sealed: RefCell<Vec<(&Member, Moving, StepRun, ToChooseFrom)>> = RefCell::default();
        let each = members.iter().map(async |member| {
            let mut step = self.book.begin(&self.key(member, StepKind::Prepare));
            match self.sealed(member, &mut step).await {
                Ok(Ok((moving, points))) => {
                    sealed.borrow_mut().push((member, moving, step, points));
                    Ok(())
                }
                Ok(Err(why)) => {
                    self.book.end(step, StepState::Skipped, why);
                    Ok(())
                }
                Err(failure) => self.gave_up(member, step, failure),
            }
        });
        // All at once, whatever the limit: each waits for the others.
        let begun = all_or_stop(join_all(each, members.len()).await);
        let chosen = begun.and_then(|()| self.choices(&sealed.borrow()).map_err(Stop::Failed));
        let choices = match chosen {
            Ok(choices) => choices,
            Err(stop) => {
                self.never_chosen(sealed.into_inner()).await;
                return Err(stop);
            }
        };
        let each = sealed.into_inner().into_iter().map(async |(member, moving, step, _)| {
            let choice = choices.get(&member.item).copied().unwrap_or(PointChoice::LatestProcessed);
            let ready = match moving.choose(choice) {
                Ok(()) => self.up_to_the_gate(member, moving).await,
                Err(failure) => Err(failure),
            };
            match ready {
                Ok(Went::Done((), said)) => {
                    self.book.end(step, StepState::Done, said);
                    Ok(())
                }
                Ok(Went::Nothing(why)) => {
                    self.book.end(step, StepState::Skipped, why);
                    Ok(())
                }
                Err(failure) => self.gave_up(member, step, failure),
            }
        });
        all_or_stop(join_all(each, members.len()).await)
    }

    async fn sealed(&self, member: &Member, step: &mut StepRun) -> Result<Result<(Moving, ToChooseFrom), String>, Failure> {
        if let Some(Went::Nothing(why)) = self.nothing_to_do(member).await? {
            return Ok(Err(why));
        }
        let moving = self.wanted(member, true).begun(&self.ctx).await?;
        step.run = Some(moving.run().to_string());
        let points = moving.to_choose_from(&member.item).await?;
        Ok(Ok((moving, points)))
    }

    /// A machine that can't be recovered together with the others; it is not tried again, since the others do not wait.
    fn gave_up(&self, member: &Member, step: StepRun, failure: Failure) -> Result<(), Stop> {
        let stops = self.policy(member).on_error != OnError::Continue;
        let message = format!("{}: {}", step.key, failure.message);
        let cancelled = self.ctx.cancelled();
        self.book.end(step, if cancelled { StepState::PutBack } else { StepState::Failed }, failure.to_string());
        match (cancelled, stops) {
            (true, _) => Err(Stop::Cancelled),
            (false, true) => Err(Stop::Failed(Failure { message, ..failure })),
            (false, false) => Ok(()),
        }
    }

    async fn never_chosen(&self, sealed: Vec<(&Member, Moving, StepRun, ToChooseFrom)>) {
        sealed.iter().for_each(|(_, moving, _, _)| moving.cancel("the plan has stopped"));
        for (_, moving, step, _) in sealed {
            let end = moving.ended(self.requested_at).await;
            self.book.end(step, StepState::PutBack, end.err().map_or_else(String::new, |failure| failure.message));
        }
    }

    /// Machines of a replication group at their last common moment, all others at their own last point.
    fn choices(&self, sealed: &[(&Member, Moving, StepRun, ToChooseFrom)]) -> Result<BTreeMap<ItemName, PointChoice>, Failure> {
        let quiet = self.input.point == PointChoice::LatestMultiVmAppConsistent;
        let (consistency, alone) =
            if quiet { (Consistency::App, PointChoice::LatestAppConsistent) } else { (Consistency::Crash, PointChoice::LatestProcessed) };
        let mut choices: BTreeMap<ItemName, PointChoice> = sealed.iter().map(|(member, ..)| (member.item.clone(), alone)).collect();
        let mut groups: BTreeMap<GroupName, Vec<(ItemName, Vec<recovery::RecoveryPoint>)>> = BTreeMap::new();
        for (member, _, _, of) in sealed {
            let newest = of.points.iter().rev().find_map(|point| point.group.as_ref());
            if let Some(moment) = newest {
                groups.entry(moment.group.clone()).or_default().push((member.item.clone(), of.points.clone()));
            }
        }
        if groups.is_empty() {
            let message = format!("no machine of group {} belongs to a replication group; choose latest-processed or latest-app-consistent", self.input.group.name);
            return Err(Failure::fatal("no-replication-group", message).not_applied());
        }
        for (group, members) in groups {
            let common = common_points(&group, &members, consistency).map_err(|why| Failure::fatal("no-recovery-point", why.to_string()))?;
            choices.extend(common.into_iter().map(|(item, point)| (item, PointChoice::Exact(point))));
        }
        Ok(choices)
    }

    /// Machines let through, each when those that it needs serve.
    async fn started(&self) -> Result<(), Stop> {
        let members = self.input.group.in_order();
        let serving: RefCell<BTreeSet<ItemName>> = RefCell::default();
        let stopped: RefCell<bool> = RefCell::default();
        let each = members.iter().map(|member| {
            let (serving, stopped) = (&serving, &stopped);
            async move {
                let free = || *stopped.borrow() || member.needs.iter().all(|needed| serving.borrow().contains(needed));
                until(free).await;
                if *stopped.borrow() {
                    return Ok(());
                }
                let started = self.start_one(member).await;
                *stopped.borrow_mut() |= started.is_err();
                serving.borrow_mut().insert(member.item.clone());
                started
            }
        });
        all_or_stop(join_all(each, self.input.group.parallel.unwrap_or(members.len())).await)
    }

    async fn start_one(&self, member: &Member) -> Result<(), Stop> {
        if !self.waiting.borrow().contains_key(&member.item) {
            return Ok(()); // it was there already, or the plan goes on without it
        }
        self.with_people(async |kept| {
            acts::chain(kept, &self.stage(Some(&member.item), "before"), &member.before).await?;
            let key = self.key(member, StepKind::Start);
            let moved = kept.step(&key, self.policy(member), async |step| self.start(member, step).await).await?;
            if let Some(moved) = moved {
                let mut rpo = self.rpo_ms.borrow_mut();
                *rpo = (*rpo).max(Some(moved.rpo_ms));
            }
            acts::chain(kept, &self.stage(Some(&member.item), "after"), &member.after).await
        })
        .await
    }

    /// Lets it through. One that failed is begun again, which takes up what was started; one that runs and does not serve is asked again.
    async fn start(&self, member: &Member, step: &mut StepRun) -> Result<Went<Moved>, Failure> {
        let waits = self.waiting.borrow_mut().remove(&member.item);
        let moved = match waits {
            Some(moving) => {
                step.run = Some(moving.run().to_string());
                moving.power_on()?;
                moving.ended(self.requested_at).await?
            }
            None => match self.again(member, step).await? {
                Some(moved) => moved,
                None => return Ok(Went::Nothing("it runs".to_owned())),
            },
        };
        if moved.serves {
            let said = moved.evidence.clone();
            return Ok(Went::Done(moved, said));
        }
        let message = format!("item {} runs at {} and does not serve: {}", member.item, moved.site, moved.evidence);
        Err(Failure::fatal("does-not-serve", message))
    }

    async fn again(&self, member: &Member, step: &mut StepRun) -> Result<Option<Moved>, Failure> {
        let GroupInput { work, from, to, .. } = &self.input;
        let record = self.ctx.call(server_queue(), &LoadItem { item: member.item.clone() }).await?;
        let unknown = || Failure::fatal("no-such-item", format!("no item is called {}", member.item));
        let record = record.ok_or_else(unknown)?;
        let runs = record.test_copy.is_some() || matches!(fit(*work, from, to, &record), Fit::There(_));
        if !runs {
            let moving = self.wanted(member, false).begun(&self.ctx).await?;
            step.run = Some(moving.run().to_string());
            return moving.ended(self.requested_at).await.map(Some);
        }
        let (target, _) = ends(*work, from, to);
        let (item, checks) = (member.item.clone(), [record.checks.clone(), member.checks.clone()].concat());
        let limit = member.budget.map_or(std::time::Duration::from_secs(300), |budget| budget.duration());
        let answer = match record.test_copy.as_ref().filter(|_| *work == Work::Test) {
            Some(copy) => self.ctx.call(site_queue(target), &CheckTest { item, generation: copy.generation, checks }).total_timeout(limit).await,
            None => {
                let generation = record.running_generation();
                self.ctx.call(site_queue(target), &CheckMachine { item, generation, checks }).total_timeout(limit).await
            }
        };
        let taken_at = record.chosen.as_ref().map_or(self.requested_at, |chosen| chosen.taken_at);
        let rpo_ms = crate::test_failover::elapsed_ms(taken_at, self.requested_at);
        Ok(Some(Moved { serves: true, evidence: answer?.evidence, rpo_ms, site: target.clone() }))
    }

    /// The same to all, at the same time.
    async fn operated(&self) -> Result<(), Stop> {
        let each = self.input.group.items.iter().map(async |member| {
            let key = self.key(member, StepKind::Operate);
            let policy = Policy { on_error: self.policy(member).on_error, retries: member.retries };
            self.with_people(async |kept| kept.step(&key, policy, async |step| self.operate(member, step).await).await).await.map(drop)
        });
        // What is done to all alike is done to as many as it can be done to: one that fails holds nobody else.
        all_or_stop(join_all(each, self.input.parallel).await)
    }

    async fn operate(&self, member: &Member, step: &mut StepRun) -> Result<Went<()>, Failure> {
        if let Some(nothing) = self.nothing_to_do(member).await? {
            return Ok(nothing);
        }
        let (ctx, item, work) = (&self.ctx, member.item.clone(), self.input.work);
        macro_rules! done {
            ($workflow:ty, $input:expr) => {{
                let child = way::begun::<$workflow>(ctx, &item, &$input, work).await?;
                step.run = Some(child.run().to_string());
                let _result = child.ended().await?;
            }};
        }
        let location: Location = self.input.options.location;
        match work {
            Work::Commit => done!(Commit, CommitInput { item: item.clone() }),
            Work::Undo => done!(Undo, UndoInput { item: item.clone() }),
            Work::Reprotect => done!(Reprotect, ReprotectInput { item: item.clone(), location }),
            Work::CleanTest | Work::Test | Work::Planned | Work::Unplanned | Work::Failback => done!(CleanTestFailover, CleanTestInput { item: item.clone() }),
        }
        Ok(Went::Done((), String::new()))
    }

    /// Whoever still waits is put back first.
    async fn ended(self, outcome: Result<(), Stop>) -> Result<GroupEnded, Failure> {
        let waiting = self.waiting.take();
        waiting.values().for_each(|moving| moving.cancel("the plan has stopped"));
        for (item, moving) in waiting {
            let end = moving.ended(self.requested_at).await;
            let member = self.input.group.items.iter().find(|member| member.item == item);
            let said = match end {
                Err(failure) if failure.code == "cancelled" => "put back: it runs where it ran".to_owned(),
                Err(failure) => format!("could not be put back whole: {}", failure.message),
                Ok(moved) => format!("it had begun to start and runs at {}", moved.site),
            };
            member.into_iter().for_each(|member| self.book.put_back(&self.key(member, StepKind::Prepare), &said));
        }
        let mut ended = GroupEnded { steps: self.book.steps(), rpo_actual_ms: *self.rpo_ms.borrow(), stopped: None };
        match outcome {
            Ok(()) => Ok(ended),
            Err(Stop::Failed(failure)) => {
                ended.stopped = Some(failure);
                Ok(ended)
            }
            Err(Stop::Cancelled) => Err(Failure { detail: serde_json::to_value(&ended).unwrap_or_default(), ..Failure::from(sdk::Cancelled) }),
        }
    }
}

/// The first that stopped the plan, after all have ended.
fn all_or_stop(all: Vec<Result<(), Stop>>) -> Result<(), Stop> {
    all.into_iter().collect()
}

/// Waits until something holds that another step of the same run brings about: it is looked at whenever anything happens.
async fn until(holds: impl Fn() -> bool) {
    std::future::poll_fn(|_| if holds() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }).await;
}
