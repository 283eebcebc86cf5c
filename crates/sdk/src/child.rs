//! Child executions: runs that a run starts, of which it hears how they end.
//!
//!   ask ─▶ started ─▶ ended          ask ─▶ refused: an open run is about the same
//!
//! Invariants: 1. A child is started in the transaction that records the wish for it, so exactly once; its id follows from its
//! parent's history. 2. A child that is to end with its parent is asked to stop when the parent is, and its end is awaited: what
//! was begun is not abandoned. 3. When a parent ends, its close policy decides about children that are open. 4. Parent and child tell
//! each other by signals, which are stored with the turn that sends them and heard once.

use std::{future::poll_fn, marker::PhantomData, task::Poll};

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{ChildEnd, ClosePolicy, Command, Context, Failure, Kin, RunId, Seq, Workflow, machine::Begun};

/// Why there is no result of a child.
#[derive(Debug)]
pub enum ChildError {
    /// It was not started: this open run is about the same.
    AlreadyOpen(RunId),
    /// It failed.
    Failed(Failure),
    /// It was cancelled, by us or by somebody else.
    Cancelled(Failure),
    /// We are being cancelled, and it was not started or goes on without us.
    Left,
    /// Its input can't be written, or its result can't be read as the declared type.
    Unreadable(String),
}

/// A child that was started.
pub struct Child<W: Workflow> {
    ctx: Context,
    of: Seq,
    run: RunId,
    close: ClosePolicy,
    declared: PhantomData<W>,
}

impl RunId {
    /// The id of a child: of the time at which its parent asked for it, and of nobody else.
    #[must_use]
    pub(crate) fn of_child(parent: Self, of: Seq, at_ms: u64) -> Self {
        let (high, low) = Uuid::new_v5(&parent.0, &of.0.to_be_bytes()).as_u64_pair();
        let version_7 = (at_ms << 16) | 0x7000 | (high & 0x0fff);
        Self(Uuid::from_u64_pair(version_7, (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000))
    }
}

impl Context {
    /// Starts a child, unless an open run has its workflow id.
    ///
    /// # Errors
    /// [`ChildError::AlreadyOpen`], [`ChildError::Left`] if the run is being cancelled, [`ChildError::Unreadable`].
    pub async fn child<W: Workflow>(&self, workflow_id: impl Into<String>, input: &W::Input, close: ClosePolicy) -> Result<Child<W>, ChildError>
    where
        W::Input: Serialize,
    {
        if self.cancelled() {
            return Err(ChildError::Left);
        }
        let (of, run) = self.wish::<W>(workflow_id.into(), input, close)?;
        // The answer is there with the next message, whoever is being cancelled: it comes from the transaction that stores the wish.
        let begun = poll_fn(|_| self.machine.borrow_mut().take_begun(of).map_or(Poll::Pending, Poll::Ready)).await;
        match begun {
            Begun::Started => Ok(Child { ctx: self.clone(), of, run, close, declared: PhantomData }),
            Begun::Refused(open) => Err(ChildError::AlreadyOpen(open)),
        }
    }
}

impl Context {
    /// Asks for a run that takes this one's place, under the same workflow id: the last thing that a run does before it ends. It is
    /// started in the transaction that ends this one. For runs that would grow for ever.
    ///
    /// # Errors
    /// [`ChildError::Unreadable`] if its input can't be written.
    pub fn succeeded_by<W: Workflow>(&self, input: &W::Input) -> Result<RunId, ChildError>
    where
        W::Input: Serialize,
    {
        let workflow_id = self.machine.borrow().workflow_id.clone();
        self.wish::<W>(workflow_id, input, ClosePolicy::Leave).map(|(_, run)| run)
    }

    /// Tells the run that asked for this one something; nobody hears it if there is none, or it has ended.
    ///
    /// # Errors
    /// [`ChildError::Unreadable`] if `body` can't be written.
    pub fn tell_parent(&self, name: &str, body: &impl Serialize) -> Result<(), ChildError> {
        if self.parent().is_none() {
            return Ok(());
        }
        self.tell(Kin::Parent, name, body)
    }

    fn tell(&self, to: Kin, name: &str, body: &impl Serialize) -> Result<(), ChildError> {
        let body = serde_json::to_value(body).map_err(|error| ChildError::Unreadable(error.to_string()))?;
        self.machine.borrow_mut().command(Command::SignalSent { to, name: name.into(), body });
        Ok(())
    }

