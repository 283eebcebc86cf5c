//! A run and its killer: tells what the run does, takes its owner and its database away in the middle, and waits for its end.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::Moment;
use super::history::History;
use super::product::Product;
use super::voice::Voice;
use crate::lab::wait;

/// The event that the killer waits for: the machine is about to be made at the recovery site, and nobody answers for it yet.
pub(crate) const KILL_AT: &str = "recover-machine";

const PATIENCE: Duration = Duration::from_secs(180);

/// Something that was killed.
pub(crate) struct Killed {
    pub(crate) at: Moment,
    pub(crate) what: String,
}

/// Waits for the killer's event, kills, and follows the run to an end that must be a good one.
pub(crate) fn survive(product: &Product, voice: &mut Voice, run: &str) -> Result<(Vec<Killed>, History)> {
    let mut told = 0;
    let history = follow(product, voice, run, &mut told, |history| history.scheduled(KILL_AT).is_some())?;
    let killed = sabotage(product, &history)?;
    for Killed { what, .. } in &killed {
        voice.say(&format!("✗ {what}"));
    }
    let history = follow(product, voice, run, &mut told, |history| history.end().is_some())?;
    let end = history.end().context("the run has no end")?;
    ensure!(end.kind == "run_completed", "the run ended as {}: {}", end.kind, end.body);
    Ok((killed, history))
}

/// Fails unless a second worker finished what the first one began.
pub(crate) fn was_taken_over(history: &History) -> Result<()> {
    let tenures = history.tenures();
    ensure!(tenures.len() >= 2, "the run was never taken over: the killer missed");
    ensure!(tenures[0].worker != tenures[1].worker, "the killed worker went on writing");
    Ok(())
}

/// Takes the worker that owns the run, then the database.
fn sabotage(product: &Product, history: &History) -> Result<Vec<Killed>> {
    let owner = history.tenures().pop().context("nobody owns the run")?;
    let pid = product.worker_pid(&owner.worker)?;
    kill(pid, Signal::KILL)?;
    let what = format!("SIGKILL to worker {} (process {pid}), owner of run epoch {}", owner.worker, owner.run_epoch);
    let worker = Killed { at: Moment::now(), what };
    let database = product.database_pid()?;
    kill(database, Signal::QUIT)?; // Postgres' immediate shutdown: it comes back by crash recovery
    let what = format!("Postgres (process {database}) is stopped without a checkpoint; `up` starts it again");
    Ok(vec![worker, Killed { at: Moment::now(), what }])
}

fn kill(pid: Pid, signal: Signal) -> Result<()> {
    kill_process(pid, signal).with_context(|| format!("cannot signal process {pid}"))
}

/// Tells what a run does until a condition holds. Answers may fail meanwhile: the database may be away.
fn follow(product: &Product, voice: &mut Voice, run: &str, told: &mut usize, done: impl Fn(&History) -> bool) -> Result<History> {
    wait::until(&format!("run {run}"), PATIENCE, || {
        let history = product.history(run).inspect_err(|_| voice.progress("no answer; the database is coming back"))?;
        for event in history.events.iter().skip(*told) {
            if let Some(words) = history.words(event) {
                voice.say(&format!("  epoch {} · {words}", event.run_epoch));
            }
        }
        *told = history.events.len();
        if done(&history) {
            return Ok(history);
        }
        voice.progress(product.tell(&["why", run])?.lines().next().unwrap_or_default());
        bail!("it goes on")
    })
}
