//! What is answered beside the sites: records of items, drills out of the way, and every check.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, memory::MemoryStore};
use recovery::{Check, ItemRecord};
use serde_json::Value;
use workflows::{
    ITEM_PROJECTION, ItemChange,
    declared::{DropDeadline, LoadItem, MakeWay, SetDeadline, SiteError, Way},
};

/// Everybody serves.
pub(crate) struct Serves;

#[async_trait]
impl activities::Prober for Serves {
    async fn ask(&self, check: &Check) -> Result<String, String> {
        Ok(format!("{check} is taken to answer"))
    }
}

/// Records as they were last looked at: of many machines not every fact can be looked at each time.
#[derive(Clone)]
struct BesideStore {
    store: MemoryStore,
    records: Arc<Mutex<(usize, BTreeMap<String, Value>)>>,
}

impl BesideStore {
    fn record(&self, item: &str) -> Option<ItemRecord> {
        let mut kept = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, records) = &mut *kept;
        for (_, mut row) in self.store.projections_from(*seen) {
            *seen += 1;
            if let Some(name) = row.fact["item"].as_str().filter(|_| row.projection == ITEM_PROJECTION).map(str::to_owned) {
                records.insert(name, row.fact["record"].take());
            }
        }
        records.get(item).and_then(|record| serde_json::from_value(record.clone()).ok())
    }
}

/// The activities of the queue `server`.
pub(crate) fn beside_store(store: &MemoryStore) -> ActivityRegistry {
    let beside = BesideStore { store: store.clone(), records: Arc::default() };
    ActivityRegistry::default()
        .with::<LoadItem, _>(beside.clone())
        .with::<MakeWay, _>(beside.clone())
        .with::<SetDeadline, _>(beside.clone())
        .with::<DropDeadline, _>(beside)
}

/// An item's record as the facts of this world leave it.
pub(crate) fn record(store: &MemoryStore, item: &str) -> Option<ItemRecord> {
    store.last_fact(|row| {
        let of_item = row.projection == ITEM_PROJECTION && row.fact["item"] == item;
        of_item.then(|| serde_json::from_value::<ItemChange>(row.fact.clone()).ok()).flatten().map(|change| change.record)
    })
}

#[async_trait]
impl Perform<LoadItem> for BesideStore {
    async fn perform(&self, _: &Job, input: LoadItem) -> Result<Option<ItemRecord>, Fault<SiteError>> {
        Ok(self.record(input.item.as_str()))
    }
}

#[async_trait]
impl Perform<MakeWay> for BesideStore {
    async fn perform(&self, _: &Job, _: MakeWay) -> Result<Way, Fault<SiteError>> {
        Ok(Way::Free)
    }
}

#[async_trait]
impl Perform<SetDeadline> for BesideStore {
    async fn perform(&self, _: &Job, _: SetDeadline) -> Result<(), Fault<SiteError>> {
        Ok(())
    }
}

#[async_trait]
impl Perform<DropDeadline> for BesideStore {
    async fn perform(&self, _: &Job, _: DropDeadline) -> Result<(), Fault<SiteError>> {
        Ok(())
    }
}
