//! A store that comes back without its last commits: what witnesses remember, who is held, and when the era grows.
//!
//! ```text
//!   front: request ─▶ run, signal        worker: turn ─▶ history, task        agent: task ─▶ note ─▶ the world outside ─▶ result
//!   server started anew, on its own files or on a copy ─▶ nobody writes ─▶ witnesses testify ─▶ held │ put back │ adopted ─▶ known; era
//! ```
//!
//! One run: a signal that is there at its start sends it the other way, so that a run that went back may go on differently. What it has done
//! outside can be asked about, and must not be done twice. A copy may be taken at any moment, and be older than the last loss.
//!
//! Not here: several runs, children, grants (a target's epoch goes back like all else), witnesses that the copy has never heard of.

mod agent;
pub(crate) mod cases;
mod db;
mod finding;
mod owner;

use crate::system::System;
use agent::{Agent, Asked, Front, Outside};
use db::{Db, Msg, Nr, Run};
use finding::Testimony;
use owner::Worker;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The fence does not know who started the server.
    ServerUnasked,
    /// The era grows and the server is known before witnesses have testified.
    EraFirst,
    /// The era stays as it is.
    EraKept,
    /// The era is the stored one and one more, whatever witnesses have seen.
    EraUnheard,
    /// Leases outlive the server that gave them.
    LeasesKept,
    /// A run that lacks something is claimed like any other.
    HeldClaimed,
    /// A task of a run that lacks something is claimed like any other.
    HeldTasksClaimed,
    /// The owner of a run that is held keeps its lease.
    OwnerKept,
    /// A witness that has not testified yet is given tasks.
    UntestifiedClaims,
    /// What was answered before a testimony counts when it is read after it.
    LateAnswers,
    /// An agent notes an attempt after its effect.
    NotedLate,
    /// Lengths of histories are compared, not contents.
    LengthsOnly,
    /// Whether there is an event at the place of an attempt is asked, not which.
    PlacesOnly,
    /// Whoever asks about an attempt in doubt shows no token.
    ProbeShowsNothing,
    /// Attempts that are not known are forgotten.
    EffectsForgotten,
    /// A run's epoch stays below those that were shown.
    EpochBelow,
    /// Messages that were accepted are not sent again.
    MessagesForgotten,
    /// Runs that were accepted are not put back.
    RunsForgotten,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Starts of the server on its own files.
    pub(crate) restarts: u8,
    /// Promotions of the copy, which has another timeline from then on.
    pub(crate) promotions: u8,
    /// Starts on the copy, with the timeline it had.
    pub(crate) restores: u8,
    /// Copies.
    pub(crate) copies: u8,
    /// Witnesses that nobody waits for any longer.
    pub(crate) silences: u8,
    /// Workers and agents that forget all but their notes.
    pub(crate) crashes: u8,
    /// Leases that end while their holder lives.
    pub(crate) expiries: u8,
    /// Attempts that take too long.
    pub(crate) timeouts: u8,
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) workers: u8,
    /// The run is accepted, told and copied before anything else happens.
    pub(crate) begun: bool,
    /// There is a signal, at any moment.
    pub(crate) signal: bool,
    pub(crate) faults: Faults,
    pub(crate) broken: &'static [Broken],
}

pub(super) const TORN: u16 = 1;
pub(super) const WENT_ON: u16 = 2;
pub(super) const TWICE: u16 = 4;
pub(super) const UNFOUND: u16 = 8;
pub(super) const MESSAGE_LOST: u16 = 16;
pub(super) const RUN_LOST: u16 = 32;
pub(super) const EFFECT_UNFOUND: u16 = 64;
pub(super) const REFUSED: u16 = 128;

const INVARIANTS: [(u16, &str); 8] = [
    (TORN, "nobody writes behind a history that is not there"),
    (WENT_ON, "a run that lacks something does not go on without a person's word"),
    (TWICE, "an effect happens once"),
    (UNFOUND, "what a witness was told of a history is there, or was found to be lost"),
    (MESSAGE_LOST, "a message that was accepted waits, or was heard, or was found to be lost"),
    (RUN_LOST, "a run that was accepted is there"),
    (EFFECT_UNFOUND, "an attempt that was begun is known, or was found to be lost"),
    (REFUSED, "the outside takes the newest attempt"),
];

/// All that anybody knows or keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    db: Db,
    copy: Option<Box<Db>>,
    /// Which start of the server this is, and its timeline.
    server: u8,
    timeline: u8,
    workers: Vec<Worker>,
    agent: Agent,
    front: Front,
    testimony: Option<Testimony>,
    /// To which server each witness has testified last, as it knows itself.
    heard: Vec<u8>,
    outside: Outside,
    faults: Faults,
    bad: u16,
}

/// How a server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Again,
    Promoted,
    Restored,
}

/// Who does what.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Copy,
    StartServer(Start),
    AcceptRun,
    AcceptSignal,
    TellFront,
    Expire(Nr),
    OpenLease(Nr),
    CrashWorker(Nr),
    Claim(Nr),
    Send(Nr),
    Fence(Nr),
    Commit(Nr),
    Answer(Nr),
    TimeOut,
    ClaimTask,
    Note,
    Probe,
    Effect,
    LateEffect,
    Complete,
    NoteOutcome,
    CrashAgent,
    /// Workers by number, then the agent, then the front.
    Testify(Nr),
    Hold,
    Conclude,
    /// A person lets the run go on.
    Settle,
}

