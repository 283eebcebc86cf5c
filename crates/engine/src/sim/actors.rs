//! The mains of simulated processes: the shipped worker and task runner, with a heartbeat that beats between rounds.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sdk::{Failure, Lease, Registry, TaskQueue, WorkerId};
use uuid::Uuid;

use super::{CrashSwitch, Idle, Intervention, Moment, Notes, TTL};
use crate::{
    ActivityRegistry, ClaimedTask, LeaseStore, Reported, Shown, Step, StoreError, StoreTasks, TaskPulse, TaskRunner, TaskSource, Tuning, Verdict, Worker,
    adapters::Inline,
    memory::MemoryStore,
    schedule::Scheduler,
    witness::{NotNoted, Note, Witness, begun, ended},
    worker::{Keeper, LeaseHealth},
};

/// A heartbeat without a thread.
#[derive(Default)]
struct BetweenRounds {
    lease: Mutex<Option<Lease>>,
    fenced: Mutex<bool>,
}

impl Keeper for BetweenRounds {
    fn adopt(&self, lease: Lease) {
        set(&self.lease, Some(lease));
        set(&self.fenced, false);
    }
    fn health(&self) -> LeaseHealth {
        if get(&self.fenced) { LeaseHealth::Fenced } else { LeaseHealth::Fresh }
    }
    fn forget(&self) {
        set(&self.lease, None);
        set(&self.fenced, false);
    }
}

fn set<T>(slot: &Mutex<T>, value: T) {
    if let Ok(mut slot) = slot.lock() {
        *slot = value;
    }
}

fn get<T: Copy + Default>(slot: &Mutex<T>) -> T {
    slot.lock().map_or_else(|_| T::default(), |slot| *slot)
}

/// The id of a process: of this seed, place and life, and of no other.
pub(super) fn identity(seed: u64, place: u64, life: u64) -> WorkerId {
    WorkerId(Uuid::from_u64_pair(seed.wrapping_mul(1_000_003) ^ (place << 48), life))
}

pub(super) async fn worker(store: MemoryStore, registry: Arc<Registry>, seed: u64, place: u64, life: u64, idle: Arc<Mutex<Idle>>) {
    let keeper = Arc::new(BetweenRounds::default());
    let id = identity(seed, place, life);
    let mut count = 0_u64;
    let nonces = move || {
        count += 1;
        Uuid::new_v5(&id.0, &count.to_be_bytes())
    };
    let tuning = Tuning { ttl: TTL, ..Tuning::default() };
    let mut worker = Worker::new(id, Arc::new(store.clone()), registry, Arc::new(Inline), keeper.clone(), Box::new(nonces), tuning);
    loop {
        let lease = get(&keeper.lease);
        if let Some(lease) = lease
            && let Ok(false) = store.renew_lease(lease, TTL).await
        {
            set(&keeper.fenced, true);
        }
        match worker.step().await {
            Ok(Step::Busy) => {}
            Ok(Step::Idle) | Err(_) => rest(&store, &idle).await,
        }
    }
}

