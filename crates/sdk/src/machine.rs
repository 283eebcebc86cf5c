//! State of one run while its workflow is polled: what was delivered, what is awaited, what is wanted next.
//!
//!   deliver(inbound) ─▶ poll ─▶ take_commands()
//!
//! Invariants: 1. A command's position is fixed when it is asked for. 2. Nothing here depends on anything but the
//! delivered events. 3. A signal counts once for each (name, key).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{ChildEnd, Command, Grant, Inbound, Outcome, RunId, Seq, Signal};

pub(crate) struct Machine {
    pub(crate) run: RunId,
    pub(crate) now: DateTime<Utc>,
    pub(crate) requested_by: String,
    pub(crate) workflow_id: String,
    pub(crate) parent: Option<crate::Parent>,
    pub(crate) cancel: Option<String>,
    pub(crate) no_return: Option<String>,
    pub(crate) ids_given: u64,
    next: Seq,
    commands: Vec<Command>,
    finished: BTreeMap<Seq, Outcome>,
    fired: BTreeSet<Seq>,
    granted: BTreeMap<Seq, Vec<Grant>>,
    begun: BTreeMap<Seq, Begun>,
    ended: BTreeMap<Seq, ChildEnd>,
    signals: BTreeMap<String, VecDeque<Signal<Value>>>,
    open: BTreeMap<Seq, Open>,
}

/// What a scheduled command waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Activity,
    Timer,
    Locks,
    /// Whether it was started is not known yet.
    Child,
    /// It was started and has not ended.
    RunningChild,
}

/// What became of the wish for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Started,
    Refused(RunId),
}

impl Machine {
    pub(crate) fn new(run: RunId) -> Self {
        Self {
            run,
            now: DateTime::UNIX_EPOCH,
            requested_by: String::new(),
            workflow_id: String::new(),
            parent: None,
            cancel: None,
            no_return: None,
            ids_given: 0,
            next: Seq(0),
            commands: Vec::new(),
            finished: BTreeMap::new(),
            fired: BTreeSet::new(),
            granted: BTreeMap::new(),
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            signals: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// Whether the run still waits for this; an answer to nobody's question is dropped before it becomes an event.
    pub(crate) fn awaits(&self, inbound: &Inbound) -> bool {
        match inbound {
            Inbound::ActivityFinished { of, .. } => self.open.get(of) == Some(&Open::Activity),
            Inbound::TimerFired { of } => self.open.get(of) == Some(&Open::Timer),
            Inbound::LocksGranted { of, .. } => self.open.get(of) == Some(&Open::Locks),
            Inbound::ChildStarted { of } | Inbound::ChildRefused { of, .. } => self.open.get(of) == Some(&Open::Child),
            Inbound::ChildClosed { of, .. } => self.open.get(of) == Some(&Open::RunningChild),
            Inbound::RunStarted { .. } | Inbound::SignalReceived { .. } | Inbound::CancelRequested { .. } => true,
        }
    }

    pub(crate) fn deliver(&mut self, seq: Seq, at: DateTime<Utc>, inbound: Inbound) {
        self.now = at;
        self.next = seq.next();
        match inbound {
            Inbound::RunStarted { requested_by, workflow_id, parent, .. } => {
                self.parent = parent;
                self.requested_by = requested_by;
                self.workflow_id = workflow_id;
            }
            Inbound::ActivityFinished { of, outcome } => {
                self.open.remove(&of);
                self.finished.insert(of, outcome);
            }
            Inbound::TimerFired { of } => {
                self.open.remove(&of);
                self.fired.insert(of);
            }
            Inbound::LocksGranted { of, grants } => {
                self.open.remove(&of);
                self.granted.insert(of, grants);
            }
            Inbound::ChildStarted { of } => {
                self.open.insert(of, Open::RunningChild);
                self.begun.insert(of, Begun::Started);
            }
            Inbound::ChildRefused { of, open } => {
                self.open.remove(&of);
                self.begun.insert(of, Begun::Refused(open));
            }
            Inbound::ChildClosed { of, end } => {
                self.open.remove(&of);
                self.ended.insert(of, end);
            }
            Inbound::SignalReceived { name, key, body, by } => {
                self.signals.entry(name).or_default().push_back(Signal { key, by, at, body });
            }
            Inbound::CancelRequested { by, reason } => match &self.no_return {
                Some(why) => {
                    let reason = why.clone();
                    self.command(Command::CancelRefused { reason });
                }
                None => self.cancel = Some(format!("cancelled by {by}: {reason}")),
            },
        }
    }

    /// Asks for something; says at which position it will be recorded.
    pub(crate) fn command(&mut self, command: Command) -> Seq {
        let seq = self.next;
        match &command {
            Command::ActivityScheduled { .. } => drop(self.open.insert(seq, Open::Activity)),
            Command::TimerStarted { .. } => drop(self.open.insert(seq, Open::Timer)),
            Command::LocksRequested { .. } => drop(self.open.insert(seq, Open::Locks)),
            Command::ChildRequested { .. } => drop(self.open.insert(seq, Open::Child)),
            Command::TimerCancelled { of } | Command::LocksReleased { of } => drop(self.open.remove(of)),
            Command::ActivityCancelRequested { .. }
            | Command::ChildCancelRequested { .. }
            | Command::SignalSent { .. }
            | Command::Recorded { .. }
            | Command::PointOfNoReturn { .. }
            | Command::CancelRefused { .. }
            | Command::RunCompleted { .. }
            | Command::RunFailed { .. }
            | Command::RunCancelled { .. } => {}
        }
        self.next = seq.next();
        self.commands.push(command);
        seq
    }

    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    pub(crate) fn take_finished(&mut self, of: Seq) -> Option<Outcome> {
        self.finished.remove(&of)
    }

    pub(crate) fn take_fired(&mut self, of: Seq) -> bool {
        self.fired.remove(&of)
    }

    pub(crate) fn take_granted(&mut self, of: Seq) -> Option<Vec<Grant>> {
        self.granted.remove(&of)
    }

    pub(crate) fn take_begun(&mut self, of: Seq) -> Option<Begun> {
        self.begun.remove(&of)
    }

    pub(crate) fn take_ended(&mut self, of: Seq) -> Option<ChildEnd> {
        self.ended.remove(&of)
    }

    /// Where the next command will stand.
    pub(crate) fn next_seq(&self) -> Seq {
        self.next
    }

    pub(crate) fn take_signal(&mut self, name: &str) -> Option<Signal<Value>> {
        self.signals.get_mut(name)?.pop_front()
    }
}
