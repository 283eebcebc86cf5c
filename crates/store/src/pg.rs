//! The store on Postgres: one pool for everything, one connection for the heartbeat.
//!
//! Invariants: 1. A statement that had no answer in time leaves its connection behind: the next one goes over another, so an
//! ambiguous turn that is sent again waits for the old backend at the key and nowhere else. 2. The heartbeat never waits for
//! the pool.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use engine::witness::Witness;
use serde_json::Value;
use tokio_postgres::{Client, Row, types::ToSql};

use crate::{Lost, OpenError, migrate, pool::Target, sql::Query};

/// Sizes and times of a store's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Life of a lease: every limit of a statement stays below half of it.
    pub lease: Duration,
    /// Most connections: two write, the rest reads for people.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lease: Duration::from_secs(10), connections: 8 }
    }
}

impl Limits {
    /// Longest statement on the server's side.
    #[must_use]
    pub fn statement(&self) -> Duration {
        self.lease * 2 / 5
    }

    /// Longest wait for an answer on our side: a little more, so that the server's own word comes first.
    fn answer(&self) -> Duration {
        self.lease * 9 / 20
    }
}

/// Parameters of a query.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The store of a Switchback database.
pub struct PgStore {
    target: Target,
    pool: Pool,
    beat: Mutex<Option<Client>>,
    limits: Limits,
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

impl PgStore {
    /// Opens a database whose schema is up to date.
    ///
    /// # Errors
    /// [`OpenError`]: unreachable, not ours, too old or too new.
    pub async fn open(url: &str, limits: Limits) -> Result<Self, OpenError> {
        let target = Target::new(url, limits.statement())?;
        migrate::check(&target).await?;
        let pool = target.pool(limits.connections, limits.statement());
        Ok(Self { target, pool, beat: Mutex::new(None), limits, witness: None })
    }

    /// The same with somebody who notes what the store has answered for, and testifies when it comes back without its last commits; see
    /// [`crate::tail`].
    #[must_use]
    pub fn witnessed_by(self, witness: Arc<dyn Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// Host and database, without secrets.
    #[must_use]
    pub fn address(&self) -> &str {
        self.target.address()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), Lost> {
        self.rows(&crate::sql::NOW, &[]).await.map(drop)
    }

    /// All rows of a query. Where the database server is not known and nobody here testifies, it is asked whether it is by now.
    pub(crate) async fn rows(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>, Lost> {
        let answer = self.rows_of(query, params).await;
        if self.witness.is_none() && answer.as_ref().is_err_and(Lost::is_checking) {
            self.rows_of(&crate::sql::CONCLUDE_CHECK, &[]).await?;
        }
        answer
    }

    async fn rows_of(&self, query: &Query, params: Params<'_>) -> Result<Vec<Row>, Lost> {
        let client = self.pool.get().await?;
        let asked = async {
            let statement = client.prepare_cached(query.text).await?;
            client.query(&statement, params).await
        };
        let limit = self.limits.answer();
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                if error.as_db_error().is_none() {
                    drop(Object::take(client));
                }
                Err(error.into())
            }
            Err(_) => {
                drop(Object::take(client));
                Err(Lost::Late(limit))
            }
        }
    }

    /// The only row of a query, or none.
    pub(crate) async fn row(&self, query: &Query, params: Params<'_>) -> Result<Option<Row>, Lost> {
        Ok(self.rows(query, params).await?.into_iter().next())
    }

    /// The only row of a query that always has one.
    pub(crate) async fn one(&self, query: &Query, params: Params<'_>) -> Result<Row, Lost> {
        let row = self.row(query, params).await?;
        row.ok_or_else(|| Lost::Unreadable(format!("{} gave no row", query.attempted)))
    }

    /// A query of the heartbeat, on its own connection. A broken or abandoned one is replaced at the next beat.
    pub(crate) async fn beat(&self, query: &Query, params: Params<'_>) -> Result<Option<Row>, Lost> {
        let kept = self.beat_slot().take().filter(|client| !client.is_closed());
        let limit = self.limits.answer();
        let asked = async {
            let client = match kept {
                Some(client) => client,
                None => self.target.connect().await?,
            };
            let rows = client.query(query.text, params).await?;
            *self.beat_slot() = Some(client);
            Ok(rows.into_iter().next())
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Lost::Late(limit)),
        }
    }

    fn beat_slot(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.beat.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A column, or what is wrong with it.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Lost> {
    row.try_get(name).map_err(Lost::from)
}

/// A value in its JSON word, such as `at_most_once`.
pub(crate) fn word<T: serde::Serialize>(value: &T) -> Option<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}

/// The database keeps no NUL: what others report is kept without.
pub(crate) fn replace_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(values) => values.iter_mut().for_each(replace_nul),
        Value::Object(fields) => fields.values_mut().for_each(replace_nul),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The same value without NUL.
pub(crate) fn without_nul(value: &Value) -> Value {
    let mut value = value.clone();
    replace_nul(&mut value);
    value
}

/// JSON as the type it should be.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Lost> {
    serde_json::from_value(value).map_err(|error| Lost::Unreadable(error.to_string()))
}
