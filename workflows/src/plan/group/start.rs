//! Machines let through, each when those that it needs serve.

use std::{cell::RefCell, collections::BTreeSet};

use recovery::{
    ItemName, PointChoice,
    plan::{Fit, Member, Mode, StepKind, StepRun, fit},
};
use sdk::{Failure, join::join_all};

use super::{Conducted, GroupInput, all_or_stop};
use crate::{
    declared::{CheckMachine, CheckTest},
    plan::{
        Stop, acts, ends,
        member::{MAY_RUN, Went},
        moving::{Moved, Wanted},
    },
    promote::SERVE_LIMIT,
    site_queue,
    test_failover::elapsed_ms,
    tracked::record_of,
};

impl Conducted {
    pub(super) async fn started(&self, mode: Mode) -> Result<(), Stop> {
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
                let started = self.start_one(mode, member).await;
                *stopped.borrow_mut() |= started.is_err();
                serving.borrow_mut().insert(member.item.clone());
                started
            }
        });
        all_or_stop(join_all(each, self.input.group.parallel.unwrap_or(members.len())).await)
    }

    async fn start_one(&self, mode: Mode, member: &Member) -> Result<(), Stop> {
        if !self.waiting.borrow().contains_key(&member.item) {
            return Ok(()); // it was there already, or the plan goes on without it
        }
        let kept = self.kept();
        acts::chain(&kept, &self.stage(mode, Some(&member.item), "before"), &member.before).await?;
        let key = self.key(member, StepKind::Start);
        let moved = kept.step(&key, self.policy(member), async |step| self.start(mode, member, step).await).await?;
        self.rpo_ms.set(self.rpo_ms.get().max(moved.map(|moved| moved.rpo_ms)));
        acts::chain(&kept, &self.stage(mode, Some(&member.item), "after"), &member.after).await
    }

    /// Lets it through. One that failed is begun again, which takes up what was started; one that runs and does not serve is asked again.
    async fn start(&self, mode: Mode, member: &Member, step: &mut StepRun) -> Result<Went<Moved>, Failure> {
        let waits = self.waiting.borrow_mut().remove(&member.item);
        let moved = match waits {
            Some(moving) => {
                step.run = Some(moving.run().to_string());
                moving.power_on()?;
                moving.ended(self.requested_at).await.map_err(|failure| self.may_run(failure))?
            }
            None => self.again(mode, member, step).await?,
        };
        if moved.serves {
            let said = moved.evidence.clone();
            return Ok(Went::Done(moved, said));
        }
        let message = format!("item {} runs at {} and does not serve: {}", member.item, moved.site, moved.evidence);
        Err(Failure::fatal("does-not-serve", message))
    }

    /// What was let through when the plan was cancelled is not taken back by that.
    fn may_run(&self, failure: Failure) -> Failure {
        if !self.ctx.cancelled() {
            return failure;
        }
        let message = format!("the plan was cancelled when it had been let through: it may run at {}, and stays there ({})", self.kept().target, failure.message);
        Failure { code: MAY_RUN.to_owned(), message, ..failure }
    }

    async fn again(&self, mode: Mode, member: &Member, step: &mut StepRun) -> Result<Moved, Failure> {
        let GroupInput { work, from, to, point, .. } = &self.input;
        let record = record_of(&self.ctx, &member.item).await?;
        let runs = record.test_copy.is_some() || matches!(fit(*work, from, to, &record), Fit::There(_));
        if !runs {
            // What follows from the points of others has been chosen already, and others run from the same moment.
            let chosen = self.prepared_from.borrow().get(&member.item).copied().filter(|_| self.asks(mode));
            let choice = chosen.map_or(*point, PointChoice::Exact);
            let moving = Wanted { choice, gate: false, asks: false, ..self.gated(mode, member) }.begun(&self.ctx).await?;
            step.run = Some(moving.run().to_string());
            return moving.ended(self.requested_at).await;
        }
        let (target, _) = ends(*work, from, to);
        let (item, checks) = (member.item.clone(), [record.checks.clone(), member.checks.clone()].concat());
        let limit = member.budget.map_or(SERVE_LIMIT, |budget| budget.duration());
        let answer = match record.test_copy.as_ref().filter(|_| mode == Mode::Test) {
            Some(copy) => self.ctx.call(site_queue(target), &CheckTest { item, generation: copy.generation, checks }).total_timeout(limit).await,
            None => {
                let generation = record.running_generation();
                self.ctx.call(site_queue(target), &CheckMachine { item, generation, checks }).total_timeout(limit).await
            }
        };
        let taken_at = record.chosen.as_ref().map_or(self.requested_at, |chosen| chosen.taken_at);
        let rpo_ms = elapsed_ms(taken_at, self.requested_at);
        Ok(Moved { serves: true, evidence: answer?.evidence, rpo_ms, site: target.clone() })
    }
}

/// Waits until something holds that another step of the same run brings about: it is looked at whenever anything happens.
async fn until(holds: impl Fn() -> bool) {
    std::future::poll_fn(|_| if holds() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }).await;
}
