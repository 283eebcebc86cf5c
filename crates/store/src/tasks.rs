//! The job queue on Postgres.

use std::time::Duration;

use async_trait::async_trait;
use engine::{ClaimedTask, Reported, StoreError, TaskPulse, TaskRow, TaskStore};
use sdk::{Failure, Grant, Lease, Message, Outcome, RunId, Seq, TaskQueue, Token};
use serde_json::Value;
use tokio_postgres::Row;

use crate::{
    Lost, PgStore,
    error::{fenced_error, store_error},
    pg::{Params, column, typed},
    runs::{int, json},
    sql::{self, Query},
};

#[async_trait]
impl TaskStore for PgStore {
    async fn claim_tasks(&self, lease: Lease, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError> {
        let query = &sql::CLAIM_TASKS;
        let names: Vec<&str> = queues.iter().map(|queue| queue.0.as_str()).collect();
        let claimed = async {
            let rows = self.rows(query, &[&lease.worker.0, &lease.epoch, &names, &int(limit)]).await?;
            rows.iter().map(claimed_task).collect::<Result<Vec<_>, Lost>>()
        };
        claimed.await.map_err(|lost| fenced_error(query.attempted, lease, lost))
    }

    async fn complete_task(&self, run: RunId, seq: Seq, attempt: i32, outcome: &Outcome) -> Result<Reported, StoreError> {
        let query = &sql::COMPLETE_TASK;
        let message = Message::Finished { of: seq, outcome: outcome.clone() };
        let body = json(&message).map_err(|lost| store_error(query.attempted, lost))?;
        self.reported(query, &[&run.0, &seq.0, &attempt, &message.key(), &body]).await
    }

    async fn retry_task(&self, run: RunId, seq: Seq, attempt: i32, failure: &Failure, delay: Duration, in_doubt: bool) -> Result<Reported, StoreError> {
        let query = &sql::RETRY_TASK;
        let problem = json(failure).map_err(|lost| store_error(query.attempted, lost))?;
        self.reported(query, &[&run.0, &seq.0, &attempt, &problem, &delay.as_secs_f64(), &in_doubt]).await
    }

    async fn bury_task(&self, run: RunId, seq: Seq, attempt: i32, problem: &Failure) -> Result<Reported, StoreError> {
        let query = &sql::BURY_TASK;
        let problem = json(problem).map_err(|lost| store_error(query.attempted, lost))?;
        self.reported(query, &[&run.0, &seq.0, &attempt, &problem]).await
    }

    async fn pulse_task(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError> {
        let query = &sql::PULSE_TASK;
        let beaten = async {
            let Some(row) = self.row(query, &[&run.0, &seq.0, &attempt, &detail]).await? else { return Ok(TaskPulse::Gone) };
            Ok(if column(&row, "cancel_requested")? { TaskPulse::CancelRequested } else { TaskPulse::Alive })
        };
        beaten.await.map_err(|lost| store_error(query.attempted, lost))
    }

    async fn task(&self, run: RunId, seq: Seq) -> Result<Option<ClaimedTask>, StoreError> {
        let query = &sql::TASK;
        let seen = async { self.row(query, &[&run.0, &seq.0]).await?.as_ref().map(claimed_task).transpose() };
        seen.await.map_err(|lost| store_error(query.attempted, lost))
    }
}

impl PgStore {
    async fn reported(&self, query: &Query, params: Params<'_>) -> Result<Reported, StoreError> {
        let row = self.row(query, params).await.map_err(|lost| store_error(query.attempted, lost))?;
        Ok(if row.is_some() { Reported::Accepted } else { Reported::Refused })
    }
}

fn claimed_task(row: &Row) -> Result<ClaimedTask, Lost> {
    let grant: Option<Value> = column(row, "lock_grant")?;
    let grant: Option<Grant> = grant.map(typed).transpose()?;
    let seq = Seq(column(row, "seq")?);
    let word = |name| column::<String>(row, name).map(Value::String);
    let token = Token {
        era: grant.as_ref().map_or(column(row, "era")?, |grant| grant.era),
        grant_epoch: grant.as_ref().map_or(0, |grant| grant.epoch),
        seq,
        run_epoch: column(row, "run_epoch")?,
        attempt: column(row, "attempt")?,
    };
    let task = TaskRow {
        seq,
        queue: TaskQueue(column(row, "queue")?),
        activity: column(row, "activity")?,
        input: column(row, "input")?,
        options: typed(column::<Value>(row, "options")?)?,
        effect: typed(word("effect")?)?,
        scope: typed(word("scope")?)?,
        grant,
        trace: column(row, "trace")?,
    };
    Ok(ClaimedTask { run: RunId(column(row, "run_id")?), task, token, in_doubt: column(row, "in_doubt")? })
}
