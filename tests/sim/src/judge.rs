//! What must hold of any store when everybody has ended, whatever has happened.

use std::collections::BTreeMap;

use engine::{RunState, memory::MemoryStore};
use recovery::{ItemName, ItemRecord};
use sdk::{Registry, replay};
use workflows::{ITEM_PROJECTION, ItemChange};

/// Looks at everything that is left.
///
/// # Errors
/// The first thing that does not hold.
pub(crate) fn settled(store: &MemoryStore, registry: &Registry) -> Result<u64, String> {
    let mut runs = 0;
    for (id, run) in store.runs() {
        runs += 1;
        match run.state {
            RunState::Open => return Err(format!("run {id} ({}) is still open", run.workflow)),
            RunState::Suspended => return Err(format!("run {id} ({}) was set aside: {:?}", run.workflow, run.failure)),
            RunState::Completed | RunState::Failed | RunState::Cancelled => {}
        }
        let history = store.history(id).map_err(|error| format!("the history of run {id} can't be read: {error}"))?;
        replay::verify(registry, &history).map_err(|error| format!("run {id} ({}) does not replay: {error}", run.workflow))?;
    }
    match store.leftovers() {
        0 => Ok(runs),
        left => Err(format!("{left} tasks, timers, messages or locks are left although every run has ended")),
    }
}

/// Folds all facts of all items again, in the order in which they were committed, and compares with what was projected beside each.
///
/// # Errors
/// The first item whose projection is not what its facts come to.
pub(crate) fn projected_as_recorded(store: &MemoryStore) -> Result<(), String> {
    let mut records: BTreeMap<ItemName, ItemRecord> = BTreeMap::new();
    for (run, row) in store.projections().into_iter().filter(|(_, row)| row.projection == ITEM_PROJECTION) {
        let unreadable = |error| format!("run {run} projects what can't be read: {error}");
        let ItemChange { item, fact, record } = serde_json::from_value(row.fact).map_err(unreadable)?;
        let folded = recovery::apply(records.remove(&item), &fact);
        let folded = folded.map_err(|why| format!("run {run} recorded a fact of {item} that does not follow from those before: {why}"))?;
        if folded != record {
            return Err(format!("run {run} projects of {item} {record:?}, and its facts come to {folded:?}"));
        }
        records.insert(item, folded);
    }
    Ok(())
}
