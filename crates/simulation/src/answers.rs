//! What is answered beside the sites: records of items, drills out of the way, and every check.

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, memory::MemoryStore};
use recovery::{Check, ItemRecord};
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

#[derive(Clone)]
struct BesideStore(MemoryStore);

/// The activities of the queue `server`.
pub(crate) fn beside_store(store: &MemoryStore) -> ActivityRegistry {
    let beside = BesideStore(store.clone());
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
        Ok(record(&self.0, input.item.as_str()))
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
