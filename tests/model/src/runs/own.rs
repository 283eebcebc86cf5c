//! Workers: what they own, what they send, and what an answer or none means to them; and how sessions go on and end.

use super::{
    Broken, Lock, NOT_OWNER, Runs, State, Step, Turn, Work,
    base::{Base, Epochs, Key, Kind, Msg, Nr, Row},
    sweeps::{Call, Sweep},
    turn::{Raised, Sent, Stage, Went},
};

/// What a worker knows of a run that it believes to own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owned {
    /// Events that it knows, once it has loaded them.
    pub(super) known: Option<u8>,
    pub(super) tries: u8,
    /// The turn that has no answer yet.
    pub(super) turn: Option<Turn>,
}

const NEW: Owned = Owned { known: None, tries: 0, turn: None };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    pub(super) epoch: Nr,
    pub(super) own: Vec<Option<Owned>>,
    /// It may own something that it does not know of.
    pub(super) unsure: bool,
}

impl Worker {
    pub(super) fn new(epoch: Nr, runs: usize) -> Self {
        Self { epoch, own: vec![None; runs], unsure: false }
    }
}

fn at(nr: Nr) -> usize {
    usize::from(nr)
}

impl Runs {
    pub(super) fn of_worker(&self, state: &State, nr: Nr, steps: &mut Vec<Step>) {
        let worker = &state.workers[at(nr)];
        let leases = state.base.rows.keys().filter_map(|key| if let Key::Lease(of, epoch) = key { (*of == nr).then_some(*epoch) } else { None });
        steps.extend(leases.clone().filter(|epoch| *epoch != worker.epoch || state.faults.expiries > 0).map(|epoch| Step::LoseLease { worker: nr, epoch }));
        if state.faults.crashes > 0 {
            steps.push(Step::Crash(nr));
        }
        let busy = state.sessions.iter().any(|work| matches!(work, Work::Turn { worker, attached: true, .. } if *worker == nr));
        if busy {
            return;
        }
        if !leases.clone().any(|epoch| epoch == worker.epoch) {
            steps.push(Step::LearnFenced(nr));
        }
        let unanswered: Vec<Nr> = (0..self.runs()).filter(|run| worker.own[at(*run)].as_ref().is_some_and(|owned| owned.turn.is_some())).collect();
        steps.extend(unanswered.iter().map(|run| Step::SendAgain { worker: nr, run: *run }));
        if !unanswered.is_empty() && !self.breaks(Broken::TwoInFlight) && !self.breaks(Broken::ReleaseInFlight) {
            return;
        }
        if worker.unsure && !self.breaks(Broken::NeverAsks) {
            steps.push(Step::AskOwned(nr));
        }
        for run in 0..self.runs() {
            let Some(owned) = &worker.own[at(run)] else {
                steps.push(Step::Claim { worker: nr, run, answer_lost: false });
                if state.faults.losses > 0 {
                    steps.push(Step::Claim { worker: nr, run, answer_lost: true });
                }
                continue;
            };
            if owned.turn.is_none() || self.breaks(Broken::TwoInFlight) {
                steps.push(Step::Send { worker: nr, run });
                steps.push(Step::Call { worker: nr, run });
            }
            if state.faults.releases > 0 && (owned.turn.is_none() || self.breaks(Broken::ReleaseInFlight)) {
                steps.push(Step::Release { worker: nr, run, answer_lost: false });
                if state.faults.losses > 0 {
                    steps.push(Step::Release { worker: nr, run, answer_lost: true });
                }
            }
        }
    }

    pub(super) fn lose_lease(state: &mut State, worker: Nr, epoch: Nr) -> Option<()> {
        if state.base.barred(None, Key::Lease(worker, epoch), Lock::Update).is_some() {
            return None;
        }
        if epoch == state.workers[at(worker)].epoch {
            state.faults.expiries = state.faults.expiries.checked_sub(1)?;
        }
        state.base.rows.remove(&Key::Lease(worker, epoch)).map(drop)
    }

    /// It drops everything of that epoch, and opens a new lease.
    pub(super) fn fenced(state: &mut State, worker: Nr) {
        let holder = &mut state.workers[at(worker)];
        *holder = Worker::new(holder.epoch + 1, holder.own.len());
        state.base.rows.insert(Key::Lease(worker, holder.epoch), Row::Lease);
        for work in &mut state.sessions {
            if let Work::Turn { worker: of, attached, .. } = work
                && *of == worker
            {
                *attached = false;
            }
        }
    }

