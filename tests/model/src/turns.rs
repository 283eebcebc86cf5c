//! Turns, leases and activities: workers that die or fall silent, batches that outlive their sender, and a world outside that is touched once.
//!
//! ```text
//!   worker ──turn──▶ backend: fence ▶ insert ▶ commit        takeover: delete the lease ▶ claim its runs, by anybody
//!     ▲  no answer?      │ holds its lease row                attempt: claim ▶ effect outside, with its token ▶ complete
//!     └── same turn again┘                                                                       └─▶ inbox ─▶ next turn
//! ```
//!
//! Read committed as it is: a statement sees what was committed when it began, row locks are held to the end of the transaction, a statement that
//! would wait is no step, and a locking read judges the newest row. The runs have activities one after the other, all on one outside resource.
//!
//! Not here: what is within a claim (each is one step), starvation, clocks (a lease may expire at any moment). Timers, children, locks, turns of
//! unequal length and a store that lost its tail are in no model yet.

mod backend;
pub(crate) mod cases;
mod offer;
mod ownership;
mod state;
mod tasks;

use crate::system::System;
use state::State;
use state::{Kind, LeaseRow, Nr, Run, Task, Worker};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The fence is a plain read in an earlier statement or snapshot.
    NoShareLock,
    /// `for key share` while the epoch is not part of a unique key.
    KeyShareStale,
    /// The fence compares the time of expiry.
    FenceByTime,
    /// A takeover claims an expired lease's runs and leaves the lease there.
    NoDelete,
    /// Claims first, deletes after.
    ClaimBeforeDelete,
    /// Events are unique only per partition.
    NoKey,
    /// `insert … on conflict do nothing`.
    DoNothing,
    /// A conflict with the own turn is not recognised.
    NoNonce,
    /// A completion inserts its message without taking the task's row.
    UngatedCompletion,
    /// A completion deletes the task, then inserts, in two transactions.
    CompletionInTwo,
    /// Nobody polls behind the notification.
    NotifyOnly,
    /// A fenced worker reads its new epoch and goes on with its runs.
    KeepsCache,
    /// A run is released while a turn of it is in flight.
    ReleaseInFlight,
    /// Only who deleted the lease claims its runs.
    OnlyTakerClaims,
    /// A batch needs its client between two statements, and no limit ends it.
    InteractiveTransaction,
    /// Tokens of (run epoch, attempt), without the place of the step.
    TokenWithoutPlace,
    /// Outside nobody looks at tokens.
    OutsideUnchecked,
    /// A result is refused because the lease has expired.
    ExpiryRefuses,
    /// A local step's token has no run epoch.
    LocalTokenWithoutEpoch,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Crashes of workers.
    pub(crate) crashes: u8,
    /// Leases that expire while their holder lives.
    pub(crate) expiries: u8,
    /// Answers lost, connections dropped, backends aborted.
    pub(crate) losses: u8,
    /// Attempts that take too long.
    pub(crate) timeouts: u8,
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// Workers.
    pub(crate) workers: u8,
    /// Runs; an owner sends turns of several in one batch.
    pub(crate) runs: u8,
    /// Activities of each run.
    pub(crate) activities: u8,
    /// They are local steps of the run's owner, without a task row.
    pub(crate) local: bool,
    /// What may go wrong.
    pub(crate) faults: Faults,
    /// Rules that are left out.
    pub(crate) broken: &'static [Broken],
}

pub(super) const FENCED_WRITE: u16 = 1;
pub(super) const DOUBLE_EVENT: u16 = 2;
pub(super) const DOUBLE_RESULT: u16 = 4;
pub(super) const TORN_HISTORY: u16 = 8;
pub(super) const STALE_EFFECT: u16 = 16;
pub(super) const LOST_COMPLETION: u16 = 32;
pub(super) const NEEDLESS_REDO: u16 = 64;

const INVARIANTS: [(u16, &str); 7] = [
    (FENCED_WRITE, "no event by a fenced worker"),
    (DOUBLE_EVENT, "one event at each place of a run"),
    (DOUBLE_RESULT, "one result of each activity"),
    (TORN_HISTORY, "turns are whole, histories without gaps"),
    (STALE_EFFECT, "no stale effect is accepted, no valid one refused"),
    (LOST_COMPLETION, "no completion is lost"),
    (NEEDLESS_REDO, "no finished attempt is thrown away"),
];

