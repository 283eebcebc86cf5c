//! The job queue as an agent sees it: over HTTPS, by long poll.
//!
//! Invariant: nothing begins that is not noted on this disk, and nothing that was asked for before a testimony and heard after it.

use std::{sync::Arc, time::Duration};

use api::{
    ClientError, Code,
    agent::{self, ClaimTasks, PulseTask, ReportTask, TaskPulsed, TaskReported, TasksClaimed},
};
use async_trait::async_trait;
use engine::{
    ClaimedTask, Reported, StoreError, TaskPulse, TaskRow, TaskSource, Verdict,
    witness::{self, NotNoted, Note, Witness},
};
use sdk::{Lease, RunId, Seq, TaskQueue};
use serde_json::Value;
use tokio::sync::{Notify, watch};

/// How long one claim waits at the server for a first task.
const WAIT: Duration = Duration::from_secs(20);

/// Tasks from a server, under a lease.
pub(crate) struct RemoteTasks {
    pub(crate) client: Arc<api::Client>,
    pub(crate) lease: Lease,
    /// Where attempts are noted before they begin.
    pub(crate) notes: Arc<dyn Witness>,
    /// Turns true when no more tasks are wanted.
    pub(crate) ended: watch::Receiver<bool>,
    /// Told when the site says that a newer process has taken this host over.
    pub(crate) replaced: Arc<Notify>,
    /// Told when an answer came after a testimony: what it gave is not begun, and becomes free with the lease.
    pub(crate) late: Arc<Notify>,
}

#[async_trait]
impl TaskSource for RemoteTasks {
    async fn claim(&self, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError> {
        let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(agent::MAX_WAIT_MS);
        let asked = ClaimTasks { lease: self.lease, queues: queues.to_vec(), limit, wait_ms };
        let (mut ended, before) = (self.ended.clone(), self.notes.testimonies());
        // Whatever the server gave us meanwhile becomes free again with the lease.
        let answer = tokio::select! {
            answer = self.client.post_within::<TasksClaimed>("/v1/agent/tasks/claim", &asked, WAIT + Duration::from_secs(10)) => answer,
            _ = ended.wait_for(|ended| *ended) => return Ok(Vec::new()),
        };
        let claimed = answer.map_err(|error| store_error(self.lease, "claiming tasks", error))?;
        let tasks: Vec<ClaimedTask> = claimed.tasks.into_iter().map(task).collect();
        // What can't be noted is not begun: it becomes free again with its time limit or the lease.
        match self.note(before, tasks.iter().map(witness::begun).collect()).await {
            Ok(()) => Ok(tasks),
            Err(error) => {
                if matches!(error, NotNoted::Late) {
                    self.late.notify_one();
                }
                Err(StoreError::Again { attempted: "noting attempts", source: Box::new(error) })
            }
        }
    }

    async fn report(&self, task: &ClaimedTask, verdict: &Verdict) -> Result<Reported, StoreError> {
        if matches!(verdict, Verdict::Failed(failure) if failure.code == "not-writer") {
            self.replaced.notify_one();
        }
        let ended = if let Verdict::Ended(outcome) = verdict { Some(outcome.clone()) } else { None };
        let verdict = match verdict.clone() {
            Verdict::Ended(outcome) => agent::Verdict::Ended { outcome },
            Verdict::Failed(failure) => agent::Verdict::Failed { failure },
            Verdict::Buried(failure) => agent::Verdict::Buried { failure },
        };
        let before = self.notes.testimonies();
        let report = ReportTask { run: task.run, seq: task.task.seq, attempt: task.token.attempt, verdict };
        let answer = self.client.post::<TaskReported>("/v1/agent/tasks/report", &report).await;
        match answer.map_err(|error| store_error(self.lease, "reporting a task", error))? {
            TaskReported { accepted: true } => {
                let Some(outcome) = ended else { return Ok(Reported::Accepted) };
                match self.note(before, vec![witness::ended(task, &outcome)]).await {
                    Ok(()) => {}
                    Err(late @ NotNoted::Late) => return Err(StoreError::Again { attempted: "reporting a task", source: Box::new(late) }),
                    Err(NotNoted::Disk(error)) => {
                        tracing::error!(%error, "a result was accepted and is not noted here; should the database lose it, the attempt is in doubt");
                    }
                }
                Ok(Reported::Accepted)
            }
            TaskReported { accepted: false } => Ok(Reported::Refused),
        }
    }

    async fn pulse(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError> {
        let pulse = PulseTask { run, seq, attempt, detail: detail.cloned() };
        let answer = self.client.post::<TaskPulsed>("/v1/agent/tasks/pulse", &pulse).await;
        Ok(match answer.map_err(|error| store_error(self.lease, "sending a sign of life", error))?.pulse {
            agent::Pulse::Alive => TaskPulse::Alive,
            agent::Pulse::CancelRequested => TaskPulse::CancelRequested,
            agent::Pulse::Gone => TaskPulse::Gone,
        })
    }
}

impl RemoteTasks {
    /// Notes what was answered to a question asked `before` so many testimonies.
    async fn note(&self, before: u64, notes: Vec<Note>) -> Result<(), NotNoted> {
        let witness = self.notes.clone();
        tokio::task::spawn_blocking(move || witness.note(before, &notes)).await.unwrap_or_else(|error| Err(NotNoted::Disk(std::io::Error::other(error))))
    }
}

/// What a refusal or silence of the server means to the engine.
pub(crate) fn store_error(lease: Lease, attempted: &'static str, error: ClientError) -> StoreError {
    match error.problem().and_then(api::Problem::code) {
        Some(Code::LeaseGone) => StoreError::Fenced(lease),
        Some(Code::DatabaseUnavailable | Code::StoreChecking | Code::Internal) | None => StoreError::Again { attempted, source: Box::new(error) },
        Some(_) => StoreError::Refused { attempted, source: Box::new(error) },
    }
}

fn task(task: agent::Task) -> ClaimedTask {
    let agent::Task { run, seq, queue, activity, input, options, effect, scope, grant, trace, token, in_doubt } = task;
    let row = TaskRow { seq, queue, activity, input, options, effect, scope, grant, trace };
    ClaimedTask { run, task: row, token, in_doubt }
}
