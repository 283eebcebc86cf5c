//! Which steps are possible: whatever waits for a lock is not.

use super::{
    Broken, Step, Turns,
    backend::Place,
    state::{NOT_LOADED, Nr, Stage, State, Task, Turn, at},
};

impl Turns {
    pub(super) fn offers(&self, state: &State) -> Vec<Step> {
        let mut steps = vec![];
        for worker in 0..self.workers {
            self.of_lease(state, worker, &mut steps);
            if !state.workers[at(worker)].up {
                continue;
            }
            self.of_takeover(state, worker, &mut steps);
            for run in 0..self.runs {
                self.of_run(state, worker, run, &mut steps);
            }
            self.of_batch(state, worker, &mut steps);
            self.of_attempt(state, worker, &mut steps);
        }
        if !self.local && state.faults.timeouts > 0 {
            let claimed = |run: Nr, activity: Nr| matches!(state.runs[at(run)].tasks[at(activity)], Task::Claimed { .. });
            let all = (0..self.runs).flat_map(|run| (0..self.activities).map(move |activity| (run, activity)));
            steps.extend(all.filter(|(run, activity)| claimed(*run, *activity)).map(|(run, activity)| Step::TimeOut(run, activity)));
        }
        if state.takeover.is_some() {
            steps.push(Step::CommitTakeover);
        }
        for place in 0..state.backends.len() {
            self.of_backend(state, place, &mut steps);
        }
        steps
    }

    fn of_lease(&self, state: &State, nr: Nr, steps: &mut Vec<Step>) {
        let (worker, lease) = (&state.workers[at(nr)], state.leases[at(nr)]);
        if lease.fresh && (!worker.up || worker.epoch != lease.epoch || state.faults.expiries > 0) {
            steps.push(Step::Expire(nr));
        }
        if worker.up && state.faults.crashes > 0 {
            steps.push(Step::Crash(nr));
        }
        // An update of the lease row waits for those who share it and for a takeover.
        let free = !state.lease_shared(nr) && !state.being_taken(nr);
        if free && worker.up && worker.epoch != 0 && (worker.epoch != lease.epoch || !lease.fresh) {
            steps.push(Step::Heartbeat(nr));
        }
        if free && (!worker.up || worker.epoch == 0) {
            steps.push(Step::OpenLease(nr));
        }
    }

    fn of_takeover(&self, state: &State, by: Nr, steps: &mut Vec<Step>) {
        if state.workers[at(by)].epoch == 0 || self.breaks(Broken::NoDelete) || state.takeover.is_some() {
            return;
        }
        let expired = |of: &Nr| !state.leases[at(*of)].fresh && !state.leases[at(*of)].gone;
        let others = (0..self.workers).filter(|of| *of != by && expired(of) && !state.lease_shared(*of));
        steps.extend(others.map(|of| Step::DeleteLease { by, of }));
    }

    /// Whether a run may be claimed: one statement that shares its own lease, locks the run and judges it again.
    fn claimable(&self, state: &State, by: Nr, run: Nr) -> bool {
        let worker = &state.workers[at(by)];
        let orphan = match state.runs[at(run)].owner {
            None => true,
            Some((owner, epoch)) => {
                let gone = !state.lease_holds(owner, epoch);
                if self.breaks(Broken::NoDelete) || self.breaks(Broken::ClaimBeforeDelete) {
                    (gone || !state.leases[at(owner)].fresh) && (owner, epoch) != (by, worker.epoch)
                } else {
                    gone && (worker.took_over || !self.breaks(Broken::OnlyTakerClaims))
                }
            }
        };
        orphan && worker.epoch != 0 && state.lease_holds(by, worker.epoch) && !state.being_taken(by) && state.runs[at(run)].head() < self.total()
    }

