//! The agent's lease: opened, renewed, and opened anew when it is lost; tasks are claimed only under a living one.
//!
//! Invariants: 1. A lost lease ends claiming at once; attempts that run go on and are reported: the task decides whether they
//! count. 2. Nothing here stops replication. 3. An agent that is asked what it has done claims nothing before that was heard.

use std::{sync::Arc, time::Duration};

use api::{
    ClientError,
    agent::{Attempted, CloseLease, Done, LeaseOpened, LeaseRenewed, OpenLease, RenewLease, Testify},
};
use engine::{
    ActivityRegistry, TaskRunner,
    adapters::{DriveTuning, run_tasks},
    witness::{EffectNote, Witness},
};
use sdk::{Lease, TaskQueue};
use tokio::sync::{Notify, watch};

use crate::source::RemoteTasks;

/// What an agent works on, and for whom.
pub(crate) struct Work {
    pub(crate) client: Arc<api::Client>,
    pub(crate) queues: Vec<TaskQueue>,
    pub(crate) registry: ActivityRegistry,
    pub(crate) ttl: Duration,
    /// Told when a newer process has taken this host over.
    pub(crate) replaced: Arc<Notify>,
    /// Where attempts are noted before they begin.
    pub(crate) notes: Arc<dyn Witness>,
}

/// Carries out tasks until `stop` turns true.
pub(crate) async fn keep_working(work: Work, mut stop: watch::Receiver<bool>) {
    let Work { client, ttl, .. } = &work;
    let mut failures = 0_u32;
    while !*stop.borrow() {
        match opened(client, *ttl, work.notes.as_ref()).await {
            Ok(lease) => {
                failures = 0;
                tracing::info!(epoch = lease.epoch, "connected; claiming tasks");
                under(&work, lease, stop.clone()).await;
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                log_refusal(&error, failures);
                let pause = Duration::from_millis(250 * 2_u64.pow(failures.min(6)));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }
}

/// A lease, once what was done here is told if that is asked for.
async fn opened(client: &api::Client, ttl: Duration, notes: &dyn Witness) -> Result<Lease, ClientError> {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(10_000);
    let opened: LeaseOpened = client.post("/v1/agent/lease/open", &OpenLease { ttl_ms }).await?;
    if opened.testify {
        testify(client, notes).await?;
    }
    Ok(opened.lease)
}

fn log_refusal(error: &(dyn std::error::Error + 'static), failures: u32) {
    tracing::warn!(error, failures, "the server gives no lease; replication goes on, trying again");
}

/// Works under one lease until it is lost or we stop.
async fn under(work: &Work, lease: Lease, mut stop: watch::Receiver<bool>) {
    let Work { client, queues, registry, ttl, replaced, notes } = work;
    let (end, ended) = watch::channel(false);
    let late = Arc::new(Notify::new());
    let source = RemoteTasks { client: client.clone(), lease, notes: notes.clone(), ended: ended.clone(), replaced: replaced.clone(), late: late.clone() };
    let runner = TaskRunner { registry: registry.clone(), source: Arc::new(source) };
    let tuning = DriveTuning { poll: Duration::from_millis(20), ..DriveTuning::default() };
    let working = tokio::spawn(run_tasks(runner, queues.clone(), Arc::new(Notify::new()), ended, tuning));
    let end_of_it = tokio::select! {
        () = until_lost(client, lease, *ttl, notes.as_ref()) => End::Lost,
        () = late.notified() => End::Late,
        _ = stop.wait_for(|stop| *stop) => End::Stop,
    };
    end.send_replace(true);
    match end_of_it {
        // What still runs reports by itself; a new lease must not wait for it.
        End::Lost => return tracing::warn!(epoch = lease.epoch, "the lease is lost; asking for a new one"),
        End::Late => tracing::warn!(
            epoch = lease.epoch,
            "a claim was answered after what was done here was told to a new database server; it is not begun, and the lease is given back"
        ),
        End::Stop => {
            if tokio::time::timeout(Duration::from_secs(30), working).await.is_err() {
                tracing::warn!("an activity still runs; it is left to be found by its probe");
            }
        }
    }
    if let Err(error) = client.post::<Done>("/v1/agent/lease/close", &CloseLease { lease }).await {
        tracing::info!(%error, "the lease was not given back; it ends by itself");
    }
}

/// Why nothing is claimed under a lease any more.
enum End {
    Lost,
    Late,
    Stop,
}

/// Says what was done here: the database server was started anew. Nothing is claimed before that was heard.
async fn testify(client: &api::Client, notes: &dyn Witness) -> Result<(), ClientError> {
    let slices = notes.testimony();
    for (place, slice) in slices.iter().enumerate() {
        let attempts = slice.effects.iter().cloned().map(|note| {
            let EffectNote { run, seq, activity, input_sha256, attempt, run_epoch, era, outcome, accepted } = note;
            Attempted { run, seq, activity, input_sha256, attempt, run_epoch, era, outcome, accepted }
        });
        let told = Testify { attempts: attempts.collect(), last: place + 1 == slices.len() };
        client.post::<Done>("/v1/agent/testify", &told).await?;
    }
    tracing::info!("the database server was started anew; what was done here is told");
    Ok(())
}

/// Renews every third of the ttl; ends when the server says that the lease is gone, has said nothing for a ttl, or asks what was done here and
/// can't be told.
async fn until_lost(client: &api::Client, lease: Lease, ttl: Duration, notes: &dyn Witness) {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(10_000);
    let mut heard = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(ttl / 3).await;
        let sent = tokio::time::Instant::now();
        let renewal = RenewLease { lease, ttl_ms };
        match client.post_within::<LeaseRenewed>("/v1/agent/lease/renew", &renewal, ttl / 3).await {
            Ok(LeaseRenewed { held, testify: asked }) => {
                if asked && let Err(error) = self::testify(client, notes).await {
                    return tracing::warn!(%error, "what was done here could not be told; it is told before anything else is claimed");
                }
                if !held {
                    return;
                }
                heard = sent;
            }
            Err(error) => tracing::warn!(%error, "a heartbeat had no answer"),
        }
        if heard.elapsed() > ttl {
            return;
        }
    }
}
