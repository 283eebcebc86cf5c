//! Carries strikes out, and notes who was not well when.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use chrono::{DateTime, Utc};
use rustix::process::Signal;
use sdk::{RunId, Workflow};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    installation::{Installation, Member, Postgres, kill},
    programs::Pulse,
    strikes::{Planned, Strike, Whom},
    takeover::{Killed, Trouble},
};

/// Shortest and longest time until a killed process is started again.
const DEAD_MS: (u64, u64) = (200, 1_500);
/// A connection that stands still for longer than any statement may take.
const STALLED_MS: (u64, u64) = (500, 4_000);
const FULL_MS: (u64, u64) = (1_000, 4_000);
const PINNED_MS: (u64, u64) = (5_000, 25_000);
/// A server that was killed is gone by then.
const NOTICED: Duration = Duration::from_millis(100);
/// Longest time that a server needs to end of a full disk.
const CLEARED: Duration = Duration::from_secs(1);
/// How long the database is at most not there after one of its processes was killed; its recovery is that of some megabytes.
const RECOVERS: chrono::Duration = chrono::Duration::seconds(3);

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By strike.
    pub strikes: BTreeMap<Strike, usize>,
    /// Kills that found nobody who was well.
    pub missed: usize,
}

/// What there was.
pub(super) struct Over {
    pub(super) counts: Counts,
    pub(super) killed: Vec<Killed>,
    pub(super) troubles: Vec<Trouble>,
    /// From the death of the database's server to where the next one was known, in milliseconds, sorted.
    pub(super) checks: Vec<u64>,
}

/// What is going on.
pub(super) struct Blows {
    installation: Arc<Installation>,
    pub(super) counts: Counts,
    killed: Vec<Killed>,
    /// From the death of the database's server to where the next one was known, in milliseconds.
    checks: Arc<Mutex<Vec<u64>>>,
    troubles: Arc<Mutex<Vec<Trouble>>>,
    lasting: JoinSet<()>,
    /// Transactions that do nothing; the end ends them.
    pins: JoinSet<()>,
}

impl Counts {
    /// Kills of workers, servers and agents.
    #[must_use]
    pub fn kills(&self) -> usize {
        self.strikes.iter().filter(|(strike, _)| matches!(strike, Strike::Kill(_))).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: usize = self.strikes.values().sum();
        write!(f, "{} kills, {} other strikes", self.kills(), all - self.kills())
    }
}

impl Blows {
    pub(super) fn new(installation: Arc<Installation>) -> Self {
        Self { installation, counts: Counts::default(), killed: Vec::new(), checks: Arc::default(), troubles: Arc::default(), lasting: JoinSet::new(), pins: JoinSet::new() }
    }

    /// Waits for what lasts, but for transactions that do nothing.
    pub(super) async fn over(mut self) -> Over {
        while self.lasting.join_next().await.is_some() {}
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        checks.sort_unstable();
        Over { counts: self.counts, killed: self.killed, troubles, checks }
    }

    /// `false` if it could not be carried out: nobody was well, or the machine does not allow it.
    pub(super) async fn strike(&mut self, planned: Planned) -> bool {
        while self.lasting.try_join_next().is_some() || self.pins.try_join_next().is_some() {}
        let done = match planned.strike {
            Strike::Kill(whom) => self.kill(whom, planned).await,
            Strike::Pause(whom) => self.pause(whom, planned),
            Strike::EndConnections { all } => self.end_connections(all).await.is_ok(),
            Strike::KillBackend => self.kill_backend().await.is_ok(),
            Strike::KillPostgres => {
                self.kill_postgres();
                true
            }
            Strike::Cut => {
                self.note(None, Utc::now());
                self.installation.database.cut();
                true
            }
            Strike::Stall => self.stall(planned),
            Strike::FillDisk => self.fill(planned),
            Strike::PinHorizon => self.pin(planned),
        };
        self.write_down(planned, done);
        if done {
            *self.counts.strikes.entry(planned.strike).or_default() += 1;
        }
        done
    }

