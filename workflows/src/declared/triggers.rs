//! What a trigger's evaluation asks for. Carried out beside the store.

use recovery::trigger::{Evidence, TriggerName, TriggerPolicy};
use serde::{Deserialize, Serialize};

use super::{READ, declare};

/// A policy and the evidence for it, at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The policy as it stands.
    pub policy: TriggerPolicy,
    /// Counts its changes, from 1.
    pub version: i64,
    /// SHA-256 of its text, lower-case hex.
    pub sha256: String,
    /// What says that it should be looked at; gone once the look is recorded.
    pub wakes: Vec<i64>,
    /// What was seen.
    pub evidence: Evidence,
}

declare! {
    /// Reads a trigger policy and the evidence for it; `None` if there is no such policy any more.
    LoadEvidence {
        /// Which policy.
        policy: TriggerName,
    } is "load-evidence", Idempotent, Read, READ => Option<Look>
}
