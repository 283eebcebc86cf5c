//! Workers: leases, claims and turns; and what each was told of the run.
//!
//! ```text
//!   send ▶ fence (lease, then server) ▶ commit ▶ answer, and a note      no answer: the same turn again      fenced: all of it is dropped
//! ```

use super::{
    Broken, State, TORN, Tail, WENT_ON,
    db::{Db, Kind, Msg, Nr, Run, Task, at},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// On its way, or to be sent again.
    Sent,
    /// Past the fence: its lease can't be deleted.
    Fenced,
    /// Committed by this server, and the answer is on its way.
    Stored(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub(super) first: u8,
    pub(super) kinds: Vec<Kind>,
    pub(super) consumed: Vec<Msg>,
    pub(super) stage: Stage,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    /// Its lease's epoch; 0 is none.
    pub(super) lease: u8,
    /// The history of the run that it believes to own.
    pub(super) known: Option<Vec<Kind>>,
    pub(super) turn: Option<Turn>,
    /// On its disk: the newest head that it was told.
    pub(super) note: Option<Vec<Kind>>,
}

impl Worker {
    /// The server is gone, and with it what it had not committed.
    pub(super) fn disconnect(&mut self) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.stage == Stage::Fenced) {
            turn.stage = Stage::Sent;
        }
    }

    fn forget(&mut self) {
        (self.lease, self.known, self.turn) = (0, None, None);
    }

    fn is_past_fence(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.stage == Stage::Fenced)
    }
}

/// What the run's code asks for, given its history and what waits.
fn turn_of(history: &[Kind], inbox: &[Msg]) -> Turn {
    let mut kinds = vec![];
    for message in inbox {
        match message {
            Msg::Start if inbox.contains(&Msg::Signal) => kinds.extend([Kind::Start, Kind::Signal, Kind::Asked(1)]),
            Msg::Start => kinds.extend([Kind::Start, Kind::Asked(0)]),
            Msg::Signal if inbox.contains(&Msg::Start) || history.contains(&Kind::Signal) => {}
            Msg::Signal => kinds.push(Kind::Signal),
            Msg::Finished => kinds.extend([Kind::Done, Kind::Ended]),
        }
    }
    let first = u8::try_from(history.len()).unwrap_or(u8::MAX);
    Turn { first, kinds, consumed: inbox.to_vec(), stage: Stage::Sent }
}

impl Tail {
    pub(super) fn shares_lease(state: &State, worker: Nr) -> bool {
        state.workers[at(worker)].is_past_fence()
    }

    pub(super) fn expire(state: &mut State, worker: Nr) -> Option<()> {
        if state.db.leases[at(worker)] == 0 || Self::shares_lease(state, worker) {
            return None;
        }
        // Nobody knows of it: that it is deleted costs nothing.
        if state.db.has_lease(worker, state.workers[at(worker)].lease) {
            state.faults.expiries = state.faults.expiries.checked_sub(1)?;
        }
        state.db.leases[at(worker)] = 0;
        Some(())
    }

    /// Whoever has none, or was fenced, drops all and opens a new one.
    pub(super) fn open_lease(state: &mut State, worker: Nr) -> Option<()> {
        if state.db.has_lease(worker, state.workers[at(worker)].lease) {
            return None;
        }
        state.workers[at(worker)].forget();
        state.db.leases_given += 1;
        state.db.leases[at(worker)] = state.db.leases_given;
        state.workers[at(worker)].lease = state.db.leases_given;
        Some(())
    }

    pub(super) fn crash_worker(state: &mut State, worker: Nr) -> Option<()> {
        state.faults.crashes = state.faults.crashes.checked_sub(1)?;
        state.workers[at(worker)].forget();
        Some(())
    }

