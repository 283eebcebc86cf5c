//! Timers, children and locks across runs: what the turns of several runs, sweeps and senders do to each other in the store.
//!
//! ```text
//!   worker ──turn──▶ commit_turns, statement by statement ─┐
//!   anybody ───────▶ fire timers, grant locks, send        ├─▶ rows and row locks, read committed ─▶ inboxes ─▶ worker
//!   run ───effect──▶ the world outside, late or never ─────┘
//! ```
//!
//! The runs have workflows of their own, so that turns are as long as what was there when they were made, and a late turn says something else than
//! the one that took its place. Leases are as in the model of turns, but taken over in one step. Nobody ends a ring of those who wait for each
//! other: it is found as a state from which no way leads on.
//!
//! Not here: batches of several runs, suspended runs, grandchildren, more than two resources.

mod base;
pub(crate) mod cases;
mod judge;
mod own;
mod script;
mod sweeps;
mod turn;

use crate::system::System;
use base::{Base, Key, Lock, Msg, Nr, Row};
use own::Worker;
pub(crate) use script::{Parting, Script};
use script::Turn;
use sweeps::{Call, Sweep};
use turn::Stage;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Timers are deleted, then told of, in two transactions.
    FireInTwo,
    /// Timers are told of, then deleted, in two transactions.
    FireInsertsFirst,
    /// A turn does not count the timers that it deletes.
    DropUncounted,
    /// A turn deletes a timer although its message is there.
    DropsFired,
    /// The end of a run leaves its timers.
    EndKeepsTimers,
    /// The end of a run empties its inbox before its timers are gone.
    InboxFirst,
    /// A run that nobody owns is claimed by nobody, whatever waits for it.
    UnownedForgotten,
    /// A turn that is behind its inbox is sent again as it is.
    StaleSentAgain,
    /// Each run's own row is locked first, its relatives' after.
    OwnRowFirst,
    /// Rows of relatives are not locked.
    FamilyUnlocked,
    /// A child is started behind its parent's turn, in another transaction.
    ChildApart,
    /// That a workflow id is taken is an error.
    ConflictRaises,
    /// That a child was told to stop before is an error.
    CancelRaises,
    /// Whoever sends looks whether the run is open, without a lock.
    SendLooks,
    /// The world outside looks at no token.
    OutsideUnchecked,
    /// A grant keeps the epoch of the one before.
    EpochKept,
    /// A grant does not look again when it has the locks.
    GrantUnchecked,
    /// What is held is freed first, the request forgotten after.
    FreeFirst,
    /// Requests are granted newest first.
    NewestFirst,
    /// Whoever grants takes the rows of one request after the other, as it was once.
    RowsByRequest,
    /// The end of a run frees nothing.
    EndKeepsLocks,
    /// The end of a run empties its inbox before its requests are gone.
    LocksLast,
    /// `insert … on conflict do nothing`.
    DoNothing,
    /// A run is released while a turn of it has no answer.
    ReleaseInFlight,
    /// Another turn is made while one has no answer.
    TwoInFlight,
    /// No answer is taken for a yes.
    GoesOnUnanswered,
    /// A turn without events does not ask for the head.
    HeadUnasked,
    /// Whoever had no answer to a claim or a release never asks what it owns.
    NeverAsks,
    /// The fence is a plain look.
    FenceLooks,
}

/// What may still go wrong, or happen beside the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Leases that are deleted while their holder lives.
    pub(crate) expiries: u8,
    /// Workers that forget all.
    pub(crate) crashes: u8,
    /// Answers lost, connections dropped, backends aborted.
    pub(crate) losses: u8,
    /// Runs given back.
    pub(crate) releases: u8,
    /// Messages sent again.
    pub(crate) resends: u8,
    /// Calls to the world outside beside the first.
    pub(crate) calls: u8,
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    pub(crate) workers: u8,
    /// Each run's code. Run 1 of a parent at 0 is its child, and does not exist at first.
    pub(crate) scripts: &'static [Script],
    /// Messages from outside.
    sends: &'static [(Nr, Msg)],
    /// Messages recorded by one turn.
    pub(crate) most: usize,
    /// Sweeps at a time.
    pub(crate) sweeps: usize,
    pub(crate) faults: Faults,
    pub(crate) broken: &'static [Broken],
}

