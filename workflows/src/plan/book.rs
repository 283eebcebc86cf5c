//! The steps of a plan's run as they begin and end, recorded for everybody who waits.
//!
//! Invariant: a step that was begun is ended, by whoever ends it.

use std::{cell::RefCell, rc::Rc};

use recovery::{
    PlanName,
    plan::{StepRun, StepState, Work},
};
use sdk::{Context, RunId};
use serde::{Deserialize, Serialize};

use super::asks::Question;

/// Name of the projection of what plans do.
pub const PLAN_PROJECTION: &str = "recovery.plan";

/// Something that a plan's run records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanNote {
    /// Of which plan.
    pub plan: PlanName,
    /// The plan's run; groups record for it as well.
    pub root: RunId,
    /// What.
    #[serde(rename = "of")]
    pub fact: PlanFact,
}

/// What there is to record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum PlanFact {
    /// The run began.
    Began {
        /// What is done.
        work: Work,
        /// Version of the plan.
        version: i64,
        /// SHA-256 of its text.
        sha256: String,
        /// As the plan wants it.
        rto_target_ms: Option<u64>,
        /// As the plan wants it.
        rpo_target_ms: Option<u64>,
    },
    /// A step began, waits for people, or ended.
    Step {
        /// As it stands.
        step: StepRun,
        /// What people are asked, if they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        question: Option<Question>,
    },
    /// The run ended.
    Ended {
        /// Why it stopped, if it did.
        failure: Option<String>,
    },
}

/// Records steps.
#[derive(Clone)]
pub(crate) struct Book {
    ctx: Context,
    plan: PlanName,
    root: RunId,
    ended: Rc<RefCell<Vec<StepRun>>>,
}

impl Book {
    pub(crate) fn new(ctx: &Context, plan: &PlanName, root: RunId) -> Self {
        Self { ctx: ctx.clone(), plan: plan.clone(), root, ended: Rc::default() }
    }

    pub(crate) fn root(&self) -> RunId {
        self.root
    }

    pub(crate) fn fact(&self, fact: PlanFact) {
        self.ctx.record(PLAN_PROJECTION, &PlanNote { plan: self.plan.clone(), root: self.root, fact });
    }

    /// A step begins now.
    pub(crate) fn begin(&self, key: &str) -> StepRun {
        let step = StepRun { key: key.to_owned(), state: StepState::Running, began_at: self.ctx.now(), ended_at: None, attempts: 1, said: String::new(), run: None };
        self.stands(&step, None);
        step
    }

    /// How a step stands that has not ended.
    pub(crate) fn stands(&self, step: &StepRun, question: Option<Question>) {
        self.fact(PlanFact::Step { step: step.clone(), question });
    }

    /// It ends now.
    pub(crate) fn end(&self, step: StepRun, state: StepState, said: impl Into<String>) {
        let step = StepRun { state, said: said.into(), ended_at: Some(self.ctx.now()), ..step };
        self.stands(&step, None);
        self.ended.borrow_mut().push(step);
    }

    /// What was done before is undone.
    pub(crate) fn put_back(&self, key: &str, said: &str) {
        let mut ended = self.ended.borrow_mut();
        let Some(step) = ended.iter_mut().find(|step| step.key == key && step.state == StepState::Done) else { return };
        step.state = StepState::PutBack;
        said.clone_into(&mut step.said);
        let step = step.clone();
        drop(ended);
        self.stands(&step, None);
    }

    /// Steps that another run has recorded.
    pub(crate) fn adopt(&self, steps: Vec<StepRun>) {
        self.ended.borrow_mut().extend(steps);
    }

    pub(crate) fn steps(&self) -> Vec<StepRun> {
        self.ended.borrow().clone()
    }
}
