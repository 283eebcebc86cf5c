//! The database: clusters of our own that are started again whenever they end, as an init system does. One may be written to; the other, if
//! one is wanted, follows it and can take its place.
//!
//! Invariants: 1. A cluster that was left behind is not started again before it was made anew from the other. 2. Of a primary that dies all
//! processes die at once, as those of a host do.

mod node;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio_postgres::Client;

pub use self::node::Heads;
use self::node::Node;
use super::{Disk, Replicated};
use crate::proxy::Target;

/// Crash recovery included.
const BEGINS: Duration = Duration::from_secs(60);

/// The clusters.
pub struct Postgres {
    nodes: Mutex<Vec<Node>>,
    disk: Disk,
    logs: PathBuf,
    /// The node that may be written to.
    primary: Mutex<usize>,
    ending: AtomicBool,
    starts: AtomicU64,
}

/// What the new primary has not of the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Runs that are not there at all.
    pub runs: Vec<sdk::RunId>,
    /// Runs that lack events at their end, with how many.
    pub shorter: Vec<(sdk::RunId, i64)>,
    /// Those of both that lack more than one turn: a turn begins when the one before it was answered for, so somebody was told of them.
    pub answered: BTreeSet<sdk::RunId>,
}

impl Tail {
    fn between(had: &Heads, has: &Heads) -> Self {
        let mut tail = Self::default();
        for (run, (events, turns)) in had {
            let (kept, kept_turns) = has.get(run).copied().unwrap_or_default();
            if !has.contains_key(run) {
                tail.runs.push(*run);
            } else if kept < *events {
                tail.shorter.push((*run, events - kept));
            }
            if turns - kept_turns > 1 {
                tail.answered.insert(*run);
            }
        }
        tail
    }
}

