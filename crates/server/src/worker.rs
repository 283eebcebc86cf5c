//! The worker process: the engine on Postgres, the activities of the queue `server` under the same lease, and schedules.
//!
//! ```text
//!   run_worker ── lease ──▶ pid file, run_tasks(server) ── done ──▶ wakes run_worker
//! ```

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{
    StoreTasks, TaskRunner, Tuning, Worker,
    adapters::{DriveTuning, PlainThreads, Spool, ThreadKeeper, run_scheduler, run_tasks, run_worker},
    schedule::Scheduler,
};
use sdk::{Lease, Registry, TaskQueue, WorkerId};
use store::{Limits, OpenError, PgStore};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::{
    by_itself::{Look, LookError, keep},
    listen::stopped,
    giving_back::GivingBack,
    load_item,
    reaping::Reaping,
    reconciling::Reconciling,
    waking,
    state_dir::{StateDir, StateDirError},
};

/// Longest wait for a database that is not there yet, or not migrated yet.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks for work that no hint announced.
const POLL: Duration = Duration::from_millis(50);
/// Between two looks at which build is the newest: it changes when somebody upgrades.
const BUILDS_LOOK: Duration = Duration::from_secs(10);

/// How a worker is run.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Where it notes its process.
    pub state_dir: StateDir,
    /// The database.
    pub database_url: String,
    /// Life of its lease without renewal.
    pub lease: Duration,
    /// Its name in the state directory.
    pub name: String,
}

