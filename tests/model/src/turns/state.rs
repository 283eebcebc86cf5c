//! What is kept while runs are worked on: by the store, by each worker, by each backend in between, and by the world outside.

/// A worker, a run, an activity or a place in a history, by its number.
pub(super) type Nr = u8;

/// A place in a list.
pub(super) fn at(nr: Nr) -> usize {
    usize::from(nr)
}

/// A run that was claimed and whose history is not loaded yet.
pub(super) const NOT_LOADED: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Scheduled(Nr),
    Done(Nr),
}

/// An event with who wrote it. The first place of its turn, with the lease, is the turn's nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) worker: Nr,
    pub(super) epoch: u8,
    pub(super) turn: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    None,
    /// After so many attempts.
    Queued(u8),
    Claimed { worker: Nr, epoch: u8, attempt: u8 },
    /// Its time is over: it may be claimed again, and until then this attempt counts.
    Overdue { attempt: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) owner: Option<(Nr, u8)>,
    /// Grows at each claim.
    pub(super) epoch: u8,
    /// At each place what was written there; more than one only where no key prevents it.
    pub(super) events: Vec<Vec<Event>>,
    pub(super) tasks: Vec<Task>,
    /// Results that wait.
    pub(super) inbox: Vec<Nr>,
    /// Outside: the highest token that was shown.
    pub(super) bar: (u8, u8, u8),
    /// Outside: the newest effect, by activity and by the order of its attempt or owner.
    pub(super) applied: (u8, u8),
}

impl Run {
    pub(super) fn head(&self) -> u8 {
        u8::try_from(self.events.len()).unwrap_or(NOT_LOADED)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseRow {
    pub(super) epoch: u8,
    /// Not expired.
    pub(super) fresh: bool,
    /// Deleted, and no new one opened since.
    pub(super) gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Fence,
    /// The condition was judged on an old row, and its lock is not yet held.
    Stale,
    Insert,
    Commit,
}

/// A backend at work for a worker. It outlives the worker and the connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Backend {
    pub(super) worker: Nr,
    pub(super) epoch: u8,
    pub(super) stage: Stage,
    /// Somebody still waits for its answer.
    pub(super) attached: bool,
    /// Holds a share of its lease row.
    pub(super) locked: bool,
    /// Runs with the first place of their turn.
    pub(super) turns: Vec<(Nr, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Turn {
    Idle,
    Sent(u8),
    /// No answer came.
    Ambiguous(u8),
}

/// What a worker knows of a run that it believes to own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owned {
    pub(super) epoch: u8,
    /// Events that it knows, or [`NOT_LOADED`].
    pub(super) known: u8,
    pub(super) turn: Turn,
    pub(super) woken: bool,
}

/// An attempt at an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) run: Nr,
    pub(super) activity: Nr,
    pub(super) attempt: u8,
    pub(super) run_epoch: u8,
    pub(super) lease: u8,
    pub(super) effected: bool,
    pub(super) refused: bool,
    /// The task is deleted and the message not yet in.
    pub(super) half: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    pub(super) up: bool,
    /// 0: it knows that it was fenced.
    pub(super) epoch: u8,
    pub(super) runs: Vec<Option<Owned>>,
    pub(super) attempt: Option<Attempt>,
    /// Deleted somebody's lease in this life.
    pub(super) took_over: bool,
}

impl Worker {
    pub(super) fn new(epoch: u8, runs: usize) -> Self {
        Self { up: epoch != 0, epoch, runs: vec![None; runs], attempt: None, took_over: false }
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(super) leases: Vec<LeaseRow>,
    /// A takeover that is not committed: by whom, of whose lease.
    pub(super) takeover: Option<(Nr, Nr)>,
    pub(super) runs: Vec<Run>,
    pub(super) backends: Vec<Backend>,
    pub(super) workers: Vec<Worker>,
    pub(super) faults: super::Faults,
    pub(super) bad: u16,
}

impl State {
    pub(super) fn lease_holds(&self, worker: Nr, epoch: u8) -> bool {
        self.leases[at(worker)].epoch == epoch
    }

    pub(super) fn lease_shared(&self, worker: Nr) -> bool {
        self.backends.iter().any(|backend| backend.worker == worker && backend.locked)
    }

    pub(super) fn being_taken(&self, worker: Nr) -> bool {
        self.takeover.is_some_and(|(_, of)| of == worker)
    }
}
