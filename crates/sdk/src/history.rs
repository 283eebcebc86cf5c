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

impl StoredEvent {
    /// An event as it is stored behind that link.
    #[must_use]
    pub fn behind(head: Hash, event: Event) -> Self {
        let bytes = serde_json::to_vec(&event).unwrap_or_default();
        let hash = head.then(&bytes);
        Self { event, bytes, hash }
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
        let stored = StoredEvent::behind(self.head(), event);
        self.events.push(stored);
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{Command, EventBody, Failure, Grant, Inbound, Outcome, WorkerId};

    fn run() -> RunId {
        RunId(Uuid::from_u64_pair(1, 2))
    }

    fn bodies() -> Vec<EventBody> {
        let started = Inbound::RunStarted {
            workflow: "failover".into(),
            input: json!({"item": "db9"}),
            workflow_id: "item:db9".into(),
            requested_by: "ada".into(),
            trace: None,
            parent: None,
        };
        let granted = Inbound::LocksGranted { of: Seq(1), grants: vec![Grant { resource: "item:db9".into(), epoch: 3, era: 1 }] };
        let failed = Outcome::Failed { failure: Failure::retryable("busy", "the disk is busy").not_applied(), attempts: 2 };
        vec![
            EventBody::Inbound(started),
            EventBody::Command(Command::LocksRequested { resources: vec!["item:db9".into()] }),
            EventBody::Inbound(granted),
            EventBody::Command(Command::TimerStarted { due_at: DateTime::UNIX_EPOCH, label: "sleep".into() }),
            EventBody::Inbound(Inbound::ActivityFinished { of: Seq(3), outcome: failed }),
            EventBody::Command(Command::RunFailed { failure: Failure::fatal("busy", "the disk is busy") }),
        ]
    }

    fn history() -> History {
        let mut history = History::new(run());
        for body in bodies() {
            let seq = history.next_seq();
            history.push(Event {
                v: 1,
                seq,
                at: DateTime::UNIX_EPOCH,
                worker: WorkerId(Uuid::nil()),
                lease_epoch: 4,
                run_epoch: 5,
                turn: Uuid::nil(),
                msg_key: None,
                body,
            });
        }
        history
    }

    fn reread(stored: &[StoredEvent]) -> Result<History, HistoryError> {
        let mut history = History::new(run());
        for (place, event) in stored.iter().enumerate() {
            history.push_stored(Seq(i32::try_from(place).unwrap()), event.bytes.clone(), event.hash)?;
        }
        Ok(history)
    }

    #[test]
    fn a_stored_history_reads_back() {
        assert_eq!(reread(&history().events).unwrap(), history());
        assert!(history().closed());
    }

    #[test]
    fn any_changed_byte_is_found_at_its_event() {
        let events = history().events;
        for (place, event) in events.iter().enumerate() {
            for byte in 0..event.bytes.len() {
                let mut changed = events.clone();
                changed[place].bytes[byte] ^= 1;
                let found = match reread(&changed).unwrap_err() {
                    HistoryError::Unreadable { seq, .. } | HistoryError::Broken { seq, .. } => seq,
                    HistoryError::Gap { expected, .. } => expected,
                };
                assert_eq!(found, events[place].event.seq, "byte {byte}");
            }
        }
    }

    #[test]
    fn a_missing_event_and_another_runs_events_are_found() {
        let mut events = history().events;
        let mut other = History::new(RunId(Uuid::nil()));
        assert!(matches!(other.push_stored(Seq(0), events[0].bytes.clone(), events[0].hash), Err(HistoryError::Broken { .. })));
        events.remove(2);
        assert!(matches!(reread(&events), Err(HistoryError::Gap { expected: Seq(2), found: Seq(3), .. })));
    }

    /// The persisted form: a change here needs a new version and a reader of the old one.
    #[test]
    fn the_form_of_an_event_does_not_change_unnoticed() {
        let history = history();
        let text = |place: usize| String::from_utf8(history.events[place].bytes.clone()).unwrap();
        assert_eq!(
            text(0),
            r#"{"v":1,"seq":0,"at":"1970-01-01T00:00:00Z","worker":"00000000-0000-0000-0000-000000000000","lease_epoch":4,"run_epoch":5,"turn":"00000000-0000-0000-0000-000000000000","body":{"inbound":{"kind":"run_started","workflow":"failover","input":{"item":"db9"},"workflow_id":"item:db9","requested_by":"ada","trace":null}}}"#
        );
        assert_eq!(
            text(4),
            r#"{"v":1,"seq":4,"at":"1970-01-01T00:00:00Z","worker":"00000000-0000-0000-0000-000000000000","lease_epoch":4,"run_epoch":5,"turn":"00000000-0000-0000-0000-000000000000","body":{"inbound":{"kind":"activity_finished","of":3,"result":{"outcome":"failed","failure":{"code":"busy","message":"the disk is busy","retryable":true,"applied":"no"},"attempts":2}}}}"#
        );
    }

    #[test]
    fn an_unknown_field_of_a_newer_writer_is_read_over() {
        let text = r#"{"v":1,"seq":0,"at":"1970-01-01T00:00:00Z","worker":"00000000-0000-0000-0000-000000000000","lease_epoch":4,"run_epoch":5,"turn":"00000000-0000-0000-0000-000000000000","colour":"green","body":{"command":{"kind":"point_of_no_return","reason":"x","colour":"green"}}}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.body, EventBody::Command(Command::PointOfNoReturn { reason: "x".into() }));
    }
}
