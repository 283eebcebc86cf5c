//! The store's own failovers: its server ends, and another one starts, on the same files or on a copy that was made some steps before.
//!
//! ```text
//!   chance ─▶ copy ─▶ so many steps of processes ─▶ the copy takes the place of the store, and nobody may write before it is known
//! ```

use std::sync::Arc;

use super::{Notes, Simulation, witnesses::testifies};
use crate::{memory::MemoryStore, witness::Witness};

/// Most steps that are lost: some dozen turns of a few runs.
const MOST_LOST: u64 = 400;

/// What the store will come back as.
pub(super) struct Copy {
    of: MemoryStore,
    steps: u64,
    promoted: bool,
}

impl Simulation {
    /// Processes that are added from now on note what the store answers them and what they do outside.
    pub fn witnessed(&mut self) {
        self.witnesses = Some(0);
    }

    /// The store for somebody outside who notes what it answers him, as a server does; without witnesses the store itself.
    pub fn noting(&mut self) -> MemoryStore {
        let notes = self.notes_of_next();
        self.store_of(notes.as_ref())
    }

    pub(super) fn store_of(&self, notes: Option<&Notes>) -> MemoryStore {
        notes.map_or_else(|| self.store.clone(), |notes| self.store.seen_by(Arc::new(notes.clone()) as Arc<dyn Witness>))
    }

    /// The notes of the process that is added next, and who tells them.
    pub(super) fn notes_of_next(&mut self) -> Option<Notes> {
        let witnesses = self.witnesses.as_mut()?;
        *witnesses += 1;
        let notes = Notes::new(self.seed, self.actors.len() as u64);
        let (store, of) = (self.store.clone(), notes.clone());
        self.add(Box::new(move |_, idle| Box::pin(testifies(store.clone(), of.clone(), idle))));
        self.actors.last_mut()?.steady = true;
        Some(notes)
    }

    /// Chance makes a copy now, or a copy that was made takes the store's place.
    pub(super) fn a_server_may_end(&mut self) {
        if self.chaos.tails_per_100_000 == 0 {
            return;
        }
        match self.copy.take() {
            Some(Copy { of, steps: 0, promoted }) => {
                self.stats.tails += 1;
                self.store.starts_anew(Some(&of), promoted);
            }
            Some(Copy { of, steps, promoted }) => self.copy = Some(Copy { of, steps: steps - 1, promoted }),
            None => {
                let (drawn, steps, promoted) = (self.rng.below(100_000).unwrap_or(0), self.rng.below(MOST_LOST).unwrap_or(0), self.rng.strikes(500));
                // A copy that knows of no witness can't ask any.
                let all = self.witnesses.is_some_and(|witnesses| self.store.witnesses() == witnesses);
                if self.budget.grants(drawn < self.chaos.tails_per_100_000 && all) {
                    self.copy = Some(Copy { of: self.store.fork(), steps, promoted });
                }
            }
        }
    }
}
