//! Schedules on Postgres: rows, what is due, and one function for each firing.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use engine::{
    StoreError,
    schedule::{Due, Fired, Firing, NewSchedule, NextFire, Overlap, Pause, Recorded, Schedule, ScheduleStore},
};
use sdk::RunId;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Lost, PgStore,
    error::store_error,
    pg::{Params, column, typed},
    runs,
    sql::{self, Query},
};

#[async_trait]
impl ScheduleStore for PgStore {
    async fn create_schedule(&self, new: &NewSchedule) -> Result<bool, StoreError> {
        let waits = new.spec.overlap == Overlap::Wait;
        let spec = runs::json(&new.spec).map_err(|lost| store_error(sql::CREATE_SCHEDULE.attempted, lost))?;
        let NextFire { at, due_at } = new.next;
        self.changed(&sql::CREATE_SCHEDULE, &[&new.name, &spec, &new.spec.workflow_id, &waits, &at, &due_at, &new.by]).await
    }

    async fn remove_schedule(&self, name: &str) -> Result<bool, StoreError> {
        self.changed(&sql::REMOVE_SCHEDULE, &[&name]).await
    }

    async fn pause_schedule(&self, name: &str, by: &str, reason: &str) -> Result<bool, StoreError> {
        self.changed(&sql::PAUSE_SCHEDULE, &[&name, &by, &reason]).await
    }

    async fn resume_schedule(&self, name: &str) -> Result<bool, StoreError> {
        self.changed(&sql::RESUME_SCHEDULE, &[&name]).await
    }

    async fn schedules(&self, name: Option<&str>) -> Result<Vec<Schedule>, StoreError> {
        self.all(&sql::SCHEDULES, &[&name], schedule).await
    }

    async fn firings(&self, name: &str, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        self.all(&sql::FIRINGS, &[&name, &i64::from(limit)], recorded).await
    }

    async fn due_schedules(&self, limit: u32) -> Result<Vec<Due>, StoreError> {
        let query = &sql::DUE_SCHEDULES;
        let rows = self.rows(query, &[&i64::from(limit)]).await.map_err(|lost| store_error(query.attempted, lost))?;
        Ok(rows.iter().filter_map(readable).collect())
    }

    async fn fire(&self, firing: &Firing) -> Result<Fired, StoreError> {
        self.fired(firing).await.map_err(|lost| store_error(sql::FIRE.attempted, lost))
    }
}

impl PgStore {
    /// Whether the query gave a row.
    async fn changed(&self, query: &Query, params: Params<'_>) -> Result<bool, StoreError> {
        self.row(query, params).await.map(|row| row.is_some()).map_err(|lost| store_error(query.attempted, lost))
    }

    async fn all<T>(&self, query: &Query, params: Params<'_>, read: fn(&Row) -> Result<T, Lost>) -> Result<Vec<T>, StoreError> {
        let rows = async { self.rows(query, params).await?.iter().map(read).collect::<Result<Vec<T>, Lost>>() };
        rows.await.map_err(|lost| store_error(query.attempted, lost))
    }

    async fn fired(&self, firing: &Firing) -> Result<Fired, Lost> {
        let start = firing.start.as_ref().map(|start| {
            let waits = start.overlap == Overlap::Wait;
            json!({ "at": start.at, "kind": start.kind, "cause": start.cause, "waits": waits, "run": start.run.run, "body": start.run.start })
        });
        let missed = runs::json(&firing.missed)?;
        let (version, from) = (firing.moves.map(|moves| moves.version), firing.moves.map(|moves| moves.from));
        let (next_at, due_at) = (firing.moves.map(|moves| moves.to.at), firing.moves.map(|moves| moves.to.due_at));
        let row = self.one(&sql::FIRE, &[&firing.schedule, &version, &from, &next_at, &due_at, &missed, &start]).await?;
        let run: Option<Uuid> = column(&row, "run")?;
        match (column(&row, "fired")?, run.map(RunId)) {
            ("started", Some(run)) => Ok(Fired::Started(run)),
            ("skipped", Some(run)) => Ok(Fired::Skipped(run)),
            ("waits", Some(run)) => Ok(Fired::Waits(run)),
            ("recorded", _) => Ok(Fired::Recorded),
            ("taken", _) => Ok(Fired::Taken),
            (other, _) => Err(Lost::Unreadable(other.to_owned())),
        }
    }
}

/// One that a newer build wrote must not keep this one from starting the others.
fn readable(row: &Row) -> Option<Due> {
    match due(row) {
        Ok(due) => Some(due),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, schedule = column(row, "name").unwrap_or(""), "a due schedule can't be read by this build");
            None
        }
    }
}

fn due(row: &Row) -> Result<Due, Lost> {
    Ok(Due { schedule: schedule(row)?, now: column(row, "now")?, free_since: column(row, "free_since")? })
}

fn schedule(row: &Row) -> Result<Schedule, Lost> {
    let spec: Value = column(row, "spec")?;
    let open_run: Option<Uuid> = column(row, "open_run")?;
    Ok(Schedule {
        name: column(row, "name")?,
        version: column(row, "version")?,
        spec: typed(spec)?,
        next: NextFire { at: column(row, "next_at")?, due_at: column(row, "due_at")? },
        created_by: column(row, "created_by")?,
        created_at: column(row, "created_at")?,
        pause: pause(row)?,
        open_run: open_run.map(RunId),
    })
}

fn pause(row: &Row) -> Result<Option<Pause>, Lost> {
    let from: Option<DateTime<Utc>> = column(row, "paused_at")?;
    let Some(from) = from else { return Ok(None) };
    Ok(Some(Pause { from, until: column(row, "resumed_at")?, by: column(row, "paused_by")?, reason: column(row, "pause_reason")? }))
}

fn recorded(row: &Row) -> Result<Recorded, Lost> {
    let count: i32 = column(row, "count")?;
    let run: Option<Uuid> = column(row, "run_id")?;
    Ok(Recorded {
        at: column(row, "fire_at")?,
        until: column(row, "until")?,
        count: count.unsigned_abs(),
        kind: typed(Value::String(column(row, "kind")?))?,
        cause: column(row, "cause")?,
        run: run.map(RunId),
        recorded_at: column(row, "recorded_at")?,
    })
}
