//! Batches of turns: what a backend does with them, and what its answer means to the sender.

use super::{
    Broken, DOUBLE_EVENT, DOUBLE_RESULT, FENCED_WRITE, LOST_COMPLETION, TORN_HISTORY, Turns,
    state::{Backend, Event, Kind, Nr, Stage, State, Task, Turn, at},
};

/// What is at a place in a history, for somebody who inserts there.
pub(super) enum Place {
    Free,
    /// Somebody has inserted and not committed: wait.
    Awaited,
    Taken(Event),
}

impl Turns {
    pub(super) fn send(&self, state: &mut State, worker: Nr, mask: u8) -> Option<()> {
        let mut turns = vec![];
        for run in (0..self.runs).filter(|run| mask >> run & 1 == 1) {
            let owned = state.workers[at(worker)].runs[at(run)].as_mut()?;
            turns.push((run, owned.known));
            owned.turn = Turn::Sent(owned.known);
        }
        Self::begin(state, worker, turns);
        Some(())
    }

    /// The same turn with the same nonce.
    pub(super) fn send_again(state: &mut State, worker: Nr, run: Nr) -> Option<()> {
        let owned = state.workers[at(worker)].runs[at(run)].as_mut()?;
        let Turn::Ambiguous(first) = owned.turn else { return None };
        owned.turn = Turn::Sent(first);
        Self::begin(state, worker, vec![(run, first)]);
        Some(())
    }

    fn begin(state: &mut State, worker: Nr, turns: Vec<(Nr, u8)>) {
        let epoch = state.workers[at(worker)].epoch;
        state.backends.push(Backend { worker, epoch, stage: Stage::Fence, attached: true, locked: false, turns });
    }

    pub(super) fn abort(state: &mut State, place: usize) {
        state.faults.losses -= 1;
        let backend = state.backends.remove(place);
        if backend.attached {
            Self::no_answer(state, &backend);
        }
    }

    pub(super) fn disconnect(state: &mut State, place: usize) {
        state.faults.losses -= 1;
        state.backends[place].attached = false;
        let backend = state.backends[place].clone();
        Self::no_answer(state, &backend);
    }

    fn no_answer(state: &mut State, backend: &Backend) {
        let worker = &mut state.workers[at(backend.worker)];
        for (run, first) in &backend.turns {
            if let Some(owned) = &mut worker.runs[at(*run)]
                && owned.turn == Turn::Sent(*first)
                && worker.epoch == backend.epoch
            {
                owned.turn = Turn::Ambiguous(*first);
            }
        }
    }

    /// What stands at a place of a run; the uncommitted rows of the backend at `but` are its own.
    pub(super) fn place(&self, state: &State, but: Option<usize>, run: Nr, seq: u8) -> Place {
        if let Some(event) = state.runs[at(run)].events.get(at(seq)).and_then(|events| events.first()) {
            return Place::Taken(*event);
        }
        let writes = |backend: &Backend| backend.turns.iter().any(|(of, first)| *of == run && (*first..first + self.length(*first)).contains(&seq));
        let rival = state.backends.iter().enumerate().any(|(place, backend)| Some(place) != but && backend.stage == Stage::Commit && writes(backend));
        if rival { Place::Awaited } else { Place::Free }
    }

    pub(super) fn backend(&self, state: &mut State, place: usize) {
        let mut backend = state.backends.remove(place);
        match backend.stage {
            Stage::Fence => {
                let by_time = self.breaks(Broken::FenceByTime);
                let passes = if by_time { state.leases[at(backend.worker)].fresh } else { state.lease_holds(backend.worker, backend.epoch) };
                if !passes {
                    self.answer(state, &backend, &backend.turns, false, None);
                    if backend.attached && state.workers[at(backend.worker)].epoch == backend.epoch {
                        self.fenced(state, backend.worker);
                    }
                    return;
                }
                let stale = self.breaks(Broken::KeyShareStale);
                backend.locked = !(stale || by_time || self.breaks(Broken::NoShareLock));
                backend.stage = if stale { Stage::Stale } else { Stage::Insert };
                state.backends.insert(place, backend);
            }
            Stage::Stale => {
                (backend.locked, backend.stage) = (true, Stage::Insert);
                state.backends.insert(place, backend);
            }
            Stage::Insert => {
                if self.breaks(Broken::NoKey) || self.insert(state, &backend) {
                    backend.stage = Stage::Commit;
                    state.backends.insert(place, backend);
                }
            }
            Stage::Commit => {
                self.commit(state, &backend);
                self.answer(state, &backend, &backend.turns, true, None);
                self.forget_local(state, &backend);
            }
        }
    }

