//! The heartbeat of a lease: a thread of its own with its own small runtime, so that a busy worker does not starve it.
//!
//! Silence is counted from when a renewal was *sent*, on the clock that runs on during suspend, so that we stop before
//! the store lets others in.

#![expect(clippy::disallowed_methods, reason = "this is an adapter")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sdk::Lease;

use crate::{
    LeaseStore,
    worker::{Keeper, LeaseHealth},
};

struct Kept {
    lease: Option<Lease>,
    fenced: bool,
    sent_ms: i64,
}

/// Renews a lease every third of its ttl.
pub struct ThreadKeeper {
    kept: Arc<Mutex<Kept>>,
    ttl: Duration,
}

impl ThreadKeeper {
    /// Starts the thread. `store` must use connections of its own.
    ///
    /// # Errors
    /// If the system refuses a thread or a runtime.
    pub fn start<S: LeaseStore + 'static>(store: Arc<S>, ttl: Duration) -> std::io::Result<Self> {
        let kept = Arc::new(Mutex::new(Kept { lease: None, fenced: false, sent_ms: 0 }));
        let shared = Arc::downgrade(&kept);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            runtime.block_on(async move {
                while let Some(kept) = shared.upgrade() {
                    beat(store.as_ref(), &kept, ttl).await;
                    drop(kept);
                    tokio::time::sleep(ttl / 3).await;
                }
            });
        })?;
        Ok(Self { kept, ttl })
    }
}

async fn beat<S: LeaseStore>(store: &S, kept: &Mutex<Kept>, ttl: Duration) {
    let Some(lease) = kept.lock().ok().and_then(|kept| kept.lease) else { return };
    let sent_ms = boot_ms();
    let renewed = tokio::time::timeout(ttl / 3, store.renew_lease(lease, ttl)).await;
    let Ok(mut kept) = kept.lock() else { return };
    if kept.lease != Some(lease) {
        return;
    }
    match renewed {
        Ok(Ok(true)) => kept.sent_ms = sent_ms,
        Ok(Ok(false)) => kept.fenced = true,
        Ok(Err(error)) => tracing::warn!(%error, "a heartbeat failed"),
        Err(_) => tracing::warn!("a heartbeat had no answer in time"),
    }
}

impl Keeper for ThreadKeeper {
    fn adopt(&self, lease: Lease) {
        if let Ok(mut kept) = self.kept.lock() {
            // The lease began when it was asked for, at most half a ttl ago: the store's statements end by then.
            let half_ms = i64::try_from(self.ttl.as_millis() / 2).unwrap_or(i64::MAX);
            *kept = Kept { lease: Some(lease), fenced: false, sent_ms: boot_ms() - half_ms };
        }
    }

    fn health(&self) -> LeaseHealth {
        let Ok(kept) = self.kept.lock() else { return LeaseHealth::Fenced };
        let ttl_ms = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        match (kept.fenced, boot_ms() - kept.sent_ms < ttl_ms) {
            (true, _) => LeaseHealth::Fenced,
            (false, true) => LeaseHealth::Fresh,
            (false, false) => LeaseHealth::Silent,
        }
    }

    fn forget(&self) {
        if let Ok(mut kept) = self.kept.lock() {
            *kept = Kept { lease: None, fenced: false, sent_ms: boot_ms() };
        }
    }
}

/// Milliseconds since boot, suspend included.
fn boot_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}
