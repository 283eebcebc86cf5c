//! What accepted deliveries have come to, and what no policy has looked at yet: the tables of the product, in memory.
//!
//! Invariant: what evaluations recorded is read from the store's projections, so that it counts exactly once they are committed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alerts::{Alert, Incident, Incidents, Said, Standing};
use chrono::{DateTime, Utc};
use engine::{RunState, memory::MemoryStore};
use recovery::{
    MainState, Side,
    trigger::{AlertKey, AlertSeen, AlertState, Evidence, ItemSeen, LastFailover, TriggerName, TriggerPolicy},
};
use sdk::Workflow;
use switchback_tests::site;
use workflows::{Failover, Note, TriggerNote, declared::Look, item_workflow_id};

use super::senders::Stream;

/// All of it.
#[derive(Debug, Default)]
struct Told {
    policies: BTreeMap<TriggerName, TriggerPolicy>,
    incidents: BTreeMap<String, Incidents>,
    alerts: Vec<AlertSeen>,
    /// How often each alert began: once is right.
    begun: BTreeMap<i64, u32>,
    /// What each policy has not looked at; those that a committed look has seen are taken off when somebody asks.
    wakes: BTreeMap<i64, TriggerName>,
    next: i64,
    /// What evaluations have recorded, as far as it was read, and how many rows of the store that was.
    notes: Vec<TriggerNote>,
    read: usize,
}

/// Shared by all, as the database is.
#[derive(Clone, Debug)]
pub(super) struct Desk(Arc<Mutex<Told>>);

impl Desk {
    pub(super) fn new(streams: &[Stream]) -> Self {
        let policies = streams.iter().map(|stream| (stream.policy.name.clone(), stream.policy.clone())).collect();
        Self(Arc::new(Mutex::new(Told { policies, ..Told::default() })))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a delivery that was believed and read, with all that follows from it.
    pub(super) fn takes(&self, source: &str, alerts: &[Alert], now: DateTime<Utc>) {
        let mut told = self.told();
        for alert in alerts {
            let changed = told.incidents.entry(source.to_owned()).or_default().take(alert);
            if changed.is_empty() {
                told.again(source, alert, now);
            }
            for (incident, standing) in changed {
                told.changed(source, alert, incident, standing, now);
            }
        }
    }

    /// All alerts that were ever believed, and how often each began.
    pub(super) fn alerts(&self) -> Vec<(AlertSeen, u32)> {
        let told = self.told();
        told.alerts.iter().map(|alert| (alert.clone(), told.begun.get(&alert.key.id).copied().unwrap_or(0))).collect()
    }

    /// Policies that have something to look at, each with the newest of it.
    pub(super) fn woken(&self, store: &MemoryStore) -> BTreeMap<TriggerName, i64> {
        let mut told = self.told();
        if told.wakes.is_empty() {
            return BTreeMap::new();
        }
        told.reads(store);
        told.wakes.iter().map(|(id, policy)| (policy.clone(), *id)).collect()
    }

    pub(super) fn nobody_is_to_look(&self, store: &MemoryStore) -> bool {
        self.woken(store).is_empty()
    }

    /// The policy and the evidence for it.
    pub(super) fn look(&self, policy: &TriggerName, store: &MemoryStore) -> Option<Look> {
        let (runs, at) = (store.runs(), store.time());
        let mut told = self.told();
        told.reads(store);
        let policy = told.policies.get(policy)?.clone();
        let mut alerts: Vec<AlertSeen> = told.alerts.iter().filter(|alert| policy.sources.contains(&alert.key.source)).cloned().collect();
        for (answered, answer) in told.notes.iter().filter(|note| note.policy == policy.name).filter_map(answered) {
            alerts.iter_mut().filter(|alert| answered.contains(&alert.key.id)).for_each(|alert| alert.answered = Some(answer.to_owned()));
        }
        let about = item_workflow_id(&policy.item);
        let ours = runs.iter().filter(|(_, run)| run.workflow_id == about);
        let open = ours.clone().find(|(_, run)| run.state == RunState::Open);
        let over = ours.filter(|(_, run)| run.workflow == Failover::NAME && run.state != RunState::Open).max_by_key(|(_, run)| run.closed_at);
        let item = ItemSeen {
            main: MainState::Protected,
            active: Side::Primary,
            site: site("a"),
            failover_allowed: true,
            newest_point_at: Some(at),
            open_run: open.map(|(id, run)| (id.to_string(), run.workflow.clone())),
            last_failover: over.map(|(id, run)| LastFailover { run: id.to_string(), ended_at: run.closed_at.unwrap_or(at) }),
        };
        let evidence = Evidence { at, alerts, too_many: false, item: Some(item), switches: vec![], flap_locked_at: None, forgiven_at: None };
        let wakes = told.wakes.iter().filter(|(_, of)| **of == policy.name).map(|(id, _)| *id).collect();
        Some(Look { policy, version: 1, sha256: String::new(), wakes, evidence })
    }
}

/// Alerts that a note answers, and how.
pub(super) fn answered(note: &TriggerNote) -> Option<(&[i64], &str)> {
    match &note.note {
        Note::Answered { alerts, answer } => Some((alerts, answer)),
        Note::Looked { .. } | Note::Noted { .. } | Note::Asked { .. } | Note::Heard { .. } | Note::Locked => None,
    }
}

fn looked_at(note: &TriggerNote) -> &[i64] {
    match &note.note {
        Note::Looked { wakes, .. } | Note::Noted { wakes, .. } => wakes,
        Note::Asked { .. } | Note::Heard { .. } | Note::Locked | Note::Answered { .. } => &[],
    }
}

impl Told {
    /// Reads what was recorded since, and takes off the list what was looked at.
    fn reads(&mut self, store: &MemoryStore) {
        for (_, row) in store.projections_from(self.read) {
            self.read += 1;
            let Ok(note) = serde_json::from_value::<TriggerNote>(row.fact) else { continue };
            for wake in looked_at(&note) {
                self.wakes.remove(wake);
            }
            self.notes.push(note);
        }
    }

