//! Wakes evaluations, and starts what is due: whatever a policy has not looked at starts an evaluation, or tells the one that runs to look again.
//!
//! ```text
//!   recovery.trigger_wakes ──▶ no evaluation? start one          one is open? signal "wake"
//!   recovery.deadlines     ──▶ due? its run, in one transaction
//! ```
//!
//! Invariants: 1. Every server and every worker does it, as often as it likes: a second evaluation is refused by the database, a
//! signal with the same key counts once. 2. What is on the list stays there until a look at it is recorded; who dies here loses nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use engine::{RunStore, Started};
use recovery::trigger::TriggerName;
use sdk::Message;
use serde_json::json;
use store::{PgStore, policies::WokenRow};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use workflows::{Trigger, TriggerInput, trigger::WAKE, trigger_workflow_id};

use crate::{
    by_itself::{LookError, start},
    listen::stopped,
};

/// Between two looks at the list that nobody asked for.
const LOOK: Duration = Duration::from_millis(500);
/// Before an evaluation is told the same again: it may be reading just now.
const REPEAT: Duration = Duration::from_secs(3);

/// Looks at the list until told to stop; `nudge` says that it has grown.
pub(crate) async fn keep_waking(store: Arc<PgStore>, nudge: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    let mut told = BTreeMap::new();
    while !*stop.borrow() {
        match store.fire_deadlines().await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(runs, "what was due has begun"),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "what may be due was not looked at"),
        }
        if let Err(error) = wake_all(&store, &mut told).await {
            tracing::warn!(error = &*error, "trigger policies were not looked at");
        }
        tokio::select! {
            () = nudge.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

type Told = BTreeMap<String, (i64, Instant)>;

async fn wake_all(store: &PgStore, told: &mut Told) -> Result<(), LookError> {
    let woken = store.woken_policies().await?;
    told.retain(|policy, _| woken.iter().any(|row| row.policy == *policy));
    for row in woken {
        let lately = told.get(&row.policy).is_some_and(|(newest, at)| *newest == row.newest && at.elapsed() < REPEAT);
        if !lately {
            told.insert(row.policy.clone(), (row.newest, Instant::now()));
            wake(store, &row).await?;
        }
    }
    Ok(())
}

async fn wake(store: &PgStore, row: &WokenRow) -> Result<(), LookError> {
    let signal = |newest: i64| Message::Signal { name: WAKE.to_owned(), key: newest.to_string(), body: json!(null), by: "server".to_owned() };
    if let Some(run) = row.open_run {
        store.send(run, signal(row.newest)).await?;
        return Ok(());
    }
    let policy: TriggerName = row.policy.parse()?;
    let (workflow_id, asked_by) = (trigger_workflow_id(&policy), format!("trigger {policy}"));
    match start::<Trigger>(store, workflow_id, &asked_by, &TriggerInput { policy }).await? {
        Started::New => tracing::info!(policy = row.policy, "a trigger policy is evaluated"),
        Started::AlreadyOpen(run) => drop(store.send(run, signal(row.newest)).await?),
    }
    Ok(())
}
