//! What the one who asks remembers: leases that were opened, runs, their histories as they were stored, and batches that could be sent again.

use std::collections::BTreeMap;

use engine::TurnWrite;
use sdk::{Event, History, RunId};
use uuid::Uuid;

use super::{ask::Ask, side::Answer};

/// As many as may still be in somebody's hands.
const MOST_KEPT: usize = 6;

#[derive(Default)]
pub(super) struct Book {
    /// How many leases were opened.
    pub(super) leases: usize,
    pub(super) runs: Vec<RunId>,
    /// As stored.
    pub(super) histories: BTreeMap<RunId, History>,
    /// As they were before their last turn.
    pub(super) earlier: BTreeMap<RunId, History>,
    /// Batches that were sent, with their lease.
    pub(super) sent: Vec<(usize, Vec<TurnWrite>)>,
    ids: u64,
}

impl Book {
    /// An id that nobody had; later ones are greater, as ids of runs are.
    pub(super) fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u64_pair(0x0190_0000_0000_7000 + (self.ids << 16), 0x8000_0000_0000_0000)
    }

    pub(super) fn history(&self, run: RunId) -> History {
        self.histories.get(&run).cloned().unwrap_or_else(|| History::new(run))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "from most questions nothing follows")]
    pub(super) fn note(&mut self, ask: &Ask, answer: &Answer) {
        match ask {
            Ask::OpenLease(..) => self.leases += 1,
            Ask::StartRun(start) => self.noted(start.run),
            Ask::Fire(firing, _) => {
                if let Some(start) = &firing.start {
                    self.noted(start.run.run);
                }
            }
            Ask::CommitTurns(lease, turns) => {
                if answer.said == "()" {
                    turns.iter().for_each(|turn| self.stored(turn));
                }
                if !self.sent.iter().any(|(_, sent)| sent.iter().zip(turns).any(|(one, other)| one.turn == other.turn)) {
                    self.sent.push((*lease, turns.clone()));
                }
                if self.sent.len() > MOST_KEPT {
                    self.sent.remove(0);
                }
            }
            _ => {}
        }
    }

    fn noted(&mut self, run: RunId) {
        if !self.runs.contains(&run) {
            self.runs.push(run);
        }
    }

    fn stored(&mut self, turn: &TurnWrite) {
        let before = self.history(turn.run);
        let mut history = before.clone();
        for event in &turn.events {
            if let Ok(event) = serde_json::from_slice::<Event>(&event.bytes) {
                history.push(event);
            }
        }
        self.earlier.insert(turn.run, before);
        self.histories.insert(turn.run, history);
        turn.children.iter().for_each(|child| self.noted(child.child));
    }
}