pub(super) async fn scheduler(store: MemoryStore, id: WorkerId, idle: Arc<Mutex<Idle>>) {
    let mut count = 0_u64;
    let clock = store.clone();
    // Ids of runs sort by their time.
    let ids = move || {
        count += 1;
        let (_, low) = Uuid::new_v5(&id.0, &count.to_be_bytes()).as_u64_pair();
        let ms = u64::try_from(clock.time().timestamp_millis()).unwrap_or(0);
        Uuid::from_u64_pair((ms << 16) | 0x7000, (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000)
    };
    let mut scheduler = Scheduler::new(Arc::new(store.clone()), Box::new(ids));
    loop {
        match scheduler.step().await {
            Ok(Step::Busy) => {}
            Ok(Step::Idle) | Err(_) => rest(&store, &idle).await,
        }
    }
}

/// One life of a process: after a crash there is another.
pub struct Life {
    /// Of this life, and of no other.
    pub id: WorkerId,
    /// The store that all share.
    pub store: MemoryStore,
    pub(super) idle: Arc<Mutex<Idle>>,
}

impl Life {
    /// Lets others run until the store changes or time passes.
    pub async fn rests(&self) {
        rest(&self.store, &self.idle).await;
    }
}

/// A process that carries out tasks.
pub(super) struct Agent {
    pub(super) store: MemoryStore,
    pub(super) queues: Vec<TaskQueue>,
    pub(super) registry: ActivityRegistry,
    pub(super) switch: CrashSwitch,
    pub(super) idle: Arc<Mutex<Idle>>,
    /// Where attempts are noted before they begin.
    pub(super) notes: Option<Notes>,
}

impl Agent {
    pub(super) async fn main(self, life: WorkerId) {
        // Whoever testifies keeps its lease: it is known by its notes.
        let id = self.notes.as_ref().map_or(life, |notes| WorkerId(notes.id()));
        loop {
            match self.store.open_lease(id, TTL).await {
                Ok(lease) => self.under(lease).await,
                Err(_) => rest(&self.store, &self.idle).await,
            }
        }
    }

    /// Works until the lease is gone.
    async fn under(&self, lease: Lease) {
        let source: Arc<dyn TaskSource> = Arc::new(StoreTasks { store: Arc::new(self.store.clone()), lease });
        let runner = TaskRunner { registry: self.registry.clone(), source };
        let mut hanging = Hanging::default();
        loop {
            if let Ok(false) = self.store.renew_lease(lease, TTL).await {
                return;
            }
            hanging.beat(&runner, &self.store).await;
            let asked = self.testimonies();
            let claimed = match runner.source.claim(&self.queues, 1).await {
                Ok(claimed) => claimed,
                Err(StoreError::Fenced(_)) => return,
                Err(StoreError::Again { .. } | StoreError::Refused { .. }) => Vec::new(),
            };
            if claimed.is_empty() {
                rest(&self.store, &self.idle).await;
            }
            // What was given by a server that is gone is not begun, and becomes free with the lease.
            if self.note(asked, &claimed.iter().map(begun).collect::<Vec<_>>()).is_err() {
                drop(self.store.close_lease(lease).await);
                return;
            }
            for task in claimed {
                if let Here::Hangs = self.carry_out(&runner, &task).await {
                    hanging.0.push((task, self.store.time()));
                }
            }
        }
    }

    /// To its report, unless it hangs.
    async fn carry_out(&self, runner: &TaskRunner, task: &ClaimedTask) -> Here {
        let verdict = match self.at(task, Moment::Claimed).await {
            Here::Fails(failure) => Verdict::Failed(failure),
            Here::GoesOn => runner.attempt(task, &Shown::default()).await,
            hangs @ Here::Hangs => return hangs,
        };
        let verdict = match self.at(task, Moment::Performed).await {
            Here::Fails(failure) => Verdict::Failed(failure),
            Here::GoesOn => verdict,
            hangs @ Here::Hangs => return hangs,
        };
        self.report(runner, task, &verdict).await;
        self.at(task, Moment::Reported).await
    }

    /// Until there is an answer that counts.
    async fn report(&self, runner: &TaskRunner, task: &ClaimedTask, verdict: &Verdict) {
        loop {
            let asked = self.testimonies();
            match runner.source.report(task, verdict).await {
                Ok(Reported::Refused) => return,
                Ok(Reported::Accepted) => {
                    let notes = if let Verdict::Ended(outcome) = verdict { vec![ended(task, outcome)] } else { vec![] };
                    if self.note(asked, &notes).is_ok() {
                        return;
                    }
                }
                Err(_) if self.store.is_known() => {}
                Err(_) => rest(&self.store, &self.idle).await,
            }
        }
    }

    fn testimonies(&self) -> u64 {
        self.notes.as_ref().map_or(0, Witness::testimonies)
    }

    fn note(&self, asked: u64, notes: &[Note]) -> Result<(), NotNoted> {
        self.notes.as_ref().filter(|_| !notes.is_empty()).map_or(Ok(()), |of| of.note(asked, notes))
    }

    async fn at(&self, task: &ClaimedTask, moment: Moment) -> Here {
        loop {
            match self.switch.intervenes(task, moment) {
                Intervention::None => return Here::GoesOn,
                Intervention::Fail(failure) => return Here::Fails(failure),
                Intervention::Hang => return Here::Hangs,
                Intervention::Wait => rest(&self.store, &self.idle).await,
                Intervention::Crash => {
                    self.switch.throw();
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// Attempts that never end, with the times of their last signs of life: their agent gives them, however long nothing happens.
#[derive(Default)]
struct Hanging(Vec<(ClaimedTask, DateTime<Utc>)>);

impl Hanging {
    async fn beat(&mut self, runner: &TaskRunner, store: &MemoryStore) {
        let mut gone = vec![];
        for (place, (task, last)) in self.0.iter_mut().enumerate() {
            let due = task.task.options.timeouts.heartbeat_ms.is_some_and(|limit_ms| store.time() >= *last + Duration::from_millis(limit_ms / 3));
            if !due {
                continue;
            }
            *last = store.time();
            if let Ok(TaskPulse::Gone) = runner.source.pulse(task.run, task.task.seq, task.token.attempt, None).await {
                gone.push(place);
            }
        }
        gone.into_iter().rev().for_each(|place| drop(self.0.remove(place)));
    }
}

/// What becomes of an attempt at a moment.
enum Here {
    GoesOn,
    Fails(Failure),
    /// Nobody ever hears of it again.
    Hangs,
}

/// Lets others run until the store changes or time passes.
pub(super) async fn rest(store: &MemoryStore, idle: &Mutex<Idle>) {
    let mut rested = false;
    poll_fn(move |_| {
        if rested {
            return Poll::Ready(());
        }
        rested = true;
        if let Ok(mut idle) = idle.lock() {
            idle.at_change = Some((store.changes(), store.time()));
        }
        Poll::Pending
    })
    .await;
}