    pub(super) fn crash(state: &mut State, worker: Nr) {
        state.faults.crashes -= 1;
        Self::fenced(state, worker);
    }

    /// Two statements in one function: the row is locked, then judged. Who would wait passes on.
    pub(super) fn claim(&self, state: &mut State, worker: Nr, run: Nr, answer_lost: bool) -> Option<()> {
        let epoch = state.workers[at(worker)].epoch;
        let base = &mut state.base;
        base.rows.get(&Key::Lease(worker, epoch))?;
        let Some(Row::Run { owner, open: true, parent, with_parent }) = base.rows.get(&Key::Run(run)).copied() else { return None };
        if base.barred(None, Key::Run(run), Lock::Update).is_some() {
            return None;
        }
        let waits = base.rows.range(Key::Inbox(run, Msg::Start)..=Key::Inbox(run, Msg::ChildEnded)).next().is_some();
        let free = match owner {
            None => waits && !self.breaks(Broken::UnownedForgotten) || self.begins(state, run),
            Some((of, epoch)) => !state.base.rows.contains_key(&Key::Lease(of, epoch)),
        };
        if !free {
            return None;
        }
        state.base.rows.insert(Key::Run(run), Row::Run { owner: Some((worker, epoch)), open: true, parent, with_parent });
        if answer_lost {
            state.faults.losses -= 1;
            state.workers[at(worker)].unsure = true;
        } else {
            state.workers[at(worker)].own[at(run)] = Some(NEW);
        }
        Some(())
    }

    /// Whoever forgets runs that nobody owns still takes new ones.
    fn begins(&self, state: &State, run: Nr) -> bool {
        self.breaks(Broken::UnownedForgotten) && !state.base.rows.contains_key(&Key::Event(run, 0))
    }

    /// Waits for whatever of its own holds a share of the lease, then sees what became of it.
    pub(super) fn ask_owned(state: &mut State, worker: Nr) -> Option<()> {
        let epoch = state.workers[at(worker)].epoch;
        let lease = Key::Lease(worker, epoch);
        if !state.base.rows.contains_key(&lease) || state.base.barred(None, lease, Lock::Update).is_some() {
            return None;
        }
        let owner = Some((worker, epoch));
        let holder = &mut state.workers[at(worker)];
        for (run, kept) in (0..).zip(&mut holder.own) {
            match state.base.rows.get(&Key::Run(run)) {
                Some(Row::Run { owner: of, open: true, .. }) if *of == owner => drop(kept.get_or_insert(NEW)),
                _ => *kept = None,
            }
        }
        holder.unsure = false;
        Some(())
    }

    pub(super) fn release(state: &mut State, worker: Nr, run: Nr, answer_lost: bool) -> Option<()> {
        let epoch = state.workers[at(worker)].epoch;
        state.base.rows.get(&Key::Lease(worker, epoch))?;
        if state.base.barred(None, Key::Run(run), Lock::Update).is_some() {
            return None;
        }
        state.faults.releases -= 1;
        if let Some(Row::Run { owner, .. }) = state.base.rows.get_mut(&Key::Run(run))
            && *owner == Some((worker, epoch))
        {
            *owner = None;
        }
        if answer_lost {
            state.faults.losses -= 1;
            state.workers[at(worker)].unsure = true;
        } else {
            state.workers[at(worker)].own[at(run)] = None;
        }
        Some(())
    }

