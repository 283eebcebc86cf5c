//! A run's events in order, chained by hashes: changing, dropping or reordering any byte breaks the chain behind it.
//!
//!   hash(n) = sha256( hash(n-1) ‖ bytes(n) ),  hash(-1) = sha256( run id )

use sha2::{Digest, Sha256};

use crate::{Event, RunId, Seq};

/// Link of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

/// An event as it is stored: its exact bytes and its link.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// The decoded event.
    pub event: Event,
    /// Its JSON text, as hashed.
    pub bytes: Vec<u8>,
    /// Link of the chain.
    pub hash: Hash,
}

/// All events of a run so far.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Whose.
    pub run: RunId,
    /// From seq 0 without gaps.
    pub events: Vec<StoredEvent>,
}

/// What can be wrong with stored events.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The bytes are no event.
    #[error("event {seq} of run {run} can't be read")]
    Unreadable {
        /// Whose.
        run: RunId,
        /// Which.
        seq: Seq,
        /// Why.
        source: serde_json::Error,
    },
    /// An event is missing.
    #[error("run {run} has event {found} where event {expected} belongs")]
    Gap {
        /// Whose.
        run: RunId,
        /// What the place asks for.
        expected: Seq,
        /// What is there.
        found: Seq,
    },
    /// A byte has changed.
    #[error("the hash chain of run {run} breaks at event {seq}")]
    Broken {
        /// Whose.
        run: RunId,
        /// First event that doesn't fit.
        seq: Seq,
    },
}

impl Hash {
    /// Where the chain of a run begins.
    #[must_use]
    pub fn origin(run: RunId) -> Self {
        Self(Sha256::digest(run.0.as_bytes()).into())
    }

    /// The link behind this one.
    #[must_use]
    pub fn then(self, bytes: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(bytes).finalize().into())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl History {
    /// A run of which nothing is recorded yet.
    #[must_use]
    pub fn new(run: RunId) -> Self {
        Self { run, events: Vec::new() }
    }

    /// Adds a stored event, checking place and chain.
    ///
    /// # Errors
    /// [`HistoryError`] if the bytes are no event, don't belong here or don't fit the chain.
    pub fn push_stored(&mut self, seq: Seq, bytes: Vec<u8>, hash: Hash) -> Result<(), HistoryError> {
        let run = self.run;
        let event: Event = serde_json::from_slice(&bytes).map_err(|source| HistoryError::Unreadable { run, seq, source })?;
        let expected = self.next_seq();
        if seq != expected || event.seq != expected {
            return Err(HistoryError::Gap { run, expected, found: event.seq });
        }
        if self.head().then(&bytes) != hash {
            return Err(HistoryError::Broken { run, seq });
        }
        self.events.push(StoredEvent { event, bytes, hash });
        Ok(())
    }

    /// Adds a new event and links it.
    pub fn push(&mut self, event: Event) -> &StoredEvent {
        debug_assert_eq!(event.seq, self.next_seq());
        let bytes = serde_json::to_vec(&event).unwrap_or_default();
        let hash = self.head().then(&bytes);
        self.events.push(StoredEvent { event, bytes, hash });
        &self.events[self.events.len() - 1]
    }

    /// Position of the next event.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(i32::try_from(self.events.len()).unwrap_or(i32::MAX))
    }

    /// Last link of the chain.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.events.last().map_or_else(|| Hash::origin(self.run), |event| event.hash)
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.events.last().is_some_and(|e| matches!(&e.event.body, crate::EventBody::Command(c) if c.closes()))
    }
}
