//! The tables and locks of the store, as far as transactions meet in them: read committed.
//!
//! Invariants: 1. A statement sees what was committed when it began, and its own transaction's rows. 2. Locks are held to the end of the
//! transaction; who would wait is told for whom, and nothing has changed. 3. Whoever has waited judges the newest row.

use std::collections::BTreeMap;

/// A worker, a run, a place in a history or a resource, by its number.
pub(super) type Nr = u8;

/// What waits in an inbox, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Msg {
    Start,
    Signal,
    Cancel,
    /// From a relative.
    Word,
    /// Of the timer at this place.
    Due(Nr),
    /// Of the request for locks at this place.
    Granted(Nr),
    ChildStarted,
    ChildRefused,
    ChildEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// Of a worker, with the epoch.
    Lease(Nr, Nr),
    Run(Nr),
    /// The index of workflow ids of open runs.
    Open(Nr),
    Event(Nr, Nr),
    Timer(Nr, Nr),
    /// Of a run, which has one at a time.
    Request(Nr),
    Lock(Nr),
    Inbox(Nr, Msg),
}

/// Epochs of two resources.
pub(super) type Epochs = [u8; 2];

/// What happened at a place of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Heard(Msg),
    TimerStarted,
    TimerCancelled(Nr),
    LocksAsked(u8),
    LocksFreed,
    ChildAsked,
    /// A word to the child, or that it is to stop, or a word to the parent.
    ToldChild(Msg),
    ToldParent,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Row {
    Lease,
    Run { owner: Option<(Nr, Nr)>, open: bool, parent: Option<Nr>, with_parent: bool },
    /// Who has the workflow id.
    Open(Nr),
    /// With the nonce of its turn: worker, epoch, first place and how often it was prepared, length.
    Event { kind: Kind, nonce: [u8; 4], epochs: Epochs },
    Timer { due: bool },
    Request { place: u8, seq: Nr, wants: u8 },
    Lock { epoch: u8, holder: Option<Nr> },
    Message { epochs: Epochs },
}

/// Strength of a row lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lock {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

impl Lock {
    fn bears(self, other: Self) -> bool {
        match (self, other) {
            (Self::KeyShare, Self::Update) | (Self::Update, Self::KeyShare) => false,
            (Self::KeyShare, _) | (_, Self::KeyShare) | (Self::Share, Self::Share) => true,
            (Self::Share | Self::NoKeyUpdate | Self::Update, _) => false,
        }
    }
}

/// What one transaction has locked and written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Open {
    locks: BTreeMap<Key, Lock>,
    writes: BTreeMap<Key, Option<Row>>,
}

impl Open {
    pub(super) fn holds(&self, key: Key, lock: Lock) -> bool {
        self.locks.get(&key).is_some_and(|held| *held >= lock)
    }
}

/// A statement waits for another transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits;

/// Committed rows, and the transactions that are open, by the places of their sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Base {
    pub(super) rows: BTreeMap<Key, Row>,
    pub(super) open: Vec<Open>,
}

impl Base {
    /// A row as a transaction sees it.
    pub(super) fn read(&self, me: usize, key: Key) -> Option<Row> {
        self.open[me].writes.get(&key).copied().unwrap_or_else(|| self.rows.get(&key).copied())
    }

    /// All rows as a transaction sees them.
    pub(super) fn seen(&self, me: usize) -> BTreeMap<Key, Row> {
        let mut rows = self.rows.clone();
        for (key, row) in &self.open[me].writes {
            match row {
                Some(row) => drop(rows.insert(*key, *row)),
                None => drop(rows.remove(key)),
            }
        }
        rows
    }

    /// Who else bars this lock on a row.
    pub(super) fn barred(&self, me: Option<usize>, key: Key, lock: Lock) -> Option<usize> {
        let bars = |open: &Open| open.locks.get(&key).is_some_and(|held| !held.bears(lock));
        self.open.iter().enumerate().find(|(place, open)| Some(*place) != me && bars(open)).map(|(place, _)| place)
    }

    /// Locks a row and gives its newest version.
    pub(super) fn lock(&mut self, me: usize, key: Key, lock: Lock) -> Result<Option<Row>, Waits> {
        // Rows that are not committed are not seen, so nobody waits for them.
        if !self.rows.contains_key(&key) && !self.open[me].writes.contains_key(&key) {
            return Ok(None);
        }
        if self.barred(Some(me), key, lock).is_some() {
            return Err(Waits);
        }
        let row = self.read(me, key);
        if row.is_some() {
            let held = self.open[me].locks.entry(key).or_insert(lock);
            *held = (*held).max(lock);
        }
        Ok(row)
    }

    /// Inserts a row, or gives the one that is there already. An index makes it wait for whoever inserts or deletes there.
    pub(super) fn insert(&mut self, me: usize, key: Key, row: Row) -> Result<Option<Row>, Waits> {
        let writes = |open: &Open| open.writes.get(&key).is_some_and(|written| written.is_none() || !self.rows.contains_key(&key));
        if (0..self.open.len()).any(|place| place != me && writes(&self.open[place])) {
            return Err(Waits);
        }
        let there = self.read(me, key);
        if there.is_none() {
            self.put(me, key, Some(row), Lock::Update);
        }
        Ok(there)
    }

    /// Writes a row whose lock is held, or takes it with the writing.
    pub(super) fn put(&mut self, me: usize, key: Key, row: Option<Row>, lock: Lock) {
        let held = self.open[me].locks.entry(key).or_insert(lock);
        *held = (*held).max(lock);
        self.open[me].writes.insert(key, row);
    }

    /// Deletes a row; `false` if there is none.
    pub(super) fn delete(&mut self, me: usize, key: Key) -> Result<bool, Waits> {
        let found = self.lock(me, key, Lock::Update)?.is_some();
        if found {
            self.put(me, key, None, Lock::Update);
        }
        Ok(found)
    }

    pub(super) fn begin(&mut self) {
        self.open.push(Open::default());
    }

    pub(super) fn commit(&mut self, me: usize) {
        for (key, row) in self.open.remove(me).writes {
            match row {
                Some(row) => drop(self.rows.insert(key, row)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    /// Commits, and begins the next transaction of the same session.
    pub(super) fn commit_and_begin(&mut self, me: usize) {
        self.commit(me);
        self.open.insert(me, Open::default());
    }

    pub(super) fn roll_back(&mut self, me: usize) {
        self.open.remove(me);
    }
}
