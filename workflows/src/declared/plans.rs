//! What a plan asks for beside machines and actions. Carried out beside the store.

use recovery::ItemName;
use sdk::RunId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{READ, declare};

/// Whether a real failover can begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Way {
    /// That run has ended.
    Free,
    /// That run is a drill's and was asked to end.
    Drill,
    /// That run is none that makes way.
    Busy {
        /// What it is.
        workflow: String,
    },
}

declare! {
    /// Lets a plan be committed or undone by itself later, once this run has ended; a newer word about the plan takes its place.
    SetDeadline {
        /// What it is about.
        name: String,
        /// From now, milliseconds.
        after_ms: u64,
        /// Registered name of what begins then.
        workflow: String,
        /// What that is about.
        workflow_id: String,
        /// Its input.
        input: Value,
        /// In words.
        cause: String,
    } is "set-deadline", Idempotent, Prod, READ => ()
}

declare! {
    /// Forgets such a word.
    DropDeadline {
        /// What it is about.
        name: String,
    } is "drop-deadline", Idempotent, Prod, READ => ()
}

declare! {
    /// Asks a run that has an item to end, if it is only a test failover: the real thing goes first.
    MakeWay {
        /// Which item.
        item: ItemName,
        /// The run that has it.
        run: RunId,
        /// What is to begin.
        work: String,
    } is "make-way", Idempotent, Prod, READ => Way
}
