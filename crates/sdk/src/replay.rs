//! A turn: replay what is recorded, deliver what is new, collect what the workflow wants next. Synchronous, on a plain
//! thread, with no runtime around it, so that a workflow that reaches for a timer or a socket panics instead of lying.
//!
//!   history ─▶ same commands? ─▶ messages ─▶ new events
//!
//! Invariants: 1. The turn of equal inputs is equal. 2. A message whose key is in the history is consumed and changes
//! nothing. 3. After the closing command nothing is added.

use std::{cell::RefCell, collections::BTreeSet, panic::AssertUnwindSafe, rc::Rc, task};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Command, Context, Event, EventBody, Failure, History, Inbound, Message, Registry, RunId, Seq, StoredEvent, WorkerId, machine::Machine,
    workflow::RunFuture,
};

/// Who makes the turn, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The store's time.
    pub at: DateTime<Utc>,
    /// Who.
    pub worker: WorkerId,
    /// Under this lease epoch.
    pub lease_epoch: i64,
    /// As this claim of the run.
    pub run_epoch: i64,
    /// Nonce of the turn.
    pub turn: Uuid,
}

/// What a turn adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// New events, chained behind the history.
    pub events: Vec<StoredEvent>,
    /// Keys of all messages that are used up, recorded or dropped.
    pub consumed: Vec<String>,
}

/// Why a history can't be replayed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The code asks for something else than it did.
    #[error("event {seq}: recorded {recorded}, replayed {replayed}")]
    Differs {
        /// First event that differs.
        seq: Seq,
        /// What the history says, as JSON or `nothing`.
        recorded: String,
        /// What the code wants, as JSON or `nothing`.
        replayed: String,
    },
    /// The code panicked.
    #[error("the workflow panicked: {0}")]
    Panicked(String),
    /// No code of this name is known here.
    #[error("no workflow is called {0}")]
    UnknownWorkflow(String),
    /// The first event is no start.
    #[error("the history does not begin with the start of a run")]
    NoStart,
}

/// Replays `history` and delivers `messages` in order.
///
/// # Errors
/// [`ReplayError`]; the run must then be set aside, not failed.
pub fn turn(registry: &Registry, history: &History, messages: &[Message], stamp: Stamp) -> Result<Turn, ReplayError> {
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut live = Live::new(registry, history.run);
        live.replay(history)?;
        live.extend(history, messages, stamp)
    }));
    caught.unwrap_or_else(|panic| Err(ReplayError::Panicked(panic_text(panic.as_ref()))))
}

/// Replays `history` alone: verifies that the code gives the recorded commands.
///
/// # Errors
/// [`ReplayError`] with the first difference.
pub fn verify(registry: &Registry, history: &History) -> Result<(), ReplayError> {
    let stamp = Stamp { at: DateTime::UNIX_EPOCH, worker: WorkerId(Uuid::nil()), lease_epoch: 0, run_epoch: 0, turn: Uuid::nil() };
    turn(registry, history, &[], stamp).map(drop)
}

struct Live<'a> {
    registry: &'a Registry,
    machine: Rc<RefCell<Machine>>,
    future: Option<RunFuture>,
    closed: bool,
}

impl<'a> Live<'a> {
    fn new(registry: &'a Registry, run: RunId) -> Self {
        Self { registry, machine: Rc::new(RefCell::new(Machine::new(run))), future: None, closed: false }
    }

    fn replay(&mut self, history: &History) -> Result<(), ReplayError> {
        let mut wanted: std::vec::IntoIter<Command> = Vec::new().into_iter();
        for stored in &history.events {
            let event = &stored.event;
            match &event.body {
                EventBody::Inbound(inbound) => {
                    same(event.seq, None, wanted.next().as_ref())?;
                    wanted = self.deliver(event.seq, event.at, inbound.clone())?.into_iter();
                }
                EventBody::Command(recorded) => same(event.seq, Some(recorded), wanted.next().as_ref())?,
            }
        }
        same(history.next_seq(), None, wanted.next().as_ref())
    }

    fn extend(&mut self, history: &History, messages: &[Message], stamp: Stamp) -> Result<Turn, ReplayError> {
        let (mut seq, mut head, mut events) = (history.next_seq(), history.head(), Vec::new());
        let mut add = |event: Event| {
            let stored = StoredEvent::behind(head, event);
            head = stored.hash;
            events.push(stored);
        };
        let mut seen: BTreeSet<&str> = history.events.iter().filter_map(|e| e.event.msg_key.as_deref()).collect();
        let keys: Vec<String> = messages.iter().map(Message::key).collect();
        for (message, key) in messages.iter().zip(&keys) {
            let inbound = message.clone().into_inbound();
            if self.closed || !self.machine.borrow().awaits(&inbound) || !seen.insert(key) {
                continue;
            }
            add(stamped(stamp, seq, Some(key.clone()), EventBody::Inbound(inbound.clone())));
            let commands = self.deliver(seq, stamp.at, inbound)?;
            seq = seq.next();
            for command in commands {
                add(stamped(stamp, seq, None, EventBody::Command(command)));
                seq = seq.next();
            }
        }
        Ok(Turn { events, consumed: keys })
    }

    /// Delivers one event and polls once; gives the commands that answer it.
    fn deliver(&mut self, seq: Seq, at: DateTime<Utc>, inbound: Inbound) -> Result<Vec<Command>, ReplayError> {
        if let Inbound::RunStarted { workflow, input, .. } = &inbound {
            let ctx = Context::new(self.machine.clone());
            let future = self.registry.start(workflow, ctx, input.clone());
            self.future = Some(future.ok_or_else(|| ReplayError::UnknownWorkflow(workflow.clone()))?);
        }
        self.machine.borrow_mut().deliver(seq, at, inbound);
        let future = self.future.as_mut().ok_or(ReplayError::NoStart)?;
        if let task::Poll::Ready(result) = future.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())) {
            self.closed = true;
            let mut machine = self.machine.borrow_mut();
            let closing = closing(result, machine.cancel.is_some());
            machine.command(closing);
        }
        Ok(self.machine.borrow_mut().take_commands())
    }
}

fn closing(result: Result<serde_json::Value, Failure>, cancelled: bool) -> Command {
    match result {
        Ok(output) => Command::RunCompleted { output },
        Err(failure) if cancelled && failure.code == "cancelled" => Command::RunCancelled { failure },
        Err(failure) => Command::RunFailed { failure },
    }
}

fn stamped(stamp: Stamp, seq: Seq, msg_key: Option<String>, body: EventBody) -> Event {
    let Stamp { at, worker, lease_epoch, run_epoch, turn } = stamp;
    Event { v: 1, seq, at, worker, lease_epoch, run_epoch, turn, msg_key, body }
}

fn same(seq: Seq, recorded: Option<&Command>, replayed: Option<&Command>) -> Result<(), ReplayError> {
    if recorded == replayed {
        return Ok(());
    }
    let shown = |command: Option<&Command>| command.map_or_else(|| "nothing".into(), |c| serde_json::to_string(c).unwrap_or_default());
    Err(ReplayError::Differs { seq, recorded: shown(recorded), replayed: shown(replayed) })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
