//! A database whose clock stands still until it is moved, whose tables can be emptied, and all of whose rows can be read: what it takes to
//! compare it with a store in memory.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Client;

use super::{PgLab, TestDatabase};

/// Replaces the clock of a test's database by one that does not go.
const STILL_CLOCK: &str = "
    create table engine.still_clock (at timestamptz not null);
    create or replace function engine.now() returns timestamptz language sql volatile parallel safe
    return (select at from engine.still_clock);";

/// Everything but whose database it is. The order of what is numbered begins anew.
const EMPTY: &str = "
    truncate engine.leases, engine.runs, engine.events, engine.inbox, engine.timers, engine.tasks, engine.locks, engine.lock_requests,
             engine.schedules, engine.firings, engine.still_clock restart identity;
    alter sequence engine.lease_epochs restart; alter sequence engine.schedule_versions restart;";

/// The rows in the words of `MemoryStore::contents`.
const CONTENTS: &str = include_str!("contents.sql");

/// A database of a test with a clock that stands still.
pub struct StillDatabase {
    lab: PgLab,
    client: Client,
}

impl StillDatabase {
    /// A fresh one; empty it before use.
    ///
    /// # Panics
    /// Where no cluster can be started.
    pub async fn new() -> Self {
        let lab = PgLab::new().await;
        let client = lab.database.client().await;
        client.batch_execute(STILL_CLOCK).await.expect("the clock of a test's database can be replaced");
        Self { lab, client }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &crate::PgStore {
        &self.lab.store
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &TestDatabase {
        &self.lab.database
    }

    /// The time of the machine that it runs on.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn database_now(&self) -> DateTime<Utc> {
        self.client.query_one("select clock_timestamp() as now", &[]).await.expect("the database answers").get("now")
    }

    /// Empties all tables of the engine and sets the clock.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn empty(&self, now: DateTime<Utc>) {
        self.client.batch_execute(EMPTY).await.expect("a test's database can be emptied");
        let set = self.client.execute("insert into engine.still_clock values ($1)", &[&now]).await;
        assert_eq!(set.expect("the clock can be set"), 1);
    }

    /// Moves the clock.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn advance(&self, by: Duration) {
        let moved = self.client.execute("update engine.still_clock set at = at + make_interval(secs => $1)", &[&by.as_secs_f64()]).await;
        assert_eq!(moved.expect("the clock can be moved"), 1);
    }

    /// Its rows, each an object that names its table; times in microseconds since 1970, leases as worker and epoch.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn contents(&self) -> Vec<Value> {
        let rows = self.client.query(CONTENTS, &[]).await.expect("a test's database can be read");
        rows.iter().map(|row| row.get("row")).collect()
    }
}
