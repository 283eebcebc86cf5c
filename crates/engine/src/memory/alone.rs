//! One worker on a store in memory that nobody else uses, for those who are everybody else themselves: its lease never runs out.
//!
//!   alone ─▶ worker (takes the turns) + lease (for whoever carries out the tasks)          now(future) ─▶ polled to its end

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use sdk::{Lease, Registry, WorkerId};
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    LeaseStore, StoreError, Tuning, Worker,
    adapters::Inline,
    worker::{Keeper, LeaseHealth},
};

/// Leases that never run out while somebody looks.
const LEASE: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Whoever keeps the lease of a worker that nobody can take it from.
struct Unchallenged;

impl Keeper for Unchallenged {
    fn adopt(&self, _: Lease) {}
    fn health(&self) -> LeaseHealth {
        LeaseHealth::Fresh
    }
    fn forget(&self) {}
}

impl MemoryStore {
    /// The only worker, and a lease under which its tasks can be carried out. Ids and nonces follow from `name`: equal names and
    /// equal work give equal histories.
    ///
    /// # Errors
    /// [`StoreError`] of the store's faults.
    pub fn alone(&self, registry: Registry, name: u64) -> Result<(Worker<Self>, Lease), StoreError> {
        let mut turns = 0_u64;
        let nonces = Box::new(move || {
            turns += 1;
            Uuid::from_u64_pair(name, turns)
        });
        let id = |which| WorkerId(Uuid::from_u64_pair(name, which));
        // Time moves only when nobody can do anything, so each round sweeps; there is nobody else who could take a run.
        let tuning = Tuning { ttl: LEASE, runs: u32::MAX, sweep_every: Duration::ZERO, release_after: LEASE, ..Tuning::default() };
        let worker = Worker::new(id(u64::MAX), Arc::new(self.clone()), Arc::new(registry), Arc::new(Inline), Arc::new(Unchallenged), nonces, tuning);
        let lease = now(self.open_lease(id(u64::MAX - 1), LEASE))?;
        Ok((worker, lease))
    }
}

/// Polls a future of the store in memory to its end: it yields, but waits for nobody.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}
