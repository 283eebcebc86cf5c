//! What is carried out beside the store: reading an item's record. The other reading is [`load_evidence`](crate::load_evidence).

use std::sync::Arc;

use async_trait::async_trait;
use engine::{ActivityRegistry, Fault, Job, Perform, Probed};
use recovery::ItemRecord;
use sdk::Failure;
use store::PgStore;
use workflows::declared::{LoadEvidence, LoadItem, SiteError};

use crate::{load_evidence::EvidenceOf, plan_steps::with_plan_steps};

struct FromStore(Arc<PgStore>);

/// The activities of the queue `server`.
pub(crate) fn registry(store: Arc<PgStore>) -> ActivityRegistry {
    let registry = ActivityRegistry::default().with::<LoadItem, _>(FromStore(store.clone())).with::<LoadEvidence, _>(EvidenceOf(store.clone()));
    with_plan_steps(registry, store)
}

impl FromStore {
    async fn load(&self, wanted: &LoadItem) -> Result<Option<ItemRecord>, Failure> {
        let rows = self.0.items(Some(wanted.item.as_str())).await;
        let rows = rows.map_err(|lost| Failure::retryable("store-silent", format!("reading item {}: {lost}", wanted.item)).not_applied())?;
        let record = rows.into_iter().next().map(|row| serde_json::from_value(row.record));
        let unreadable = |error| Failure::fatal("unreadable-record", format!("the record of item {} can't be read: {error}", wanted.item));
        record.transpose().map_err(|error| unreadable(error).not_applied())
    }
}

#[async_trait]
impl Perform<LoadItem> for FromStore {
    async fn perform(&self, _: &Job, wanted: LoadItem) -> Result<Option<ItemRecord>, Fault<SiteError>> {
        self.load(&wanted).await.map_err(Fault::Other)
    }

    /// Looking twice is looking.
    async fn probe(&self, _: &Job, _: &LoadItem) -> Result<Probed<Option<ItemRecord>>, Failure> {
        Ok(Probed::NotDone)
    }
}
