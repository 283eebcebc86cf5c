//! How long the runs of a killed worker wait: from the kill, by our clock, to the commit of the next worker's first turn, by the database's;
//! both are clocks of one machine.
//!
//! Invariants: 1. Only kills are judged in which another worker could take over at once: one that had held its lease for long enough, on a
//! database that was well. Others are counted. 2. Measured are runs that always have a turn to take soon; the others wait for agents as well.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use sdk::{Lease, RunId};
use tokio_postgres::Client;

/// Until a worker that is started again has its first lease.
const STARTS: Duration = Duration::from_secs(3);
/// What the bar grants beside the lease.
const GRANTED: Duration = Duration::from_secs(1);

/// A killed worker.
#[derive(Clone, Debug)]
pub struct Killed {
    /// When.
    pub at: DateTime<Utc>,
    /// Which of the workers.
    pub worker: usize,
    /// What it held.
    pub lease: Lease,
    /// Runs of timers alone that it owned.
    pub pulses: Vec<RunId>,
    /// Other runs that it owned.
    pub others: Vec<RunId>,
}

/// When somebody was not well.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// A worker; or the database, and everybody with it.
    pub worker: Option<usize>,
    /// From.
    pub from: DateTime<Utc>,
    /// Until.
    pub until: DateTime<Utc>,
}

/// What was measured, in milliseconds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Runs of timers, of kills in which somebody could take over at once.
    pub at_once: Vec<u64>,
    /// All other runs of those kills; they may have waited for an agent or a lock.
    pub waiting: Vec<u64>,
    /// Runs of timers, of kills in which nobody could.
    pub disturbed: Vec<u64>,
    /// Kills of the first kind.
    pub kills: usize,
    /// Those of them after which a run waited for longer than is right.
    pub slow: Vec<String>,
}

/// Longest takeover that is right.
#[must_use]
pub fn bar(lease: Duration) -> Duration {
    lease + GRANTED
}

/// Whether another worker could take over at once.
#[must_use]
pub fn somebody_could(killed: &Killed, troubles: &[Trouble], workers: usize, lease: Duration) -> bool {
    let before = |time: Duration| killed.at - chrono::Duration::from_std(time).unwrap_or_default();
    let end = killed.at + chrono::Duration::from_std(bar(lease)).unwrap_or_default();
    let well = |worker: Option<usize>, since: DateTime<Utc>| !troubles.iter().any(|t| t.worker == worker && t.until >= since && t.from <= end);
    // Nobody takes over within a lease after the start of the database, or before it has held its own for as long.
    let others = (0..workers).filter(|worker| *worker != killed.worker);
    well(None, before(lease + STARTS)) && others.into_iter().any(|other| well(Some(other), before(lease + STARTS)))
}

/// The value that so many hundredths of all do not exceed.
#[must_use]
pub fn percentile(sorted: &[u64], hundredths: usize) -> Option<u64> {
    let place = (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
    sorted.get(place).copied()
}

/// Looks the first turns of others up.
///
/// # Errors
/// The database does not answer.
pub async fn measured(client: &Client, kills: &[Killed], troubles: &[Trouble], workers: usize, lease: Duration) -> Result<Measured> {
    let mut measured = Measured::default();
    for killed in kills {
        let could = somebody_could(killed, troubles, workers, lease);
        measured.kills += usize::from(could);
        let (pulses, others) = (waited(client, killed, &killed.pulses).await?, waited(client, killed, &killed.others).await?);
        if could {
            let longest = pulses.iter().max().copied().unwrap_or(0);
            if u128::from(longest) > bar(lease).as_millis() {
                measured.slow.push(format!("{} worker-{} epoch {}: {longest} ms", killed.at.to_rfc3339(), killed.worker + 1, killed.lease.epoch));
            }
            measured.at_once.extend(pulses);
            measured.waiting.extend(others);
        } else {
            measured.disturbed.extend(pulses);
        }
    }
    [&mut measured.at_once, &mut measured.waiting, &mut measured.disturbed].into_iter().for_each(|list| list.sort_unstable());
    Ok(measured)
}

async fn waited(client: &Client, killed: &Killed, runs: &[RunId]) -> Result<Vec<u64>> {
    let ids: Vec<uuid::Uuid> = runs.iter().map(|run| run.0).collect();
    let first = "select run_id, min(pg_xact_commit_timestamp(xmin)) as at from engine.events
                 where run_id = any($1) and (worker_id, lease_epoch) <> ($2, $3) and pg_xact_commit_timestamp(xmin) > $4 group by run_id";
    let rows = client.query(first, &[&ids, &killed.lease.worker.0, &killed.lease.epoch, &killed.at]).await?;
    let waits = rows.iter().filter_map(|row| row.get::<_, Option<DateTime<Utc>>>("at"));
    Ok(waits.map(|at| u64::try_from((at - killed.at).num_milliseconds()).unwrap_or(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap_or_default()
    }

    fn trouble(worker: Option<usize>, from: i64, until: i64) -> Trouble {
        Trouble { worker, from: at(from), until: at(until) }
    }

    #[test]
    fn a_kill_counts_if_somebody_else_was_well_for_long_enough() {
        let lease = Lease { worker: sdk::WorkerId(uuid::Uuid::nil()), epoch: 1 };
        let killed = Killed { at: at(100), worker: 0, lease, pulses: vec![], others: vec![] };
        let could = |troubles: &[Trouble]| somebody_could(&killed, troubles, 3, LEASE);
        assert!(could(&[trouble(Some(0), 100, 102)]));
        assert!(could(&[trouble(Some(1), 99, 101)]), "there is a third");
        assert!(!could(&[trouble(Some(1), 99, 101), trouble(Some(2), 103, 104)]));
        assert!(could(&[trouble(Some(1), 80, 90), trouble(Some(2), 103, 104)]));
        assert!(!could(&[trouble(None, 95, 96)]), "the database had just begun");
        assert!(!could(&[trouble(None, 104, 105)]));
        assert!(could(&[trouble(None, 105, 106), trouble(None, 90, 93)]));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 99), percentile(&[7], 99), percentile(&[], 50)), (Some(100), Some(198), Some(7), None));
    }
}
