//! What evidence is made of: which runs belong together, and the heads of those that have ended.

use chrono::{DateTime, Utc};
use sdk::{Hash, RunId};
use tokio_postgres::Row;

use crate::{Lost, PgStore, pg::column, sql};

/// The end of a run's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRow {
    /// Which run.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// What it was about.
    pub workflow_id: String,
    /// When it ended.
    pub closed_at: DateTime<Utc>,
    /// Its events.
    pub events: i32,
    /// The last link.
    pub head: Hash,
}

impl PgStore {
    /// A run with all that began it and all that they began, by their ids; at most `limit`. Nothing if there is no such run.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn run_family(&self, run: RunId, limit: i64) -> Result<Vec<RunId>, Lost> {
        let rows = self.rows(&sql::RUN_FAMILY, &[&run.0, &limit]).await?;
        rows.iter().map(|row| column(row, "run_id").map(RunId)).collect()
    }

    /// Heads of runs that ended after a place in the order of their ends.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn heads(&self, after: DateTime<Utc>, run: RunId, limit: i64) -> Result<Vec<HeadRow>, Lost> {
        self.rows(&sql::HEADS, &[&after, &run.0, &limit]).await?.iter().map(head).collect()
    }

    /// Notes how many runs an agent has anchored, and what is wrong with them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn agent_anchors(&self, name: &str, runs: i64, alarm: Option<&str>) -> Result<(), Lost> {
        self.rows(&sql::AGENT_ANCHORS, &[&name, &runs, &alarm]).await.map(drop)
    }
}

fn head(row: &Row) -> Result<HeadRow, Lost> {
    let hash: Vec<u8> = column(row, "head")?;
    let hash = hash.try_into().map_err(|given: Vec<u8>| Lost::Unreadable(format!("a hash of {} bytes", given.len())))?;
    Ok(HeadRow {
        run: RunId(column(row, "run_id")?),
        workflow: column(row, "workflow")?,
        workflow_id: column(row, "workflow_id")?,
        closed_at: column(row, "closed_at")?,
        events: column(row, "events")?,
        head: Hash(hash),
    })
}
