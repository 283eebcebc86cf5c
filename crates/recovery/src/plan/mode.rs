//! In which ways a plan is run, and what becomes of it when a step fails.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A way to run a plan forward or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Copies on isolated networks; production and replication do not notice.
    Test,
    /// To the other site without loss; stops at the first error.
    Planned,
    /// To the other site, from points; a dead site does not stop it.
    Unplanned,
    /// Back to the primary site.
    Failback,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::Test, Mode::Planned, Mode::Unplanned, Mode::Failback];

    /// The word used in plans, on the command line and in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Test => "test",
            Mode::Planned => "planned",
            Mode::Unplanned => "unplanned",
            Mode::Failback => "failback",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not test, planned, unplanned or failback")]
pub struct InvalidMode {
    /// What was given.
    pub text: String,
}

impl FromStr for Mode {
    type Err = InvalidMode;
    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        Mode::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| InvalidMode { text: text.to_owned() })
    }
}

/// What becomes of a plan when one of its steps has failed, after its retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Nothing more is begun; what is under way ends.
    #[default]
    Stop,
    /// The plan goes on, and says so in its result.
    Continue,
    /// A person is asked: retry, skip or stop.
    Ask,
}
