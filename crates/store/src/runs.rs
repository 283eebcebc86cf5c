//! Runs on Postgres: start, messages, claim, history.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use engine::{ClaimedRun, CommitError, InboxRow, RunStore, Sent, StartRun, Started, StoreError, TurnWrite, Writer,
    witness::{MessageNote, Note, RunNote, heads},
};
use sdk::{Hash, History, Lease, Message, RunId, Seq, WorkerId};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Lost, PgStore,
    error::{fenced_error, store_error},
    pg::{column, typed},
    sql,
};

#[async_trait]
impl RunStore for PgStore {
    async fn start_run(&self, start: StartRun) -> Result<Started, StoreError> {
        let (query, asked) = (&sql::START_RUN, self.asked());
        let started = self.started(&start).await.map_err(|lost| store_error(query.attempted, lost))?;
        if started == Started::New {
            self.noted(asked, query.attempted, || vec![Note::Run(RunNote { run: start.run, seq: -1, hash: None, start: Some(start.start.clone()), child_of: None })]).await?;
        }
        Ok(started)
    }

    async fn send(&self, run: RunId, message: Message) -> Result<Sent, StoreError> {
        let (query, asked) = (&sql::SEND, self.asked());
        let sent = async {
            let row = self.one(query, &[&run.0, &message.key(), &json(&message)?]).await?;
            match column(&row, "send")? {
                "accepted" => Ok(Sent::Accepted),
                "closed" => Ok(Sent::Closed),
                "no_such_run" => Ok(Sent::NoSuchRun),
                other => Err(Lost::Unreadable(other.to_owned())),
            }
        };
        let sent = sent.await.map_err(|lost| store_error(query.attempted, lost))?;
        if sent == Sent::Accepted {
            self.noted(asked, query.attempted, || vec![Note::Message(MessageNote { run, key: message.key(), body: message.clone() })]).await?;
        }
        Ok(sent)
    }

    async fn claim_runs(&self, lease: Lease, limit: u32) -> Result<Vec<ClaimedRun>, StoreError> {
        let query = &sql::CLAIM_RUNS;
        let claimed = async {
            let rows = self.rows(query, &[&lease.worker.0, &lease.epoch, &int(limit)]).await?;
            rows.iter().map(claimed_run).collect::<Result<Vec<_>, Lost>>()
        };
        claimed.await.map_err(|lost| fenced_error(query.attempted, lease, lost))
    }

    async fn owned_runs(&self, lease: Lease) -> Result<Vec<ClaimedRun>, StoreError> {
        let query = &sql::OWNED_RUNS;
        let owned = async { self.rows(query, &[&lease.worker.0, &lease.epoch]).await?.iter().map(claimed_run).collect::<Result<Vec<_>, Lost>>() };
        owned.await.map_err(|lost| fenced_error(query.attempted, lease, lost))
    }

    async fn load_history(&self, run: RunId) -> Result<History, StoreError> {
        self.history(run).await.map_err(|lost| store_error(sql::LOAD_HISTORY.attempted, lost))
    }

    async fn read_inbox(&self, runs: &[RunId]) -> Result<Vec<InboxRow>, StoreError> {
        let query = &sql::READ_INBOX;
        let ids: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
        let read = async { self.rows(query, &[&ids]).await?.iter().map(inbox_row).collect::<Result<Vec<_>, Lost>>() };
        read.await.map_err(|lost| store_error(query.attempted, lost))
    }

    async fn commit_turns(&self, lease: Lease, turns: &[TurnWrite]) -> Result<(), CommitError> {
        self.write_turns(lease, turns).await
    }

    async fn writer_of(&self, run: RunId, seq: Seq) -> Result<Option<Writer>, StoreError> {
        let query = &sql::WRITER_OF;
        let asked = async {
            let Some(row) = self.row(query, &[&run.0, &seq.0]).await? else { return Ok(None) };
            let lease = Lease { worker: WorkerId(column(&row, "worker_id")?), epoch: column(&row, "lease_epoch")? };
            Ok(Some(Writer { lease, turn: column(&row, "turn")? }))
        };
        asked.await.map_err(|lost| store_error(query.attempted, lost))
    }

    async fn writer_of_turn(&self, lease: Lease, turn: &TurnWrite) -> Result<Option<Writer>, StoreError> {
        let Some(first) = turn.events.first() else { return Ok(None) };
        let asked = self.asked();
        let writer = self.writer_of(turn.run, first.seq).await?;
        if writer == Some(Writer { lease, turn: turn.turn }) {
            self.noted(asked, sql::WRITER_OF.attempted, || heads(std::slice::from_ref(turn))).await?;
        }
        Ok(writer)
    }

    async fn release_runs(&self, lease: Lease, runs: &[RunId]) -> Result<(), StoreError> {
        let query = &sql::RELEASE_RUNS;
        let ids: Vec<Uuid> = runs.iter().map(|run| run.0).collect();
        let released = self.rows(query, &[&lease.worker.0, &lease.epoch, &ids]).await;
        released.map(drop).map_err(|lost| fenced_error(query.attempted, lease, lost))
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        let query = &sql::NOW;
        let asked = async { column(&self.one(query, &[]).await?, "now") };
        asked.await.map_err(|lost| store_error(query.attempted, lost))
    }
}

impl PgStore {
    async fn started(&self, start: &StartRun) -> Result<Started, Lost> {
        let Message::Start { workflow, workflow_id, requested_by, trace, .. } = &start.start else {
            return Err(Lost::Unreadable("a run starts with a start message".to_owned()));
        };
        let body = json(&start.start)?;
        let row = self.one(&sql::START_RUN, &[&start.run.0, workflow, workflow_id, requested_by, trace, &body]).await?;
        let open: Option<Uuid> = column(&row, "start_run")?;
        Ok(open.map_or(Started::New, |run| Started::AlreadyOpen(RunId(run))))
    }

    async fn history(&self, run: RunId) -> Result<History, Lost> {
        let rows = self.rows(&sql::LOAD_HISTORY, &[&run.0]).await?;
        if rows.is_empty() && !column::<bool>(&self.one(&sql::RUN_EXISTS, &[&run.0]).await?, "exists")? {
            return Err(Lost::Unreadable(format!("there is no run {run}")));
        }
        let mut history = History::new(run);
        for row in &rows {
            let hash: Vec<u8> = column(row, "hash")?;
            let hash = hash.try_into().map_err(|given: Vec<u8>| Lost::Unreadable(format!("a hash of {} bytes", given.len())))?;
            let pushed = history.push_stored(Seq(column(row, "seq")?), column(row, "body")?, Hash(hash));
            pushed.map_err(|error| Lost::Unreadable(error.to_string()))?;
        }
        Ok(history)
    }
}

fn claimed_run(row: &Row) -> Result<ClaimedRun, Lost> {
    Ok(ClaimedRun { run: RunId(column(row, "run_id")?), epoch: column(row, "epoch")? })
}

fn inbox_row(row: &Row) -> Result<InboxRow, Lost> {
    Ok(InboxRow {
        id: column(row, "id")?,
        run: RunId(column(row, "run_id")?),
        key: column(row, "msg_key")?,
        message: typed(column::<Value>(row, "body")?)?,
    })
}

/// A message as JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<Value, Lost> {
    serde_json::to_value(value).map_err(|error| Lost::Unreadable(error.to_string()))
}

/// A limit as Postgres' `int`.
pub(crate) fn int(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