    /// Reads the inbox, loads the history if it is not kept, makes the turn and sends it.
    pub(super) fn prepare(&self, state: &mut State, worker: Nr, run: Nr) -> Option<()> {
        if state.workers[at(worker)].unsure && !self.breaks(Broken::NeverAsks) {
            return None;
        }
        let of_run = state.base.rows.range(Key::Inbox(run, Msg::Start)..=Key::Inbox(run, Msg::ChildEnded));
        let inbox: Vec<(Msg, Epochs)> = of_run.filter_map(|(key, row)| match (key, row) {
            (Key::Inbox(_, message), Row::Message { epochs }) => Some((*message, *epochs)),
            _ => None,
        }).collect();
        let history = self.history(state, run);
        let owned = state.workers[at(worker)].own[at(run)].as_mut()?;
        let loads = owned.known.is_none();
        let known = *owned.known.get_or_insert(u8::try_from(history.len()).unwrap_or(u8::MAX));
        if inbox.is_empty() {
            // What goes on from here is what the history says.
            return loads.then_some(());
        }
        let turn = Turn::of(self.scripts[at(run)], run, owned.tries, history.get(..at(known))?, &inbox, self.most, self.breaks(Broken::DropsFired));
        if turn.kinds.is_empty() && history.len() > at(known) && !self.breaks(Broken::HeadUnasked) {
            // Overtaken: somebody has written its next event.
            state.workers[at(worker)].own[at(run)] = None;
            state.workers[at(worker)].unsure = true;
            return Some(());
        }
        owned.turn = Some(turn.clone());
        Self::begin(state, worker, turn);
        Some(())
    }

    pub(super) fn send_again(state: &mut State, worker: Nr, run: Nr) -> Option<()> {
        let turn = state.workers[at(worker)].own[at(run)].as_ref()?.turn.clone()?;
        Self::begin(state, worker, turn);
        Some(())
    }

    fn begin(state: &mut State, worker: Nr, turn: Turn) {
        let epoch = state.workers[at(worker)].epoch;
        state.base.begin();
        state.sessions.push(Work::Turn { worker, epoch, turn, attached: true, stage: Stage::Fence });
    }

    /// The transaction is gone. Whoever sent a turn does not know it.
    pub(super) fn gone(state: &mut State, place: usize) {
        state.base.roll_back(place);
        state.sessions.remove(place);
    }

    pub(super) fn disconnect(&self, state: &mut State, place: usize) -> Option<()> {
        let Work::Turn { attached, worker, turn, .. } = &mut state.sessions[place] else { return None };
        *attached = false;
        state.faults.losses -= 1;
        let (worker, turn) = (*worker, turn.clone());
        if self.breaks(Broken::GoesOnUnanswered) {
            Self::stored(state, worker, &turn);
        }
        Some(())
    }

    fn look(&self, base: &mut Base, place: usize, work: &mut Work) -> Went {
        match work {
            Work::Sweep(sweep) => self.sweep(base, place, sweep),
            Work::Turn { worker, epoch, turn, stage, .. } => {
                let sent = Sent { me: place, worker: *worker, epoch: *epoch, turn };
                if *stage != Stage::Apart {
                    return self.statement(base, &sent, *stage);
                }
                let went = self.child(base, &sent);
                if matches!(went, Went::Through) { self.words(base, &sent) } else { went }
            }
        }
    }

    pub(super) fn go_on(&self, state: &mut State, place: usize) -> Option<()> {
        let mut work = state.sessions[place].clone();
        let went = self.look(&mut state.base, place, &mut work);
        let (worker, turn, attached, stage) = match &mut work {
            Work::Sweep(sweep) => {
                Self::go_on_sweep(state, place, sweep, &went)?;
                if matches!(went, Went::On) {
                    state.sessions[place] = work;
                }
                return Some(());
            }
            Work::Turn { worker, turn, attached, stage, .. } => (*worker, turn.clone(), *attached, stage),
        };
        match went {
            Went::Waits => return None,
            Went::On => return Some(()),
            Went::Raised(raised) => {
                Self::gone(state, place);
                if attached {
                    self.refused(state, worker, &turn, raised);
                }
                return Some(());
            }
            Went::Through => {}
        }
        if *stage == Stage::Fence && self.breaks(Broken::FenceLooks) {
            state.base.commit_and_begin(place);
        }
        *stage = if *stage == Stage::Apart { Stage::Done } else { self.next_stage(&turn, *stage) };
        if *stage == Stage::Done && self.breaks(Broken::ChildApart) && turn.has(Kind::ChildAsked) && !matches!(state.sessions[place], Work::Turn { stage: Stage::Apart, .. }) {
            *stage = Stage::Apart;
            state.base.commit_and_begin(place);
            state.sessions[place] = work;
            return Some(());
        }
        if *stage == Stage::Done {
            self.judge_writer(state, place);
            state.base.commit(place);
            state.sessions.remove(place);
            if attached {
                Self::stored(state, worker, &turn);
            }
        } else {
            state.sessions[place] = work;
        }
        Some(())
    }

