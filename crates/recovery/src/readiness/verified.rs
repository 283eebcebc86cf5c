//! Verified: a drill passed, and what it was made with is still so.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ItemRecord;

/// What a drill was made with: a text for each part, by its name. Two are compared part by part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub BTreeMap<String, String>);

/// A drill that passed: test and clean-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Its run.
    pub run: String,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// With what.
    pub fingerprint: Fingerprint,
}

/// The parts of an item that a recovery depends on. What changes by itself, such as its state and its points, is none.
#[must_use]
pub fn fingerprint(record: &ItemRecord) -> Fingerprint {
    let list = |of: Vec<String>| if of.is_empty() { "none".to_owned() } else { of.join(", ") };
    let disks = record.disks.iter().map(|disk| format!("{} of {} bytes", disk.name, disk.size_bytes)).collect();
    let checks = record.checks.iter().map(ToString::to_string).collect();
    let policy = &record.policy;
    let app = policy.app_consistent_interval_s().map_or("none".to_owned(), |every| format!("every {every} s"));
    let parts = [
        ("machine", record.machine.clone()),
        ("source", record.source_site().to_string()),
        ("target", record.target_site().to_string()),
        ("disks", list(disks)),
        ("checks", list(checks)),
        ("interval of points", format!("{} s", policy.interval_s())),
        ("app-consistent points", app),
        ("replication group", record.group.as_ref().map_or_else(|| "none".to_owned(), grouped)),
        ("kept points", format!("{} over {} s", policy.retention_points(), policy.retention_window_s())),
    ];
    Fingerprint(parts.into_iter().map(|(part, value)| (part.to_owned(), value)).collect())
}

impl Fingerprint {
    /// With one more part.
    #[must_use]
    pub fn with(mut self, part: &str, value: impl Into<String>) -> Self {
        self.0.insert(part.to_owned(), value.into());
        self
    }
}

fn grouped(group: &crate::Group) -> String {
    let members: Vec<String> = group.members().iter().map(ToString::to_string).collect();
    format!("{} of {}, a moment every {} s", group.name(), members.join(", "), group.interval_s())
}

/// What is not as it was, a sentence each.
#[must_use]
pub fn changes_since(before: &Fingerprint, now: &Fingerprint) -> Vec<String> {
    let parts: std::collections::BTreeSet<&String> = before.0.keys().chain(now.0.keys()).collect();
    let told = |part: &String| match (before.0.get(part), now.0.get(part)) {
        (Some(before), Some(now)) if before == now => None,
        (Some(before), Some(now)) => Some(format!("{part} was {before}, is {now}")),
        (None, Some(now)) => Some(format!("{part} is {now} now and was not there")),
        (Some(before), None) => Some(format!("{part} was {before} and is gone")),
        (None, None) => None,
    };
    parts.into_iter().filter_map(told).collect()
}
