//! Removes copies of test failovers that stayed as long as they were to: a clean-up is started for each, as a person would have done.
//!
//! Invariants: 1. Every worker looks, as often as it likes: a second run of the item is refused by the database. 2. A copy stays while another
//! run has its item, and is looked at again; one whose removal failed is tried again, ever less often, at least once an hour.

use std::{sync::Arc, time::Duration};

use engine::{RunStore, StartRun, Started};
use recovery::ItemRecord;
use sdk::{Message, RunId, Workflow};
use store::PgStore;
use tokio::sync::watch;
use uuid::Uuid;
use workflows::{CleanTestFailover, CleanTestInput, item_workflow_id};

use crate::listen::stopped;

/// Between two looks: copies stay for weeks as a rule.
const LOOK: Duration = Duration::from_secs(10);
/// Who asks, in histories.
const ASKED_BY: &str = "switchback (a test failover stayed as long as it was to)";

/// Looks at all copies until told to stop.
pub(crate) async fn keep_reaping(store: Arc<PgStore>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Err(error) = reap(&store).await {
            tracing::warn!(error = &*error, "copies of test failovers were not looked at");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

async fn reap(store: &PgStore) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = store.now().await?;
    for row in store.items(None).await? {
        let record: ItemRecord = serde_json::from_value(row.record)?;
        if row.open_run.is_some() || !record.copy_is_due(row.updated_at, now) {
            continue;
        }
        let start = Message::Start {
            workflow: CleanTestFailover::NAME.to_owned(),
            workflow_id: item_workflow_id(&record.name),
            requested_by: ASKED_BY.to_owned(),
            input: serde_json::to_value(CleanTestInput { item: record.name.clone() })?,
            trace: None,
            parent: None,
        };
        if store.start_run(StartRun { run: RunId(Uuid::now_v7()), start }).await? == Started::New {
            tracing::info!(item = %record.name, "the copy of a test failover stayed as long as it was to; it is removed");
        }
    }
    Ok(())
}
