//! What a workflow sees of the engine. Cheap to clone; not `Send`: a workflow lives on one plain thread.
//!
//! A context also carries under which lock and behind which shield its calls happen, so that scope is a value and not a state.

use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{Activity, Call, Command, Failure, Grant, RunId, Saga, Seq, TaskQueue, machine::Machine};

/// Somebody asked for the run to stop, and this wait ended because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// The workflow's side of the engine.
#[derive(Clone)]
pub struct Context {
    pub(crate) machine: Rc<RefCell<Machine>>,
    pub(crate) shielded: bool,
    pub(crate) compensating: bool,
    pub(crate) grant: Option<Grant>,
}

impl Context {
    pub(crate) fn new(machine: Rc<RefCell<Machine>>) -> Self {
        Self { machine, shielded: false, compensating: false, grant: None }
    }

    /// Which run this is.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.machine.borrow().run
    }

    /// Who asked for it.
    #[must_use]
    pub fn requested_by(&self) -> String {
        self.machine.borrow().requested_by.clone()
    }

    /// Which run asked for it, if one did.
    #[must_use]
    pub fn parent(&self) -> Option<crate::Parent> {
        self.machine.borrow().parent
    }

    /// Time of the last delivered event; the same in every replay.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.machine.borrow().now
    }

    /// A new id; the same in every replay.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let mut machine = self.machine.borrow_mut();
        machine.ids_given += 1;
        Uuid::new_v5(&machine.run.0, &machine.ids_given.to_be_bytes())
    }

    /// An activity to be carried out by whoever polls `queue`.
    #[must_use]
    pub fn call<A: Activity>(&self, queue: TaskQueue, activity: &A) -> Call<A> {
        Call::new(self.clone(), queue, activity)
    }

    /// The same context, whose calls go on although the run is being cancelled. For cleanup.
    #[must_use]
    pub fn shielded(&self) -> Self {
        Self { shielded: true, ..self.clone() }
    }

    /// The same context, whose calls end when somebody asks for the run to stop from now on; what was asked before is heard already, and
    /// then they go on. For cleanup that waits for somebody who does not answer.
    #[must_use]
    pub fn until_cancelled(&self) -> Self {
        Self { shielded: self.machine.borrow().cancel.is_some(), ..self.clone() }
    }

    pub(crate) fn compensating(&self) -> Self {
        Self { shielded: true, compensating: true, ..self.clone() }
    }

    /// A scope whose steps are undone, last first, when it fails or is cancelled.
    #[must_use]
    pub fn saga(&self) -> Saga {
        Saga::new(self)
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub async fn sleep(&self, time: Duration) -> Result<(), Cancelled> {
        let timer = self.start_timer(time, "sleep")?;
        poll_fn(|_| {
            if self.machine.borrow_mut().take_fired(timer) {
                return Poll::Ready(Ok(()));
            }
            if self.cancelled() {
                self.machine.borrow_mut().command(Command::TimerCancelled { of: timer });
                return Poll::Ready(Err(Cancelled));
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until all of these are locked for this run; gives the context under that lock. The locks end with the run.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub async fn lock(&self, resource: &str) -> Result<(Self, Grant), Cancelled> {
        if self.cancelled() {
            return Err(Cancelled);
        }
        let of = self.machine.borrow_mut().command(Command::LocksRequested { resources: vec![resource.into()] });
        let grants = poll_fn(|_| {
            if let Some(grants) = self.machine.borrow_mut().take_granted(of) {
                return Poll::Ready(Ok(grants));
            }
            if self.cancelled() {
                self.machine.borrow_mut().command(Command::LocksReleased { of });
                return Poll::Ready(Err(Cancelled));
            }
            Poll::Pending
        })
        .await?;
        let grant = grants.into_iter().next().unwrap_or(Grant { resource: resource.into(), epoch: 0, era: 0 });
        Ok((Self { grant: Some(grant.clone()), ..self.clone() }, grant))
    }

    /// Records a fact for a projection, written in the same transaction.
    pub fn record(&self, projection: &str, fact: &impl Serialize) {
        let fact = serde_json::to_value(fact).unwrap_or_default();
        self.machine.borrow_mut().command(Command::Recorded { projection: projection.into(), fact });
    }

    /// From here on the run can't be cancelled.
    ///
    /// # Errors
    /// [`Cancelled`] if somebody already asked.
    pub fn point_of_no_return(&self, reason: &str) -> Result<(), Cancelled> {
        if self.cancelled() {
            return Err(Cancelled);
        }
        let mut machine = self.machine.borrow_mut();
        machine.no_return = Some(reason.into());
        machine.command(Command::PointOfNoReturn { reason: reason.into() });
        Ok(())
    }

    /// Whether cancellation reaches calls of this context.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        !self.shielded && self.machine.borrow().cancel.is_some()
    }

    pub(crate) fn start_timer(&self, time: Duration, label: &str) -> Result<Seq, Cancelled> {
        if self.cancelled() {
            return Err(Cancelled);
        }
        let mut machine = self.machine.borrow_mut();
        let due_at = machine.now + time.min(crate::call::LONGEST);
        Ok(machine.command(Command::TimerStarted { due_at, label: label.into() }))
    }
}

impl From<Cancelled> for Failure {
    fn from(_: Cancelled) -> Self {
        Self::fatal("cancelled", "the run was cancelled").not_applied()
    }
}
