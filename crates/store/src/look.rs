//! Runs, tasks and queues as people look at them, and the few things people may do to them by hand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sdk::{Failure, Lease, Message, Outcome, RunId, Seq, WorkerId};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Lost, PgStore,
    pg::{column, typed},
    runs::json,
    sql,
};

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Which.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// What it is about.
    pub workflow_id: String,
    /// Who asked for it.
    pub requested_by: String,
    /// W3C trace parent of the request.
    pub trace: Option<String>,
    /// `open`, `suspended`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// Why it failed or was set aside.
    pub problem: Option<Failure>,
    /// Who takes its turns.
    pub owner: Option<Lease>,
    /// How often it was claimed.
    pub epoch: i64,
    /// When it was asked for.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub closed_at: Option<DateTime<Utc>>,
    /// How many events it has.
    pub events: i64,
    /// The run that started it, if one did.
    pub parent: Option<RunId>,
    /// The database lacks something of it, and nobody carries it on before a person has settled that.
    pub held: bool,
}

/// An open task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSeen {
    /// For which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// Where it waits or waited.
    pub queue: String,
    /// Declared name.
    pub activity: String,
    /// `queued`, `claimed` or `dead`.
    pub state: String,
    /// Attempts begun.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i32,
    /// An earlier attempt may have had its effect.
    pub in_doubt: bool,
    /// Who has it.
    pub holder: Option<Lease>,
    /// The holder's name, if it is an agent.
    pub agent: Option<String>,
    /// When it was scheduled.
    pub scheduled_at: DateTime<Utc>,
    /// When it can be claimed.
    pub not_before: DateTime<Utc>,
    /// Last progress.
    pub progress: Option<Value>,
    /// Last failure.
    pub problem: Option<Failure>,
}

/// One task queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    /// Its name.
    pub queue: String,
    /// Waiting to be claimed.
    pub queued: i64,
    /// Being carried out.
    pub claimed: i64,
    /// Set aside.
    pub dead: i64,
    /// Of the oldest task.
    pub oldest_age_ms: i64,
    /// Most that one of its tasks has had.
    pub attempts: i32,
}

/// Something a run waits for beside its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A time.
    Timer {
        /// Its event.
        seq: Seq,
        /// When.
        due_at: DateTime<Utc>,
    },
    /// A lock.
    Lock {
        /// Its event.
        seq: Seq,
        /// On what.
        resource: String,
        /// Who has it now.
        holder: Option<RunId>,
    },
    /// A turn: this message has arrived and is not recorded yet.
    Turn {
        /// The message's key.
        key: String,
    },
}

/// Which runs are looked for.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// This one.
    pub run: Option<RunId>,
    /// About this.
    pub workflow_id: Option<String>,
    /// Those that have not ended.
    pub open: bool,
    /// At most so many.
    pub limit: i64,
}

/// A figure for monitoring.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// Its name.
    pub name: String,
    /// Its only label, or nothing.
    pub label: String,
    /// The figure.
    pub value: f64,
}