    /// Whether the key lets all turns in. If not, the answer is given: the transaction is gone.
    fn insert(&self, state: &mut State, backend: &Backend) -> bool {
        let mut ours = vec![];
        for turn in &backend.turns {
            let (run, first) = *turn;
            let taken = (first..first + self.length(first)).find_map(|seq| match self.place(state, None, run, seq) {
                Place::Taken(event) => Some(event),
                Place::Free | Place::Awaited => None,
            });
            let Some(event) = taken else { continue };
            let same = (event.worker, event.epoch, event.turn) == (backend.worker, backend.epoch, first);
            if same && self.breaks(Broken::NoNonce) {
                self.write_again(state, backend, run, first);
                return false;
            }
            if same {
                ours.push(*turn);
            } else if !self.breaks(Broken::DoNothing) {
                // 23505: neighbours are tried again, this run is loaded anew.
                self.answer(state, backend, &backend.turns, false, Some(run));
                return false;
            }
        }
        if ours.is_empty() {
            return true;
        }
        // 23505 on our own turn: it is stored already, the others are tried again.
        let others: Vec<_> = backend.turns.iter().filter(|turn| !ours.contains(turn)).copied().collect();
        self.answer(state, backend, &ours, true, None);
        self.answer(state, backend, &others, false, None);
        false
    }

    /// Who does not know its own turn writes it again, at the head.
    fn write_again(&self, state: &mut State, backend: &Backend, run: Nr, first: u8) {
        for kind in self.kinds(first) {
            let turn = state.runs[at(run)].head();
            state.runs[at(run)].events.push(vec![Event { kind, worker: backend.worker, epoch: backend.epoch, turn }]);
        }
        self.judge(state);
        self.answer(state, backend, &backend.turns, true, None);
    }

    fn commit(&self, state: &mut State, backend: &Backend) {
        for (of, first) in &backend.turns {
            let fenced = !state.lease_holds(backend.worker, backend.epoch) || state.runs[at(*of)].owner != Some((backend.worker, backend.epoch));
            if fenced {
                state.bad |= FENCED_WRITE;
            }
            if !self.store(state, backend, *of, *first) {
                return;
            }
            let run = &state.runs[at(*of)];
            let events: Vec<Event> = run.events.iter().filter_map(|events| events.first().copied()).collect();
            let whole = |event: &Event| {
                let same = events.iter().filter(|other| (other.worker, other.epoch, other.turn) == (event.worker, event.epoch, event.turn));
                same.count() == usize::from(self.length(event.turn))
            };
            if !events.iter().all(whole) {
                state.bad |= TORN_HISTORY;
            }
        }
        self.judge(state);
    }

    /// Writes the events of a turn and what follows from them; false at a gap.
    fn store(&self, state: &mut State, backend: &Backend, run: Nr, first: u8) -> bool {
        let run = &mut state.runs[at(run)];
        for (seq, kind) in (usize::from(first)..).zip(self.kinds(first)) {
            let event = Event { kind, worker: backend.worker, epoch: backend.epoch, turn: first };
            if seq < run.events.len() {
                if self.breaks(Broken::DoNothing) {
                    continue;
                }
                run.events[seq].push(event);
                state.bad |= DOUBLE_EVENT;
            } else if seq == run.events.len() {
                run.events.push(vec![event]);
            } else {
                state.bad |= TORN_HISTORY;
                return false;
            }
            match kind {
                Kind::Scheduled(activity) if !self.local && run.tasks[at(activity)] == Task::None => run.tasks[at(activity)] = Task::Queued(0),
                Kind::Scheduled(_) => {}
                Kind::Done(activity) => {
                    if let Some(place) = run.inbox.iter().position(|waiting| *waiting == activity) {
                        run.inbox.remove(place);
                    }
                }
            }
        }
        true
    }

    /// Results are counted in the history and the inbox together.
    pub(super) fn judge(&self, state: &mut State) {
        for run in &state.runs {
            for activity in 0..self.activities {
                let count = |kind| run.events.iter().flatten().filter(|event| event.kind == kind).count();
                let results = count(Kind::Done(activity)) + run.inbox.iter().filter(|waiting| **waiting == activity).count();
                if results > 1 {
                    state.bad |= DOUBLE_RESULT;
                }
                if !self.local && count(Kind::Scheduled(activity)) > 0 && results == 0 && run.tasks[at(activity)] == Task::None {
                    state.bad |= LOST_COMPLETION;
                }
            }
        }
    }

    /// The sender hears what became of these turns. The culprit's run is loaded anew; the others are tried again.
    fn answer(&self, state: &mut State, backend: &Backend, turns: &[(Nr, u8)], stored: bool, culprit: Option<Nr>) {
        if !backend.attached {
            return;
        }
        for (run, first) in turns {
            let head = state.runs[at(*run)].head();
            let Some(owned) = &mut state.workers[at(backend.worker)].runs[at(*run)] else { continue };
            if owned.turn != Turn::Sent(*first) {
                continue;
            }
            owned.turn = Turn::Idle;
            if stored {
                owned.known = first + self.length(*first);
                owned.woken = false;
            } else if culprit == Some(*run) {
                owned.known = head;
            }
        }
    }

    /// The result of a local step is in the history now.
    fn forget_local(&self, state: &mut State, backend: &Backend) {
        let Some(attempt) = state.workers[at(backend.worker)].attempt.filter(|_| self.local && backend.attached) else { return };
        let told = |turn: &(Nr, u8)| turn.0 == attempt.run && turn.1 > 0 && (turn.1 - 1) / 2 == attempt.activity;
        if backend.turns.iter().any(told) {
            state.workers[at(backend.worker)].attempt = None;
        }
    }
}
