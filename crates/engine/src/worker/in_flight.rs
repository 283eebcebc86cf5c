//! Turns whose commit has no answer yet: as the store takes them, beside what each adds to its history, so that none is copied.

use sdk::StoredEvent;

use crate::{TurnWrite, turns::Prepared};

/// Those turns, in order.
#[derive(Default)]
pub(super) struct InFlight {
    /// What to store.
    pub(super) writes: Vec<TurnWrite>,
    adds: Vec<Vec<StoredEvent>>,
}

impl InFlight {
    pub(super) fn of(turns: Vec<Prepared>) -> Self {
        let (writes, adds) = turns.into_iter().map(|Prepared { write, adds }| (write, adds)).unzip();
        Self { writes, adds }
    }

    pub(super) fn take(&mut self) -> Vec<Prepared> {
        let Self { writes, adds } = std::mem::take(self);
        writes.into_iter().zip(adds).map(|(write, adds)| Prepared { write, adds }).collect()
    }

    pub(super) fn push(&mut self, Prepared { write, adds }: Prepared) {
        self.writes.push(write);
        self.adds.push(adds);
    }

    pub(super) fn pop(&mut self) -> Option<Prepared> {
        Some(Prepared { write: self.writes.pop()?, adds: self.adds.pop()? })
    }
}