pub(super) const HISTORY: u16 = 1;
pub(super) const LEFT_OVER: u16 = 2;
pub(super) const DOUBLE_FIRE: u16 = 4;
pub(super) const LOST_TIMER: u16 = 8;
pub(super) const DROPPED_FIRES: u16 = 16;
pub(super) const TWO_HOLDERS: u16 = 32;
pub(super) const STALE_CALL: u16 = 64;
pub(super) const KIN_UNHEARD: u16 = 128;
pub(super) const NOT_OWNER: u16 = 256;
pub(super) const UNFAIR: u16 = 512;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Turn { worker: Nr, epoch: Nr, turn: Turn, attached: bool, stage: Stage },
    Sweep(Sweep),
}

/// All that anybody knows or keeps. A session and its transaction have the same place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    base: Base,
    sessions: Vec<Work>,
    workers: Vec<Worker>,
    faults: Faults,
    sent: u8,
    calls: Vec<Call>,
    /// Outside: the newest epoch that was shown for each resource, and which grant that was.
    bar: [u8; 2],
    applied: [u8; 2],
    granted: [u8; 2],
    fired: Vec<Key>,
    bad: u16,
}

/// Who does what. Workers and runs by number, sessions by their place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    LoseLease { worker: Nr, epoch: Nr },
    LearnFenced(Nr),
    Crash(Nr),
    Claim { worker: Nr, run: Nr, answer_lost: bool },
    AskOwned(Nr),
    Release { worker: Nr, run: Nr, answer_lost: bool },
    Send { worker: Nr, run: Nr },
    SendAgain { worker: Nr, run: Nr },
    Statement(usize),
    Abort(usize),
    /// The connection is lost, the backend goes on.
    Drop(usize),
    Due { run: Nr, seq: Nr },
    Fire,
    Grant,
    Message(usize),
    Call { worker: Nr, run: Nr },
    Arrive(usize),
}

impl Runs {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken.contains(&rule)
    }

    fn runs(&self) -> Nr {
        u8::try_from(self.scripts.len()).unwrap_or(Nr::MAX)
    }

    /// A run that waits for a signal beside a parent has the child's workflow id.
    fn workflow_id(&self, run: Nr) -> Nr {
        if self.kin() && run == 2 { 1 } else { run }
    }

    /// Whether a run is there before anything has happened.
    fn there_at_first(&self, run: Nr) -> bool {
        !(self.kin() && run == 1)
    }
}

impl System for Runs {
    type State = State;
    type Step = Step;