    fn of_run(&self, state: &State, nr: Nr, run: Nr, steps: &mut Vec<Step>) {
        let worker = &state.workers[at(nr)];
        if self.claimable(state, nr, run) {
            steps.push(Step::Claim(nr, run));
        }
        match worker.runs[at(run)] {
            None => {}
            Some(owned) if owned.known == NOT_LOADED => steps.push(Step::Load(nr, run)),
            Some(owned) => {
                if let Turn::Ambiguous(_) = owned.turn {
                    steps.push(Step::SendAgain(nr, run));
                }
                if self.breaks(Broken::ReleaseInFlight) && owned.turn != Turn::Idle && state.faults.losses > 0 {
                    steps.push(Step::Release(nr, run));
                }
                if self.local && owned.turn == Turn::Idle && owned.known > 0 && owned.known < self.total() && worker.attempt.is_none() {
                    steps.push(Step::StartLocal(nr, run));
                }
            }
        }
        if self.local || worker.attempt.is_some() || worker.epoch == 0 || !state.lease_holds(nr, worker.epoch) {
            return;
        }
        let free = |activity: &Nr| match state.runs[at(run)].tasks[at(*activity)] {
            Task::Queued(_) | Task::Overdue { .. } => true,
            Task::Claimed { worker, epoch, .. } => !state.lease_holds(worker, epoch),
            Task::None => false,
        };
        steps.extend((0..self.activities).filter(free).map(|activity| Step::ClaimTask(nr, run, activity)));
    }

    /// Whether an owner has something to do at the head that it knows.
    fn ready(&self, state: &State, nr: Nr, run: Nr) -> bool {
        let worker = &state.workers[at(nr)];
        let Some(owned) = worker.runs[at(run)].filter(|owned| owned.turn == Turn::Idle && owned.known < self.total()) else { return false };
        if owned.known == 0 {
            return true;
        }
        let activity = (owned.known - 1) / 2;
        if self.local {
            // Its result and the next turn are one commit.
            return worker.attempt.is_some_and(|attempt| attempt.run == run && attempt.activity == activity && attempt.effected && attempt.run_epoch == owned.epoch);
        }
        state.runs[at(run)].inbox.contains(&activity) && (!self.breaks(Broken::NotifyOnly) || owned.woken)
    }

    fn of_batch(&self, state: &State, nr: Nr, steps: &mut Vec<Step>) {
        let ready: Vec<Nr> = (0..self.runs).filter(|run| self.ready(state, nr, *run)).collect();
        let Some(first) = ready.first().filter(|_| state.backends.iter().filter(|backend| backend.worker == nr).count() < 2) else { return };
        steps.push(Step::Send(nr, ready.iter().fold(0, |mask, run| mask | 1 << run)));
        if ready.len() > 1 {
            steps.push(Step::Send(nr, 1 << first));
        }
    }

    fn of_attempt(&self, state: &State, nr: Nr, steps: &mut Vec<Step>) {
        let worker = &state.workers[at(nr)];
        let Some(attempt) = worker.attempt else { return };
        if !attempt.effected {
            steps.push(Step::Effect(nr));
        } else if !self.local {
            steps.push(Step::Complete { by: nr, answer_lost: false });
            if state.faults.losses > 0 {
                steps.push(Step::Complete { by: nr, answer_lost: true });
            }
        }
        let elsewhere = worker.runs[at(attempt.run)]
            .is_none_or(|owned| owned.epoch != attempt.run_epoch || owned.known != NOT_LOADED && owned.known >= 1 && (owned.known - 1) / 2 != attempt.activity);
        if self.local && elsewhere {
            steps.push(Step::Forget(nr));
        }
    }

    fn of_backend(&self, state: &State, place: usize, steps: &mut Vec<Step>) {
        let backend = &state.backends[place];
        if self.breaks(Broken::InteractiveTransaction) && !backend.attached {
            return; // The client is gone, and nobody ends the transaction.
        }
        let plain_read = [Broken::NoShareLock, Broken::FenceByTime, Broken::KeyShareStale].iter().any(|rule| self.breaks(*rule));
        let waits = match backend.stage {
            Stage::Fence => !plain_read && state.being_taken(backend.worker),
            Stage::Stale => state.being_taken(backend.worker),
            Stage::Insert => {
                let awaited = |(run, first): &(Nr, u8)| matches!(self.place(state, Some(place), *run, *first), Place::Awaited);
                !self.breaks(Broken::NoKey) && backend.turns.iter().any(awaited)
            }
            Stage::Commit => false,
        };
        if !waits {
            steps.push(Step::Backend(place));
        }
        if state.faults.losses > 0 {
            steps.push(Step::Abort(place));
            if backend.attached {
                steps.push(Step::Drop(place));
            }
        }
    }
}
