//! What a workflow declares about work with side effects: its name, types, effect, retries and time limits.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Failure;

/// What may happen to the outside world when an attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Doing it again with the same key changes nothing more.
    Idempotent,
    /// Whether it was done can be asked of the real world; asked before each repetition.
    Probeable,
    /// It is never called a second time unless the first call certainly did nothing.
    AtMostOnce,
}

/// What an activity may touch; a drill refuses `Prod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Production: machines, networks, storage that users rely on.
    Prod,
    /// Copies on isolated networks.
    Isolated,
    /// Nothing: it only looks.
    Read,
}

/// When a failed attempt is repeated. Delays grow from `first_ms` by `factor` up to `max_ms`, plus up to a fifth of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub max_attempts: i32,
    /// Delay before the second attempt.
    pub first_ms: u64,
    /// Growth of the delay.
    pub factor: f64,
    /// Longest delay.
    pub max_ms: u64,
}

/// The four time limits of an activity, in milliseconds; `None` means no limit of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Longest wait until somebody claims the task; also after an attempt whose holder is gone.
    pub queue_ms: Option<u64>,
    /// Longest single attempt.
    pub start_to_close_ms: u64,
    /// Longest time for all attempts together, from scheduling.
    pub total_ms: Option<u64>,
    /// Longest silence of a running attempt.
    pub heartbeat_ms: Option<u64>,
}

/// How an activity is carried out, recorded with its scheduling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivityOptions {
    /// When failed attempts are repeated.
    pub retry: Retry,
    /// The four limits.
    pub timeouts: Timeouts,
}

/// The typed error of an activity.
pub trait AppError: Serialize + DeserializeOwned + std::fmt::Display {
    /// Stable code of this error, kebab-case.
    fn code(&self) -> String;
    /// Whether no further attempt can help.
    fn fatal(&self) -> bool;
}

/// The error type of activities that have none of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Never {}

/// Declaration of an activity; the value is its input. Implemented elsewhere.
pub trait Activity: Serialize + DeserializeOwned + 'static {
    /// Name under which it is recorded; never changes.
    const NAME: &'static str;
    /// What repetition means.
    const EFFECT: Effect;
    /// What it may touch.
    const SCOPE: Scope;
    /// Its result.
    type Output: Serialize + DeserializeOwned + 'static;
    /// Its typed error.
    type Error: AppError;
    /// How it is carried out unless the caller says otherwise.
    fn options() -> ActivityOptions {
        ActivityOptions::default()
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 5, first_ms: 500, factor: 2.0, max_ms: 30_000 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { queue_ms: None, start_to_close_ms: 60_000, total_ms: None, heartbeat_ms: None }
    }
}

impl Retry {
    /// One attempt only.
    pub const NEVER: Self = Self { max_attempts: 1, first_ms: 0, factor: 1.0, max_ms: 0 };

    /// Delay after failed attempt `attempt` (from 1). `jitter` in 0..=1 chooses within the last fifth.
    #[must_use]
    pub fn delay(&self, attempt: i32, jitter: f64) -> Duration {
        let grown = (0..attempt.max(1) - 1).fold(self.first_ms as f64, |ms, _| (ms * self.factor).min(self.max_ms as f64));
        Duration::from_millis((grown * (1.0 + 0.2 * jitter.clamp(0.0, 1.0))) as u64)
    }
}

impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl AppError for Never {
    fn code(&self) -> String {
        match *self {}
    }
    fn fatal(&self) -> bool {
        match *self {}
    }
}

impl Failure {
    /// The typed error as it is recorded.
    pub fn app<E: AppError>(error: &E) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            retryable: !error.fatal(),
            applied: crate::Applied::Unknown,
            detail: serde_json::json!({ "error": serde_json::to_value(error).unwrap_or_default() }),
        }
    }
}