impl Tail {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken.contains(&rule)
    }

    fn agent(&self) -> Nr {
        self.workers
    }

    fn front(&self) -> Nr {
        self.workers + 1
    }

    /// Whether an answer of this server comes from before what its reader has testified last.
    fn comes_late(&self, state: &State, reader: Nr, server: u8) -> bool {
        server < state.heard[usize::from(reader)] && !self.breaks(Broken::LateAnswers)
    }

    /// Whether anybody may write for the engine.
    fn is_known(&self, state: &State) -> bool {
        state.db.known == state.server || self.breaks(Broken::ServerUnasked)
    }

    fn start_server(state: &mut State, start: Start) -> Option<()> {
        match start {
            Start::Again => state.faults.restarts = state.faults.restarts.checked_sub(1)?,
            Start::Promoted => state.faults.promotions = state.faults.promotions.checked_sub(1)?,
            Start::Restored => state.faults.restores = state.faults.restores.checked_sub(1)?,
        }
        if start != Start::Again {
            state.db = *state.copy.clone()?;
        }
        state.server += 1;
        state.timeline = match start {
            Start::Again => state.timeline,
            Start::Promoted => state.server,
            Start::Restored => state.db.timeline,
        };
        state.testimony = None;
        state.db.asks_anew();
        state.workers.iter_mut().for_each(Worker::disconnect);
        Some(())
    }
}

impl System for Tail {
    type State = State;
    type Step = Step;

    fn first(&self) -> State {
        let mut db = Db::new(self.workers);
        let mut front = Front::default();
        if self.begun {
            (db.run, front.run) = (Some(Run::default()), Asked::Told);
            db.add(Msg::Start);
        }
        State {
            copy: self.begun.then(|| Box::new(db.clone())),
            db,
            server: 0,
            timeline: 0,
            workers: vec![Worker::default(); usize::from(self.workers)],
            agent: Agent::default(),
            front,
            testimony: None,
            heard: vec![0; usize::from(self.workers) + 2],
            outside: Outside::default(),
            faults: self.faults,
            bad: 0,
        }
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        if state.bad != 0 || self.ended(state) {
            return vec![];
        }
        let mut steps = vec![Step::Hold, Step::Conclude, Step::Settle, Step::AcceptRun, Step::AcceptSignal, Step::TellFront, Step::TimeOut];
        steps.extend([Step::ClaimTask, Step::Note, Step::Probe, Step::Effect, Step::LateEffect, Step::Complete, Step::NoteOutcome, Step::CrashAgent]);
        steps.extend([Step::Copy, Step::StartServer(Start::Again), Step::StartServer(Start::Promoted), Step::StartServer(Start::Restored)]);
        for nr in 0..self.workers {
            steps.extend([Step::Expire(nr), Step::OpenLease(nr), Step::CrashWorker(nr), Step::Claim(nr), Step::Send(nr)]);
            steps.extend([Step::Fence(nr), Step::Commit(nr), Step::Answer(nr)]);
        }
        steps.extend((0..=self.front()).map(Step::Testify));
        steps
    }

    fn after(&self, state: &State, step: &Step) -> Option<State> {
        let mut next = state.clone();
        match *step {
            Step::Copy => {
                next.faults.copies = next.faults.copies.checked_sub(1)?;
                next.copy = Some(Box::new(next.db.clone()));
            }
            Step::StartServer(start) => Self::start_server(&mut next, start)?,
            Step::AcceptRun => self.accept_run(&mut next)?,
            Step::AcceptSignal => self.accept_signal(&mut next)?,
            Step::TellFront => self.tell_front(&mut next)?,
            Step::Expire(nr) => Self::expire(&mut next, nr)?,
            Step::OpenLease(nr) => Self::open_lease(&mut next, nr)?,
            Step::CrashWorker(nr) => Self::crash_worker(&mut next, nr)?,
            Step::Claim(nr) => self.claim(&mut next, nr)?,
            Step::Send(nr) => Self::send(&mut next, nr)?,
            Step::Fence(nr) => self.fence(&mut next, nr)?,
            Step::Commit(nr) => self.commit(&mut next, nr)?,
            Step::Answer(nr) => self.answer(&mut next, nr)?,
            Step::TimeOut => self.time_out(&mut next)?,
            Step::ClaimTask => self.claim_task(&mut next)?,
            Step::Note => self.note(&mut next)?,
            Step::Probe => self.probe(&mut next)?,
            Step::Effect => Self::effect(&mut next)?,
            Step::LateEffect => Self::late_effect(&mut next)?,
            Step::Complete => self.complete(&mut next)?,
            Step::NoteOutcome => Self::note_outcome(&mut next)?,
            Step::CrashAgent => Self::crash_agent(&mut next)?,
            Step::Testify(witness) => self.testify(&mut next, witness)?,
            Step::Hold => self.hold(&mut next)?,
            Step::Conclude => self.conclude(&mut next)?,
            Step::Settle => Self::settle(&mut next)?,
        }
        self.judge(&mut next);
        Some(next)
    }

    fn wrong(&self, state: &State) -> Vec<&'static str> {
        INVARIANTS.iter().filter(|(bit, _)| state.bad & bit != 0).map(|(_, said)| *said).collect()
    }

    fn ended(&self, state: &State) -> bool {
        let over = state.db.run.as_ref().is_some_and(|run| !run.is_open());
        over && state.db.known == state.server && !state.db.held && state.front.is_idle() && self.all_have_testified(state)
    }
}
