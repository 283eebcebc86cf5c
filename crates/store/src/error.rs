//! What Postgres says, sorted into what the engine can do about it.
//!
//! Invariant: an answer that leaves open whether the statement took effect is never turned into one that says it did not.

use engine::{CommitError, StoreError};
use sdk::Lease;
use tokio_postgres::{Error as PgError, error::DbError, error::SqlState};

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// No connection could be had.
    #[error("no connection to the database")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The server said so, or the connection broke.
    #[error("the database failed")]
    Pg(#[from] PgError),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Late(std::time::Duration),
    /// The answer is not what the query promises.
    #[error("an answer can't be read: {0}")]
    Unreadable(String),
}

impl Lost {
    /// Refused because the database server was started anew and is not known yet: nothing was written.
    #[must_use]
    pub fn is_checking(&self) -> bool {
        said(self).is_some_and(|db| db.code().code() == NOT_KNOWN)
    }
}

/// Of a server that was started anew.
const NOT_KNOWN: &str = "SB005";

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address can't be read.
    #[error("the database address can't be read")]
    Address(#[source] PgError),
    /// The certificates to trust can't be read.
    #[error("the certificates in {path} can't be read")]
    Certificates {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answers, or not to us.
    #[error("the database at {address} does not let us in")]
    Connect {
        /// Host and database, without secrets.
        address: String,
        /// Why.
        #[source]
        source: Lost,
    },
    /// Too old a server.
    #[error("the database at {address} runs Postgres {found}; at least {least} is needed")]
    TooOld {
        /// Host and database.
        address: String,
        /// What it runs.
        found: u32,
        /// What is needed.
        least: u32,
    },
    /// Somebody else's tables are in it.
    #[error("the database at {address} belongs to something else: it holds {table}, and nothing of Switchback")]
    NotOurs {
        /// Host and database.
        address: String,
        /// One of the tables found.
        table: String,
    },
    /// A newer build has been here.
    #[error("the database at {address} has schema {found}; this build knows schemas up to {known}")]
    Newer {
        /// Host and database.
        address: String,
        /// What is there.
        found: i32,
        /// What this build brings.
        known: i32,
    },
    /// The schema is older than this build, and nobody brought it up to date.
    #[error("the database at {address} has schema {found}; this build needs {known}: start `switchback up` or `switchback server` first")]
    Older {
        /// Host and database.
        address: String,
        /// What is there, 0 for nothing.
        found: i32,
        /// What this build needs.
        known: i32,
    },
    /// A migration failed; nothing of it was kept.
    #[error("the schema of the database at {address} can't be brought up to date")]
    Migration {
        /// Host and database.
        address: String,
        /// Why.
        #[source]
        source: Box<refinery::Error>,
    },
    /// A statement failed.
    #[error("the database at {address} failed while {attempted}")]
    Failed {
        /// Host and database.
        address: String,
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        #[source]
        source: Lost,
    },
}

/// The server's own words, if it said anything.
fn said(lost: &Lost) -> Option<&DbError> {
    match lost {
        Lost::Pg(error) | Lost::Pool(deadpool_postgres::PoolError::Backend(error)) => error.as_db_error(),
        Lost::Pool(_) | Lost::Late(_) | Lost::Unreadable(_) => None,
    }
}

/// Rolled back for a reason that passes: conflict, shutdown, lack of resources, a server that became a standby.
fn passes(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "40" | "53" | "57" | "58") || *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::READ_ONLY_SQL_TRANSACTION || code.code() == NOT_KNOWN
}

/// The rows are to blame, and no repetition mends them: values, constraints, limits of size and depth, what a projection raises.
fn refuses_a_row(code: &str) -> bool {
    ["21", "22", "23", "54", "P0"].iter().any(|class| code.starts_with(class))
}

/// For a statement that asks for no lease.
pub(crate) fn store_error(attempted: &'static str, lost: Lost) -> StoreError {
    let again = match (&lost, said(&lost)) {
        (_, Some(db)) => passes(db.code()),
        (Lost::Unreadable(_), None) => false,
        (Lost::Pool(_) | Lost::Pg(_) | Lost::Late(_), None) => true,
    };
    let source = Box::new(lost);
    if again { StoreError::Again { attempted, source } } else { StoreError::Refused { attempted, source } }
}

/// For a statement that begins with the fence.
pub(crate) fn fenced_error(attempted: &'static str, lease: Lease, lost: Lost) -> StoreError {
    match said(&lost).map(|db| db.code().code()) {
        Some("SB001") => StoreError::Fenced(lease),
        _ => store_error(attempted, lost),
    }
}

/// For a batch of turns. A turn that ends a run which has ended is one that was stored before, or somebody else has written its events:
/// both are found out by asking who did. One without events can't be told from a new one, which would be wrong.
pub(crate) fn commit_error(attempted: &'static str, lease: Lease, ends_with_events: bool, lost: Lost) -> CommitError {
    let Some(db) = said(&lost) else {
        return store_error(attempted, lost).into();
    };
    let of_events = db.schema() == Some("engine") && db.table().is_some_and(|table| table.starts_with("events"));
    match (db.code().code(), of_events) {
        ("SB002", _) => CommitError::Stale,
        ("SB004", _) if ends_with_events => CommitError::Taken,
        ("SB003" | "SB004", _) => CommitError::Bad(db.message().to_owned()),
        ("23505", true) => CommitError::Taken,
        (code, _) if refuses_a_row(code) => CommitError::Bad(db.to_string()),
        _ => fenced_error(attempted, lease, lost).into(),
    }
}
