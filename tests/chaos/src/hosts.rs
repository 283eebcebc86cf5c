//! Worker and agent processes: those of the product, with our workflows and with activities on the ledger.
//!
//! Invariant: an attempt hesitates before and after its effect, so that strikes come in between.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, Probed};
use sdk::{Failure, Never};
use server::{StateDir, WorkerOptions};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    call::{Act, Answer, Call, VERSION, ask},
    programs::{Enter, Leave, Make, Ring, Set, Target, programs},
};

/// Longest hesitation; two of them, and many attempts, fit into a lease.
const LONGEST_MS: u64 = 250;

/// Activities on a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Hands {
    /// Where it is.
    pub ledger: SocketAddr,
    /// Probes say that nothing happened, whatever did: for seeing that somebody notices.
    pub lying: bool,
}

impl Hands {
    async fn call(self, act: Act, job: &Job, target: &Target) -> Result<Answer, Failure> {
        let Target { thing, room } = target.clone();
        let call = Call { v: VERSION, act, thing, room, run: job.run, token: job.token };
        ask(self.ledger, &call).await.map_err(|error| Failure::retryable("no-answer", format!("the ledger did not answer: {error}")))
    }

    async fn perform(self, act: Act, job: &Job, target: &Target) -> Result<(), Fault<Never>> {
        tokio::time::sleep(hesitation(job, target, 1)).await;
        let answer = self.call(act, job, target).await.map_err(Fault::Other)?;
        tokio::time::sleep(hesitation(job, target, 2)).await;
        match answer {
            Answer::Done => Ok(()),
            Answer::Late => Err(Fault::Other(late(target))),
            Answer::There | Answer::NotThere => Err(Fault::Other(Failure::fatal("odd-answer", format!("the ledger said {answer:?}")))),
        }
    }
}

fn late(target: &Target) -> Failure {
    Failure::retryable("late", format!("a newer caller was at {}", target.thing)).not_applied()
}

/// From key and attempt: no two of a run are alike, and nobody needs a source of chance.
fn hesitation(job: &Job, target: &Target, which: u64) -> Duration {
    let mixed = target.thing.bytes().fold(which + u64::from(job.token.attempt.unsigned_abs()), |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Duration::from_millis((mixed >> 16) % LONGEST_MS)
}

macro_rules! done_on_the_ledger {
    ($($activity:ident),*) => {$(
        #[async_trait]
        impl Perform<$activity> for Hands {
            async fn perform(&self, job: &Job, input: $activity) -> Result<(), Fault<Never>> {
                Hands::perform(*self, Act::$activity, job, &input.0).await
            }
        }
    )*};
}
done_on_the_ledger!(Set, Ring, Enter, Leave);

#[async_trait]
impl Perform<Make> for Hands {
    async fn perform(&self, job: &Job, input: Make) -> Result<(), Fault<Never>> {
        Hands::perform(*self, Act::Make, job, &input.0).await
    }

    async fn probe(&self, job: &Job, input: &Make) -> Result<Probed<()>, Failure> {
        match self.call(Act::Ask, job, &input.0).await? {
            Answer::There if self.lying => Ok(Probed::NotDone),
            Answer::There => Ok(Probed::Done(())),
            Answer::NotThere => Ok(Probed::NotDone),
            Answer::Late => Err(late(&input.0)),
            Answer::Done => Err(Failure::fatal("odd-answer", "the ledger did something when it was asked")),
        }
    }
}

/// A worker of the product with our workflows, until a signal says stop.
///
/// # Errors
/// It can't work.
pub async fn work(state_dir: &Path, database_url: String, lease: Duration, name: String) -> Result<()> {
    let _telemetry = telemetry::start("switchback-chaos-worker");
    let options = WorkerOptions { state_dir: StateDir::open(state_dir)?, database_url, lease, name };
    server::work_on(options, programs(), told_to_stop()?).await?;
    Ok(())
}

/// An agent of the product with activities on the ledger, until a signal says stop.
///
/// # Errors
/// It has no identity.
pub async fn serve_site(state_dir: &Path, hands: Hands, lease: Duration) -> Result<()> {
    let _telemetry = telemetry::start("switchback-chaos-agent");
    let activities = ActivityRegistry::default().with::<Make, _>(hands).with::<Set, _>(hands).with::<Ring, _>(hands);
    let activities = activities.with::<Enter, _>(hands).with::<Leave, _>(hands);
    agent::work(state_dir, activities, lease, told_to_stop()?).await
}

fn told_to_stop() -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut term = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        term.recv().await;
        stop.send_replace(true);
        stop.closed().await;
    });
    Ok(stopped)
}
