//! Why something did not work, as it is recorded: a code for programs, a sentence for people, and what is known about the effect.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether an effect may have reached the outside world although the attempt failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// It certainly did not.
    No,
    /// Nobody knows; a probe or a person must find out.
    #[default]
    Unknown,
}

/// Which of the four time limits ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutKind {
    /// Nobody claimed the task.
    Queue,
    /// An attempt took too long.
    StartToClose,
    /// All attempts together took too long.
    Total,
    /// An attempt fell silent, and it was the last or nobody took it over within the queue limit.
    Heartbeat,
}

/// A failed attempt, activity or run, as recorded in histories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code, kebab-case, e.g. `disk-not-qcow2`.
    pub code: String,
    /// What was attempted on what, and what went wrong; for people.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// What is known about the effect.
    #[serde(default)]
    pub applied: Applied,
    /// The typed error or other facts.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl Failure {
    /// A failure that no further attempt can mend.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, applied: Applied::Unknown, detail: Value::Null }
    }

    /// A failure that may pass.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::fatal(code, message) }
    }

    /// The same, with the certainty that nothing happened outside.
    #[must_use]
    pub fn not_applied(self) -> Self {
        Self { applied: Applied::No, ..self }
    }

    /// The same, with facts for programs.
    #[must_use]
    pub fn with_detail(self, detail: Value) -> Self {
        Self { detail, ..self }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}
