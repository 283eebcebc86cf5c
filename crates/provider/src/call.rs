//! What every mutating call carries, and how a long one tells how far it is.

use std::{fmt, ops::ControlFlow};

use recovery::EffectToken;
use serde::{Deserialize, Serialize};

/// Who asks for an effect, and with which right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Refused if the site has seen a greater one for the item. Names what the call creates.
    pub token: EffectToken,
    /// Run and step, or the person, for logs and for the proof; never used to decide.
    pub actor: String,
}

impl Call {
    /// A call by `actor` under `token`.
    pub fn new(token: EffectToken, actor: impl Into<String>) -> Self {
        Self { token, actor: actor.into() }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.token, self.actor)
    }
}

/// How far a long call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub bytes_done: u64,
    /// May grow while the call runs.
    pub bytes_total: u64,
}

/// Receives progress from a long call. Called from any thread, a few times a second at most.
pub trait ProgressSink: Send + Sync {
    /// `Break` asks the call to stop early; it then fails with [`ProviderError::Stopped`](crate::ProviderError::Stopped) and may be repeated.
    fn report(&self, progress: Progress) -> ControlFlow<()>;
}

/// Ignores progress and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl ProgressSink for Quiet {
    fn report(&self, _progress: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