    /// Only its owner writes a run's events.
    fn judge_writer(&self, state: &mut State, place: usize) {
        let Work::Turn { worker, epoch, turn, .. } = &state.sessions[place] else { return };
        let owner = match state.base.rows.get(&Key::Run(turn.run)) {
            Some(Row::Run { owner, .. }) => *owner,
            _ => None,
        };
        let leased = state.base.rows.contains_key(&Key::Lease(*worker, *epoch));
        if !turn.kinds.is_empty() && (owner != Some((*worker, *epoch)) || !leased) {
            state.bad |= NOT_OWNER;
        }
    }

    fn go_on_sweep(state: &mut State, place: usize, sweep: &Sweep, went: &Went) -> Option<()> {
        match went {
            Went::Waits => None,
            Went::Raised(_) => {
                Self::gone(state, place);
                Some(())
            }
            Went::On => {
                if matches!(sweep, Sweep::Fire { .. }) {
                    state.base.commit_and_begin(place);
                }
                Some(())
            }
            Went::Through => {
                state.base.commit(place);
                state.sessions.remove(place);
                Self::swept(state, sweep);
                Some(())
            }
        }
    }

    fn stored(state: &mut State, worker: Nr, turn: &Turn) {
        let Some(owned) = &mut state.workers[at(worker)].own[at(turn.run)] else { return };
        let length = u8::try_from(turn.kinds.len()).unwrap_or(u8::MAX);
        *owned = Owned { known: Some(turn.first + length), ..NEW };
        if turn.ends() {
            state.workers[at(worker)].own[at(turn.run)] = None;
        }
    }

    fn refused(&self, state: &mut State, worker: Nr, turn: &Turn, raised: Raised) {
        match raised {
            Raised::Fenced => Self::fenced(state, worker),
            Raised::Taken => {
                let nonce = turn.nonce(worker, state.workers[at(worker)].epoch);
                let ours = matches!(state.base.rows.get(&Key::Event(turn.run, turn.first)), Some(Row::Event { nonce: wrote, .. }) if *wrote == nonce);
                if ours {
                    return Self::stored(state, worker, turn);
                }
                state.workers[at(worker)].own[at(turn.run)] = None;
                state.workers[at(worker)].unsure = true;
            }
            // Set aside: its owner drops it, and nobody claims it.
            Raised::Bad => state.workers[at(worker)].own[at(turn.run)] = None,
            Raised::Stale if self.breaks(Broken::StaleSentAgain) => {}
            Raised::Stale => {
                if let Some(owned) = &mut state.workers[at(worker)].own[at(turn.run)] {
                    (owned.turn, owned.tries) = (None, (owned.tries + 1) % 4);
                }
            }
        }
    }

    pub(super) fn message(&self, state: &mut State, place: usize) -> Option<()> {
        let (run, message) = self.sends[place];
        state.base.rows.get(&Key::Run(run))?;
        if state.sent >> place & 1 == 1 {
            state.faults.resends -= 1;
        }
        state.sent |= 1 << place;
        state.base.begin();
        let me = state.sessions.len();
        match self.begin_send(&mut state.base, me, run, message).ok()? {
            Some(send) => state.sessions.push(Work::Sweep(send)),
            None => state.base.roll_back(me),
        }
        Some(())
    }

    /// An owner that was granted its locks has something done under them.
    pub(super) fn call(&self, state: &mut State, worker: Nr, run: Nr) -> Option<()> {
        let known = state.workers[at(worker)].own[at(run)].as_ref()?.known?;
        let history: Vec<Kind> = self.history(state, run).into_iter().take(at(known)).collect();
        if history.iter().any(|kind| matches!(kind, Kind::LocksFreed | Kind::Ended | Kind::Heard(Msg::Word))) || state.base.rows.contains_key(&Key::Inbox(run, Msg::Word)) {
            return None;
        }
        let place = history.iter().position(|kind| matches!(kind, Kind::Heard(Msg::Granted(_))))?;
        let Some(Row::Event { epochs, .. }) = state.base.rows.get(&Key::Event(run, u8::try_from(place).ok()?)) else { return None };
        let epochs = *epochs;
        if state.calls.iter().any(|call| call.run == run) {
            state.faults.calls = state.faults.calls.checked_sub(1)?;
        }
        state.calls.push(Call { run, epochs });
        state.calls.sort_unstable_by_key(|call| (call.run, call.epochs));
        Some(())
    }
}