impl Postgres {
    /// Starts it, and keeps it running.
    ///
    /// # Errors
    /// It can't be made or does not answer.
    pub async fn start(dir: &Path, replicated: Option<Replicated>) -> Result<Arc<Self>> {
        let disk = Disk::at(dir.join("pg"))?;
        let first = Node::made(disk.path().join("n1"))?;
        let (logs, ending, starts) = (dir.join("logs"), AtomicBool::new(false), AtomicU64::new(0));
        let postgres = Arc::new(Self { nodes: Mutex::new(vec![first]), disk, logs, primary: Mutex::new(0), ending, starts });
        postgres.keep();
        postgres.ready().await?;
        let kept = Arc::downgrade(&postgres);
        tokio::spawn(async move {
            while let Some(postgres) = kept.upgrade() {
                postgres.keep();
                drop(postgres);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if let Some(replicated) = replicated {
            postgres.stand_by().await?;
            postgres.wait_for_standby().await?;
            postgres.follows(replicated).await?;
        }
        Ok(postgres)
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn primary(&self) -> usize {
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts whatever does not run.
    fn keep(&self) {
        let mut nodes = self.nodes();
        if self.ending.load(Ordering::SeqCst) {
            return;
        }
        for (number, node) in nodes.iter_mut().enumerate() {
            if node.start(&self.logs.join(format!("postgres-{}.log", number + 1))) {
                self.starts.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Waits until the primary can be written to.
    ///
    /// # Errors
    /// It does not come.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + BEGINS;
        loop {
            let url = self.nodes()[self.primary()].cluster.url_of("postgres");
            let tried = async {
                let client = node::connect(&url).await?;
                if client.query_opt("select from pg_database where datname = 'switchback'", &[]).await?.is_none() {
                    client.batch_execute("create database switchback").await?;
                }
                anyhow::Ok(())
            };
            match tried.await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.context("the database does not answer")),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Waits until the primary's server is known: whether it lacks something is found out.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_until_known(&self) -> Result<()> {
        let deadline = Instant::now() + BEGINS;
        let known = "select coalesce(bool_and(started_at = pg_postmaster_start_time()), false) from engine.store";
        loop {
            let asked = async { anyhow::Ok(self.connect().await?.query_one(known, &[]).await?.get::<_, bool>(0)) };
            if asked.await.unwrap_or(false) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("whether the database has lost something is not found out within {BEGINS:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection to the primary that no proxy stands in.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connect(&self) -> Result<Client> {
        let url = self.nodes()[self.primary()].cluster.url();
        node::connect(&url).await
    }

    /// Where the proxy finds the primary.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::Unix(self.nodes()[self.primary()].socket())
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// How often a postmaster was started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }

    /// Kills the primary's postmaster. Its children see that and end; then it is started again.
    pub fn kill_primary(&self) {
        let primary = self.primary();
        self.nodes()[primary].signal(Signal::KILL);
    }

    /// Makes the other cluster a standby of the primary, from a fresh copy.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn stand_by(&self) -> Result<()> {
        let (place, from) = (1 - self.primary(), self.nodes()[self.primary()].dir.clone());
        self.connect().await?.batch_execute("checkpoint").await.context("a checkpoint before the copy")?;
        let dir = self.disk.path().join(format!("n{}", place + 1));
        tokio::task::block_in_place(|| node::copy(&from, &dir))?;
        let mut nodes = self.nodes();
        match nodes.get_mut(place) {
            Some(node) => node.made_anew(),
            None => nodes.push(Node::made(dir)?),
        }
        Ok(())
    }

    /// From now on the primary says that something is stored when the standby has it as well, or not.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn follows(&self, replicated: Replicated) -> Result<()> {
        let names = if replicated == Replicated::Sync { "*" } else { "" };
        let client = self.connect().await?;
        client.batch_execute(&format!("alter system set synchronous_standby_names = '{names}'")).await?;
        client.batch_execute("select pg_reload_conf()").await.context("reading the settings again")
    }

    /// Waits until the standby has all that the primary had, and follows.
    ///
    /// # Errors
    /// It does not come.
    pub async fn wait_for_standby(&self) -> Result<()> {
        let deadline = Instant::now() + BEGINS;
        let follows = "select count(*) from pg_stat_replication where application_name = 'walreceiver' and state = 'streaming'";
        loop {
            let counted = async { anyhow::Ok(self.connect().await?.query_one(follows, &[]).await?.get::<_, i64>(0)) };
            if counted.await.is_ok_and(|count| count == 1) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the standby does not follow within {BEGINS:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The standby receives nothing from now on, although its primary believes that it is there.
    ///
    /// # Errors
    /// It receives nothing as it is.
    pub fn hold_back(&self) -> Result<()> {
        let standby = 1 - self.primary();
        let receivers = self.nodes()[standby].children_called("walreceiver");
        let Some(receiver) = receivers.first() else { bail!("the standby receives nothing as it is") };
        super::kill(*receiver, Signal::STOP);
        Ok(())
    }

    /// Takes the primary away, as the death of its host does, and lets the standby take its place. Gives what the new one has.
    ///
    /// # Errors
    /// The standby does not become a primary.
    pub async fn fail_over(&self) -> Result<Heads> {
        let (old, new) = (self.primary(), 1 - self.primary());
        let (admin, url) = {
            let mut nodes = self.nodes();
            tokio::task::block_in_place(|| nodes[old].die());
            // One that was held back ends before it reads what came meanwhile.
            for receiver in nodes[new].children_called("walreceiver") {
                super::kill(receiver, Signal::TERM);
                super::kill(receiver, Signal::CONT);
            }
            (nodes[new].cluster.url_of("postgres"), nodes[new].cluster.url())
        };
        let client = node::connect(&admin).await.context("connecting to the standby")?;
        let promoted: bool = client.query_one("select pg_promote(true, 60)", &[]).await.context("promoting the standby")?.get(0);
        if !promoted {
            bail!("the standby was not promoted within a minute");
        }
        let has = node::heads(&url).await?;
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(has)
    }

    /// What the old primary had stored and the new one had not. The old one is started for that, where nobody else reaches it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn lost_tail(&self, has: &Heads) -> Result<Tail> {
        let old = 1 - self.primary();
        let (mut alone, url) = {
            let node = &self.nodes()[old];
            (node.alone(&self.logs.join("postgres-old.log")), node.cluster.url())
        };
        let had = node::heads(&url).await;
        tokio::task::block_in_place(|| node::stop(&mut alone));
        Ok(Tail::between(&had?, has))
    }

    /// Stops it for good.
    pub fn end(&self) {
        let mut nodes = self.nodes();
        self.ending.store(true, Ordering::SeqCst);
        nodes.iter_mut().for_each(Node::stop);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}