impl PgStore {
    /// Runs, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Lost> {
        let run = filter.run.map(|run| run.0);
        let rows = self.rows(&sql::RUNS, &[&run, &filter.workflow_id, &filter.open, &filter.limit]).await?;
        rows.iter().map(run_row).collect()
    }

    /// How runs stand: the state, and whether what they judged has passed, if their result says so.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn outcomes(&self, runs: &[RunId]) -> Result<BTreeMap<RunId, (String, Option<bool>)>, Lost> {
        let ids: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
        let outcome = |row: &Row| Ok((RunId(column(row, "run_id")?), (column(row, "state")?, column(row, "passed")?)));
        self.rows(&sql::OUTCOMES, &[&ids]).await?.iter().map(outcome).collect()
    }

    /// All runs in the order in which they began.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn runs_in_order(&self) -> Result<Vec<RunId>, Lost> {
        let rows = self.rows(&sql::RUNS_IN_ORDER, &[]).await?;
        rows.iter().map(|row| column(row, "run_id").map(RunId)).collect()
    }

    /// Open tasks of one run, or of all; only those that nobody can run, or all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tasks_seen(&self, run: Option<RunId>, dead: bool, limit: i64) -> Result<Vec<TaskSeen>, Lost> {
        let run = run.map(|run| run.0);
        self.rows(&sql::TASKS_SEEN, &[&run, &dead, &limit]).await?.iter().map(task_seen).collect()
    }

    /// Depth of all queues that have a task.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn queues(&self) -> Result<Vec<QueueRow>, Lost> {
        let queue = |row: &Row| {
            Ok(QueueRow {
                queue: column(row, "queue")?,
                queued: column(row, "queued")?,
                claimed: column(row, "claimed")?,
                dead: column(row, "dead")?,
                oldest_age_ms: column(row, "oldest_age_ms")?,
                attempts: column(row, "attempts")?,
            })
        };
        self.rows(&sql::QUEUES, &[]).await?.iter().map(queue).collect()
    }

    /// What a run waits for beside its tasks.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn waits(&self, run: RunId) -> Result<Vec<Wait>, Lost> {
        self.rows(&sql::WAITS, &[&run.0]).await?.iter().map(wait).collect()
    }

    /// Lets a suspended run go on; `false` if it was not suspended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn resume_run(&self, run: RunId) -> Result<bool, Lost> {
        Ok(self.row(&sql::RESUME_RUN, &[&run.0]).await?.is_some())
    }

    /// Queues a dead letter again; `false` if there is none at this place.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn retry_dead(&self, run: RunId, seq: Seq) -> Result<bool, Lost> {
        Ok(self.row(&sql::RETRY_DEAD, &[&run.0, &seq.0]).await?.is_some())
    }

    /// Ends a dead letter with this failure; `false` if there is none at this place.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn discard_dead(&self, run: RunId, seq: Seq, failure: &Failure, attempts: i32) -> Result<bool, Lost> {
        let outcome = Outcome::Failed { failure: failure.clone(), attempts };
        let message = Message::Finished { of: seq, outcome };
        let row = self.row(&sql::DISCARD_DEAD, &[&run.0, &seq.0, &message.key(), &json(&message)?]).await?;
        Ok(row.is_some())
    }

    /// Figures for monitoring.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn gauges(&self) -> Result<Vec<Gauge>, Lost> {
        let gauge = |row: &Row| {
            let label: Option<String> = column(row, "label")?;
            Ok(Gauge { name: column(row, "name")?, label: label.unwrap_or_default(), value: column(row, "value")? })
        };
        self.rows(&sql::GAUGES, &[]).await?.iter().map(gauge).collect()
    }
}

fn lease(row: &Row, worker: &str, epoch: &str) -> Result<Option<Lease>, Lost> {
    let worker: Option<Uuid> = column(row, worker)?;
    let epoch: Option<i64> = column(row, epoch)?;
    Ok(worker.zip(epoch).map(|(worker, epoch)| Lease { worker: WorkerId(worker), epoch }))
}

fn problem(row: &Row) -> Result<Option<Failure>, Lost> {
    let problem: Option<Value> = column(row, "problem")?;
    problem.filter(|value| !value.is_null()).map(typed).transpose()
}

fn run_row(row: &Row) -> Result<RunRow, Lost> {
    Ok(RunRow {
        run: RunId(column(row, "run_id")?),
        workflow: column(row, "workflow")?,
        workflow_id: column(row, "workflow_id")?,
        requested_by: column(row, "requested_by")?,
        trace: column(row, "trace")?,
        state: column(row, "state")?,
        problem: problem(row)?,
        owner: lease(row, "owner", "owner_epoch")?,
        epoch: column(row, "epoch")?,
        started_at: column(row, "started_at")?,
        closed_at: column(row, "closed_at")?,
        events: column(row, "events")?,
        parent: column::<Option<Uuid>>(row, "parent_run")?.map(RunId),
        held: column(row, "held")?,
    })
}

fn task_seen(row: &Row) -> Result<TaskSeen, Lost> {
    Ok(TaskSeen {
        run: RunId(column(row, "run_id")?),
        seq: Seq(column(row, "seq")?),
        queue: column(row, "queue")?,
        activity: column(row, "activity")?,
        state: column(row, "state")?,
        attempt: column(row, "attempt")?,
        max_attempts: column(row, "max_attempts")?,
        in_doubt: column(row, "in_doubt")?,
        holder: lease(row, "worker_id", "lease_epoch")?,
        agent: column(row, "agent")?,
        scheduled_at: column(row, "scheduled_at")?,
        not_before: column(row, "not_before")?,
        progress: column(row, "heartbeat_detail")?,
        problem: problem(row)?,
    })
}

fn wait(row: &Row) -> Result<Wait, Lost> {
    let seq = || column::<i32>(row, "seq").map(Seq);
    match column(row, "what")? {
        "timer" => Ok(Wait::Timer { seq: seq()?, due_at: column(row, "due_at")? }),
        "lock" => Ok(Wait::Lock {
            seq: seq()?,
            resource: column(row, "resource")?,
            holder: column::<Option<Uuid>>(row, "holder")?.map(RunId),
        }),
        "message" => Ok(Wait::Turn { key: column(row, "resource")? }),
        other => Err(Lost::Unreadable(format!("a wait of kind {other}"))),
    }
}
