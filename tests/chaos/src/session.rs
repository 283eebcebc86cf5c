//! One session of chaos, from an empty directory to a verdict.
//!
//! ```text
//!   start ─▶ work ─▶ strikes of the plan ─▶ heal ─▶ all work ends ─▶ judge ─▶ table
//! ```

mod blows;
mod failover;
mod table;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use chrono::Utc;
use engine::adapters::Spool;
use store::{Limits, PgStore};
use tokio::sync::watch;
use uuid::Uuid;

pub use blows::Counts;
pub use failover::Failover;
pub use table::Summary;

use self::blows::{Blows, Over};
use crate::{
    installation::{Installation, Replicated, Wanted},
    judge,
    ledger::Audit,
    outside,
    strikes::{Dice, Strike, plan},
    submitter::{Load, Submitter, until_ended},
    takeover,
};

/// Longest wait for all work to end after everything is well again.
const ENDS: Duration = Duration::from_secs(120);
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers, servers and agents that are killed.
    pub kills: usize,
    /// Where the plan comes from.
    pub seed: u64,
    /// Life of leases.
    pub lease: Duration,
    /// Agents that lie about what happened: the session must then fail.
    pub lying: bool,
    /// Keeps all files, also if nothing is wrong.
    pub keep: bool,
    /// How much is open at a time.
    pub load: Load,
    /// How often the database's primary dies and its standby takes its place, spread over the plan; and when the primary says that something
    /// is stored.
    pub failovers: Option<(usize, Replicated)>,
}

/// Carries a plan out and judges.
///
/// # Errors
/// Something could not be started, or does not answer although it is well: there is no verdict then.
pub async fn carried_out(options: &Options) -> Result<Summary> {
    let began = Instant::now();
    let wanted = Wanted { lease: options.lease, lying: options.lying, replicated: options.failovers.map(|(_, replicated)| replicated) };
    let installation = Arc::new(Installation::start(&wanted).await.context("starting everything")?);
    println!("everything runs in {} after {:.0} s", installation.dir().display(), began.elapsed().as_secs_f64());
    let outcome = struck(options, &installation).await;
    let keep = options.keep || !outcome.as_ref().is_ok_and(Summary::holds);
    let dir = installation.dir().to_owned();
    if let Some(installation) = Arc::into_inner(installation) {
        tokio::task::block_in_place(|| installation.end(keep));
    }
    if keep {
        println!("kept in {}: logs/ (strikes.log among them), ledger.jsonl, failed/RUN.jsonl (histories that are wrong), postgres.kept/", dir.display());
    }
    outcome.map(|summary| Summary { took: began.elapsed(), ..summary })
}

async fn struck(options: &Options, installation: &Arc<Installation>) -> Result<Summary> {
    // Who asks for work remembers what it was told, as servers do.
    let spool = Spool::open(&installation.dir().join("submitter.jsonl"), Uuid::now_v7()).context("opening the submitter's notes")?;
    let opened = PgStore::open(&installation.url(), Limits { lease: options.lease, connections: 6 }).await.context("opening the store")?;
    let store = Arc::new(opened.witnessed_by(Arc::new(spool)));
    let (stop, stopped) = watch::channel(false);
    let testifying = tokio::spawn(store.clone().keep_testifying("server", "submitter".to_owned(), stopped));
    let submitter = Submitter::new(store.clone(), installation.postgres.clone());
    let working = tokio::spawn(submitter.clone().work(options.load, Dice::new(options.seed ^ 0x5eed)));
    // Before the first strike every worker has held its lease for long enough to take over.
    tokio::time::sleep(options.lease * 2).await;
    let mut blows = Blows::new(installation.clone());
    let (began, mut told) = (Instant::now(), Instant::now());
    let (plan, mut failovers) = (plan(options.seed, options.kills), Vec::new());
    let wanted = options.failovers.map_or(0, |(count, _)| count);
    for (place, planned) in plan.iter().enumerate() {
        tokio::time::sleep(planned.after).await;
        if !blows.strike(*planned).await && matches!(planned.strike, Strike::Kill(_)) {
            blows.counts.missed += 1;
        }
        if (place + 1) * wanted / plan.len() > failovers.len() {
            let from = Utc::now();
            failovers.push(failover::carried_out(installation, options).await?);
            blows.database_was_away(from);
        }
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            println!("{:>4.0} s: {}, {} failovers of the store, {} runs accepted", began.elapsed().as_secs_f64(), blows.counts, failovers.len(), submitter.told().len());
        }
    }
    println!("{:>4.0} s: all strikes are done; healing", began.elapsed().as_secs_f64());
    let Over { counts, killed, troubles, checks } = blows.over().await;
    installation.heal();
    installation.postgres.ready().await?;
    installation.postgres.wait_until_known().await?;
    submitter.stop();
    working.await.context("the submitter panicked")?;
    let runs = submitter.told();
    let ended = until_ended(&installation.postgres, &runs, ENDS).await;
    stop.send_replace(true);
    testifying.await.context("the submitter's witness panicked")?;
    let client = installation.postgres.connect().await?;
    let audit = Audit::of(&outside::read(&installation.ledger_file())?);
    let mut verdict = judge::judged(&store, &client, &runs, &audit, &installation.dir().join("failed")).await?;
    failover::look_again(&client, &mut failovers).await?;
    verdict.lost.extend(ended.err().map(|error| error.to_string()));
    verdict.wrong.extend(submitter.wrong());
    let takeover = takeover::measured(&client, &killed, &troubles, installation.workers.len(), options.lease).await?;
    let (accepted, again, starts) = (runs.len(), submitter.again(), installation.postgres.starts());
    Ok(Summary { options: options.clone(), took: Duration::ZERO, counts, accepted, again, starts, verdict, takeover, failovers, checks })
}
