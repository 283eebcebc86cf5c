//! What the runs of this model do: workflows as functions of their histories, and turns made from what waits in an inbox.
//!
//! Invariants: 1. What is asked for follows from the history alone, as with every workflow. 2. What nobody waits for is consumed and changes
//! nothing. 3. Turns are as long as what was there when they were made.

use super::base::{Epochs, Kind, Msg, Nr};

/// When a parent ends beside the end of its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// When it has heard that its child was started.
    Started,
    /// At a signal.
    Signalled,
    /// When its child has ended.
    Ended,
}

/// The code of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// A timer against a signal; the loser is dropped. Then another timer to its end.
    Race,
    /// A timer and a signal; whichever is first ends it, and the other is left there.
    FirstEnds,
    /// Locks on these resources, an effect under them, and the end. With `frees`, a cancel frees them and it then waits for a signal.
    Holds { wants: u8, frees: bool },
    /// Has a child. With `tells` a word to it and, at a signal, that it is to stop; with `takes` the child is to end with it.
    Parent { parting: Parting, tells: bool, takes: bool },
    /// Ends at once, or at any word or cancel; with `tells` its parent gets a word first.
    Child { at_once: bool, tells: bool },
    /// Ends at a signal.
    Waits,
}

impl Script {
    /// What follows from the last event of a history, which was heard.
    #[expect(clippy::wildcard_enum_match_arm, reason = "of most messages nothing follows")]
    pub(super) fn react(self, history: &[Kind]) -> Vec<Kind> {
        let Some(Kind::Heard(heard)) = history.last().copied() else { return vec![] };
        if history.contains(&Kind::Ended) {
            return vec![];
        }
        match self {
            Self::Race => race(heard, history),
            Self::FirstEnds => match heard {
                Msg::Start => vec![Kind::TimerStarted],
                _ => vec![Kind::Ended],
            },
            Self::Holds { wants, frees } => match heard {
                Msg::Start => vec![Kind::LocksAsked(wants)],
                Msg::Word if frees => vec![Kind::LocksFreed, Kind::Ended],
                Msg::Word => vec![Kind::Ended],
                Msg::Cancel if frees && history.contains(&Kind::Heard(Msg::Signal)) => vec![Kind::LocksFreed, Kind::Ended],
                Msg::Cancel if frees => vec![Kind::LocksFreed],
                Msg::Cancel => vec![Kind::Ended],
                Msg::Signal if history.contains(&Kind::LocksFreed) => vec![Kind::Ended],
                _ => vec![],
            },
            Self::Parent { parting, tells, .. } => match heard {
                Msg::Start => vec![Kind::ChildAsked],
                Msg::ChildStarted if parting == Parting::Started => vec![Kind::Ended],
                Msg::ChildStarted if tells => vec![Kind::ToldChild(Msg::Word)],
                Msg::Signal if parting == Parting::Signalled => vec![Kind::Ended],
                Msg::Signal if tells => vec![Kind::ToldChild(Msg::Cancel)],
                Msg::ChildEnded | Msg::ChildRefused => vec![Kind::Ended],
                _ => vec![],
            },
            Self::Child { at_once, tells } => {
                let ends = at_once || matches!(heard, Msg::Word | Msg::Cancel | Msg::Signal);
                let told = (tells && heard == Msg::Start).then_some(Kind::ToldParent);
                told.into_iter().chain(ends.then_some(Kind::Ended)).collect()
            }
            Self::Waits => if heard == Msg::Signal { vec![Kind::Ended] } else { vec![] },
        }
    }

    /// Whether somebody waits for it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most messages are always waited for")]
    fn awaits(self, history: &[Kind], message: Msg) -> bool {
        let known = history.contains(&Kind::Heard(message)) || history.contains(&Kind::Ended);
        let begun = message == Msg::Start || history.contains(&Kind::Heard(Msg::Start));
        let wanted = match message {
            Msg::Due(of) => !history.contains(&Kind::TimerCancelled(of)),
            Msg::Granted(_) => !history.contains(&Kind::LocksFreed),
            Msg::Word if matches!(self, Self::Holds { .. }) => !history.contains(&Kind::LocksFreed),
            _ => true,
        };
        begun && !known && wanted
    }

