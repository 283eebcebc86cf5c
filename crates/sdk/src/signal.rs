//! Signals: what people and programs tell a run while it goes on. Buffered from its start, each (name, key) counts once.
//!
//!   wait for one ─▶ the next of that name, or nothing in time          quorum ─▶ enough different senders, one against, or nothing in time

use std::{collections::BTreeSet, future::poll_fn, task::Poll, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Cancelled, Command, Context, Failure, Seq};

/// A signal as it was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal<T> {
    /// Made it count once.
    pub key: String,
    /// Who sent it.
    pub by: String,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Content.
    pub body: T,
}

/// What a signal means for a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// One more, if its sender has not been counted yet.
    For,
    /// The end.
    Against,
    /// As if it had not come.
    Ignored,
}

/// How asking for a quorum ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// Enough different senders were for it.
    Reached,
    /// Somebody was against it.
    Refused,
    /// Time is up.
    TimedOut,
}

/// What came of asking for a quorum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quorum<T> {
    /// How it ended.
    pub decided: Decided,
    /// The votes that counted, in order.
    pub votes: Vec<Signal<T>>,
}

impl Context {
    /// Waits for the next signal of this name, at most `timeout`; `None` when the time is up.
    ///
    /// # Errors
    /// [`Cancelled`]; a body of another type is a failure of code `bad-signal`.
    pub async fn signal<T: DeserializeOwned>(&self, name: &str, timeout: Duration) -> Result<Option<T>, Failure> {
        Ok(self.next_signal(name, timeout).await?.map(|signal| signal.body))
    }

    /// The same, with who sent it and when.
    ///
    /// # Errors
    /// As [`Context::signal`].
    pub async fn next_signal<T: DeserializeOwned>(&self, name: &str, timeout: Duration) -> Result<Option<Signal<T>>, Failure> {
        let mut timer = None;
        let signal = poll_fn(|_| {
            if self.cancelled() {
                self.drop_timer(timer);
                return Poll::Ready(Err(Failure::from(Cancelled)));
            }
            let buffered = self.machine.borrow_mut().take_signal(name);
            if buffered.is_some() {
                self.drop_timer(timer);
                return Poll::Ready(Ok(buffered));
            }
            match timer {
                None => match self.start_timer(timeout, name) {
                    Ok(seq) => timer = Some(seq),
                    Err(cancelled) => return Poll::Ready(Err(cancelled.into())),
                },
                Some(of) if self.machine.borrow_mut().take_fired(of) => return Poll::Ready(Ok(None)),
                Some(_) => {}
            }
            Poll::Pending
        })
        .await?;
        signal.map(|signal| read(name, signal)).transpose()
    }

    /// Waits for the next signal of this name, for as long as it takes: for words of a parent, which ends us when it ends.
    ///
    /// # Errors
    /// As [`Context::signal`].
    pub async fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T, Failure> {
        let word = poll_fn(|_| {
            if self.cancelled() {
                return Poll::Ready(Err(Failure::from(Cancelled)));
            }
            let buffered = self.machine.borrow_mut().take_signal(name);
            buffered.map_or(Poll::Pending, |word| Poll::Ready(Ok(word)))
        });
        Ok(read::<T>(name, word.await?)?.body)
    }

    /// Waits until `need` different senders have sent a signal of this name that `judge` counts for it, one that it counts
    /// against it, or until `timeout` is over. No vote is needed if `need` is 0.
    ///
    /// # Errors
    /// As [`Context::signal`].
    pub async fn quorum<T: DeserializeOwned>(
        &self,
        name: &str,
        need: usize,
        timeout: Duration,
        mut judge: impl FnMut(&Signal<T>) -> Vote,
    ) -> Result<Quorum<T>, Failure> {
        let until = self.now() + timeout.min(crate::call::LONGEST);
        let (mut voters, mut votes) = (BTreeSet::new(), Vec::new());
        while voters.len() < need {
            let left = (until - self.now()).to_std().unwrap_or_default();
            let Some(signal) = self.next_signal::<T>(name, left).await? else {
                return Ok(Quorum { decided: Decided::TimedOut, votes });
            };
            let vote = judge(&signal);
            let counts = vote == Vote::Against || vote == Vote::For && voters.insert(signal.by.clone());
            votes.extend(counts.then_some(signal));
            if vote == Vote::Against {
                return Ok(Quorum { decided: Decided::Refused, votes });
            }
        }
        Ok(Quorum { decided: Decided::Reached, votes })
    }

    /// Forgets the signals of this name that have come so far: for signals that only say "look again".
    pub fn forget_signals(&self, name: &str) {
        while self.machine.borrow_mut().take_signal(name).is_some() {}
    }

    fn drop_timer(&self, timer: Option<Seq>) {
        let mut machine = self.machine.borrow_mut();
        // One that has fired meanwhile is gone from the store: to cancel it would ask for a row that never comes back.
        if let Some(of) = timer.filter(|of| !machine.take_fired(*of)) {
            machine.command(Command::TimerCancelled { of });
        }
    }
}

fn read<T: DeserializeOwned>(name: &str, signal: Signal<Value>) -> Result<Signal<T>, Failure> {
    let Signal { key, by, at, body } = signal;
    let body = serde_json::from_value(body).map_err(|e| Failure::fatal("bad-signal", format!("signal {name} of {by} can't be read: {e}")))?;
    Ok(Signal { key, by, at, body })
}
