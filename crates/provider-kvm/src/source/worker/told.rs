//! What a loop is told while it goes on, beside what it is to do: that a point is wanted now, that none is, and in which group its item is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use provider::{ProviderError, Replicate, Requested};
use recovery::{Generation, Group, PointId};

use super::{Shared, Source};
use crate::source::record::LoopRecord;

/// Longest time without a new point while a guest shuts down: most have by then, and those that do not are to be replicated.
const LULL: Duration = Duration::from_secs(60);

/// While this lives, and not for long, the loop begins no point.
pub(crate) struct Lull(Arc<Shared>);

impl Drop for Lull {
    fn drop(&mut self) {
        self.0.lock().lull_until = None;
    }
}

impl Source {
    /// Lets the loop begin no point while its guest is asked to shut down: libvirt may wait long for a backup that begins while QEMU ends.
    pub(crate) fn lull(&self, patience: Duration) -> Lull {
        self.shared.lock().lull_until = Some(Instant::now() + patience.min(LULL));
        Lull(self.shared.clone())
    }

    /// Lets the loop begin a point at once. The same request twice is one.
    pub(crate) fn request(&self, by: Generation, compare: bool) -> Result<(), ProviderError> {
        let mut control = self.shared.lock();
        if control.record.requested.as_ref().is_some_and(|requested| requested.by == by) {
            return Ok(());
        }
        let requested = Some(Requested { by, compare, made: None });
        let record = LoopRecord { requested: requested.clone(), ..control.record.clone() };
        record.store(&self.shared.dir, self.shared.tools.guard.writer())?;
        (control.record, control.status.requested) = (record, requested);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Tells it which group its item is in now.
    pub(crate) fn regroup(&self, group: Option<Group>) -> Result<(), ProviderError> {
        let mut control = self.shared.lock();
        let mut record = control.record.clone();
        if record.ended.is_some() {
            return Err(ProviderError::NotReplicated { item: record.wanted.item });
        }
        record.wanted.group = group;
        record.store(&self.shared.dir, self.shared.tools.guard.writer())?;
        control.record = record;
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl Shared {
    /// Whether no point is to be begun now; the others of its group do not wait for it.
    pub(super) fn lulled(&self, wanted: &Replicate) -> bool {
        let lulled = self.lock().lull_until.is_some_and(|until| Instant::now() < until);
        if lulled {
            self.tools.groups.sit(&wanted.item, wanted.group.as_ref(), Some("its guest was asked to shut down".to_owned()));
        }
        lulled
    }

    /// A point was made that was begun after that request.
    pub(super) fn made(&self, asked: Option<Generation>, id: PointId) {
        let mut control = self.lock();
        let Some(requested) = control.record.requested.as_mut().filter(|r| Some(r.by) == asked && r.made.is_none()) else { return };
        requested.made = Some(id);
        control.status.requested = control.record.requested.clone();
        // If this fails, the request is answered once more after a restart.
        if let Err(error) = control.record.store(&self.dir, self.tools.guard.writer()) {
            tracing::warn!(item = %control.record.wanted.item, %error, "could not remember that a request for a point was answered");
        }
    }
}
