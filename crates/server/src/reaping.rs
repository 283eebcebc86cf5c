//! Removes copies of test failovers that stayed as long as they were to: a clean-up is started for each, as a person would have done.
//!
//! Invariants: 1. Every worker looks, as often as it likes: a second run of the item is refused by the database. 2. A copy stays while another
//! run has its item, and is looked at again; one whose removal failed is tried again, ever less often, at least once an hour.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{RunStore, Started};
use store::PgStore;
use workflows::{CleanTestFailover, CleanTestInput, item_workflow_id};

use crate::by_itself::{Look, LookError, items, start};

/// Between two looks: copies stay for weeks as a rule.
const LOOK: Duration = Duration::from_secs(10);
/// Who asks, in histories.
const ASKED_BY: &str = "switchback (a test failover stayed as long as it was to)";

/// Looks at all copies.
pub(crate) struct Reaping(pub(crate) Arc<PgStore>);

#[async_trait]
impl Look for Reaping {
    const EVERY: Duration = LOOK;
    const FAILED: &'static str = "copies of test failovers were not looked at";

    async fn look(&mut self) -> Result<(), LookError> {
        reap(&self.0).await
    }
}

async fn reap(store: &PgStore) -> Result<(), LookError> {
    let now = store.now().await?;
    for (row, record) in items(store).await? {
        if row.open_run.is_some() || !record.copy_is_due(row.updated_at, now) {
            continue;
        }
        let input = CleanTestInput { item: record.name.clone() };
        if start::<CleanTestFailover>(store, item_workflow_id(&record.name), ASKED_BY, &input).await? == Started::New {
            tracing::info!(item = %record.name, "the copy of a test failover stayed as long as it was to; it is removed");
        }
    }
    Ok(())
}
