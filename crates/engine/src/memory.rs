//! The store in memory: the same answers as Postgres, for the simulator and for tests. Its clock moves only when told.
//!
//! Invariants: 1. Each call is one atomic step under one mutex. 2. Before and after each step it yields, and faults may
//! strike there: a caller that is dropped between has crashed before or after its write, and an answer may be lost.

mod alone;
mod builds;
mod children;
mod contents;
mod limbo;
mod open_work;
mod restore;
mod rows;
mod runs;
mod schedules;
mod tail;
mod tasks;

use std::sync::{Arc, Mutex, MutexGuard};
use std::{collections::BTreeSet, future::Future, task::Poll, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sdk::{Lease, RunId, WorkerId};

use crate::{LeaseStore, RunState, StoreError, witness::Witness};
pub use alone::now;
pub use rows::{MemoryRun, MemoryTask};
pub(crate) use rows::State;
pub use tail::{Became, Lack, Loss};

/// Decides, call by call, whether the store's answer is lost; `true` before or after the write.
pub trait Faults: Send + Sync {
    /// Whether this call fails before anything is written.
    fn before(&self, call: &'static str) -> bool;
    /// Whether this call's answer is lost although it was written.
    fn after(&self, call: &'static str) -> bool;
    /// Whether a batch of turns loses its answer and lands so much later.
    fn late(&self) -> Option<Duration> {
        None
    }
    /// Whether a claim is also given runs that a living worker has: the store's first line of defence fails, its keys do not.
    fn doubles(&self) -> bool {
        false
    }
}

/// No faults at all.
pub struct Faultless;

impl Faults for Faultless {
    fn before(&self, _: &'static str) -> bool {
        false
    }
    fn after(&self, _: &'static str) -> bool {
        false
    }
}

/// A store in memory.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    faults: Arc<dyn Faults>,
    /// Notes what is answered here.
    witness: Option<Arc<dyn Witness>>,
}

impl MemoryStore {
    /// Empty, at `now`.
    #[must_use]
    pub fn new(now: DateTime<Utc>, faults: Arc<dyn Faults>) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(now))), faults, witness: None }
    }

    /// Another store that is as this one is now; from here on each goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock().clone())), faults: self.faults.clone(), witness: None }
    }

    /// Facts recorded by committed turns since they were taken last, in order. Nobody else sees them any more.
    #[must_use]
    pub fn take_projections(&self) -> Vec<(RunId, crate::ProjectionRow)> {
        std::mem::take(&mut self.lock().projections)
    }

    /// Drops the events of runs that have ended, but for `kept`: their histories can't be read any more.
    pub fn forget_ended(&self, kept: &[RunId]) {
        let mut state = self.lock();
        let open: BTreeSet<RunId> = state.open.values().copied().collect();
        for (_, run) in state.runs.iter_mut().filter(|(id, _)| !open.contains(id) && !kept.contains(id)) {
            (run.events, run.msg_keys) = (Vec::new(), BTreeSet::new());
        }
    }

    /// How many runs have not ended, and one of them that was set aside.
    #[must_use]
    pub fn open_runs(&self) -> (usize, Option<RunId>) {
        let state = self.lock();
        let aside = |id: &&RunId| state.runs.get(id).is_some_and(|run| run.state == RunState::Suspended);
        (state.open.len(), state.open.values().find(aside).copied())
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now += by;
    }

    /// Sets the clock back, as an administrator or another host of the store would.
    pub fn set_back(&self, by: Duration) {
        let mut state = self.lock();
        state.now -= by;
    }

    /// Batches that landed after their sender had lost its answer, and runs that were taken over.
    #[must_use]
    pub fn late_and_taken(&self) -> (u64, u64) {
        let state = self.lock();
        (state.landed, state.takeovers)
    }

    /// Counts writes that changed something: when it stands still, everybody waits for time.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// When a task or timer becomes due next without anybody's doing.
    #[must_use]
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.lock().next_due()
    }

    /// Whether nobody has anything to do: no message waits, no task that could be carried out, no request for a lock.
    #[must_use]
    pub fn sleeps(&self) -> bool {
        let state = self.lock();
        state.limbo.is_empty() && state.inbox.is_empty() && state.lock_requests.is_empty() && state.tasks.values().all(|task| task.dead.is_some() || task.holder.is_none() && task.not_before > state.now)
    }

    /// Time now.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        self.lock().now
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One atomic step with its faults.
    pub(crate) async fn atomic<T, E: From<StoreError>>(&self, call: &'static str, step: impl FnOnce(&mut State) -> Result<T, E>) -> Result<T, E> {
        yield_once().await;
        if self.faults.before(call) {
            return Err(lost(call).into());
        }
        let answer = {
            let mut state = self.lock();
            state.land_due();
            step(&mut state)
        };
        if self.faults.after(call) {
            return Err(lost(call).into());
        }
        yield_once().await;
        answer
    }
}

fn lost(call: &'static str) -> StoreError {
    StoreError::Again { attempted: call, source: "the answer was lost".into() }
}

fn yield_once() -> impl Future<Output = ()> {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn open_lease(&self, worker: WorkerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.atomic("open_lease", |s| Ok(s.open_lease(worker, ttl))).await
    }
    async fn renew_lease(&self, lease: Lease, ttl: Duration) -> Result<bool, StoreError> {
        self.atomic("renew_lease", |s| Ok(s.renew_lease(lease, ttl))).await
    }
    async fn declare_build(&self, lease: Lease, build: &str) -> Result<(), StoreError> {
        self.atomic("declare_build", |s| s.declare_build(lease, build)).await
    }
    async fn prefer_build(&self, build: &str) -> Result<bool, StoreError> {
        self.atomic("prefer_build", |s| {
            let known = s.builds.contains_key(build);
            if known {
                s.prefer_build(build);
            }
            Ok(known)
        })
        .await
    }
    async fn close_lease(&self, lease: Lease) -> Result<(), StoreError> {
        self.atomic("close_lease", |s| {
            s.land_sent_under(lease);
            s.leases.remove(&lease);
            s.builds_of.remove(&lease);
            Ok(())
        })
        .await
    }
    async fn expire_leases(&self, ours: Lease, _ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        self.atomic("expire_leases", |s| Ok(s.expire_leases(ours))).await
    }
}