    pub(super) fn claim(&self, state: &mut State, worker: Nr) -> Option<()> {
        let lease = state.workers[at(worker)].lease;
        if !self.is_known(state) || !state.db.has_lease(worker, lease) || state.workers[at(worker)].known.is_some() {
            return None;
        }
        if state.db.held && !self.breaks(Broken::HeldClaimed) {
            return None;
        }
        let Db { leases, inbox, run, .. } = &mut state.db;
        let run = run.as_mut().filter(|run| run.is_open())?;
        let free = match run.owner {
            None => !inbox.is_empty(),
            Some((of, epoch)) => leases[at(of)] != epoch,
        };
        if !free {
            return None;
        }
        (run.owner, run.epoch) = (Some((worker, lease)), run.epoch + 1);
        state.workers[at(worker)].known = Some(run.history.clone());
        Some(())
    }

    pub(super) fn send(state: &mut State, worker: Nr) -> Option<()> {
        let Worker { known, turn, .. } = &mut state.workers[at(worker)];
        if turn.is_some() || state.db.inbox.is_empty() {
            return None;
        }
        *turn = Some(turn_of(known.as_ref()?, &state.db.inbox));
        Some(())
    }

    pub(super) fn fence(&self, state: &mut State, worker: Nr) -> Option<()> {
        let holder = &state.workers[at(worker)];
        if holder.turn.as_ref()?.stage != Stage::Sent || !state.db.has_lease(worker, holder.lease) || !self.is_known(state) {
            return None;
        }
        state.workers[at(worker)].turn.as_mut()?.stage = Stage::Fenced;
        Some(())
    }

    pub(super) fn commit(&self, state: &mut State, worker: Nr) -> Option<()> {
        let server = state.server;
        let Worker { turn, known, .. } = &mut state.workers[at(worker)];
        let sent = turn.as_mut().filter(|turn| turn.stage == Stage::Fenced)?;
        let first = usize::from(sent.first);
        let history = state.db.history();
        if !sent.kinds.is_empty() && history.len() > first {
            // Leases do not outlive their server, and one turn is in flight: it is this worker's if it says the same.
            let ours = history[first..].starts_with(&sent.kinds);
            sent.stage = Stage::Stored(server);
            if !ours {
                (*turn, *known) = (None, None);
            }
            return Some(());
        }
        if sent.consumed.iter().any(|message| !state.db.inbox.contains(message)) {
            *turn = None;
            return Some(());
        }
        if history.len() < first || !state.db.is_open() {
            state.bad |= TORN;
            return Some(());
        }
        sent.stage = Stage::Stored(server);
        let (kinds, consumed) = (sent.kinds.clone(), sent.consumed.clone());
        if self.lacks(state) {
            state.bad |= WENT_ON;
        }
        self.store(&mut state.db, &kinds, &consumed);
        Some(())
    }

    fn store(&self, db: &mut Db, kinds: &[Kind], consumed: &[Msg]) {
        db.inbox.retain(|message| !consumed.contains(message));
        let Some(run) = &mut db.run else { return };
        run.history.extend(kinds);
        let Run { epoch, history, .. } = run;
        let asked = (0_u8..).zip(&*history).find_map(|(seq, kind)| if let Kind::Asked(way) = kind { Some((seq, *way)) } else { None });
        if let Some((seq, way)) = asked.filter(|_| kinds.iter().any(|kind| matches!(kind, Kind::Asked(_)))) {
            db.task = Some(Task { seq, way, run_epoch: *epoch, attempt: 0, claimed: false, in_doubt: false });
            self.adopt_at_insert(db);
        }
        if kinds.contains(&Kind::Ended) {
            (db.task, db.inbox) = (None, vec![]);
            if let Some(run) = &mut db.run {
                run.owner = None;
            }
        }
    }

    /// It notes what it was told before it does anything that follows from it. What comes late is no answer.
    pub(super) fn answer(&self, state: &mut State, worker: Nr) -> Option<()> {
        let turn = state.workers[at(worker)].turn.as_ref()?;
        let Stage::Stored(server) = turn.stage else { return None };
        let late = self.comes_late(state, worker, server);
        let Worker { turn, known, note, .. } = &mut state.workers[at(worker)];
        if late {
            turn.as_mut()?.stage = Stage::Sent;
            return Some(());
        }
        let told = turn.take()?;
        let history = known.as_mut()?;
        history.extend(told.kinds);
        *note = Some(history.clone());
        if history.contains(&Kind::Ended) {
            *known = None;
        }
        Some(())
    }
}
