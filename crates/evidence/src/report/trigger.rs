//! What set a failover off, and who agreed: the evaluation of a trigger is a run of its own, and the failover is its child.

use chrono::{DateTime, Utc};
use recovery::trigger::{Judgement, Ruled};
use sdk::{Command, EventBody, History, Inbound, RunId, Seq};
use serde::{Deserialize, Serialize};
use workflows::trigger::{APPROVAL, Ballot, Note, TRIGGER_PROJECTION, Trigger, TriggerNote};

use super::recoveries::answers;
use crate::{bundle::started, signing::sha256};

/// Somebody's word while it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// To which run.
    pub run: RunId,
    /// Its event.
    pub seq: Seq,
    /// Who said it, as the server knew them.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Yes or no; nothing if it could not be read as either.
    pub approves: Option<bool>,
    /// Why.
    pub reason: Option<String>,
    /// SHA-256 of what was said.
    pub sha256: String,
}

/// What set a failover off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerShown {
    /// The run that evaluated it.
    pub run: RunId,
    /// The policy.
    pub policy: String,
    /// Its version at the last look.
    pub version: Option<i64>,
    /// SHA-256 of its text.
    pub policy_sha256: Option<String>,
    /// The rules at the last look, with what each saw.
    pub rules: Vec<Ruled>,
    /// SHA-256 of the deliveries that told of the alerts.
    pub evidence_sha256: Vec<String>,
}

/// What people said when they were asked.
pub(super) fn approvals(history: &History) -> Vec<Approval> {
    let ballots = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Inbound(Inbound::SignalReceived { name, body, by, .. }) if name == APPROVAL => {
            let ballot: Option<Ballot> = serde_json::from_value(body.clone()).ok();
            Some(Approval {
                run: history.run,
                seq: stored.event.seq,
                by: by.clone(),
                at: stored.event.at,
                approves: ballot.as_ref().map(|ballot| ballot.approve),
                reason: ballot.and_then(|ballot| ballot.reason),
                sha256: sha256(body.to_string().as_bytes()),
            })
        }
        EventBody::Inbound(_) | EventBody::Command(_) => None,
    });
    ballots.collect()
}

pub(super) fn of(history: &History) -> Option<TriggerShown> {
    let Some(Inbound::RunStarted { workflow, workflow_id, .. }) = started(history) else { return None };
    if workflow != <Trigger as sdk::Workflow>::NAME {
        return None;
    }
    let policy = workflow_id.strip_prefix("trigger:").unwrap_or(workflow_id).to_owned();
    let looked: Option<(i64, String, Judgement)> = history.events.iter().rev().find_map(|stored| match &stored.event.body {
        EventBody::Command(Command::Recorded { projection, fact }) if projection == TRIGGER_PROJECTION => {
            let note: TriggerNote = serde_json::from_value(fact.clone()).ok()?;
            if let Note::Looked { version, sha256, judgement, .. } = note.note { Some((version, sha256, judgement)) } else { None }
        }
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let mut evidence_sha256 = Vec::new();
    answers(history, "load-evidence").into_iter().for_each(|look| digests(look, &mut evidence_sha256));
    let (version, policy_sha256, rules) =
        looked.map(|(version, sha256, judgement)| (Some(version), Some(sha256).filter(|hash| is_digest(hash)), judgement.rules)).unwrap_or_default();
    Some(TriggerShown { run: history.run, policy, version, policy_sha256, rules, evidence_sha256 })
}

/// Digests of deliveries, wherever they stand; each once, in the order in which they were told.
fn digests(value: &serde_json::Value, found: &mut Vec<String>) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|hash| name == "body_sha256" && is_digest(hash)) {
                    Some(digest) if !found.iter().any(|known| known == digest) => found.push(digest.to_owned()),
                    Some(_) => {}
                    None => digests(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| digests(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
