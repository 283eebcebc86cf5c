//! What the store keeps, all of which goes back with it.

/// A worker or a witness, by its number.
pub(super) type Nr = u8;

/// A place in a list.
pub(super) fn at(nr: Nr) -> usize {
    usize::from(nr)
}

/// A server that never was.
pub(super) const NOBODY: u8 = u8::MAX;

/// Which way the run went.
pub(super) type Way = u8;

/// An event. Its body is all of it: hashes of equal histories are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Start,
    Signal,
    Asked(Way),
    Done,
    Ended,
}

/// What waits for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Msg {
    Start,
    Signal,
    Finished,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) owner: Option<(Nr, u8)>,
    /// Grows at each claim.
    pub(super) epoch: u8,
    pub(super) history: Vec<Kind>,
}

impl Run {
    pub(super) fn is_open(&self) -> bool {
        !self.history.contains(&Kind::Ended)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) seq: u8,
    pub(super) way: Way,
    pub(super) run_epoch: u8,
    pub(super) attempt: u8,
    pub(super) claimed: bool,
    pub(super) in_doubt: bool,
}

/// Compared from the left: era, place, epoch of the run, attempt.
pub(super) type Token = [u8; 4];

/// An attempt that somebody has begun, as an agent noted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EffectNote {
    pub(super) way: Way,
    pub(super) token: Token,
    /// Its result was accepted.
    pub(super) accepted: bool,
}

/// What a witness saw and is not here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Loss {
    Run,
    Head(Vec<Kind>),
    Signal,
    Effect(EffectNote),
}

/// The rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Db {
    /// The server that was found to hold what witnesses have seen, and its timeline.
    pub(super) known: u8,
    pub(super) timeline: u8,
    pub(super) era: u8,
    /// Of each worker the epoch; 0 is none.
    pub(super) leases: Vec<u8>,
    pub(super) leases_given: u8,
    pub(super) run: Option<Run>,
    pub(super) inbox: Vec<Msg>,
    pub(super) task: Option<Task>,
    /// To which server each witness has testified; `None` if nobody waits for it any longer.
    pub(super) testified: Vec<Option<u8>>,
    pub(super) losses: Vec<Loss>,
    pub(super) held: bool,
    /// Attempts whose task is not here.
    pub(super) lost_effects: Vec<EffectNote>,
    /// Found under this server: that something is not here, and the newest era that somebody has seen.
    pub(super) lost: bool,
    pub(super) era_seen: u8,
}

impl Db {
    pub(super) fn new(workers: Nr) -> Self {
        Self {
            known: 0,
            timeline: 0,
            era: 1,
            leases: vec![0; at(workers)],
            leases_given: 0,
            run: None,
            inbox: vec![],
            task: None,
            testified: vec![Some(0); at(workers) + 2],
            losses: vec![],
            held: false,
            lost_effects: vec![],
            lost: false,
            era_seen: 0,
        }
    }

    /// Under a server that is not known everybody is waited for.
    pub(super) fn asks_anew(&mut self) {
        self.testified.iter_mut().filter(|to| to.is_none()).for_each(|to| *to = Some(NOBODY));
        (self.lost, self.era_seen) = (false, 0);
    }

    pub(super) fn add(&mut self, message: Msg) {
        if !self.inbox.contains(&message) {
            self.inbox.push(message);
            self.inbox.sort_unstable();
        }
    }

    pub(super) fn has_lease(&self, worker: Nr, epoch: u8) -> bool {
        epoch > 0 && self.leases[at(worker)] == epoch
    }

    pub(super) fn history(&self) -> &[Kind] {
        self.run.as_ref().map_or(&[], |run| &run.history)
    }

    pub(super) fn is_open(&self) -> bool {
        self.run.as_ref().is_some_and(Run::is_open)
    }

    /// The history holds what somebody was told.
    pub(super) fn holds(&self, note: &[Kind]) -> bool {
        self.run.is_some() && self.history().starts_with(note)
    }

    /// The attempt's step was asked for, at its place.
    pub(super) fn asked(&self, note: EffectNote) -> bool {
        self.history().get(usize::from(note.token[1])) == Some(&Kind::Asked(note.way))
    }
}
