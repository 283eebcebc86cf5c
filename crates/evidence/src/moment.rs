//! How everything stood at an event: every item and every step, as far as the histories had come by then.

use std::collections::BTreeMap;

use recovery::{ItemName, ItemRecord};
use sdk::{Command, Event, EventBody, Inbound, Outcome, RunId, Seq};
use serde::Serialize;
use workflows::{ITEM_PROJECTION, ItemChange};

use crate::{Bundle, timeline};

/// How everything stood.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// After which run's event.
    pub run: RunId,
    /// Which event.
    pub seq: Seq,
    /// Every run that had begun.
    pub runs: Vec<RunState>,
    /// Every item that a fact had been recorded about, as its record then was.
    pub items: BTreeMap<ItemName, ItemRecord>,
    /// Every step that had been asked for.
    pub steps: Vec<StepState>,
}

/// A run at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunState {
    /// Which.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// `open`, or how it had ended.
    pub state: &'static str,
    /// Whether it could no longer be cancelled.
    pub past_return: bool,
    /// Locks that it held, by the event that asked for them.
    pub locks: BTreeMap<Seq, Vec<String>>,
}

/// A step at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepState {
    /// Of which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// Declared name.
    pub name: String,
    /// Where it waited.
    pub queue: String,
    /// How far it had come.
    pub state: Progress,
    /// Attempts that were made, where its end says so.
    pub attempts: Option<i32>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// How far a step had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Asked for, without an end.
    Open,
    /// It had been asked to stop.
    Stopping,
    /// Done.
    Done,
    /// Failed for good.
    Failed,
    /// Ran into a limit.
    TimedOut,
    /// Given up before it began.
    Cancelled,
    /// It may have happened.
    Unknown,
}

/// How everything stood right behind that event; `None` if there is no such event.
#[must_use]
pub fn at(bundle: &Bundle, run: RunId, seq: Seq) -> Option<Moment> {
    let entries = timeline::of(bundle);
    let until = entries.iter().position(|entry| entry.run == run && entry.event.seq == seq)?;
    let mut moment = Moment { run, seq, runs: vec![], items: BTreeMap::new(), steps: vec![] };
    for entry in entries.iter().take(until + 1) {
        moment.apply(entry.run, entry.event);
    }
    Some(moment)
}

impl Moment {
    fn apply(&mut self, run: RunId, event: &Event) {
        match &event.body {
            EventBody::Inbound(inbound) => self.happened(run, inbound),
            EventBody::Command(command) => self.wanted(run, event.seq, command),
        }
    }

    fn happened(&mut self, run: RunId, inbound: &Inbound) {
        match inbound {
            Inbound::RunStarted { workflow, .. } => {
                self.runs.push(RunState { run, workflow: workflow.clone(), state: "open", past_return: false, locks: BTreeMap::new() });
            }
            Inbound::ActivityFinished { of, outcome } => {
                if let Some(step) = self.steps.iter_mut().find(|step| step.run == run && step.seq == *of) {
                    (step.state, step.attempts, step.failure) = ended(outcome);
                }
            }
            Inbound::LocksGranted { of, grants } => {
                if let Some(state) = self.of(run) {
                    state.locks.insert(*of, grants.iter().map(|grant| grant.resource.clone()).collect());
                }
            }
            Inbound::TimerFired { .. }
            | Inbound::SignalReceived { .. }
            | Inbound::ChildStarted { .. }
            | Inbound::ChildRefused { .. }
            | Inbound::ChildClosed { .. }
            | Inbound::CancelRequested { .. } => {}
        }
    }

    fn wanted(&mut self, run: RunId, seq: Seq, command: &Command) {
        match command {
            Command::ActivityScheduled { activity, queue, .. } => {
                let (name, queue) = (activity.clone(), queue.to_string());
                self.steps.push(StepState { run, seq, name, queue, state: Progress::Open, attempts: None, failure: None });
            }
            Command::ActivityCancelRequested { of } => {
                let open = |step: &&mut StepState| step.run == run && step.seq == *of && step.state == Progress::Open;
                if let Some(step) = self.steps.iter_mut().find(open) {
                    step.state = Progress::Stopping;
                }
            }
            Command::Recorded { projection, fact } if projection == ITEM_PROJECTION => {
                if let Ok(change) = serde_json::from_value::<ItemChange>(fact.clone()) {
                    self.items.insert(change.item, change.record);
                }
            }
            Command::PointOfNoReturn { .. } => self.of(run).into_iter().for_each(|state| state.past_return = true),
            Command::LocksReleased { of } => {
                if let Some(state) = self.of(run) {
                    state.locks.remove(of);
                }
            }
            Command::RunCompleted { .. } => self.close(run, "completed"),
            Command::RunFailed { .. } => self.close(run, "failed"),
            Command::RunCancelled { .. } => self.close(run, "cancelled"),
            Command::Recorded { .. }
            | Command::TimerStarted { .. }
            | Command::TimerCancelled { .. }
            | Command::LocksRequested { .. }
            | Command::ChildRequested { .. }
            | Command::ChildCancelRequested { .. }
            | Command::SignalSent { .. }
            | Command::CancelRefused { .. } => {}
        }
    }

    fn of(&mut self, run: RunId) -> Option<&mut RunState> {
        self.runs.iter_mut().find(|state| state.run == run)
    }

    fn close(&mut self, run: RunId, word: &'static str) {
        if let Some(state) = self.of(run) {
            state.state = word;
            state.locks.clear();
        }
    }
}

fn ended(outcome: &Outcome) -> (Progress, Option<i32>, Option<String>) {
    match outcome {
        Outcome::Completed { .. } => (Progress::Done, None, None),
        Outcome::Failed { failure, attempts } => (Progress::Failed, Some(*attempts), Some(failure.to_string())),
        Outcome::TimedOut { kind, attempts } => (Progress::TimedOut, Some(*attempts), Some(format!("{kind:?} limit"))),
        Outcome::Cancelled => (Progress::Cancelled, None, None),
        Outcome::Unknown { failure, attempts } => (Progress::Unknown, Some(*attempts), Some(failure.to_string())),
    }
}
