//! PagerDuty's webhooks, version 3: one event of one incident.
//!
//! An incident can be opened again under its old id and time of creation. That is a new incident here, which began with the event;
//! an end is therefore the end of all that had begun when it was said.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{checked, json};
use crate::{Alert, DecodeError, Said};

/// Events after which the incident's own status is what counts. All others (notes, responders, workflows, services, the ping of
/// the subscription page) say nothing about it.
const OF_STATUS: [&str; 8] = [
    "incident.triggered",
    "incident.acknowledged",
    "incident.unacknowledged",
    "incident.escalated",
    "incident.reassigned",
    "incident.delegated",
    "incident.priority_updated",
    "incident.resolved",
];
const REOPENED: &str = "incident.reopened";

#[derive(Deserialize)]
struct Body {
    event: Event,
}

#[derive(Deserialize)]
struct Event {
    event_type: String,
    occurred_at: DateTime<Utc>,
    data: Value,
}

#[derive(Deserialize)]
struct Incident {
    id: String,
    status: Status,
    created_at: DateTime<Utc>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    incident_key: Option<String>,
    #[serde(default)]
    urgency: Option<String>,
    #[serde(default)]
    service: Option<Reference>,
    #[serde(default)]
    priority: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Triggered,
    Acknowledged,
    Resolved,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    summary: Option<String>,
}

pub(super) fn read(body: &[u8]) -> Result<Vec<Alert>, DecodeError> {
    let Body { event: Event { event_type, occurred_at, data } } = json(body)?;
    let reopened = event_type == REOPENED;
    if !reopened && !OF_STATUS.contains(&event_type.as_str()) {
        return Ok(vec![]);
    }
    let incident: Incident = serde_json::from_value(data).map_err(|error| DecodeError::Json(format!("event.data: {error}")))?;
    let said = match incident.status {
        // By the event, not by the status that the incident has by now: deliveries are retried.
        _ if reopened => Said::Firing { starts_at: Some(occurred_at.trunc_subsecs(6)) },
        Status::Triggered | Status::Acknowledged => Said::Firing { starts_at: Some(incident.created_at.trunc_subsecs(6)) },
        Status::Resolved => Said::ResolvedUntil { until: occurred_at.trunc_subsecs(6) },
    };
    let Incident { id, title, incident_key, urgency, service, priority, .. } = incident;
    let (service, service_id) = service.map(|service| (service.summary, service.id)).unwrap_or_default();
    let labels = [
        ("incident_key", incident_key),
        ("urgency", urgency),
        ("service", service),
        ("service_id", service_id),
        ("priority", priority.and_then(|priority| priority.summary)),
        ("title", title.clone()),
    ];
    let labels: BTreeMap<_, _> = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let alert = Alert { fingerprint: id, said, labels, summary: title.unwrap_or_default(), truncated: false };
    Ok(vec![checked(alert)?])
}
