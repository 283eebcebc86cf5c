//! What is answered beside the sites: records of items, drills out of the way, and every check.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, memory::MemoryStore};
use recovery::{Check, ItemRecord};
use workflows::declared::{DropDeadline, LoadItem, MakeWay, SetDeadline, SiteError, Way};

use crate::seen::Seen;

/// Everybody serves.
pub(crate) struct Serves;

#[async_trait]
impl activities::Prober for Serves {
    async fn ask(&self, check: &Check) -> Result<String, String> {
        Ok(format!("{check} is taken to answer"))
    }
}

/// Answers from what was recorded.
#[derive(Clone)]
struct BesideStore {
    store: MemoryStore,
    seen: Arc<Mutex<Seen>>,
}

impl BesideStore {
    fn record(&self, item: &str) -> Option<ItemRecord> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(&self.store);
        seen.records.get(item).cloned()
    }
}

/// The activities of the queue `server`.
pub(crate) fn beside_store(store: &MemoryStore, seen: &Arc<Mutex<Seen>>) -> ActivityRegistry {
    let beside = BesideStore { store: store.clone(), seen: seen.clone() };
    ActivityRegistry::default()
        .with::<LoadItem, _>(beside.clone())
        .with::<MakeWay, _>(beside.clone())
        .with::<SetDeadline, _>(beside.clone())
        .with::<DropDeadline, _>(beside)
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
