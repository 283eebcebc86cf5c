//! The primary of the database dies, and its standby takes its place.
//!
//! ```text
//!   standby follows ─▶ (async: it receives nothing any more, the primary goes on) ─▶ primary dies ─▶ promoted ─▶ proxy points there
//!                                  what had the old one that the new one has not? ─▶ the old one is made the new standby
//! ```

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use sdk::RunId;
use tokio_postgres::Client;
use uuid::Uuid;

use super::Options;
use crate::installation::{Installation, Replicated, Tail};

/// How long an asynchronous primary goes on alone: some hundred commits.
const ALONE: Duration = Duration::from_millis(1_500);

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    /// From the death of the primary to where the other one takes writes.
    pub took: Duration,
    /// What the old one had and the new one had not.
    pub tail: Tail,
    /// How runs that have lost events stand in the end, by state.
    pub stand: BTreeMap<String, usize>,
}

pub(super) async fn carried_out(installation: &Installation, options: &Options) -> Result<Failover> {
    let postgres = &installation.postgres;
    postgres.ready().await?;
    postgres.wait_for_standby().await?;
    if options.failovers.is_some_and(|(_, replicated)| replicated == Replicated::Async) {
        postgres.hold_back()?;
        tokio::time::sleep(ALONE).await;
    }
    let began = Instant::now();
    let has = postgres.fail_over().await.context("a failover of the store")?;
    installation.database.point_at(vec![postgres.target()]);
    let took = began.elapsed();
    let tail = postgres.lost_tail(&has).await.context("looking at the old primary")?;
    postgres.stand_by().await.context("making the old primary a standby")?;
    println!("       a failover of the store took {:.2} s; {} runs and {} ends of histories were on the old one alone", took.as_secs_f64(), tail.runs.len(), tail.shorter.len());
    Ok(Failover { took, tail, stand: BTreeMap::new() })
}

/// How runs that have lost something stand now.
pub(super) async fn look_again(client: &Client, failovers: &mut [Failover]) -> Result<()> {
    for failover in failovers {
        let lost = failover.tail.shorter.iter().map(|(run, _)| run).chain(&failover.tail.runs);
        let ids: Vec<Uuid> = lost.map(|run: &RunId| run.0).collect();
        let rows = client.query("select state, count(*) from engine.runs where run_id = any($1) group by state", &[&ids]).await?;
        failover.stand = rows.iter().map(|row| (row.get(0), usize::try_from(row.get::<_, i64>(1)).unwrap_or(0))).collect();
        let there: usize = failover.stand.values().sum();
        failover.stand.insert("not there".into(), ids.len() - there);
    }
    Ok(())
}