    fn place(&self, source: &str, incident: &Incident) -> Option<usize> {
        let (fingerprint, starts_at) = incident;
        self.alerts.iter().position(|alert| alert.key.source == source && alert.key.fingerprint == *fingerprint && alert.key.starts_at == *starts_at)
    }

    /// It was said again: that is noted only where nothing else is.
    fn again(&mut self, source: &str, alert: &Alert, now: DateTime<Utc>) {
        let (Said::Firing { starts_at } | Said::Resolved { starts_at }) = alert.said else { return };
        if let Some(place) = self.place(source, &(alert.fingerprint.clone(), starts_at)) {
            self.alerts[place].last_at = now;
            self.wake(source, true);
        }
    }

    fn changed(&mut self, source: &str, alert: &Alert, incident: Incident, standing: Standing, now: DateTime<Utc>) {
        let place = self.place(source, &incident).unwrap_or(self.alerts.len());
        let state = if standing == Standing::Firing { AlertState::Firing } else { AlertState::Resolved { at: now } };
        if place == self.alerts.len() {
            let (fingerprint, starts_at) = incident;
            let id = i64::try_from(place).unwrap_or(i64::MAX) + 1;
            self.alerts.push(AlertSeen {
                key: AlertKey { id, source: source.to_owned(), fingerprint, starts_at },
                state,
                first_at: now,
                last_at: now,
                labels: alert.labels.clone(),
                summary: alert.summary.clone(),
                truncated: alert.truncated,
                answered: None,
                body_sha256: String::new(),
            });
        }
        let kept = &mut self.alerts[place];
        (kept.state, kept.last_at) = (state, now);
        if standing == Standing::Firing {
            *self.begun.entry(kept.key.id).or_default() += 1;
        }
        self.wake(source, false);
    }

    fn wake(&mut self, source: &str, only_if_quiet: bool) {
        let listening: Vec<TriggerName> = self.policies.values().filter(|policy| policy.sources.contains(source)).map(|policy| policy.name.clone()).collect();
        for policy in listening {
            if only_if_quiet && self.wakes.values().any(|woken| *woken == policy) {
                continue;
            }
            self.next += 1;
            self.wakes.insert(self.next, policy);
        }
    }
}
