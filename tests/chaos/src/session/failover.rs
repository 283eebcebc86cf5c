//! The primary of the database dies, and its standby takes its place.
//!
//! ```text
//!   standby follows ─▶ (async: it receives nothing any more, the primary goes on) ─▶ primary dies ─▶ promoted ─▶ proxy points there
//!        what had the old one that the new one has not? ─▶ the old one is made the new standby
//!        the product has found out ─▶ everything that was answered for among it? ─▶ settled, as people would
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use sdk::RunId;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use super::Options;
use crate::installation::{Installation, Replicated, Tail};

/// How long an asynchronous primary goes on alone: some hundred commits.
const ALONE: Duration = Duration::from_millis(1_500);
/// Longest wait for a server that was struck to answer again.
const ANSWERS: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    /// From the death of the primary to where the other one takes writes.
    pub took: Duration,
    /// From there to where its server was known.
    pub checked: Duration,
    /// What the old one had and the new one had not.
    pub tail: Tail,
    /// Runs that the product has found to lack something, by what became of them.
    pub found: BTreeMap<String, BTreeSet<RunId>>,
    /// Runs that lack something that was answered for, and that it has not found.
    pub missed: Vec<RunId>,
    /// Runs that lack at most one turn, of which nobody was told.
    pub unseen: Vec<RunId>,
    /// How runs that have lost events stand in the end, by state.
    pub stand: BTreeMap<String, usize>,
}

impl Failover {
    /// Whether nothing that was answered for is missing.
    #[must_use]
    pub fn lost_nothing(&self) -> bool {
        self.found.is_empty() && self.tail.answered.is_empty()
    }
}

pub(super) async fn carried_out(installation: &Installation, options: &Options) -> Result<Failover> {
    let postgres = &installation.postgres;
    postgres.ready().await?;
    postgres.wait_until_known().await?;
    postgres.wait_for_standby().await?;
    if options.failovers.is_some_and(|(_, replicated)| replicated == Replicated::Async) {
        postgres.hold_back()?;
        tokio::time::sleep(ALONE).await;
    }
    let (began, since) = (Instant::now(), Utc::now());
    let has = postgres.fail_over().await.context("a failover of the store")?;
    installation.database.point_at(vec![postgres.target()]);
    let (took, promoted) = (began.elapsed(), Instant::now());
    let tail = postgres.lost_tail(&has).await.context("looking at the old primary")?;
    postgres.wait_until_known().await?;
    let checked = promoted.elapsed();
    postgres.stand_by().await.context("making the old primary a standby")?;
    if let Some((_, replicated)) = options.failovers {
        // The promoted one was copied before anybody had told it to wait for a standby.
        postgres.wait_for_standby().await?;
        postgres.follows(replicated).await?;
    }
    let mut failover = Failover { took, checked, tail, ..Failover::default() };
    found(installation, &mut failover, since).await?;
    let Failover { tail, missed, unseen, .. } = &failover;
    println!(
        "       a failover of the store took {:.2} s, {:.2} s later its server was known; {} runs and {} ends of histories were on the old one alone; {} not found, {} seen by nobody",
        took.as_secs_f64(), checked.as_secs_f64(), tail.runs.len(), tail.shorter.len(), missed.len(), unseen.len()
    );
    Ok(failover)
}

/// What the product says it lacks is compared with what it lacks, and settled.
async fn found(installation: &Installation, failover: &mut Failover, since: DateTime<Utc>) -> Result<()> {
    let store = said(installation, &["-o", "json", "store", "reconcile", "--wait"], &[0, 6]).await?;
    let mut settle = BTreeMap::new();
    for loss in store["losses"].as_array().context("the store's losses are no list")? {
        let run: RunId = loss["run"].as_str().unwrap_or_default().parse().context("a loss without a run")?;
        let found_at: DateTime<Utc> = loss["found_at"].as_str().unwrap_or_default().parse().context("a loss without a time")?;
        if found_at >= since {
            failover.found.entry(loss["became"].as_str().unwrap_or_default().to_owned()).or_default().insert(run);
        }
        if loss["settled"].is_null() && loss["became"] != "adopted" {
            // A run that is not there can't go on; its parent may ask for it again.
            let goes_on = loss["held"] == true;
            *settle.entry(run).or_insert(false) |= goes_on;
        }
    }
    let known: BTreeSet<RunId> = failover.found.values().flatten().copied().collect();
    let lacking = failover.tail.shorter.iter().map(|(run, _)| *run).chain(failover.tail.runs.iter().copied()).filter(|run| !known.contains(run));
    (failover.missed, failover.unseen) = lacking.partition(|run| failover.tail.answered.contains(run));
    for (run, goes_on) in settle {
        let how = if goes_on { "--go-on" } else { "--accept-loss" };
        said(installation, &["-o", "json", "store", "settle", &run.to_string(), how, "--reason", "chaos"], &[0]).await?;
    }
    Ok(())
}

/// Asks until a server answers: it may be struck.
async fn said(installation: &Installation, words: &[&str], well: &[i32]) -> Result<Value> {
    let deadline = Instant::now() + ANSWERS;
    loop {
        let said = installation.say(words);
        if well.contains(&said.code) {
            return Ok(said.json());
        }
        // What was settled by an answer that was lost is settled.
        if said.code == 4 && words.contains(&"settle") {
            return Ok(Value::Null);
        }
        ensure!(said.code == 1 || said.code == 124, "{words:?}: {said:?}");
        if Instant::now() > deadline {
            bail!("{words:?} is not answered within {ANSWERS:?}: {said:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
