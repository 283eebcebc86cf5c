//! Looks whether what sites report contradicts what is recorded, and whether what contradicted it still does. Where it stands for a while, a
//! look at the sites is started, as `switchback resolve` would: it decides, and nothing is changed at any site.
//!
//! ```text
//!   an item runs at both sites, for 10 minutes ─▶ run `resolve` ─▶ reconcile          in reconcile, every 10 minutes ─▶ run `resolve`
//! ```
//!
//! Invariant: reports only start the look; what they said is asked again by the run, and recorded there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::{RunStore, StartRun, Started};
use recovery::{ItemRecord, MainState, alarms};
use sdk::{Message, RunId, Workflow};
use store::PgStore;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;
use workflows::{Resolve, ResolveInput, item_workflow_id};

use crate::{listen::stopped, routes::{by_item, of, seen}};

/// Between two looks at the reports.
const LOOK: Duration = Duration::from_secs(30);
/// An old machine that comes back is ended by its site's agent within seconds: what stands for so long does not pass by itself.
const STANDS: Duration = Duration::from_secs(600);
/// Who asks, in histories.
const ASKED_BY: &str = "switchback (what sites report contradicts the record)";

/// Looks until told to stop.
pub(crate) async fn keep_looking(store: Arc<PgStore>, mut stop: watch::Receiver<bool>) {
    let mut since = BTreeMap::new();
    while !*stop.borrow() {
        if let Err(error) = look(&store, &mut since).await {
            tracing::warn!(error = &*error, "records were not compared with what sites report");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

/// Since when each item is contradicted, as far as this process has seen.
type Since = BTreeMap<String, Instant>;

async fn look(store: &PgStore, since: &mut Since) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let machines = by_item(store.machines(None).await?, |row| &row.item);
    let mut standing = Since::new();
    for row in store.items(None).await? {
        let record: ItemRecord = serde_json::from_value(row.record.clone())?;
        let Ok(seen_now) = seen(of(&machines, &row.name)) else { continue };
        let contradicted = record.state.main == MainState::Reconcile || !alarms(&record, row.running_since, &seen_now).is_empty();
        if !contradicted {
            continue;
        }
        let first = since.get(&row.name).copied().unwrap_or_else(Instant::now);
        let due = first.elapsed() >= STANDS && row.open_run.is_none();
        standing.insert(row.name.clone(), if due { Instant::now() } else { first });
        if due {
            start(store, &record).await?;
        }
    }
    *since = standing;
    Ok(())
}

async fn start(store: &PgStore, record: &ItemRecord) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let start = Message::Start {
        workflow: Resolve::NAME.to_owned(),
        workflow_id: item_workflow_id(&record.name),
        requested_by: ASKED_BY.to_owned(),
        input: serde_json::to_value(ResolveInput { item: record.name.clone(), decision: None })?,
        trace: None,
        parent: None,
    };
    if store.start_run(StartRun { run: RunId(Uuid::now_v7()), start }).await? == Started::New {
        tracing::warn!(item = %record.name, "what sites report contradicts the record; they are looked at");
    }
    Ok(())
}
