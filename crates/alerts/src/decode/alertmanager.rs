//! Alertmanager's webhook, version 4, and Grafana's, which has the same form under version 1.
//!
//! Invariant: only the alerts' own status counts. With `max_alerts` the group's comes from the alerts that were kept: it said
//! resolved while others, which were left out, were firing.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Deserialize;

use super::{checked, json};
use crate::{Alert, DecodeError, Said};

/// What is read of a group; its status, labels and title are not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    version: String,
    alerts: Vec<One>,
    #[serde(default)]
    truncated_alerts: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct One {
    status: Status,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: DateTime<Utc>,
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

pub(super) fn read(body: &[u8], known: &'static str) -> Result<Vec<Alert>, DecodeError> {
    let Group { version, alerts, truncated_alerts } = json(body)?;
    if version != known {
        return Err(DecodeError::Version { found: version, known });
    }
    alerts.into_iter().map(|one| alert(one, truncated_alerts > 0)).collect()
}

fn alert(one: One, truncated: bool) -> Result<Alert, DecodeError> {
    let One { status, labels, mut annotations, starts_at, fingerprint } = one;
    let starts_at = Some(starts_at.trunc_subsecs(6));
    let said = match status {
        Status::Firing => Said::Firing { starts_at },
        Status::Resolved => Said::Resolved { starts_at },
    };
    let summary = annotations.remove("summary").or_else(|| annotations.remove("description")).unwrap_or_default();
    checked(Alert { fingerprint, said, labels, summary, truncated })
}
