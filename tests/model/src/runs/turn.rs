//! A turn in the store, statement by statement, in the order of `engine.commit_turns`.
//!
//! ```text
//!   fence ▶ family, row by row ▶ close ▶ child ▶ events ▶ timers ▶ timers of the ended ▶ locks: ask ▶ free: request ▶ free: rows, one by one
//!         ▶ inbox: consumed ▶ words ▶ inbox of the ended ▶ endings ▶ commit
//! ```
//!
//! Invariants: 1. The last statement commits. 2. What is raised rolls all of it back. 3. A statement that has nothing to do is none.

use super::{
    Broken, Runs,
    base::{Base, Key, Kind, Lock, Msg, Nr, Row, Waits},
    script::{Script, Turn},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    Fence,
    Family,
    Close,
    Child,
    Events,
    Timers,
    EndTimers,
    Ask,
    FreeRequest,
    FreeRows,
    Consume,
    Words,
    EndInbox,
    Endings,
    Done,
    /// In a transaction of its own: where the child is not part of the turn.
    Apart,
}

const ORDER: [Stage; 14] = [
    Stage::Fence,
    Stage::Family,
    Stage::Close,
    Stage::Child,
    Stage::Events,
    Stage::Timers,
    Stage::EndTimers,
    Stage::Ask,
    Stage::FreeRequest,
    Stage::FreeRows,
    Stage::Consume,
    Stage::Words,
    Stage::EndInbox,
    Stage::Endings,
];

/// Why a turn is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raised {
    Fenced,
    /// An event is there, or the run has ended: whoever sent it asks who has written.
    Taken,
    /// A row to delete is gone.
    Stale,
    /// The store refuses a row: the run is set aside.
    Bad,
}

/// How a statement went.
pub(super) enum Went {
    /// It has something left to do.
    On,
    Through,
    Waits,
    Raised(Raised),
}

impl From<Waits> for Went {
    fn from(_: Waits) -> Self {
        Self::Waits
    }
}

macro_rules! attempt {
    ($asked:expr) => {
        match $asked {
            Ok(answer) => answer,
            Err(waits) => return Went::from(waits),
        }
    };
}

/// Who a turn is about, and for whom it is sent.
pub(super) struct Sent<'a> {
    pub(super) me: usize,
    pub(super) worker: Nr,
    pub(super) epoch: Nr,
    pub(super) turn: &'a Turn,
}

/// The child that a run has, in this model.
const CHILD: Nr = 1;

impl Runs {
    /// The next statement that has something to do.
    pub(super) fn next_stage(&self, turn: &Turn, behind: Stage) -> Stage {
        let order: Vec<Stage> = self.order();
        let place = order.iter().position(|stage| *stage == behind).unwrap_or(order.len());
        order.into_iter().skip(place + 1).find(|stage| self.applies(turn, *stage)).unwrap_or(Stage::Done)
    }

    fn order(&self) -> Vec<Stage> {
        let mut order = ORDER.to_vec();
        let mut put_behind = |moved: &[Stage], anchor: Stage| {
            order.retain(|stage| !moved.contains(stage));
            let place = order.iter().position(|stage| *stage == anchor).map_or(order.len(), |place| place + 1);
            order.splice(place..place, moved.iter().copied());
        };
        if self.breaks(Broken::InboxFirst) {
            put_behind(&[Stage::EndTimers], Stage::EndInbox);
        }
        if self.breaks(Broken::LocksLast) {
            put_behind(&[Stage::FreeRequest, Stage::FreeRows], Stage::EndInbox);
        }
        if self.breaks(Broken::FreeFirst) {
            put_behind(&[Stage::FreeRequest], Stage::FreeRows);
        }
        order
    }

    fn applies(&self, turn: &Turn, stage: Stage) -> bool {
        let ends = turn.ends();
        let frees = (ends && self.locks() && !self.breaks(Broken::EndKeepsLocks)) || turn.has(Kind::LocksFreed);
        match stage {
            Stage::Fence => true,
            Stage::Family => ends || turn.tells_child() || turn.has(Kind::ToldParent),
            Stage::Close => ends,
            Stage::EndTimers => ends && self.timers() && !self.breaks(Broken::EndKeepsTimers),
            Stage::EndInbox => ends,
            Stage::Child => turn.has(Kind::ChildAsked) && !self.breaks(Broken::ChildApart),
            Stage::Events => !turn.kinds.is_empty(),
            Stage::Timers => !turn.begins.is_empty() || !turn.drops.is_empty(),
            Stage::Ask => turn.asks_locks(),
            Stage::FreeRequest | Stage::FreeRows => frees,
            Stage::Consume => true,
            Stage::Words => turn.tells_child() || turn.has(Kind::ToldParent) || turn.has(Kind::ChildAsked) && !self.breaks(Broken::ChildApart),
            Stage::Endings => ends && self.kin(),
            Stage::Done | Stage::Apart => false,
        }
    }