    fn wish<W: Workflow>(&self, workflow_id: String, input: &W::Input, close: ClosePolicy) -> Result<(Seq, RunId), ChildError>
    where
        W::Input: Serialize,
    {
        let input = serde_json::to_value(input).map_err(|error| ChildError::Unreadable(error.to_string()))?;
        let mut machine = self.machine.borrow_mut();
        let (of, at_ms) = (machine.next_seq(), u64::try_from(machine.now.timestamp_millis()).unwrap_or(0));
        let child = RunId::of_child(machine.run, of, at_ms);
        machine.command(Command::ChildRequested { child, workflow: W::NAME.into(), workflow_id, input, close });
        Ok((of, child))
    }
}

impl<W: Workflow> Child<W>
where
    W::Output: DeserializeOwned,
{
    /// Its run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Asks it to stop; how it ends is still to be awaited.
    pub fn cancel(&self, reason: &str) {
        self.ctx.machine.borrow_mut().command(Command::ChildCancelRequested { of: self.of, reason: reason.into() });
    }

    /// Tells it something; it hears a signal of this name, unless it has ended.
    ///
    /// # Errors
    /// [`ChildError::Unreadable`] if `body` can't be written.
    pub fn tell(&self, name: &str, body: &impl Serialize) -> Result<(), ChildError> {
        self.ctx.tell(Kin::Child { of: self.of }, name, body)
    }

    /// Waits until it has ended. If we are cancelled meanwhile, a child that is to end with us is told so and awaited; another is left.
    ///
    /// # Errors
    /// [`ChildError`].
    pub async fn ended(&self) -> Result<W::Output, ChildError> {
        let mut told = false;
        self.read(poll_fn(|_| self.poll_end(&mut told)).await)
    }

    /// Waits for a word of it, or for its end if that comes first; a word that came before its end is heard first. Children that may
    /// speak at the same time use different names.
    ///
    /// # Errors
    /// How it ended, which may be well.
    pub async fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T, Result<W::Output, ChildError>> {
        let mut told = false;
        let heard = poll_fn(|_| {
            let word = self.ctx.machine.borrow_mut().take_signal(name);
            match word {
                Some(word) => Poll::Ready(Ok(word.body)),
                None => self.poll_end(&mut told).map(Err),
            }
        });
        match heard.await {
            Ok(body) => serde_json::from_value(body).map_err(|error| Err(ChildError::Unreadable(error.to_string()))),
            Err(end) => Err(self.read(end)),
        }
    }

    /// `None`: we are being cancelled, and it goes on without us.
    fn poll_end(&self, told: &mut bool) -> Poll<Option<ChildEnd>> {
        let ended = self.ctx.machine.borrow_mut().take_ended(self.of);
        if let Some(end) = ended {
            return Poll::Ready(Some(end));
        }
        if self.ctx.cancelled() && !*told {
            if self.close == ClosePolicy::Leave {
                return Poll::Ready(None);
            }
            *told = true;
            self.cancel("the run that asked for it is being cancelled");
        }
        Poll::Pending
    }

    fn read(&self, end: Option<ChildEnd>) -> Result<W::Output, ChildError> {
        match end {
            None => Err(ChildError::Left),
            Some(ChildEnd::Completed { output }) => serde_json::from_value(output).map_err(|error| ChildError::Unreadable(error.to_string())),
            Some(ChildEnd::Failed { failure }) => Err(ChildError::Failed(failure)),
            Some(ChildEnd::Cancelled { failure }) => Err(ChildError::Cancelled(failure)),
        }
    }
}

impl From<ChildError> for Failure {
    fn from(error: ChildError) -> Self {
        match error {
            ChildError::AlreadyOpen(run) => Self::fatal("already-running", format!("run {run} is about the same and has not ended")).not_applied(),
            ChildError::Failed(failure) | ChildError::Cancelled(failure) => Self { retryable: false, ..failure },
            ChildError::Left => crate::Cancelled.into(),
            ChildError::Unreadable(why) => Self::fatal("unreadable-result", why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_child_sorts_by_its_time_and_belongs_to_its_parents_event() {
        let parent = RunId(Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0001));
        let id = RunId::of_child(parent, Seq(4), 1_800_000_000_123);
        assert_eq!((id.0.get_version_num(), id.0.get_timestamp().map(|at| at.to_unix().0)), (7, Some(1_800_000_000)));
        assert_eq!(id, RunId::of_child(parent, Seq(4), 1_800_000_000_123));
        assert_ne!(id, RunId::of_child(parent, Seq(5), 1_800_000_000_123));
        assert!(id < RunId::of_child(parent, Seq(4), 1_800_000_000_124));
    }
}
