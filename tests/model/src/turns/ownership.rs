//! Leases, takeovers and claims: who may write, and who owns what.

use super::{
    Broken, Turns,
    state::{NOT_LOADED, Nr, Owned, State, Turn, Worker, at},
};

impl Turns {
    pub(super) fn expire(&self, state: &mut State, worker: Nr) {
        let holder = &state.workers[at(worker)];
        if holder.up && holder.epoch == state.leases[at(worker)].epoch {
            state.faults.expiries -= 1;
        }
        state.leases[at(worker)].fresh = false;
    }

    pub(super) fn heartbeat(&self, state: &mut State, worker: Nr) {
        if state.workers[at(worker)].epoch == state.leases[at(worker)].epoch {
            state.leases[at(worker)].fresh = true;
        } else {
            self.fenced(state, worker);
        }
    }

    pub(super) fn crash(&self, state: &mut State, worker: Nr) {
        state.faults.crashes -= 1;
        state.workers[at(worker)] = Worker::new(0, usize::from(self.runs));
        Self::detach(state, worker);
    }

    pub(super) fn open_lease(state: &mut State, worker: Nr) {
        let lease = &mut state.leases[at(worker)];
        if !lease.gone {
            lease.epoch += 1;
        }
        (lease.gone, lease.fresh) = (false, true);
        let holder = &mut state.workers[at(worker)];
        (holder.up, holder.epoch) = (true, lease.epoch);
    }

    pub(super) fn commit_takeover(state: &mut State) -> Option<()> {
        let (by, of) = state.takeover.take()?;
        let lease = &mut state.leases[at(of)];
        lease.epoch += 1;
        (lease.fresh, lease.gone) = (false, true);
        state.workers[at(by)].took_over = state.workers[at(by)].up;
        Some(())
    }

    /// The claim alone: the history is loaded by a later statement.
    pub(super) fn claim(state: &mut State, worker: Nr, run: Nr) {
        let lease = state.workers[at(worker)].epoch;
        let claimed = &mut state.runs[at(run)];
        claimed.owner = Some((worker, lease));
        claimed.epoch += 1;
        let owned = Owned { epoch: claimed.epoch, known: NOT_LOADED, turn: Turn::Idle, woken: false };
        state.workers[at(worker)].runs[at(run)] = Some(owned);
    }

    pub(super) fn load(&self, state: &mut State, worker: Nr, run: Nr) -> Option<()> {
        let head = state.runs[at(run)].head();
        let woken = !self.breaks(Broken::NotifyOnly) || !state.runs[at(run)].inbox.is_empty();
        let owned = state.workers[at(worker)].runs[at(run)].as_mut()?;
        (owned.known, owned.woken) = (head, woken);
        Some(())
    }

    pub(super) fn release(state: &mut State, worker: Nr, run: Nr) {
        state.faults.losses -= 1;
        state.workers[at(worker)].runs[at(run)] = None;
        if state.runs[at(run)].owner == Some((worker, state.workers[at(worker)].epoch)) {
            state.runs[at(run)].owner = None;
        }
    }

    /// A worker learns that its lease is gone: it drops everything of that epoch and opens a new one.
    pub(super) fn fenced(&self, state: &mut State, worker: Nr) {
        Self::detach(state, worker);
        let holder = &mut state.workers[at(worker)];
        if self.breaks(Broken::KeepsCache) {
            let lease = &mut state.leases[at(worker)];
            holder.epoch = lease.epoch;
            lease.fresh = true;
            holder.runs.iter_mut().flatten().for_each(|owned| owned.turn = Turn::Idle);
        } else {
            holder.runs.iter_mut().for_each(|owned| *owned = None);
            holder.epoch = 0;
        }
    }

    fn detach(state: &mut State, worker: Nr) {
        state.backends.iter_mut().filter(|backend| backend.worker == worker).for_each(|backend| backend.attached = false);
    }
}