    /// One statement of a turn.
    pub(super) fn statement(&self, base: &mut Base, sent: &Sent<'_>, stage: Stage) -> Went {
        let Sent { me, worker, epoch, turn } = *sent;
        let run = turn.run;
        match stage {
            Stage::Fence => match attempt!(base.lock(me, Key::Lease(worker, epoch), Lock::KeyShare)) {
                Some(_) => Went::Through,
                None => Went::Raised(Raised::Fenced),
            },
            Stage::Family => self.family(base, sent),
            Stage::Close => Self::close(base, sent),
            Stage::Child => self.child(base, sent),
            Stage::Events => self.events(base, sent),
            Stage::Timers => self.of_timers(base, sent),
            Stage::EndTimers => {
                let keys: Vec<Key> = base.seen(me).into_keys().filter(|key| matches!(key, Key::Timer(of, _) if *of == run)).collect();
                keys.into_iter().try_for_each(|key| base.delete(me, key).map(drop)).map_or_else(Went::from, |()| Went::Through)
            }
            Stage::Ask => {
                let places = base.rows.values().filter_map(|row| if let Row::Request { place, .. } = row { Some(*place) } else { None });
                let place = places.max().map_or(0, |place| place + 1);
                let asked = (turn.first..).zip(&turn.kinds).find_map(|(seq, (kind, _))| if let Kind::LocksAsked(wants) = kind { Some((seq, *wants)) } else { None });
                if let Some((seq, wants)) = asked {
                    attempt!(base.insert(me, Key::Request(run), Row::Request { place, seq, wants }));
                }
                Went::Through
            }
            Stage::FreeRequest => {
                attempt!(base.delete(me, Key::Request(run)));
                Went::Through
            }
            Stage::FreeRows => Self::free_rows(base, me, run),
            Stage::Consume => {
                for message in &turn.consumed {
                    if !attempt!(base.delete(me, Key::Inbox(run, *message))) {
                        return Went::Raised(Raised::Stale);
                    }
                }
                Went::Through
            }
            Stage::Words => self.words(base, sent),
            Stage::EndInbox => {
                let keys: Vec<Key> = base.seen(me).into_keys().filter(|key| matches!(key, Key::Inbox(of, _) if *of == run)).collect();
                keys.into_iter().try_for_each(|key| base.delete(me, key).map(drop)).map_or_else(Went::from, |()| Went::Through)
            }
            Stage::Endings => self.endings(base, sent),
            Stage::Done | Stage::Apart => Went::Through,
        }
    }

