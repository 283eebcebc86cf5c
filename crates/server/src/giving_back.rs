//! Gives sources back that a failover has left because nobody could reach them: once the site's agent says that its hypervisor answers, a
//! run is started for each.
//!
//! Invariants: 1. Every worker looks, as often as it likes: a second run of the item is refused by the database. 2. What did not work is tried
//! again, less and less often. 3. A site of which nobody says that it answers is not asked: whoever fails over meanwhile meets no run of ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use engine::{RunStore, Started};
use recovery::readiness::AgentReport;
use store::{PgStore, readiness::AgentReportRow};
use tokio::time::Instant;
use workflows::{GiveBack, GiveBackInput, item_workflow_id};

use crate::by_itself::{Look, LookError, items, start};

/// Between two looks: a machine that is kept off by mistake is production that is down.
const LOOK: Duration = Duration::from_secs(5);
/// After a try that failed, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// And no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How old an agent's word of its host may be: it is told every minute, and at once when the host's machines come or go.
const FRESH: TimeDelta = TimeDelta::seconds(150);
/// Who asks, in histories.
const ASKED_BY: &str = "switchback (a failover left the source, and its site answers)";

/// When an item was tried last, and how long it is left alone then.
type Tried = BTreeMap<String, (Instant, Duration)>;

/// Looks at all items whose sources were left.
pub(crate) struct GivingBack {
    store: Arc<PgStore>,
    tried: Tried,
}

impl GivingBack {
    pub(crate) fn of(store: Arc<PgStore>) -> Self {
        Self { store, tried: Tried::new() }
    }
}

#[async_trait]
impl Look for GivingBack {
    const EVERY: Duration = LOOK;
    const FAILED: &'static str = "sources that were left behind were not looked at";

    async fn look(&mut self) -> Result<(), LookError> {
        look(&self.store, &mut self.tried).await
    }
}

async fn look(store: &PgStore, tried: &mut Tried) -> Result<(), LookError> {
    let items = items(store).await?.into_iter();
    let left: Vec<_> = items.filter(|(row, record)| record.source_left.is_some() && row.open_run.is_none()).map(|(_, record)| record).collect();
    tried.retain(|item, _| left.iter().any(|record| record.name.as_str() == item));
    if left.is_empty() {
        return Ok(());
    }
    let answering = answering(store.agent_reports().await?, store.now().await?);
    for record in left {
        let there = record.source_left.as_ref().is_some_and(|left| answering.contains(left.site.as_str()));
        let before = tried.get(record.name.as_str()).copied();
        let due = before.is_none_or(|(at, pause)| at.elapsed() >= pause);
        if there && due {
            let input = GiveBackInput { item: record.name.clone() };
            if start::<GiveBack>(store, item_workflow_id(&record.name), ASKED_BY, &input).await? == Started::New {
                tracing::info!(item = %record.name, "the source that a failover left is given back: its site answers");
            }
            let next = before.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
            tried.insert(record.name.to_string(), (Instant::now(), next));
        }
    }
    Ok(())
}

/// Sites with an agent whose hypervisor said lately what its host has.
fn answering(agents: Vec<AgentReportRow>, now: DateTime<Utc>) -> BTreeSet<String> {
    let says = |agent: &AgentReportRow| {
        let report = agent.report.clone().and_then(|report| serde_json::from_value::<AgentReport>(report).ok());
        agent.connected && agent.reported_at.is_some_and(|at| now - at < FRESH) && report.is_some_and(|report| report.capacity.is_some())
    };
    agents.into_iter().filter(says).map(|agent| agent.site).collect()
}