    fn first(&self) -> State {
        let mut base = Base::default();
        for worker in 0..self.workers {
            base.rows.insert(Key::Lease(worker, 1), Row::Lease);
        }
        for run in (0..self.runs()).filter(|run| self.there_at_first(*run)) {
            base.rows.insert(Key::Run(run), Row::Run { owner: None, open: true, parent: None, with_parent: false });
            base.rows.insert(Key::Open(self.workflow_id(run)), Row::Open(run));
            base.rows.insert(Key::Inbox(run, Msg::Start), Row::Message { epochs: [0, 0] });
        }
        State {
            base,
            sessions: vec![],
            workers: vec![Worker::new(1, self.scripts.len()); usize::from(self.workers)],
            faults: self.faults,
            sent: 0,
            calls: vec![],
            bar: [0, 0],
            applied: [0, 0],
            granted: [0, 0],
            fired: vec![],
            bad: 0,
        }
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        if state.bad != 0 || self.ended(state) {
            return vec![];
        }
        let mut steps = vec![];
        (0..self.workers).for_each(|worker| self.of_worker(state, worker, &mut steps));
        let sweeps = state.sessions.iter().filter(|work| matches!(work, Work::Sweep(_))).count();
        if sweeps < self.sweeps {
            steps.extend([Step::Fire, Step::Grant].into_iter().filter(|step| if matches!(step, Step::Fire) { self.timers() } else { self.locks() }));
            let unsent = |place: &usize| state.sent >> place & 1 == 0 || state.faults.resends > 0;
            steps.extend((0..self.sends.len()).filter(unsent).map(Step::Message));
        }
        for (key, row) in &state.base.rows {
            if let (Key::Timer(run, seq), Row::Timer { due: false }) = (*key, row) {
                steps.push(Step::Due { run, seq });
            }
        }
        for (place, work) in state.sessions.iter().enumerate() {
            steps.push(Step::Statement(place));
            if state.faults.losses > 0 {
                steps.push(Step::Abort(place));
                if matches!(work, Work::Turn { attached: true, .. }) {
                    steps.push(Step::Drop(place));
                }
            }
        }
        steps.extend((0..state.calls.len()).map(Step::Arrive));
        steps
    }

    fn after(&self, state: &State, step: &Step) -> Option<State> {
        let mut next = state.clone();
        match *step {
            Step::LoseLease { worker, epoch } => Self::lose_lease(&mut next, worker, epoch)?,
            Step::LearnFenced(worker) => Self::fenced(&mut next, worker),
            Step::Crash(worker) => Self::crash(&mut next, worker),
            Step::Claim { worker, run, answer_lost } => self.claim(&mut next, worker, run, answer_lost)?,
            Step::AskOwned(worker) => Self::ask_owned(&mut next, worker)?,
            Step::Release { worker, run, answer_lost } => Self::release(&mut next, worker, run, answer_lost)?,
            Step::Send { worker, run } => self.prepare(&mut next, worker, run)?,
            Step::SendAgain { worker, run } => Self::send_again(&mut next, worker, run)?,
            Step::Statement(place) => self.go_on(&mut next, place)?,
            Step::Abort(place) => {
                next.faults.losses -= 1;
                Self::gone(&mut next, place);
            }
            Step::Drop(place) => self.disconnect(&mut next, place)?,
            Step::Due { run, seq } => {
                // Nobody writes this: the clock has come so far.
                next.base.rows.insert(Key::Timer(run, seq), Row::Timer { due: true });
            }
            Step::Fire => {
                next.base.begin();
                let me = next.sessions.len();
                next.sessions.push(Work::Sweep(Self::begin_fire(&mut next.base, me)?));
            }
            Step::Grant => {
                next.base.begin();
                let me = next.sessions.len();
                next.sessions.push(Work::Sweep(self.begin_grant(&mut next.base, me)?));
            }
            Step::Message(place) => self.message(&mut next, place)?,
            Step::Call { worker, run } => self.call(&mut next, worker, run)?,
            Step::Arrive(place) => self.arrive(&mut next, place)?,
        }
        self.judge(&mut next);
        Some(next)
    }

    fn wrong(&self, state: &State) -> Vec<&'static str> {
        judge::INVARIANTS.iter().filter(|(bit, _)| state.bad & bit != 0).map(|(_, said)| *said).collect()
    }

    fn ended(&self, state: &State) -> bool {
        // A run for which nobody has a signal stays.
        let stays = |run: Nr| self.scripts[usize::from(run)] == Script::Waits && !self.sends.contains(&(run, Msg::Signal));
        let over = |run: Nr| stays(run) || matches!(state.base.rows.get(&Key::Run(run)), Some(Row::Run { open: false, .. }) | None);
        state.sessions.is_empty() && state.calls.is_empty() && (0..self.runs()).all(over)
    }
}
