//! A group of a plan: its machines prepared at the same time, then, when its turn has come, started in the order that they need.
//!
//!   machines: begin ─▶ (points of all ─▶ what they have in common) ─▶ ready ═▶ "prepared" ─ "start" ─▶ before ─▶ let through ─▶ after
//!
//! Invariants: 1. Who waits at the gate when the group stops is put back, and that is awaited. 2. A group that stops has ended well as a
//! run: it says why, and what became of each step.

mod operate;
mod prepare;
mod start;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use chrono::{DateTime, Utc};
use recovery::{
    ItemName, ItemRecord, PlanName, PointChoice, PointId, SiteName,
    plan::{Fit, Group, Member, Mode, OnError, StepKind, StepRun, Work, fit, member_key, place},
};
use sdk::{Context, Failure, RunId, Workflow};
use serde::{Deserialize, Serialize};

use super::{
    PlanOptions, Stop,
    acts::{self, Stage},
    book::Book,
    ends,
    member::{Kept, Policy},
    moving::Moving,
    on_error,
};
use crate::tracked::record_of;

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
        let book = Book::new(&ctx, &input.plan, input.root);
        let group = Conducted { book, requested_at: ctx.now(), waiting: RefCell::default(), prepared_from: RefCell::default(), rpo_ms: Cell::default(), ctx, input };
        let outcome = match group.input.work.mode() {
            None => group.operated().await,
            Some(mode) => group.moved(mode).await,
        };
        group.ended(outcome).await
    }
}

struct Conducted {
    ctx: Context,
    book: Book,
    requested_at: DateTime<Utc>,
    input: GroupInput,
    /// Who waits at the gate.
    waiting: RefCell<BTreeMap<ItemName, Moving>>,
    /// From what everybody was made ready.
    prepared_from: RefCell<BTreeMap<ItemName, PointId>>,
    rpo_ms: Cell<Option<u64>>,
}

impl Conducted {
    async fn moved(&self, mode: Mode) -> Result<(), Stop> {
        self.prepared(mode).await?;
        self.ctx.tell_parent(&prepared_word(&self.input.group.name), &()).map_err(Failure::from)?;
        self.ctx.word::<()>(START).await?;
        let group = &self.input.group;
        acts::chain(&self.kept(), &self.stage(mode, None, "before"), &group.before).await?;
        self.started(mode).await?;
        acts::chain(&self.kept(), &self.stage(mode, None, "after"), &group.after).await
    }

    fn stage<'a>(&'a self, mode: Mode, item: Option<&'a ItemName>, when: &str) -> Stage<'a> {
        let group = Some(self.input.group.name.as_str());
        Stage { mode, group, item, place: place(group, item, when) }
    }

    /// What all steps of the group have in common.
    fn kept(&self) -> Kept<'_> {
        let GroupInput { plan, from, to, work, roles, group, .. } = &self.input;
        let (target, source) = ends(*work, from, to);
        Kept { ctx: &self.ctx, book: &self.book, plan, roles, target, source, on_error: on_error(None, group.on_error, self.input.on_error) }
    }

    fn policy(&self, member: &Member) -> Policy {
        let unsaid = if member.critical { self.kept().on_error } else { OnError::Continue };
        Policy { retries: member.retries, on_error: member.on_error.unwrap_or(unsaid) }
    }

    fn key(&self, member: &Member, kind: StepKind) -> String {
        member_key(&self.input.group, member, kind, self.input.work)
    }

    /// The machine as it is recorded, if the work means it; else why there is nothing to do.
    async fn to_be_done(&self, member: &Member) -> Result<Result<ItemRecord, String>, Failure> {
        let GroupInput { work, from, to, .. } = &self.input;
        let record = record_of(&self.ctx, &member.item).await?;
        match fit(*work, from, to, &record) {
            Fit::Do => Ok(Ok(record)),
            Fit::There(why) => Ok(Err(why)),
            Fit::Not(why) => Err(Failure::fatal("not-allowed-in-this-state", format!("item {}: {why}", member.item)).not_applied()),
        }
    }

    /// Whoever still waits is put back first.
    async fn ended(self, outcome: Result<(), Stop>) -> Result<GroupEnded, Failure> {
        let waiting = self.waiting.take();
        waiting.values().for_each(|moving| moving.cancel("the plan has stopped"));
        for (item, moving) in waiting {
            let end = moving.ended(self.requested_at).await;
            let member = self.input.group.items.iter().find(|member| member.item == item);
            let said = match end {
                Err(failure) if failure.code == "cancelled" && failure.detail.get("left_behind").is_none() => "put back: it runs where it ran".to_owned(),
                Err(failure) => format!("could not be put back whole: {}", failure.message),
                Ok(moved) => format!("it had begun to start and runs at {}", moved.site),
            };
            member.into_iter().for_each(|member| self.book.put_back(&self.key(member, StepKind::Prepare), &said));
        }
        let mut ended = GroupEnded { steps: self.book.steps(), rpo_actual_ms: self.rpo_ms.get(), stopped: None };
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
