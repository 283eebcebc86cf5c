//! Witnesses of simulated processes: what they note outlives them, as a file does, and is told to a store that was started anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::{
    Idle,
    actors::{identity, rest},
};
use crate::{
    memory::MemoryStore,
    witness::{Book, NotNoted, Note, Testimony, Witness},
};

/// Notes of one process, whichever of its lives writes them.
#[derive(Clone, Debug)]
pub struct Notes {
    id: Uuid,
    book: Arc<Mutex<Book>>,
}

impl Notes {
    pub(super) fn new(seed: u64, place: u64) -> Self {
        Self { id: identity(seed, place, 0).0, book: Arc::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Notes {
    fn id(&self) -> Uuid {
        self.id
    }
    fn testimonies(&self) -> u64 {
        self.book().testimonies()
    }
    fn note(&self, since: u64, notes: &[Note]) -> Result<(), NotNoted> {
        let mut book = self.book();
        if book.testimonies() != since {
            return Err(NotNoted::Late);
        }
        notes.iter().for_each(|note| book.keep(0, note.clone()));
        Ok(())
    }
    fn testimony(&self) -> Vec<Testimony> {
        self.book().tell()
    }
}

/// Shows signs of life, and testifies when it is asked.
pub(super) async fn testifies(store: MemoryStore, notes: Notes, idle: Arc<Mutex<Idle>>) {
    loop {
        // Without an answer it is asked again when something has changed.
        drop(store.testify_if_asked(&notes).await);
        rest(&store, &idle).await;
    }
}
