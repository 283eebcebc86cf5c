//! The store in memory: the same answers as Postgres, for the simulator and for tests. Its clock moves only when told.
//!
//! Invariants: 1. Each call is one atomic step under one mutex. 2. Before and after each step it yields, and faults may
//! strike there: a caller that is dropped between has crashed before or after its write, and an answer may be lost.

mod children;
mod restore;
mod rows;
mod runs;
mod schedules;
mod tasks;

use std::sync::{Arc, Mutex, MutexGuard};
use std::{future::Future, task::Poll, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sdk::{Lease, WorkerId};

use crate::{LeaseStore, StoreError};
pub use rows::{MemoryRun, MemoryTask};
pub(crate) use rows::State;

/// Decides, call by call, whether the store's answer is lost; `true` before or after the write.
pub trait Faults: Send + Sync {
    /// Whether this call fails before anything is written.
    fn before(&self, call: &'static str) -> bool;
    /// Whether this call's answer is lost although it was written.
    fn after(&self, call: &'static str) -> bool;
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
}

impl MemoryStore {
    /// Empty, at `now`.
    #[must_use]
    pub fn new(now: DateTime<Utc>, faults: Arc<dyn Faults>) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(now))), faults }
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now += by;
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
        state.inbox.is_empty() && state.lock_requests.is_empty() && state.tasks.values().all(|task| task.dead.is_some() || task.holder.is_none() && task.not_before > state.now)
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
        let answer = step(&mut self.lock());
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
    async fn close_lease(&self, lease: Lease) -> Result<(), StoreError> {
        self.atomic("close_lease", |s| {
            s.leases.remove(&lease);
            Ok(())
        })
        .await
    }
    async fn expire_leases(&self, ours: Lease, _ttl: Duration) -> Result<Vec<Lease>, StoreError> {
        self.atomic("expire_leases", |s| Ok(s.expire_leases(ours))).await
    }
}
