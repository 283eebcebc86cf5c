//! What a process has seen of the store, or has done outside on its behalf: what it can say when the store comes back without its last commits.
//!
//! ```text
//!   worker, server: "stored", "accepted" ─▶ note        agent: about to begin an attempt ─▶ note, then the effect ─▶ outcome ─▶ note
//!   store started anew ─▶ testimony, in slices ─▶ compared there with what is there
//! ```
//!
//! Invariants: 1. No effect begins before its attempt is noted on its agent's disk. 2. Of a run the newest head is enough: hashes are chained.
//! 3. A note is evidence only of what was answered for: a turn without an answer is sent again or was never seen by anybody. 4. What was
//! heard after a testimony, of a question from before it, counts as no answer: a server that is gone may have given it, and it would be told
//! to nobody.

mod book;

use sdk::{Event, EventBody, Inbound, Message, Outcome, RunId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{ClaimedTask, TurnWrite};
pub use book::{Book, LIFE_S};

/// Most notes in a slice: some hundred kilobytes, compared well within the time limit of a statement.
pub const SLICE: usize = 500;

/// The newest head of a run that was told as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunNote {
    /// Whose.
    pub run: RunId,
    /// Its last event; -1 as long as it was only accepted.
    pub seq: i32,
    /// The chain's head there, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// `Message::Start`, known to whom it was asked of and who took the first turn: with it the run can be put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Message>,
    /// Of a child: its parent asks for it again, and what was done for it counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_of: Option<ChildOf>,
}

/// By what a child is known that is asked for again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildOf {
    /// Who asked for it.
    pub parent: RunId,
    /// Its workflow id.
    pub about: String,
}

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageNote {
    /// To whom.
    pub run: RunId,
    /// Makes it count once.
    pub key: String,
    /// What.
    pub body: Message,
}

/// An attempt, the newest of its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EffectNote {
    /// For which run.
    pub run: RunId,
    /// Scheduling event.
    pub seq: Seq,
    /// Declared name.
    pub activity: String,
    /// SHA-256 of the input's JSON text, in hex: a result counts only for the same input.
    pub input_sha256: String,
    /// Which attempt.
    pub attempt: i32,
    /// Of the token that was shown.
    pub run_epoch: i64,
    /// Of the token that was shown.
    #[serde(default)]
    pub era: i64,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// That the store has accepted the outcome.
    #[serde(default)]
    pub accepted: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A head.
    Run(RunNote),
    /// A message.
    Message(MessageNote),
    /// An attempt.
    Effect(EffectNote),
}

/// Notes as they are handed to the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Testimony {
    /// Heads.
    pub runs: Vec<RunNote>,
    /// Messages, in the order in which they were accepted.
    pub messages: Vec<MessageNote>,
    /// Attempts.
    pub effects: Vec<EffectNote>,
}

impl Testimony {
    /// How many notes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len() + self.messages.len() + self.effects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The heads that a batch leaves. A turn without events leaves the head as it was; a first one says what was asked for.
#[must_use]
pub fn heads(turns: &[TurnWrite]) -> Vec<Note> {
    let head = |turn: &TurnWrite| {
        let (first, last) = (turn.events.first()?, turn.events.last()?);
        let start = if first.seq == Seq(0) { start_of(&first.bytes) } else { None };
        Some(Note::Run(RunNote { run: turn.run, seq: last.seq.0, hash: Some(hex::encode(last.hash.0)), start, child_of: turn.child_of.clone() }))
    };
    turns.iter().filter_map(head).collect()
}

/// The start that a first event records.
fn start_of(event: &[u8]) -> Option<Message> {
    match serde_json::from_slice::<Event>(event).ok()?.body {
        EventBody::Inbound(Inbound::RunStarted { workflow, input, workflow_id, requested_by, trace, parent }) => {
            Some(Message::Start { workflow, input, workflow_id, requested_by, trace, parent })
        }
        EventBody::Inbound(_) | EventBody::Command(_) => None,
    }
}

/// An attempt that is about to begin.
#[must_use]
pub fn begun(task: &ClaimedTask) -> Note {
    Note::Effect(attempt(task))
}

fn attempt(task: &ClaimedTask) -> EffectNote {
    EffectNote {
        run: task.run,
        seq: task.task.seq,
        activity: task.task.activity.clone(),
        input_sha256: input_sha256(&task.task.input),
        attempt: task.token.attempt,
        run_epoch: task.token.run_epoch,
        era: task.token.era,
        outcome: None,
        accepted: false,
    }
}

/// SHA-256 of an input's JSON text, in hex.
#[must_use]
pub fn input_sha256(input: &Value) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(input).unwrap_or_default()))
}

/// The same with how it ended, once the store has accepted that.
#[must_use]
pub fn ended(task: &ClaimedTask, outcome: &Outcome) -> Note {
    Note::Effect(EffectNote { outcome: Some(outcome.clone()), accepted: true, ..attempt(task) })
}

/// Why notes were not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotNoted {
    /// Act as if the store had not answered.
    #[error("the answer came after it was asked for anew what had been answered; a database server that is gone may have given it")]
    Late,
    /// The disk.
    #[error("the file of notes can't be written")]
    Disk(#[from] std::io::Error),
}

/// Where a witness keeps its notes.
pub trait Witness: Send + Sync {
    /// Who it is, for as long as its notes live.
    fn id(&self) -> uuid::Uuid;
    /// How often it has testified. Taken before the store is asked for what will be noted.
    fn testimonies(&self) -> u64;
    /// Keeps notes of what the store has answered; they are on the disk when it returns. `since`: [`Witness::testimonies`] when it was asked.
    ///
    /// # Errors
    /// They are not kept.
    fn note(&self, since: u64, notes: &[Note]) -> Result<(), NotNoted>;
    /// All that is kept, in slices; never empty, so that a witness without notes testifies too.
    fn testimony(&self) -> Vec<Testimony>;
}
