//! Taking a point out of the middle of a chain.
//!
//! ```text
//!   before   p3 ◀─ p4 ◀─ p5        record "pruning p3"
//!   merge    p4's content goes into p3's files; p4 and p5 read right all the time
//!   rebase   p5 now lies on p3's files
//!   record   "pruned p3": p4 has p3's files; what were p4's files are deleted
//! ```
//!
//! What a copy for tests reads, its point and all beneath, is left as it is while the copy exists; points above go instead, so
//! that the chain stays short. A machine needs no such care: a replica that one runs on takes no points.
//!
//! Each step may be repeated, so an interrupted pruning is simply done again.

use chrono::Utc;
use provider::{Point, ProviderError, retention};
use recovery::PointId;

use super::{
    Record,
    store::{Inner, ItemStore},
};
use crate::{
    durable::{self, failed},
    machines, qemu,
};

/// Prunes until the policy is met. Does nothing while a machine runs on the chain.
pub(super) fn prune(store: &ItemStore, inner: &mut Inner) -> Result<(), ProviderError> {
    loop {
        complete(store, inner)?;
        let state = store.state(inner)?;
        if machines::dependent(&store.dir)?.is_some() || state.pruning.is_some() {
            return Ok(());
        }
        let held = read_by_copies(store)?;
        let points: Vec<Point> = state.points.iter().map(|p| p.point.clone()).collect();
        let kept = state.points.last().and_then(|newest| newest.kept.as_ref());
        let Some(point) = retention::next_to_prune(&points, held, kept, &state.policy, Utc::now()) else { return Ok(()) };
        store.record(inner, Record::Pruning { point })?;
    }
}

/// Completes the pruning that the journal says was begun.
pub(super) fn complete(store: &ItemStore, inner: &mut Inner) -> Result<(), ProviderError> {
    let Some(point) = store.state(inner)?.pruning else { return Ok(()) };
    if machines::dependent(&store.dir)?.is_some() || read_by_copies(store)? >= Some(point) {
        return Ok(());
    }
    merge_above(store, inner, point)?;
    store.record(inner, Record::Pruned { point })?;
    store.sweep(inner.state.as_ref())
}

/// The newest point that a copy for tests reads from.
fn read_by_copies(store: &ItemStore) -> Result<Option<PointId>, ProviderError> {
    Ok(machines::read_by_copies(&store.dir)?.into_iter().map(|(point, _)| point).max())
}

/// Merges the point above `point` into its files, and puts the one above that on them.
fn merge_above(store: &ItemStore, inner: &Inner, point: PointId) -> Result<(), ProviderError> {
    let points = &store.state(inner)?.points;
    let Some(at) = points.iter().position(|p| p.point.id == point) else { return Ok(()) };
    let Some(above) = points.get(at + 1) else {
        return Err(ProviderError::Damaged { item: store.item.clone(), detail: format!("the newest point {point} was to be pruned") });
    };
    for (disk, file) in &points[at].files {
        let base = store.dir.join(file);
        let Some(top) = above.files.get(disk).map(|f| store.dir.join(f)) else { continue };
        store.guard.still_writer()?;
        store.guard.about_to("prune");
        qemu::commit(&top, &base)?;
        durable::sync_file(&base).map_err(failed("sync", &base))?;
        if let Some(higher) = points.get(at + 2).and_then(|p| p.files.get(disk)).map(|f| store.dir.join(f)) {
            qemu::rebase(&higher, &base)?;
            durable::sync_file(&higher).map_err(failed("sync", &higher))?;
        }
    }
    Ok(())
}
