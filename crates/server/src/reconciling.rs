//! Looks whether what sites report contradicts what is recorded, and whether what contradicted it still does. Where it stands for a while, a
//! look at the sites is started, as `switchback resolve` would: it decides, and nothing is changed at any site.
//!
//! ```text
//!   an item runs at both sites, for 10 minutes ─▶ run `resolve` ─▶ reconcile          in reconcile, every 10 minutes ─▶ run `resolve`
//! ```
//!
//! Invariant: reports only start the look; what they said is asked again by the run, and recorded there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::Started;
use recovery::{MainState, alarms};
use store::PgStore;
use tokio::time::Instant;
use workflows::{Resolve, ResolveInput, item_workflow_id};

use crate::{
    by_itself::{Look, LookError, items, start},
    routes::{by_item, of, seen},
};

/// Between two looks at the reports.
const LOOK: Duration = Duration::from_secs(30);
/// An old machine that comes back is ended by its site's agent within seconds: what stands for so long does not pass by itself.
const STANDS: Duration = Duration::from_secs(600);
/// Who asks, in histories.
const ASKED_BY: &str = "switchback (what sites report contradicts the record)";

/// Compares all records with what sites report.
pub(crate) struct Reconciling {
    store: Arc<PgStore>,
    since: Since,
}

impl Reconciling {
    pub(crate) fn of(store: Arc<PgStore>) -> Self {
        Self { store, since: Since::new() }
    }
}

#[async_trait]
impl Look for Reconciling {
    const EVERY: Duration = LOOK;
    const FAILED: &'static str = "records were not compared with what sites report";

    async fn look(&mut self) -> Result<(), LookError> {
        look(&self.store, &mut self.since).await
    }
}

/// Since when each item is contradicted, as far as this process has seen.
type Since = BTreeMap<String, Instant>;

async fn look(store: &PgStore, since: &mut Since) -> Result<(), LookError> {
    let machines = by_item(store.machines(None).await?, |row| &row.item);
    let mut standing = Since::new();
    for (row, record) in items(store).await? {
        let Ok(seen_now) = seen(of(&machines, &row.name)) else { continue };
        let contradicted = record.state.main == MainState::Reconcile || !alarms(&record, row.running_since, &seen_now).is_empty();
        if !contradicted {
            continue;
        }
        let first = since.get(&row.name).copied().unwrap_or_else(Instant::now);
        let due = first.elapsed() >= STANDS && row.open_run.is_none();
        standing.insert(row.name.clone(), if due { Instant::now() } else { first });
        if due {
            let input = ResolveInput { item: record.name.clone(), decision: None };
            if start::<Resolve>(store, item_workflow_id(&record.name), ASKED_BY, &input).await? == Started::New {
                tracing::warn!(item = %record.name, "what sites report contradicts the record; they are looked at");
            }
        }
    }
    *since = standing;
    Ok(())
}
