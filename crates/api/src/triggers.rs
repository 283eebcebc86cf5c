//! Alerts from monitoring: what a sender gets back, sources and their secrets, deliveries and incidents.
//!
//! ```text
//!   POST /v1/triggers/NAME                              a delivery, by its sender; no token of ours
//!   GET  /v1/trigger-sources   POST /v1/trigger-sources
//!   POST /v1/trigger-sources/NAME/{rotate,drop-old-secret,enable,disable,remove}
//!   GET  /v1/trigger-deliveries[/ID]   GET /v1/trigger-alerts
//! ```

use std::{collections::BTreeMap, fmt};

use alerts::{Kind, Settings, SourceName};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryTaken {
    /// Under which number it is kept.
    pub delivery: i64,
    /// `accepted`, or `ignored` while the source is disabled.
    pub verdict: String,
    /// How many alerts it held.
    pub alerts: usize,
}

/// A secret on its way; its debug form shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Asks for a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSource {
    /// Part of the path that the sender posts to.
    pub name: SourceName,
    /// How it is authenticated and read.
    pub settings: Settings,
    /// Its secret; without one the server makes one up. PagerDuty makes its own.
    #[serde(default)]
    pub secret: Option<SecretText>,
}

/// Asks for a second secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// As in [`CreateSource`].
    #[serde(default)]
    pub secret: Option<SecretText>,
}

/// Asks for a source to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveSource {
    /// Its deliveries and alerts may be discarded.
    #[serde(default)]
    pub discard_deliveries: bool,
}

/// A source that was made, or given another secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceKeyed {
    /// The source.
    pub source: SourceView,
    /// The secret, shown once, if the server made it up.
    pub secret: Option<SecretText>,
    /// Where its sender posts to; only the path if the server does not listen on the network.
    pub url: String,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Its name.
    pub name: SourceName,
    /// Whose form.
    pub kind: Kind,
    /// How it is authenticated and read.
    pub settings: Settings,
    /// Whether its deliveries count.
    pub enabled: bool,
    /// What may be asked for now.
    #[serde(default)]
    pub allowed_operations: Vec<String>,
    /// How many secrets hold.
    pub secrets: i64,
    /// Policies that listen to it.
    pub listeners: Vec<String>,
    /// By whom.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When its last delivery was accepted.
    pub accepted_at: Option<DateTime<Utc>>,
    /// When a delivery to it was last refused.
    pub refused_at: Option<DateTime<Utc>>,
    /// Deliveries that are kept.
    pub deliveries: i64,
    /// Incidents that are kept.
    pub alerts: i64,
    /// Those that go on.
    pub firing: i64,
}

/// A source that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRemoved {
    /// Its name.
    pub name: SourceName,
    /// Deliveries that went with it.
    pub deliveries: i64,
    /// Incidents that went with it.
    pub alerts: i64,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Its number; grows.
    pub id: i64,
    /// To which source.
    pub source: String,
    /// When.
    pub received_at: DateTime<Utc>,
    /// `accepted`, `ignored` or `refused`.
    pub verdict: String,
    /// Why not accepted, a word.
    pub reason: Option<String>,
    /// Why not accepted.
    pub detail: Option<String>,
    /// From where: an address, or `local`.
    pub remote: String,
    /// Those of its headers that are no credentials.
    pub headers: BTreeMap<String, String>,
    /// Of the body, lower-case hex; absent if it was too large to be read.
    pub body_sha256: Option<String>,
    /// Of the body.
    pub body_bytes: Option<i64>,
    /// How many alerts it held.
    pub alerts: i32,
}

/// A delivery's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryBody {
    /// Of which delivery.
    pub id: i64,
    /// As far as it was kept: all of an accepted one, the beginning of a refused one. What is no UTF-8 is shown as U+FFFD.
    pub text: String,
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertView {
    /// Who said it.
    pub source: String,
    /// What fires.
    pub fingerprint: String,
    /// Since when, by the sender's clock, where that tells it from other incidents.
    pub starts_at: Option<DateTime<Utc>>,
    /// `firing` or `resolved`.
    pub status: String,
    /// When it was first heard of, by the database's clock, as all that follow.
    pub first_received_at: DateTime<Utc>,
    /// When it was last heard of.
    pub last_received_at: DateTime<Utc>,
    /// When its end was first heard of.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Of its first delivery.
    pub labels: BTreeMap<String, String>,
    /// Of its first delivery.
    pub summary: String,
    /// Whether each delivery so far left other alerts out.
    pub truncated: bool,
    /// Which said it first.
    pub first_delivery: i64,
    /// Which said it last.
    pub last_delivery: i64,
    /// Which ended it.
    pub resolved_delivery: Option<i64>,
    /// SHA-256 of the body that said it last, lower-case hex.
    pub last_body_sha256: String,
}
