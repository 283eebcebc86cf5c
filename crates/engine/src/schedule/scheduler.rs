//! The actor that fires schedules. Every worker process runs one; who comes first does it.
//!
//!   due ─▶ plan ─▶ fire          once a second, for every schedule that is due
//!
//! Invariant: it remembers nothing between steps: one that dies between any two awaits is replaced by any other.

use std::sync::Arc;

use sdk::{Message, RunId};
use uuid::Uuid;

use super::{Due, Fired, Firing, FiringKind, FiringStart, Moves, ScheduleStore};
use crate::{StartRun, Step, StoreError};

/// Most schedules fired in one step. Those that a step can do nothing for are not due, so that the rest gets its turn next.
const MOST_DUE: u32 = 100;

/// Fires schedules.
pub struct Scheduler<S> {
    store: Arc<S>,
    ids: Box<dyn FnMut() -> Uuid + Send>,
}

impl<S: ScheduleStore> Scheduler<S> {
    /// One that has done nothing yet; `ids` gives the ids of runs, which sort by time.
    pub fn new(store: Arc<S>, ids: Box<dyn FnMut() -> Uuid + Send>) -> Self {
        Self { store, ids }
    }

    /// Looks once and fires what is due.
    ///
    /// # Errors
    /// [`StoreError`]: call again a little later.
    pub async fn step(&mut self) -> Result<Step, StoreError> {
        let mut step = Step::Idle;
        for due in self.store.due_schedules(MOST_DUE).await? {
            let name = due.schedule.name.clone();
            let firing = match firing(&due, RunId((self.ids)())) {
                Ok(firing) => firing,
                Err(error) => {
                    tracing::error!(schedule = name, %error, "a schedule that is due can't be read by this build; it starts nothing");
                    continue;
                }
            };
            match self.store.fire(&firing).await? {
                Fired::Started(run) => tracing::info!(schedule = name, %run, missed = firing.missed.len(), "a schedule started a run"),
                Fired::Skipped(open) => tracing::warn!(schedule = name, %open, "a schedule missed a run: the one before is open"),
                Fired::Recorded if firing.missed.is_empty() => {}
                Fired::Recorded => tracing::warn!(schedule = name, missed = firing.missed.len(), "a schedule missed runs"),
                Fired::Waits(_) | Fired::Taken => continue,
            }
            step = Step::Busy;
        }
        Ok(step)
    }
}

fn firing(due: &Due, run: RunId) -> Result<Firing, super::ScheduleError> {
    let schedule = &due.schedule;
    let plan = due.plan()?;
    let moves = Moves { version: schedule.version, from: schedule.next.at, to: plan.next };
    let start = plan.start.map(|(time, late)| {
        let kind = if late.is_some() { FiringKind::CaughtUp } else { FiringKind::OnTime };
        let start = schedule.start_message(format!("schedule:{}", schedule.name), None);
        FiringStart { at: time.at, kind, cause: late.unwrap_or_default(), overlap: schedule.spec.overlap, run: StartRun { run, start } }
    });
    Ok(Firing { schedule: schedule.name.clone(), moves: Some(moves), missed: plan.missed, start })
}

impl super::Schedule {
    /// The message that starts its workflow for somebody.
    #[must_use]
    pub fn start_message(&self, requested_by: String, trace: Option<String>) -> Message {
        let spec = &self.spec;
        Message::Start {
            workflow: spec.workflow.clone(),
            input: spec.input.clone(),
            workflow_id: spec.workflow_id.clone(),
            requested_by,
            trace,
            parent: None,
        }
    }
}
