//! What monitoring says in a scene, and the list of what a trigger has not looked at yet: the tables of the product, in memory.
//!
//! Invariant: what evaluations recorded is read from the store's projections, so that it counts exactly once they are committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use engine::{Fault, Job, Perform, RunState, RunStore, StartRun, Started, memory::MemoryStore};
use recovery::{
    Operation, allowed_operations,
    trigger::{AlertKey, AlertSeen, AlertState, Evidence, ItemSeen, KillSwitch, LastFailover, TriggerPolicy},
};
use sdk::{Message, RunId, Workflow};
use serde_json::json;
use uuid::Uuid;
use workflows::{
    Note, TRIGGER_PROJECTION, Trigger, TriggerInput, TriggerNote,
    declared::{LoadEvidence, Look, SiteError},
    item_workflow_id, trigger_workflow_id,
};

use crate::{item, projected, until_stored};

/// Monitoring, its alerts, and the list.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    policy: Option<TriggerPolicy>,
    alerts: Vec<AlertSeen>,
    wakes: BTreeSet<i64>,
    switches: Vec<KillSwitch>,
    next: i64,
    version: i64,
    started: u64,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the policy.
    pub fn policy(&self, policy: TriggerPolicy) {
        let mut watched = self.lock();
        watched.policy = Some(policy);
        watched.version += 1;
        watched.next += 1;
        let next = watched.next;
        watched.wakes.insert(next);
    }

    /// An alert fires at a source, or is told again.
    pub fn fires(&self, source: &str, now: DateTime<Utc>) {
        let mut watched = self.lock();
        watched.next += 1;
        let next = watched.next;
        watched.wakes.insert(next);
        let goes_on = watched.alerts.iter_mut().find(|alert| alert.key.source == source && alert.state == AlertState::Firing);
        if let Some(alert) = goes_on {
            alert.last_at = now;
            return;
        }
        watched.alerts.push(AlertSeen {
            key: AlertKey { id: next, source: source.to_owned(), fingerprint: "f1".to_owned(), starts_at: Some(now) },
            state: AlertState::Firing,
            first_at: now,
            last_at: now,
            labels: BTreeMap::from([("alertname".to_owned(), "Down".to_owned())]),
            summary: "down".to_owned(),
            truncated: false,
            answered: None,
            body_sha256: String::new(),
        });
    }

    /// All alerts of a source are over.
    pub fn resolves(&self, source: &str, now: DateTime<Utc>) {
        let mut watched = self.lock();
        watched.next += 1;
        let next = watched.next;
        watched.wakes.insert(next);
        for alert in watched.alerts.iter_mut().filter(|alert| alert.key.source == source && alert.state == AlertState::Firing) {
            alert.state = AlertState::Resolved { at: now };
        }
    }

    /// Somebody turns a kill switch.
    pub fn switch(&self, switch: KillSwitch) {
        let mut watched = self.lock();
        watched.next += 1;
        let next = watched.next;
        watched.wakes.insert(next);
        watched.switches.push(switch);
    }

    /// What a server does all the time: whatever nobody has looked at starts an evaluation or wakes the one that runs.
    pub fn sweep(&self, store: &MemoryStore) {
        if self.lock().wakes.is_empty() {
            return; // looking copies all that was ever recorded, and this is asked at every step of the clock
        }
        let notes = notes(store);
        let mut watched = self.lock();
        let looked: BTreeSet<i64> = notes.iter().flat_map(wakes).copied().collect();
        watched.wakes.retain(|wake| !looked.contains(wake));
        let (Some(newest), Some(policy)) = (watched.wakes.last().copied(), watched.policy.as_ref().map(|policy| policy.name.clone())) else { return };
        let about = trigger_workflow_id(&policy);
        let open = store.runs().into_iter().find(|(_, run)| run.workflow_id == about && run.state == RunState::Open);
        if let Some((run, _)) = open {
            let wake = Message::Signal { name: "wake".into(), key: newest.to_string(), body: json!(null), by: "server".into() };
            until_stored(|| store.send(run, wake.clone()));
            return;
        }
        watched.started += 1;
        let run = RunId(Uuid::from_u64_pair(0x0190_0000_0000_7000 + watched.started, 0x8000_0000_0000_00ff));
        let input = serde_json::to_value(TriggerInput { policy: policy.clone() }).unwrap_or_default();
        let requested_by = format!("trigger {policy}");
        let start =
            Message::Start { workflow: Trigger::NAME.into(), input, workflow_id: about.clone(), requested_by, trace: None, parent: None };
        assert_eq!(until_stored(|| store.start_run(StartRun { run, start: start.clone() })), Started::New);
    }
}

fn wakes(note: &TriggerNote) -> &[i64] {
    match &note.note {
        Note::Looked { wakes, .. } | Note::Noted { wakes, .. } => wakes,
        Note::Asked { .. } | Note::Heard { .. } | Note::Locked | Note::Answered { .. } => &[],
    }
}

/// What evaluations have recorded.
#[must_use]
pub fn notes(store: &MemoryStore) -> Vec<TriggerNote> {
    let rows = store.projections().into_iter().filter(|(_, row)| row.projection == TRIGGER_PROJECTION);
    rows.filter_map(|(_, row)| serde_json::from_value(row.fact).ok()).collect()
}

/// Reads the evidence as the product does.
pub(crate) struct FromWatch(pub(crate) Watch, pub(crate) MemoryStore);

#[async_trait]
impl Perform<LoadEvidence> for FromWatch {
    async fn perform(&self, _: &Job, _: LoadEvidence) -> Result<Option<Look>, Fault<SiteError>> {
        let Self(watch, store) = self;
        let (notes, runs, record, now) = (notes(store), store.runs(), projected(store, &item()), store.time());
        let watched = watch.lock();
        let Some(policy) = watched.policy.clone() else { return Ok(None) };
        let looked: BTreeSet<i64> = notes.iter().flat_map(wakes).copied().collect();
        let mut alerts = watched.alerts.clone();
        for note in &notes {
            if let Note::Answered { alerts: answered, answer } = &note.note {
                alerts.iter_mut().filter(|alert| answered.contains(&alert.key.id)).for_each(|alert| alert.answered = Some(answer.clone()));
            }
        }
        let about = item_workflow_id(&item());
        let open_run = runs.iter().find(|(_, run)| run.workflow_id == about && run.state == RunState::Open);
        let failed_over = runs.iter().rfind(|(_, run)| run.workflow == "failover" && run.state != RunState::Open);
        let item = record.map(|record| ItemSeen {
            main: record.state.main,
            active: record.state.active,
            site: record.active_site().clone(),
            failover_allowed: allowed_operations(&record.state, record.profile).contains(&Operation::Failover),
            newest_point_at: Some(now),
            open_run: open_run.map(|(id, run)| (id.to_string(), run.workflow.clone())),
            last_failover: failed_over.map(|(id, _)| LastFailover { run: id.to_string(), ended_at: now }),
        });
        let flap_locked_at = notes.iter().any(|note| note.note == Note::Locked).then_some(now);
        let evidence = Evidence { at: now, alerts, too_many: false, item, switches: watched.switches.clone(), flap_locked_at, forgiven_at: None };
        let wakes = watched.wakes.iter().filter(|wake| !looked.contains(wake)).copied().collect();
        Ok(Some(Look { policy, version: watched.version, sha256: String::new(), wakes, evidence }))
    }
}