/// Who does what. Workers, runs and activities by number, backends by their place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Expire(Nr),
    Heartbeat(Nr),
    Crash(Nr),
    OpenLease(Nr),
    DeleteLease { by: Nr, of: Nr },
    CommitTakeover,
    Claim(Nr, Nr),
    Load(Nr, Nr),
    Release(Nr, Nr),
    /// A batch, as a mask of runs.
    Send(Nr, u8),
    Backend(usize),
    Abort(usize),
    /// The connection is lost, the backend goes on.
    Drop(usize),
    SendAgain(Nr, Nr),
    ClaimTask(Nr, Nr, Nr),
    StartLocal(Nr, Nr),
    TimeOut(Nr, Nr),
    Effect(Nr),
    Complete { by: Nr, answer_lost: bool },
    /// A local step that is no longer its worker's is forgotten.
    Forget(Nr),
}

impl Turns {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken.contains(&rule)
    }

    /// Events of a turn by its first place: 0 scheduled; 1 done, scheduled; 3 done, scheduled; …; the last one only done.
    fn kinds(&self, first: u8) -> Vec<Kind> {
        if first == 0 {
            return vec![Kind::Scheduled(0)];
        }
        let activity = (first - 1) / 2;
        let next = (activity + 1 < self.activities).then_some(Kind::Scheduled(activity + 1));
        [Kind::Done(activity)].into_iter().chain(next).collect()
    }

    fn length(&self, first: u8) -> u8 {
        if first > 0 && (first - 1) / 2 + 1 < self.activities { 2 } else { 1 }
    }

    /// Events of a run that has ended.
    fn total(&self) -> u8 {
        2 * self.activities
    }
}

impl System for Turns {
    type State = State;
    type Step = Step;

    fn first(&self) -> State {
        let run = Run { owner: None, epoch: 0, events: vec![], tasks: vec![Task::None; usize::from(self.activities)], inbox: vec![], bar: (0, 0, 0), applied: (0, 0) };
        State {
            leases: vec![LeaseRow { epoch: 1, fresh: true, gone: false }; usize::from(self.workers)],
            takeover: None,
            runs: vec![run; usize::from(self.runs)],
            backends: vec![],
            workers: vec![Worker::new(1, usize::from(self.runs)); usize::from(self.workers)],
            faults: self.faults,
            bad: 0,
        }
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        if state.bad != 0 || self.ended(state) && state.backends.is_empty() { vec![] } else { self.offers(state) }
    }

    fn after(&self, state: &State, step: &Step) -> Option<State> {
        let mut next = state.clone();
        match *step {
            Step::Expire(worker) => self.expire(&mut next, worker),
            Step::Heartbeat(worker) => self.heartbeat(&mut next, worker),
            Step::Crash(worker) => self.crash(&mut next, worker),
            Step::OpenLease(worker) => Self::open_lease(&mut next, worker),
            Step::DeleteLease { by, of } => next.takeover = Some((by, of)),
            Step::CommitTakeover => Self::commit_takeover(&mut next)?,
            Step::Claim(worker, run) => Self::claim(&mut next, worker, run),
            Step::Load(worker, run) => self.load(&mut next, worker, run)?,
            Step::Release(worker, run) => Self::release(&mut next, worker, run),
            Step::Send(worker, mask) => self.send(&mut next, worker, mask)?,
            Step::Backend(place) => self.backend(&mut next, place),
            Step::Abort(place) => Self::abort(&mut next, place),
            Step::Drop(place) => Self::disconnect(&mut next, place),
            Step::SendAgain(worker, run) => Self::send_again(&mut next, worker, run)?,
            Step::ClaimTask(worker, run, activity) => Self::claim_task(&mut next, worker, run, activity)?,
            Step::StartLocal(worker, run) => Self::start_local(&mut next, worker, run)?,
            Step::TimeOut(run, activity) => Self::time_out(&mut next, run, activity),
            Step::Effect(worker) => self.effect(&mut next, worker)?,
            Step::Complete { by, answer_lost } => self.complete(&mut next, by, answer_lost)?,
            Step::Forget(worker) => next.workers[state::at(worker)].attempt = None,
        }
        Some(next)
    }

    fn wrong(&self, state: &State) -> Vec<&'static str> {
        INVARIANTS.iter().filter(|(bit, _)| state.bad & bit != 0).map(|(_, said)| *said).collect()
    }

    fn ended(&self, state: &State) -> bool {
        state.runs.iter().all(|run| run.head() >= self.total())
    }
}