    /// Whether a history is one that this code gives.
    pub(super) fn gives(self, history: &[Kind]) -> bool {
        let mut at = 0;
        while at < history.len() {
            if !matches!(history[at], Kind::Heard(_)) {
                return false;
            }
            let wanted = self.react(&history[..=at]);
            if history[at + 1..].len() < wanted.len() || history[at + 1..at + 1 + wanted.len()] != wanted {
                return false;
            }
            at += 1 + wanted.len();
        }
        true
    }
}

fn timers(history: &[Kind]) -> impl Iterator<Item = Nr> + '_ {
    (0..).zip(history).filter(|(_, kind)| **kind == Kind::TimerStarted).map(|(seq, _)| seq)
}

fn race(heard: Msg, history: &[Kind]) -> Vec<Kind> {
    let first = timers(history).next();
    let second = timers(history).nth(1);
    match (heard, first, second) {
        (Msg::Start, ..) => vec![Kind::TimerStarted],
        (Msg::Due(of), Some(first), None) if of == first => vec![Kind::TimerStarted],
        (Msg::Signal, Some(first), None) => vec![Kind::TimerCancelled(first), Kind::TimerStarted],
        (Msg::Due(of), _, Some(second)) if of == second => vec![Kind::Ended],
        _ => vec![],
    }
}

/// A turn as it is sent, the same each time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub(super) run: Nr,
    pub(super) first: u8,
    /// How often a turn was prepared at this place, which makes its nonce another.
    pub(super) tries: u8,
    pub(super) kinds: Vec<(Kind, Epochs)>,
    pub(super) consumed: Vec<Msg>,
    pub(super) begins: Vec<Nr>,
    pub(super) drops: Vec<Nr>,
}

impl Turn {
    pub(super) fn nonce(&self, worker: Nr, epoch: Nr) -> [u8; 4] {
        [worker, epoch, self.first << 2 | self.tries, u8::try_from(self.kinds.len()).unwrap_or(u8::MAX)]
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.iter().any(|(other, _)| *other == kind)
    }

    pub(super) fn ends(&self) -> bool {
        self.has(Kind::Ended)
    }

    pub(super) fn tells_child(&self) -> bool {
        self.kinds.iter().any(|(kind, _)| matches!(kind, Kind::ToldChild(_)))
    }

    pub(super) fn asks_locks(&self) -> bool {
        self.kinds.iter().any(|(kind, _)| matches!(kind, Kind::LocksAsked(_)))
    }

    /// Makes a turn of what waits, in this order, at most so many messages; `inbox` names all that is there.
    pub(super) fn of(script: Script, run: Nr, tries: u8, known: &[Kind], inbox: &[(Msg, Epochs)], most: usize, drops_fired: bool) -> Self {
        let mut history = known.to_vec();
        let mut kinds = vec![];
        let taken = &inbox[..inbox.len().min(most)];
        for (message, epochs) in taken {
            if !script.awaits(&history, *message) {
                continue;
            }
            history.push(Kind::Heard(*message));
            kinds.push((Kind::Heard(*message), *epochs));
            for kind in script.react(&history) {
                history.push(kind);
                kinds.push((kind, [0, 0]));
            }
        }
        let cancelled = |seq: Nr| kinds.iter().any(|(kind, _)| *kind == Kind::TimerCancelled(seq));
        let first = u8::try_from(known.len()).unwrap_or(u8::MAX);
        let begins = timers(&history).filter(|seq| *seq >= first && !cancelled(*seq)).collect();
        let fired = |seq: Nr| inbox.iter().any(|(message, _)| *message == Msg::Due(seq));
        let drops = timers(known).filter(|seq| cancelled(*seq) && (drops_fired || !fired(*seq))).collect();
        Self { run, first, tries, kinds, consumed: taken.iter().map(|(message, _)| *message).collect(), begins, drops }
    }
}
