//! Who starts evaluations and wakes those that run, as servers and workers do; and what evaluations must have come to.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use engine::{RunStore, StartRun, Started, memory::MemoryStore, sim::Life};
use recovery::trigger::{AlertSeen, AlertState};
use sdk::{Command, EventBody, Inbound, Message, Outcome, RunId, Workflow};
use serde_json::json;
use switchback_tests::watch::notes;
use uuid::Uuid;
use workflows::{Failover, Trigger, TriggerInput, declared::Look, trigger::WAKE, trigger_workflow_id};

use super::{
    desk::{Desk, answered},
    senders::{STRANGERS, Stream},
};

/// Before an evaluation is told the same again: it may be reading just now.
const REPEAT: TimeDelta = TimeDelta::seconds(3);

/// Looks at the list for ever: it remembers nothing that it could not do without.
pub(super) async fn waker(life: Life, desk: Desk) {
    let (mut told, mut count) = (BTreeMap::new(), 0_u64);
    loop {
        for (policy, newest) in desk.woken(&life.store) {
            let now = life.store.time();
            if told.get(&policy).is_some_and(|(what, at)| *what == newest && now >= *at && now - *at < REPEAT) {
                continue;
            }
            told.insert(policy.clone(), (newest, now));
            count += 1;
            let run = RunId(Uuid::new_v5(&life.id.0, &count.to_be_bytes()));
            let start = Message::Start {
                workflow: Trigger::NAME.to_owned(),
                workflow_id: trigger_workflow_id(&policy),
                requested_by: format!("trigger {policy}"),
                input: serde_json::to_value(TriggerInput { policy }).unwrap_or_default(),
                trace: None,
                parent: None,
            };
            // Without an answer the same is on the list still, and is done again.
            if let Ok(Started::AlreadyOpen(open)) = life.store.start_run(StartRun { run, start }).await {
                let wake = Message::Signal { name: WAKE.to_owned(), key: newest.to_string(), body: json!(null), by: "server".to_owned() };
                drop(life.store.send(open, wake).await);
            }
        }
        life.rests().await;
    }
}

/// How many failovers each stream's policy has started.
///
/// # Errors
/// An incident that began twice or was answered twice, a failover without its alerts or of alerts that had not lasted, or what strangers said.
pub(super) fn judged(store: &MemoryStore, desk: &Desk, streams: &[Stream]) -> Result<Vec<usize>, String> {
    let alerts = desk.alerts();
    if let Some((alert, _)) = alerts.iter().find(|(alert, begun)| alert.key.fingerprint == STRANGERS || *begun > 1) {
        return Err(format!("it was told by strangers, or began more than once: {alert:?}"));
    }
    let notes = notes(store);
    let mut answers: BTreeSet<(&str, i64)> = BTreeSet::new();
    let mut of_run: BTreeMap<&str, (usize, &[i64])> = BTreeMap::new();
    for note in &notes {
        let Some((ids, answer)) = answered(note) else { continue };
        if let Some(id) = ids.iter().find(|id| !answers.insert((note.policy.as_str(), **id))) {
            return Err(format!("{} answered alert {id} once more: {answer}", note.policy));
        }
        if let Some(run) = answer.strip_prefix("failover run ") {
            let place = streams.iter().position(|stream| stream.policy.name == note.policy).ok_or_else(|| format!("nobody wrote the policy {}", note.policy))?;
            of_run.insert(run, (place, ids));
        }
    }
    let mut counted = vec![0; streams.len()];
    for (run, kept) in store.runs().into_iter().filter(|(_, run)| run.workflow == Failover::NAME) {
        let Some((place, ids)) = of_run.remove(run.to_string().as_str()) else { return Err(format!("failover {run} answers nothing")) };
        let parent = kept.parent.map(|(parent, _)| parent.run).ok_or_else(|| format!("failover {run} has no evaluation"))?;
        counted[place] += 1;
        let seen: Vec<&AlertSeen> = alerts.iter().map(|(alert, _)| alert).filter(|alert| ids.contains(&alert.key.id)).collect();
        lasted(store, parent, run, &streams[place], &seen)?;
    }
    if of_run.is_empty() { Ok(counted) } else { Err(format!("answered by failovers that are not there: {of_run:?}")) }
}

/// Whether enough sources had told of it for long enough when the look was made that started the failover: by what the outside knows now.
fn lasted(store: &MemoryStore, evaluation: RunId, failover: RunId, stream: &Stream, alerts: &[&AlertSeen]) -> Result<(), String> {
    let history = store.history(evaluation).map_err(|error| error.to_string())?;
    let mut last = None;
    for stored in &history.events {
        match &stored.event.body {
            EventBody::Inbound(Inbound::ActivityFinished { outcome: Outcome::Completed { output }, .. }) => {
                last = serde_json::from_value::<Option<Look>>(output.clone()).ok().flatten().or(last);
            }
            EventBody::Command(Command::ChildRequested { child, .. }) if *child == failover => break,
            EventBody::Inbound(_) | EventBody::Command(_) => {}
        }
    }
    let look = last.ok_or_else(|| format!("failover {failover} was started without a look"))?;
    let (at, policy) = (look.evidence.at, &stream.policy);
    let went_on = |alert: &&&AlertSeen| match alert.state {
        AlertState::Firing => true,
        // In the moment of the look, or later.
        AlertState::Resolved { at: over } => over >= at,
    };
    let held = |alert: &&&AlertSeen| alert.first_at + policy.hold_down.delta() <= at;
    let sources: BTreeSet<&str> = alerts.iter().filter(held).filter(went_on).map(|alert| alert.key.source.as_str()).collect();
    if sources.len() >= policy.require {
        return Ok(());
    }
    Err(format!("failover {failover} was started by what {} sources said at {at}, and {} need {}: {alerts:?}", sources.len(), policy.name, policy.hold_down))
}
