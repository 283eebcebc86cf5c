//! What is asked of a site's agent beside its machines: the actions of plans.

use recovery::{
    Generation,
    plan::action::{ActionContext, Performed},
};
use sdk::{ActivityOptions, Retry, Timeouts};
use serde::{Deserialize, Serialize};

use super::declare;

/// Longest output that a history keeps of an action, in bytes: the beginning and the end of what was said. It stands in every export.
pub const MOST_OUTPUT: usize = 16_384;

/// An action that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResult {
    /// What was done and what was answered, in words.
    pub evidence: String,
    /// An exit code, a status of HTTP, a response code of DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// What was said: standard output and error as they came, or a body. What is no UTF-8 is replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Something in the middle of it was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One attempt may take as long as the action says, which the agent sees to; an agent that falls silent is noticed by that.
const ACTION: ActivityOptions = ActivityOptions {
    retry: Retry { max_attempts: 3, first_ms: 1_000, factor: 2.0, max_ms: 10_000 },
    timeouts: Timeouts { queue_ms: None, start_to_close_ms: 86_400_000 + 60_000, total_ms: None, heartbeat_ms: Some(15_000) },
};

declare! {
    /// Carries out an action that may be done again.
    CarryOut {
        /// What.
        action: Performed,
        /// Which step of which plan that is.
        context: ActionContext,
        /// Of the machine or the copy that it belongs to, if it belongs to one.
        machine: Option<Generation>,
        /// The plan says for this action that it is meant for tests, although it can't be confined to a copy.
        meant_for_tests: bool,
    } is "carry-out", Idempotent, Prod, ACTION => ActionResult
}

declare! {
    /// Carries out an action at most once: what is in doubt stays unknown.
    CarryOutOnce {
        /// What.
        action: Performed,
        /// Which step of which plan that is.
        context: ActionContext,
        /// Of the machine or the copy that it belongs to, if it belongs to one.
        machine: Option<Generation>,
        /// The plan says for this action that it is meant for tests, although it can't be confined to a copy.
        meant_for_tests: bool,
    } is "carry-out-once", AtMostOnce, Prod, ACTION => ActionResult
}
