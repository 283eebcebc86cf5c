//! Brings a database's schema up to date, or says why it must not be touched.
//!
//! Invariants: 1. One migrates at a time, under an advisory lock on the connection that migrates. 2. A database that holds
//! somebody else's tables, or the schema of a newer build, is left exactly as it is.

use std::time::Duration;

use refinery::{Runner, Target as Until};
use tokio_postgres::Client;

use crate::{Lost, OpenError, pool::Target};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Where refinery notes what it has done.
const HISTORY: &str = "switchback_schema_history";
/// Oldest server that the statements were tested on.
const LEAST_POSTGRES: u32 = 150_000;
/// Any number that nobody else uses: "switchba" in ASCII.
const LOCK: i64 = 0x7377_6974_6368_6261;
/// How long another one's migration is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema before, 0 for an empty database.
    pub from: i32,
    /// The schema now.
    pub to: i32,
}

/// Brings the schema up to date, and notes whose database this is if nobody has.
///
/// # Errors
/// [`OpenError`]; nothing was changed then.
pub async fn run(target: &Target) -> Result<Migrated, OpenError> {
    run_to(target, known()).await
}

/// The same up to an older schema: what a build of that time left behind. For tests of migrations.
///
/// # Errors
/// [`OpenError`]; nothing was changed then.
pub async fn run_to(target: &Target, to: i32) -> Result<Migrated, OpenError> {
    let mut client = connected(target).await?;
    let failed = |attempted| move |error: tokio_postgres::Error| failure(target, attempted, error.into());
    client.batch_execute("set statement_timeout = 0").await.map_err(failed("lifting the time limit"))?;
    lock(target, &client).await?;
    let from = version(target, &client).await?;
    let known = known();
    if from > known {
        return Err(OpenError::Newer { address: target.address().to_owned(), found: from, known });
    }
    if from < to {
        let migrated = runner().set_target(Until::Version(to)).run_async(&mut client).await;
        migrated.map_err(|source| OpenError::Migration { address: target.address().to_owned(), source: Box::new(source) })?;
    }
    client.batch_execute(include_str!("../sql/note_store.sql")).await.map_err(failed("noting whose database this is"))?;
    Ok(Migrated { from, to })
}

/// Checks that the schema is the one of this build.
///
/// # Errors
/// [`OpenError`].
pub async fn check(target: &Target) -> Result<(), OpenError> {
    let client = connected(target).await?;
    let (found, known, address) = (version(target, &client).await?, known(), target.address().to_owned());
    match found {
        found if found > known => Err(OpenError::Newer { address, found, known }),
        found if found < known => Err(OpenError::Older { address, found, known }),
        _ => Ok(()),
    }
}

/// The schema that this build brings.
#[must_use]
pub fn known() -> i32 {
    runner().get_migrations().iter().map(|migration| migration.version()).max().unwrap_or(0)
}

fn runner() -> Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    runner
}

fn failure(target: &Target, attempted: &'static str, source: Lost) -> OpenError {
    OpenError::Failed { address: target.address().to_owned(), attempted, source }
}

async fn connected(target: &Target) -> Result<Client, OpenError> {
    let refused = |source| OpenError::Connect { address: target.address().to_owned(), source };
    let client = target.connect().await.map_err(refused)?;
    let row = client.query_one("select current_setting('server_version_num')::int", &[]).await;
    let found = row.and_then(|row| row.try_get::<_, i32>(0)).map_err(|error| refused(error.into()))?.unsigned_abs();
    if found < LEAST_POSTGRES {
        return Err(OpenError::TooOld { address: target.address().to_owned(), found: found / 10_000, least: LEAST_POSTGRES / 10_000 });
    }
    Ok(client)
}

/// Polls instead of waiting in the database, so that a lock that is never freed ends in an error.
async fn lock(target: &Target, client: &Client) -> Result<(), OpenError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let row = client.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await;
        let locked = row.and_then(|row| row.try_get::<_, bool>(0));
        if locked.map_err(|error| failure(target, "locking the migrations", error.into()))? {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(failure(target, "waiting for another migration", Lost::Late(PATIENCE)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The schema that is there, 0 for an empty database.
async fn version(target: &Target, client: &Client) -> Result<i32, OpenError> {
    let failed = |attempted| move |error: tokio_postgres::Error| failure(target, attempted, error.into());
    let row = client.query_one(include_str!("../sql/schema_found.sql"), &[&HISTORY]).await.map_err(failed("looking at the schema"))?;
    let ours: bool = row.try_get("ours").map_err(failed("looking at the schema"))?;
    let foreign: Option<String> = row.try_get("foreign_table").map_err(failed("looking at the schema"))?;
    match (ours, foreign) {
        (true, _) => {
            let row = client.query_one(&format!("select coalesce(max(version), 0) from {HISTORY}"), &[]).await;
            row.and_then(|row| row.try_get(0)).map_err(failed("reading the schema's history"))
        }
        (false, Some(table)) => Err(OpenError::NotOurs { address: target.address().to_owned(), table }),
        (false, None) => Ok(0),
    }
}
