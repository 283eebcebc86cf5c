//! The job queue: what waits, what is tried, what nobody can run.
//!
//! ```text
//!   GET  /v1/queues   GET /v1/queues/dead
//!   POST /v1/tasks/RUN/SEQ/retry | discard
//! ```

use serde::{Deserialize, Serialize};

/// One task queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub queue: String,
    /// Tasks that wait to be claimed.
    pub queued: i64,
    /// Tasks that are being carried out.
    pub claimed: i64,
    /// Tasks that nobody can run.
    pub dead: i64,
    /// How long the oldest waits, in milliseconds.
    pub oldest_age_ms: i64,
    /// Most attempts that one of its tasks has had.
    pub attempts: i32,
}

/// What was done to a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskChanged {
    /// `false`: it was no dead letter any more.
    pub changed: bool,
}
