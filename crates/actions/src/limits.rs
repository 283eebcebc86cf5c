//! Until when an action is waited for: its time, and somebody who still wants it.

use std::{future::Future, pin::Pin, time::Duration};

use provider::Wanted;
use recovery::span::Span;
use tokio::time::Instant;

/// How often somebody is asked whether it is still wanted: how long a cancelled action goes on.
const EVERY: Duration = Duration::from_secs(2);

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its time is up.
    Late,
    /// Nobody wants it any more.
    Unwanted,
}

/// The two ends of an action beside its own.
pub(crate) struct Limits<'a> {
    within: Span,
    deadline: Instant,
    unwanted: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl<'a> Limits<'a> {
    pub(crate) fn of(within: Span, wanted: &'a dyn Wanted) -> Self {
        let unwanted = Box::pin(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                if !wanted.still().await {
                    return;
                }
            }
        });
        Self { within, deadline: Instant::now() + within.duration(), unwanted }
    }

    /// The same with less time.
    pub(crate) fn shorter(self, within: Span) -> Self {
        let shorter = self.within.min(within);
        let deadline = self.deadline - (self.within.duration() - shorter.duration());
        Self { within: shorter, deadline, ..self }
    }

    /// How long it may take in all.
    pub(crate) fn within(&self) -> Span {
        self.within
    }

    /// How long is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Ends when something else should.
    pub(crate) async fn over(&mut self) -> Over {
        if self.left().is_zero() {
            return Over::Late; // whatever else is ready
        }
        tokio::select! {
            () = tokio::time::sleep_until(self.deadline) => Over::Late,
            () = &mut self.unwanted => Over::Unwanted,
        }
    }

    /// The outcome of something that ends by itself, or what ended the wait for it.
    pub(crate) async fn wait<T>(&mut self, of: impl Future<Output = T>) -> Result<T, Over> {
        tokio::select! {
            outcome = of => Ok(outcome),
            over = self.over() => Err(over),
        }
    }
}
