//! Attempts at activities: claimed, carried out in the world outside, completed.

use super::{
    Broken, NEEDLESS_REDO, STALE_EFFECT, Turns,
    state::{Attempt, Nr, State, Task, at},
};

impl Turns {
    pub(super) fn claim_task(state: &mut State, worker: Nr, run: Nr, activity: Nr) -> Option<()> {
        let lease = state.workers[at(worker)].epoch;
        let of = &mut state.runs[at(run)];
        let attempt = match of.tasks[at(activity)] {
            Task::Queued(before) => before + 1,
            Task::Overdue { attempt } | Task::Claimed { attempt, .. } => attempt + 1,
            Task::None => return None,
        };
        of.tasks[at(activity)] = Task::Claimed { worker, epoch: lease, attempt };
        let run_epoch = of.epoch;
        state.workers[at(worker)].attempt = Some(Attempt { run, activity, attempt, run_epoch, lease, effected: false, refused: false, half: false });
        Some(())
    }

    pub(super) fn start_local(state: &mut State, worker: Nr, run: Nr) -> Option<()> {
        let owned = state.workers[at(worker)].runs[at(run)]?;
        let lease = state.workers[at(worker)].epoch;
        let activity = (owned.known - 1) / 2;
        state.workers[at(worker)].attempt = Some(Attempt { run, activity, attempt: 1, run_epoch: owned.epoch, lease, effected: false, refused: false, half: false });
        Some(())
    }

    pub(super) fn time_out(state: &mut State, run: Nr, activity: Nr) {
        state.faults.timeouts -= 1;
        let task = &mut state.runs[at(run)].tasks[at(activity)];
        if let Task::Claimed { attempt, .. } = *task {
            *task = Task::Overdue { attempt };
        }
    }

    fn token(&self, attempt: &Attempt) -> (u8, u8, u8) {
        if self.breaks(Broken::TokenWithoutPlace) {
            return (attempt.run_epoch, attempt.attempt, 0);
        }
        if !self.local {
            return (attempt.activity, attempt.attempt, 0);
        }
        let epoch = if self.breaks(Broken::LocalTokenWithoutEpoch) { 0 } else { attempt.run_epoch };
        (attempt.activity, epoch, attempt.attempt)
    }

    /// A call that reaches the world outside, now or long after it was sent.
    pub(super) fn effect(&self, state: &mut State, worker: Nr) -> Option<()> {
        let mut attempt = state.workers[at(worker)].attempt?;
        let token = self.token(&attempt);
        let order = (attempt.activity, if self.local { attempt.run_epoch } else { attempt.attempt });
        let run = &mut state.runs[at(attempt.run)];
        attempt.effected = true;
        if self.breaks(Broken::OutsideUnchecked) || token >= run.bar {
            run.bar = run.bar.max(token);
            if order < run.applied {
                state.bad |= STALE_EFFECT;
            }
            run.applied = run.applied.max(order);
        } else {
            attempt.refused = true;
            if order > run.applied {
                state.bad |= STALE_EFFECT;
            }
        }
        state.workers[at(worker)].attempt = Some(attempt);
        Some(())
    }

    pub(super) fn complete(&self, state: &mut State, by: Nr, answer_lost: bool) -> Option<()> {
        let attempt = state.workers[at(by)].attempt?;
        if answer_lost {
            state.faults.losses -= 1;
        }
        let lease_holds = state.lease_holds(by, attempt.lease);
        let run = &mut state.runs[at(attempt.run)];
        let task = &mut run.tasks[at(attempt.activity)];
        let counts = match *task {
            Task::Claimed { attempt: newest, .. } | Task::Overdue { attempt: newest } => newest == attempt.attempt,
            Task::None | Task::Queued(_) => false,
        };
        let mut keep = answer_lost;
        if self.breaks(Broken::UngatedCompletion) {
            // The key of the inbox alone forgets once the message is consumed.
            if !run.inbox.contains(&attempt.activity) {
                run.inbox.push(attempt.activity);
            }
            *task = Task::None;
        } else if self.breaks(Broken::CompletionInTwo) && !attempt.half {
            if counts {
                *task = Task::None;
                state.workers[at(by)].attempt = Some(Attempt { half: true, ..attempt });
                self.judge(state);
                return Some(());
            }
        } else if self.breaks(Broken::CompletionInTwo) {
            run.inbox.push(attempt.activity);
        } else if self.breaks(Broken::ExpiryRefuses) && !lease_holds && counts {
            // The effect has happened once, its result is thrown away, it will be done again.
            state.bad |= NEEDLESS_REDO;
            keep = false;
        } else if counts {
            *task = Task::None;
            run.inbox.push(attempt.activity);
        }
        self.wake(state, attempt.run, answer_lost);
        if !keep {
            state.workers[at(by)].attempt = None;
        }
        self.judge(state);
        Some(())
    }

    /// A notification for the owner, unless it goes missing with the session that sent it.
    fn wake(&self, state: &mut State, run: Nr, lost: bool) {
        if let Some((owner, epoch)) = state.runs[at(run)].owner {
            let worker = &mut state.workers[at(owner)];
            if let Some(owned) = worker.runs[at(run)].as_mut().filter(|_| worker.up && worker.epoch == epoch) {
                owned.woken = true;
            }
        }
        if self.breaks(Broken::NotifyOnly) && lost {
            state.workers.iter_mut().filter_map(|worker| worker.runs[at(run)].as_mut()).for_each(|owned| owned.woken = false);
        }
    }
}