/// Why a worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The database can't be used.
    #[error("the database can't be used")]
    Database(#[from] OpenError),
    /// A file can't be used.
    #[error("the state directory can't be used")]
    Files(#[from] StateDirError),
    /// The system refuses a thread.
    #[error("a thread could not be started")]
    Threads(#[from] std::io::Error),
}

/// Works until `stop` turns true.
///
/// # Errors
/// [`WorkerError`]; nothing was claimed then.
pub async fn work(options: WorkerOptions, stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
    work_on(options, workflows::registry(), stop).await
}

/// The same with these workflows, which may be others than the product's: then no process of the product may work on the same database.
///
/// # Errors
/// As [`work`].
pub async fn work_on(options: WorkerOptions, registry: Registry, stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
    engine::trace::on_span(telemetry::adopt);
    let id = WorkerId(Uuid::now_v7());
    note(&options, id, None)?;
    let Some(store) = opened(&options, stop.clone()).await? else { return Ok(()) };
    let path = options.state_dir.spool(&options.name);
    let spool = Spool::open(&path, Uuid::now_v7()).map_err(|source| StateDirError { attempted: "open", path, source })?;
    let store = Arc::new(store.witnessed_by(Arc::new(spool)));
    let testifying = tokio::spawn(store.clone().keep_testifying("worker", options.name.clone(), stop.clone()));
    let keeper = Arc::new(ThreadKeeper::start(store.clone(), options.lease)?);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
    let blocking = Arc::new(PlainThreads::start(threads)?);
    let tuning = Tuning { ttl: options.lease, ..Tuning::default() };
    let worker = Worker::new(id, store.clone(), Arc::new(registry), blocking, keeper, Box::new(Uuid::now_v7), tuning);
    let told = tokio::spawn(keep(NewerBuild { store: store.clone(), said: None }, stop.clone()));
    let (lease_changed, lease) = watch::channel(None);
    let wake = Arc::new(Notify::new());
    let watching = tokio::spawn(waking::keep_waking(store.clone(), Arc::new(Notify::new()), stop.clone()));
    let reaper = tokio::spawn(keep(Reaping(store.clone()), stop.clone()));
    let reconciler = tokio::spawn(keep(Reconciling::of(store.clone()), stop.clone()));
    let giver = tokio::spawn(keep(GivingBack::of(store.clone()), stop.clone()));
    let scheduler = tokio::spawn(run_scheduler(Scheduler::new(store.clone(), Box::new(Uuid::now_v7)), stop.clone()));
    let tasks = tokio::spawn(serve_tasks(store, lease, wake.clone(), stop.clone()));
    let on_lease = |lease: Option<Lease>| {
        if let Some(Lease { worker, epoch }) = lease {
            tracing::info!(%worker, epoch, "holding a lease");
        }
        if let Err(error) = note(&options, id, lease) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the worker's pid file was not written");
        }
        lease_changed.send_replace(lease);
    };
    run_worker(worker, wake, stop, DriveTuning { poll: POLL, ..DriveTuning::default() }, on_lease).await;
    drop((tasks.await, watching.await, reaper.await, reconciler.await, giver.await, scheduler.await, told.await, testifying.await));
    options.state_dir.forget_pid(&options.name);
    Ok(())
}

/// Says it when this build is not the one that runs are for: once, and again when that changes.
struct NewerBuild {
    store: Arc<PgStore>,
    said: Option<String>,
}

#[async_trait]
impl Look for NewerBuild {
    const EVERY: Duration = BUILDS_LOOK;
    const FAILED: &'static str = "the newest build was not looked up";

    async fn look(&mut self) -> Result<(), LookError> {
        let newer = self.store.newest_build().await?.filter(|newest| newest != workflows::BUILD);
        if let Some(build) = newer.as_ref().filter(|_| newer != self.said) {
            tracing::warn!(
                ours = workflows::BUILD,
                newest = build,
                "this worker's build is not the newest: it goes on with runs of its own build or older ones, and takes no others. If it is to take all, \
                 `switchback build prefer {}`; else stop it",
                workflows::BUILD
            );
        }
        self.said = newer;
        Ok(())
    }
}

/// "PID worker ID epoch N": how somebody who reads a history finds the process that wrote it.
fn note(options: &WorkerOptions, id: WorkerId, lease: Option<Lease>) -> Result<(), StateDirError> {
    let epoch = lease.map(|lease| format!(" epoch {}", lease.epoch)).unwrap_or_default();
    options.state_dir.note_pid(&options.name, &format!("{} worker {id}{epoch}", std::process::id()))
}

/// Waits for a database that is starting or being migrated; gives up at once on one that is not ours. `None`: told to stop.
async fn opened(options: &WorkerOptions, mut stop: watch::Receiver<bool>) -> Result<Option<PgStore>, OpenError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let limits = Limits { lease: options.lease, connections: 6 };
    loop {
        let refused = match PgStore::open(&options.database_url, limits).await {
            Ok(store) => return Ok(Some(store)),
            Err(error) => error,
        };
        let passes = matches!(refused, OpenError::Connect { .. } | OpenError::Older { .. } | OpenError::Failed { .. });
        if !passes || tokio::time::Instant::now() > deadline {
            return Err(refused);
        }
        tracing::info!(error = &refused as &dyn std::error::Error, "waiting for the database");
        if tokio::time::timeout(Duration::from_millis(500), stopped(&mut stop)).await.is_ok() {
            return Ok(None);
        }
    }
}

/// Carries out the tasks of the queue `server` under whatever lease the worker holds.
async fn serve_tasks(store: Arc<PgStore>, mut lease: watch::Receiver<Option<Lease>>, wake: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let held = *lease.borrow_and_update();
        let (end, ended) = watch::channel(false);
        let working = held.map(|lease| {
            let source = Arc::new(StoreTasks { store: store.clone(), lease });
            let runner = TaskRunner { registry: load_item::registry(store.clone()), source };
            tokio::spawn(run_tasks(runner, vec![TaskQueue::new("server")], wake.clone(), ended, DriveTuning { poll: POLL, ..DriveTuning::default() }))
        });
        tokio::select! {
            Ok(()) = lease.changed() => {}
            () = stopped(&mut stop) => {}
        }
        end.send_replace(true);
        if let Some(working) = working {
            drop(working.await);
        }
    }
}