    /// Locks the next row of the family; through when all are held.
    fn family(&self, base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, turn, .. } = *sent;
        let run = turn.run;
        let mut of = vec![];
        if turn.ends() {
            of.push(run);
        }
        if !self.breaks(Broken::FamilyUnlocked) {
            if let Some(Row::Run { parent: Some(parent), .. }) = base.read(me, Key::Run(run))
                && (turn.ends() || turn.has(Kind::ToldParent))
            {
                of.push(parent);
            }
            let child = base.rows.get(&Key::Run(CHILD)).copied();
            if let Some(Row::Run { parent: Some(parent), with_parent, open, .. }) = child
                && parent == run
                && (turn.tells_child() || turn.ends() && with_parent && open)
            {
                of.push(CHILD);
            }
        }
        if !self.breaks(Broken::OwnRowFirst) {
            of.sort_unstable();
        }
        let held = |key: Key| base.open[me].holds(key, Lock::NoKeyUpdate);
        let Some(next) = of.iter().map(|run| Key::Run(*run)).find(|key| !held(*key)) else { return Went::Through };
        attempt!(base.lock(me, next, Lock::NoKeyUpdate));
        let left = of.iter().any(|run| !base.open[me].holds(Key::Run(*run), Lock::NoKeyUpdate));
        if left { Went::On } else { Went::Through }
    }

    fn close(base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, turn, .. } = *sent;
        let key = Key::Run(turn.run);
        let Some(Row::Run { open: true, parent, with_parent, .. }) = attempt!(base.lock(me, key, Lock::NoKeyUpdate)) else {
            return Went::Raised(Raised::Taken);
        };
        base.put(me, key, Some(Row::Run { owner: None, open: false, parent, with_parent }), Lock::NoKeyUpdate);
        let ids: Vec<Key> = base.seen(me).into_iter().filter(|(_, row)| *row == Row::Open(turn.run)).map(|(key, _)| key).collect();
        ids.into_iter().for_each(|key| base.put(me, key, None, Lock::Update));
        Went::Through
    }

    /// The child, unless somebody else has its workflow id.
    pub(super) fn child(&self, base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, turn, .. } = *sent;
        let with_parent = matches!(self.scripts[usize::from(turn.run)], Script::Parent { takes: true, .. });
        if base.read(me, Key::Run(CHILD)).is_some() {
            return Went::Through;
        }
        let id = self.workflow_id(CHILD);
        match attempt!(base.insert(me, Key::Open(id), Row::Open(CHILD))) {
            None => {
                let row = Row::Run { owner: None, open: true, parent: Some(turn.run), with_parent };
                attempt!(base.insert(me, Key::Run(CHILD), row));
                Went::Through
            }
            Some(_) if self.breaks(Broken::ConflictRaises) => Went::Raised(Raised::Bad),
            Some(_) => Went::Through,
        }
    }

    fn events(&self, base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, worker, epoch, turn } = *sent;
        let there: Vec<Kind> = base.rows.iter().filter_map(|(key, row)| match (key, row) {
            (Key::Event(run, seq), Row::Event { kind, .. }) if *run == turn.run && *seq < turn.first => Some(*kind),
            _ => None,
        }).collect();
        for (seq, (kind, epochs)) in (turn.first..).zip(&turn.kinds) {
            if matches!(kind, Kind::Heard(_)) && there.contains(kind) {
                return Went::Raised(Raised::Taken);
            }
            let row = Row::Event { kind: *kind, nonce: turn.nonce(worker, epoch), epochs: *epochs };
            let taken = attempt!(base.insert(me, Key::Event(turn.run, seq), row)).is_some();
            if taken && !self.breaks(Broken::DoNothing) {
                return Went::Raised(Raised::Taken);
            }
        }
        Went::Through
    }

    fn of_timers(&self, base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, turn, .. } = *sent;
        for seq in &turn.begins {
            attempt!(base.insert(me, Key::Timer(turn.run, *seq), Row::Timer { due: false }));
        }
        for seq in &turn.drops {
            if !attempt!(base.delete(me, Key::Timer(turn.run, *seq))) && !self.breaks(Broken::DropUncounted) {
                return Went::Raised(Raised::Stale);
            }
        }
        Went::Through
    }

    /// Frees the next lock that the run holds.
    fn free_rows(base: &mut Base, me: usize, run: Nr) -> Went {
        let held = |base: &Base| base.seen(me).into_iter().find(|(_, row)| matches!(row, Row::Lock { holder: Some(holder), .. } if *holder == run));
        let Some((key, _)) = held(base) else { return Went::Through };
        let Some(Row::Lock { epoch, holder }) = attempt!(base.lock(me, key, Lock::Update)) else { return Went::Through };
        if holder == Some(run) {
            base.put(me, key, Some(Row::Lock { epoch, holder: None }), Lock::Update);
        }
        if held(base).is_some() { Went::On } else { Went::Through }
    }

    /// To the child its start and to this run what became of the wish; then the words to relatives.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most events tell nobody anything")]
    pub(super) fn words(&self, base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, turn, .. } = *sent;
        let run = turn.run;
        let none = Row::Message { epochs: [0, 0] };
        let ours = |row: Option<Row>| matches!(row, Some(Row::Run { parent: Some(parent), .. }) if parent == run);
        let open = |row: Option<Row>| matches!(row, Some(Row::Run { open: true, .. }));
        let child = base.read(me, Key::Run(CHILD));
        if turn.has(Kind::ChildAsked) {
            let answer = if ours(child) { Msg::ChildStarted } else { Msg::ChildRefused };
            if ours(child) {
                attempt!(base.insert(me, Key::Inbox(CHILD, Msg::Start), none));
            }
            if open(base.read(me, Key::Run(run))) {
                attempt!(base.insert(me, Key::Inbox(run, answer), none));
            }
        }
        for (kind, _) in &turn.kinds {
            let told = match kind {
                Kind::ToldChild(word) if ours(child) => Some((CHILD, *word)),
                Kind::ToldParent => match base.read(me, Key::Run(run)) {
                    Some(Row::Run { parent: Some(parent), .. }) => Some((parent, Msg::Word)),
                    _ => None,
                },
                _ => None,
            };
            if let Some((to, word)) = told
                && open(base.read(me, Key::Run(to)))
            {
                let there = attempt!(base.insert(me, Key::Inbox(to, word), none)).is_some();
                if there && self.breaks(Broken::CancelRaises) {
                    return Went::Raised(Raised::Bad);
                }
            }
        }
        Went::Through
    }

    /// The parent hears of the end, and a child that is to end with this run that it is to stop.
    fn endings(&self, base: &mut Base, sent: &Sent<'_>) -> Went {
        let Sent { me, turn, .. } = *sent;
        let none = Row::Message { epochs: [0, 0] };
        if let Some(Row::Run { parent: Some(parent), .. }) = base.read(me, Key::Run(turn.run))
            && let Some(Row::Run { open: true, .. }) = base.read(me, Key::Run(parent))
        {
            attempt!(base.insert(me, Key::Inbox(parent, Msg::ChildEnded), none));
        }
        if let Some(Row::Run { open: true, parent: Some(parent), with_parent: true, .. }) = base.read(me, Key::Run(CHILD))
            && parent == turn.run
        {
            let there = attempt!(base.insert(me, Key::Inbox(CHILD, Msg::Cancel), none)).is_some();
            if there && self.breaks(Broken::CancelRaises) {
                return Went::Raised(Raised::Bad);
            }
        }
        Went::Through
    }
}
