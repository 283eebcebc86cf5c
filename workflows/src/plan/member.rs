//! A step of a plan with its error policy: tried again, left out, asked about, or the end of the plan.

use std::collections::{BTreeMap, BTreeSet};

use recovery::{
    PlanName, SiteName,
    plan::{OnError, StepRun, StepState, people},
};
use sdk::{Context, Failure};

use super::{
    Stop,
    asks::{self, Decision},
    book::Book,
};

/// Code of a failure after which a machine may be on: it is not put back.
pub(crate) const MAY_RUN: &str = "may-run";

/// What steps have in common: where they happen and what their plan says.
pub(crate) struct Kept<'a> {
    pub(crate) ctx: &'a Context,
    pub(crate) book: &'a Book,
    pub(crate) plan: &'a PlanName,
    /// Who plays which role.
    pub(crate) roles: &'a BTreeMap<String, BTreeSet<String>>,
    /// Where machines will run.
    pub(crate) target: &'a SiteName,
    /// Where they ran.
    pub(crate) source: &'a SiteName,
    pub(crate) on_error: OnError,
}

/// How often a step is tried, and what then.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) retries: u32,
    pub(crate) on_error: OnError,
}

/// A try that went well.
pub(crate) enum Went<T> {
    /// It is done.
    Done(T, String),
    /// There was nothing to do.
    Nothing(String),
}

impl Kept<'_> {
    /// The people of these roles; nobody named means everybody who may operate.
    pub(crate) fn people(&self, roles: &BTreeSet<String>) -> BTreeSet<String> {
        people(self.roles, roles)
    }

    /// Tries until it is done, or may be left out; `None` then.
    pub(crate) async fn step<T>(&self, key: &str, policy: Policy, attempt: impl AsyncFnMut(&mut StepRun) -> Result<Went<T>, Failure>) -> Result<Option<T>, Stop> {
        let tried = self.tried(self.book.begin(key), policy, attempt).await?;
        Ok(tried.map(|(step, result, said)| {
            self.book.end(step, StepState::Done, said);
            result
        }))
    }

    /// The same with a step that has begun already, and goes on when this is done: whoever goes on with it ends it.
    pub(crate) async fn tried<T>(
        &self,
        mut step: StepRun,
        policy: Policy,
        mut attempt: impl AsyncFnMut(&mut StepRun) -> Result<Went<T>, Failure>,
    ) -> Result<Option<(StepRun, T, String)>, Stop> {
        let mut tries_left = policy.retries;
        loop {
            let failure = match attempt(&mut step).await {
                Ok(Went::Done(result, said)) => return Ok(Some((step, result, said))),
                Ok(Went::Nothing(why)) => {
                    self.book.end(step, StepState::Skipped, why);
                    return Ok(None);
                }
                Err(failure) => failure,
            };
            if self.ctx.cancelled() {
                let (state, said) = if failure.code == MAY_RUN { (StepState::Failed, failure.message.as_str()) } else { (StepState::PutBack, "the plan is being cancelled") };
                self.book.end(step, state, said);
                return Err(Stop::Cancelled);
            }
            if tries_left == 0 {
                match self.decided(&step, policy.on_error, &failure).await? {
                    (Decision::Retry, _) => {}
                    (Decision::Skip, said) => {
                        self.book.end(step, StepState::Failed, said);
                        return Ok(None);
                    }
                    (Decision::Stop, said) => {
                        let message = format!("{}: {}", step.key, failure.message);
                        self.book.end(step, StepState::Failed, said);
                        return Err(Stop::Failed(Failure { message, retryable: false, ..failure }));
                    }
                }
            } else {
                tries_left -= 1;
            }
            step.attempts += 1;
            self.book.stands(&step, None);
        }
    }

    async fn decided(&self, step: &StepRun, on_error: OnError, failure: &Failure) -> Result<(Decision, String), Stop> {
        let why = failure.to_string();
        Ok(match on_error {
            OnError::Stop => (Decision::Stop, why),
            OnError::Continue => (Decision::Skip, why),
            OnError::Ask => {
                let (decision, said) = asks::about_failure(self.ctx, self.book, step, failure).await?;
                (decision, format!("{why}; {said}"))
            }
        })
    }
}
