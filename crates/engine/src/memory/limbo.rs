//! Batches whose writer has gone: the store still works on them, and they land later.
//!
//! ```text
//!   commit_turns ─▶ the connection breaks ─▶ in limbo ─▶ lands when its time has come, or when somebody waits for it:
//!                                                        whoever writes the same run, deletes the lease, or asks what it owns
//! ```
//!
//! As on Postgres, where a backend outlives its client: it holds a share of the lease's row and the keys of its events, so that a second
//! writer of the same run waits for its end, and a takeover passes over the lease.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sdk::{Lease, RunId};

use super::State;
use crate::TurnWrite;

/// A batch that nobody waits for any more.
#[derive(Clone, Debug)]
pub(crate) struct Limbo {
    pub(crate) lands_at: DateTime<Utc>,
    pub(crate) lease: Lease,
    pub(crate) turns: Vec<TurnWrite>,
}

impl State {
    /// Puts a batch there that would be stored now; one that would be refused is gone at once.
    pub(super) fn leave_in_limbo(&mut self, lease: Lease, turns: &[TurnWrite], lands_at: DateTime<Utc>) {
        if self.fence(lease).is_ok() && turns.iter().all(|turn| self.check(turn).is_ok()) {
            self.limbo.push(Limbo { lands_at, lease, turns: turns.to_vec() });
        }
    }

    /// Lets those land whose time has come.
    pub(super) fn land_due(&mut self) {
        let now = self.now;
        self.land(|batch| batch.lands_at <= now);
    }

    /// Lets those land that write one of these runs.
    pub(super) fn land_writers_of(&mut self, runs: &BTreeSet<RunId>) {
        self.land(|batch| batch.turns.iter().any(|turn| runs.contains(&turn.run)));
    }

    /// Lets those land that were sent under this lease.
    pub(super) fn land_sent_under(&mut self, lease: Lease) {
        self.land(|batch| batch.lease == lease);
    }

    fn land(&mut self, which: impl Fn(&Limbo) -> bool) {
        if !self.limbo.iter().any(&which) {
            return;
        }
        let (landing, waiting) = std::mem::take(&mut self.limbo).into_iter().partition(which);
        self.limbo = waiting;
        let landing: Vec<Limbo> = landing;
        for batch in landing {
            // What another transaction has changed since refuses it, as it would have then.
            self.landed += u64::from(self.commit_turns(batch.lease, &batch.turns).is_ok());
        }
    }

    /// Whether a batch is in flight under this lease: its row can't be deleted then.
    pub(crate) fn in_flight_under(&self, lease: Lease) -> bool {
        self.limbo.iter().any(|batch| batch.lease == lease)
    }
}
