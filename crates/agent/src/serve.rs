//! `run`: opens the site, then works for the server and reports to it until a signal says stop.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use engine::{ActivityRegistry, adapters::Spool};
use sdk::TaskQueue;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{anchors, arguments::Run, describing, hypervisor, identity::Identity, probing::FromHere, reports, served::Served, session, simulated};

/// Another agent process has this host now. Starting this one again would take the host back, and so on in turns.
#[derive(Debug)]
pub(crate) struct Replaced;

impl std::fmt::Display for Replaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a newer agent process has taken this host over; this one stops and harms nothing")
    }
}

impl std::error::Error for Replaced {}

pub(crate) async fn run(arguments: Run) -> Result<()> {
    let ttl = arguments.lease_seconds;
    let (stop, stopped) = watch::channel(false);
    let mut held = Vec::new();
    for dir in &arguments.state_dir {
        Identity::load(dir)?;
        held.push(Identity::hold(dir)?);
    }
    let served = if arguments.simulated { simulated::open(&arguments, stopped.clone())? } else { vec![hypervisor::open(&arguments)?] };
    let replaced = Arc::new(Notify::new());
    let mut working = JoinSet::new();
    for one in served {
        serve(one, ttl, &mut working, &stopped, &replaced)?;
    }
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        () = replaced.notified() => Err(Replaced.into()),
    };
    tracing::info!("stopping");
    stop.send_replace(true);
    while working.join_next().await.is_some() {}
    drop(held);
    ended
}

/// Carries out these activities for the site of the identity in `state_dir`, and nothing else, until `stop` turns true. `ttl` is the life of
/// its lease without renewal.
///
/// # Errors
/// There is no identity, or another process has it.
pub async fn work(state_dir: &Path, registry: ActivityRegistry, ttl: Duration, stop: watch::Receiver<bool>) -> Result<()> {
    let identity = Identity::load(state_dir)?;
    let held = Identity::hold(state_dir)?;
    let client = Arc::new(identity.client()?);
    session::keep_working(session::Work { client, queues: queues(&identity), registry, ttl, replaced: Arc::new(Notify::new()), notes: notes(state_dir, &identity)? }, stop).await;
    drop(held);
    Ok(())
}

fn queues(identity: &Identity) -> Vec<TaskQueue> {
    vec![TaskQueue::new(format!("site:{}", identity.site)), TaskQueue::new(format!("host:{}", identity.name))]
}

/// Where attempts are noted before they begin.
fn notes(state_dir: &Path, identity: &Identity) -> Result<Arc<Spool>> {
    let path = state_dir.join("spool.jsonl");
    Ok(Arc::new(Spool::open(&path, identity.worker.0).with_context(|| format!("attempts can't be noted in {}", path.display()))?))
}

fn serve(one: Served, ttl: Duration, working: &mut JoinSet<()>, stopped: &watch::Receiver<bool>, replaced: &Arc<Notify>) -> Result<()> {
    let Served { identity, state_dir, site, actions, data_address } = one;
    let client = Arc::new(identity.client()?);
    let registry = activities::registry(site.clone(), Arc::new(FromHere));
    let registry = activities::with_actions(registry, site.clone(), Arc::new(FromHere), actions.clone());
    working.spawn(describing::keep_describing(client.clone(), describing::certificate_end(&identity), site.clone(), actions, stopped.clone()));
    let queues = queues(&identity);
    tracing::info!(agent = identity.name, site = %identity.site, server = identity.server, "serving");
    let notes = notes(&state_dir, &identity)?;
    let work = session::Work { client: client.clone(), queues, registry, ttl, replaced: replaced.clone(), notes: notes.clone() };
    working.spawn(session::keep_working(work, stopped.clone()));
    match anchors::open(&state_dir) {
        Ok(anchors) => drop(working.spawn(anchors::keep(client.clone(), anchors, stopped.clone()))),
        // Nothing else waits for that.
        Err(error) => tracing::error!(error = format!("{error:#}"), "heads of ended runs are not noted here: their file can't be used"),
    }
    working.spawn(reports::forward(client, site, data_address, notes, stopped.clone()));
    Ok(())
}