    pub(super) fn database_was_away(&self, from: DateTime<Utc>) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(Trouble { worker: None, from, until: Utc::now() });
    }

    /// When what was done, for whoever reads the logs beside it.
    fn write_down(&self, planned: Planned, done: bool) {
        let path = self.installation.dir().join("logs/strikes.log");
        let written = File::options().create(true).append(true).open(path).and_then(|mut file| {
            writeln!(file, "{} {:?} which {} lasts {}{}", Utc::now().to_rfc3339(), planned.strike, planned.which, planned.lasts, if done { "" } else { " (left out)" })
        });
        if let Err(error) = written {
            eprintln!("a strike was not written down: {error}");
        }
    }

    fn note(&self, worker: Option<usize>, until: DateTime<Utc>) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(Trouble { worker, from: Utc::now(), until });
    }

    /// The first that is well, from the drawn one on.
    fn drawn(&self, whom: Whom, which: usize) -> Option<(usize, Arc<Member>)> {
        let members = match whom {
            Whom::Worker => &self.installation.workers,
            Whom::Server => &self.installation.servers,
            Whom::Agent => &self.installation.agents,
        };
        let places = (0..members.len()).map(|place| (place + which) % members.len());
        places.map(|place| (place, members[place].clone())).find(|(_, member)| member.strike())
    }

    async fn kill(&mut self, whom: Whom, planned: Planned) -> bool {
        let busiest = if whom == Whom::Worker && !planned.lasts.is_multiple_of(3) { self.busiest().await } else { None };
        let Some((place, member)) = self.drawn(whom, busiest.unwrap_or(planned.which)) else { return false };
        let lease = (whom == Whom::Worker).then(|| self.installation.noted(&member.name)).flatten();
        let from = Utc::now();
        tokio::task::block_in_place(|| member.kill());
        let at = Utc::now();
        if let Some(lease) = lease
            && let Ok((pulses, others)) = self.owned(lease).await
        {
            self.killed.push(Killed { at, worker: place, lease, pulses, others });
        }
        let dead = between(DEAD_MS, planned.lasts);
        if whom == Whom::Worker {
            let until = at + chrono::Duration::from_std(dead).unwrap_or_default();
            self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(Trouble { worker: Some(place), from, until });
        }
        self.lasting.spawn(async move {
            tokio::time::sleep(dead).await;
            member.start();
            member.is_well();
        });
        true
    }

    /// The worker that owns most: who is quickest owns nearly all, and a kill of the others would hit nothing.
    async fn busiest(&self) -> Option<usize> {
        let client = self.installation.postgres.connect().await.ok()?;
        let most = "select owner from engine.runs where state = 'open' and owner is not null group by owner order by count(*) desc limit 1";
        let owner: Uuid = client.query_opt(most, &[]).await.ok()??.get(0);
        self.installation.workers.iter().position(|worker| self.installation.noted(&worker.name).is_some_and(|lease| lease.worker.0 == owner))
    }

    /// Runs that a lease owns: those of timers alone, and the others.
    async fn owned(&self, lease: sdk::Lease) -> Result<(Vec<RunId>, Vec<RunId>)> {
        let client = self.installation.postgres.connect().await?;
        let owned = "select run_id, workflow from engine.runs where owner = $1 and owner_epoch = $2 and state = 'open'";
        let rows = client.query(owned, &[&lease.worker.0, &lease.epoch]).await?;
        let runs = rows.iter().map(|row| (RunId(row.get::<_, Uuid>(0)), row.get::<_, String>(1) == Pulse::NAME));
        let (pulses, others): (Vec<_>, Vec<_>) = runs.partition(|(_, pulse)| *pulse);
        Ok((pulses.into_iter().map(|(run, _)| run).collect(), others.into_iter().map(|(run, _)| run).collect()))
    }

    /// From a little less than a lease to two of them: some come back in time, most too late.
    fn pause(&mut self, whom: Whom, planned: Planned) -> bool {
        let Some((place, member)) = self.drawn(whom, planned.which) else { return false };
        let lease = self.installation.lease;
        let paused = lease.mul_f64(0.8 + 1.2 * planned.lasts as f64 / 1_000.0);
        member.signal(Signal::STOP);
        if whom == Whom::Worker {
            self.note(Some(place), Utc::now() + chrono::Duration::from_std(paused).unwrap_or_default());
        }
        self.lasting.spawn(async move {
            tokio::time::sleep(paused).await;
            member.signal(Signal::CONT);
            member.is_well();
        });
        true
    }

    async fn end_connections(&self, all: bool) -> Result<()> {
        let client = self.installation.postgres.connect().await?;
        self.note(None, Utc::now());
        let end = "select pg_terminate_backend(pid) from (select pid from pg_stat_activity where application_name = 'switchback' order by random() limit $1) as drawn";
        client.query(end, &[&if all { i64::MAX } else { 2 }]).await?;
        Ok(())
    }

    fn kill_postgres(&mut self) {
        let (postgres, from) = (self.installation.postgres.clone(), Utc::now());
        postgres.kill_primary();
        self.away_until_known(postgres, from, Duration::ZERO);
    }

    /// The database is away from then on until its server is known, which is looked at after `first`.
    fn away_until_known(&mut self, postgres: Arc<Postgres>, from: DateTime<Utc>, first: Duration) {
        let (troubles, checks) = (self.troubles.clone(), self.checks.clone());
        self.lasting.spawn(async move {
            tokio::time::sleep(first.max(NOTICED)).await;
            if let Err(error) = postgres.wait_until_known().await {
                eprintln!("{error:#}");
            }
            let until = Utc::now();
            troubles.lock().unwrap_or_else(PoisonError::into_inner).push(Trouble { worker: None, from, until });
            if first.is_zero() {
                let took = (until - from).to_std().unwrap_or_default();
                checks.lock().unwrap_or_else(PoisonError::into_inner).push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            }
        });
    }

    async fn kill_backend(&self) -> Result<()> {
        let client = self.installation.postgres.connect().await?;
        let any = "select pid from pg_stat_activity where application_name = 'switchback' and backend_type = 'client backend' order by random() limit 1";
        let row = client.query_one(any, &[]).await?;
        self.note(None, Utc::now() + RECOVERS);
        kill(row.get(0), Signal::KILL);
        Ok(())
    }

    fn stall(&mut self, planned: Planned) -> bool {
        let (database, stalled) = (self.installation.database.clone(), between(STALLED_MS, planned.lasts));
        self.note(None, Utc::now() + chrono::Duration::from_std(stalled).unwrap_or_default());
        database.stall(true);
        self.lasting.spawn(async move {
            tokio::time::sleep(stalled).await;
            database.stall(false);
        });
        true
    }

    fn fill(&mut self, planned: Planned) -> bool {
        let (installation, full) = (self.installation.clone(), between(FULL_MS, planned.lasts));
        if !tokio::task::block_in_place(|| installation.postgres.disk().fill()) {
            return false;
        }
        let from = Utc::now();
        self.note(None, from + chrono::Duration::from_std(full).unwrap_or_default() + RECOVERS);
        // A server that found its disk full may have been started anew.
        self.away_until_known(self.installation.postgres.clone(), from, full + CLEARED);
        self.lasting.spawn(async move {
            tokio::time::sleep(full).await;
            installation.postgres.disk().clear();
        });
        true
    }

    fn pin(&mut self, planned: Planned) -> bool {
        let (installation, pinned) = (self.installation.clone(), between(PINNED_MS, planned.lasts));
        self.pins.spawn(async move {
            // Whatever ends the transaction early ends the strike early.
            let Ok(client) = installation.postgres.connect().await else { return };
            let begun = client.batch_execute("begin isolation level repeatable read; select count(*) from engine.runs").await;
            if begun.is_ok() {
                tokio::time::sleep(pinned).await;
            }
        });
        true
    }
}

fn between((least, most): (u64, u64), thousandths: u64) -> Duration {
    Duration::from_millis(least + (most - least) * thousandths / 1_000)
}
