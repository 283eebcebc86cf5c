//! Deliveries of alerts, and what they come to.
//!
//! Invariant: a delivery is stored with everything that follows from it, or not at all.

use std::collections::BTreeMap;

use alerts::Alert;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use crate::{
    Lost, PgStore,
    access::Digest,
    pg::{column, typed},
    runs::json,
    sql,
};

/// Most refused deliveries that a source keeps, and most that are noted within a minute: anybody can send.
pub const MOST_REFUSED: i64 = 1_000;
const MOST_REFUSED_A_MINUTE: i64 = 600;
/// Most other deliveries that a source keeps: a week of an alert that is repeated every minute.
pub const MOST_DELIVERIES: i64 = 10_000;
/// Most bytes of bodies that a source keeps.
const MOST_BODY_BYTES: i64 = 64 << 20;
/// How long an incident is remembered of which nothing is said: a year for those who audit, and a month for them to begin.
const ALERT_DAYS: i32 = 400;
/// Most resolved incidents that a source keeps.
const MOST_RESOLVED: i64 = 100_000;

/// What was decided about a delivery before it is stored.
#[derive(Clone, Debug)]
pub enum Verdict<'a> {
    /// Believed and read.
    Accepted(&'a [Alert]),
    /// Not believed or not read.
    Refused {
        /// A word.
        reason: &'a str,
        /// For people.
        detail: &'a str,
    },
}

/// A delivery to be stored.
#[derive(Clone, Debug)]
pub struct NewDelivery<'a> {
    /// To which source.
    pub source: &'a str,
    /// From where.
    pub remote: &'a str,
    /// Those of its headers that may be kept.
    pub headers: &'a BTreeMap<String, String>,
    /// Its body's digest and size as it came, if it was read.
    pub body: Option<(Digest, i64)>,
    /// What is kept of the body.
    pub kept_body: Option<&'a [u8]>,
    /// What was decided.
    pub verdict: Verdict<'a>,
}

/// A delivery that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its number; none for a refusal that was one too many within a minute.
    pub delivery: Option<i64>,
    /// `accepted`, `ignored` or `refused`.
    pub verdict: String,
    /// How many incidents began or ended with it.
    pub changed: i32,
}

/// A delivery, without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
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
    /// Why not accepted, for people.
    pub detail: Option<String>,
    /// From where.
    pub remote: String,
    /// Those of its headers that were kept.
    pub headers: BTreeMap<String, String>,
    /// Of the body.
    pub body_sha256: Option<Vec<u8>>,
    /// Of the body.
    pub body_bytes: Option<i64>,
    /// How many alerts it held.
    pub alerts: i32,
}

/// An incident.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    /// Its number.
    pub id: i64,
    /// Who said it.
    pub source: String,
    /// What fires.
    pub fingerprint: String,
    /// Since when, by the sender's clock, where that tells it from other incidents.
    pub starts_at: Option<DateTime<Utc>>,
    /// `firing` or `resolved`.
    pub status: String,
    /// When it was first heard of.
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
    /// SHA-256 of the body that said it last.
    pub last_body_sha256: Vec<u8>,
}

/// Something that a policy has not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeRow {
    /// Its number; grows.
    pub id: i64,
    /// Of which incident; `None`: a policy, a switch or a lock was changed.
    pub alert: Option<i64>,
    /// Who said it.
    pub source: Option<String>,
    /// What fires.
    pub fingerprint: Option<String>,
    /// Since when.
    pub starts_at: Option<DateTime<Utc>>,
    /// `firing`, `resolved`, `refreshed`; `policy`, `switch`, `unlocked`.
    pub what: String,
    /// When.
    pub noted_at: DateTime<Utc>,
}

impl PgStore {
    /// Stores a delivery and all that it means; `None` if there is no such source any more.
    ///
    /// # Errors
    /// The database does not answer; then nobody knows whether the delivery was stored, and it may come again.
    pub async fn take_delivery(&self, new: &NewDelivery<'_>) -> Result<Option<Taken>, Lost> {
        let (verdict, reason, detail, found): (_, _, _, &[Alert]) = match &new.verdict {
            Verdict::Accepted(alerts) => ("accepted", None, None, alerts),
            Verdict::Refused { reason, detail } => ("refused", Some(reason), Some(detail), &[]),
        };
        let (headers, alerts) = (json(new.headers)?, json(&found)?);
        let sha256 = new.body.as_ref().map(|(sha256, _)| &sha256[..]);
        let bytes = new.body.map(|(_, bytes)| bytes);
        let params: crate::pg::Params<'_> = &[
            &new.source,
            &verdict,
            &reason,
            &detail,
            &new.remote,
            &headers,
            &sha256,
            &bytes,
            &new.kept_body,
            &alerts,
            &MOST_REFUSED_A_MINUTE,
        ];
        let row = self.row(&sql::TAKE_DELIVERY, params).await?;
        let taken =
            |row: Row| Ok(Taken { delivery: column(&row, "delivery")?, verdict: column(&row, "verdict")?, changed: column(&row, "changed")? });
        row.map(taken).transpose()
    }

    /// Forgets what is older than the limits of this file.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn prune_triggers(&self) -> Result<(), Lost> {
        self.rows(&sql::PRUNE_DELIVERIES, &[&MOST_REFUSED, &MOST_DELIVERIES, &MOST_BODY_BYTES]).await?;
        self.rows(&sql::PRUNE_ALERTS, &[&ALERT_DAYS, &MOST_RESOLVED]).await.map(drop)
    }

    /// Deliveries, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger_deliveries(&self, source: Option<&str>, limit: i64) -> Result<Vec<DeliveryRow>, Lost> {
        self.rows(&sql::TRIGGER_DELIVERIES, &[&source, &limit]).await?.iter().map(delivery_row).collect()
    }

    /// What is kept of a delivery's body; `None` if there is no such delivery or its body was pruned.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger_delivery_body(&self, id: i64) -> Result<Option<Vec<u8>>, Lost> {
        let row = self.row(&sql::TRIGGER_DELIVERY_BODY, &[&id]).await?;
        row.map_or(Ok(None), |row| column(&row, "body"))
    }

    /// Incidents, last heard of first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger_alerts(&self, source: Option<&str>, firing_only: bool, limit: i64) -> Result<Vec<AlertRow>, Lost> {
        self.rows(&sql::TRIGGER_ALERTS, &[&source, &firing_only, &limit]).await?.iter().map(alert_row).collect()
    }

    /// What a policy has not looked at yet, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger_wakes(&self, policy: &str, limit: i64) -> Result<Vec<WakeRow>, Lost> {
        let wake = |row: &Row| {
            Ok(WakeRow {
                id: column(row, "id")?,
                alert: column(row, "alert")?,
                source: column(row, "source")?,
                fingerprint: column(row, "fingerprint")?,
                starts_at: column(row, "starts_at")?,
                what: column(row, "what")?,
                noted_at: column(row, "noted_at")?,
            })
        };
        self.rows(&sql::TRIGGER_WAKES, &[&policy, &limit]).await?.iter().map(wake).collect()
    }
}

fn delivery_row(row: &Row) -> Result<DeliveryRow, Lost> {
    Ok(DeliveryRow {
        id: column(row, "id")?,
        source: column(row, "source")?,
        received_at: column(row, "received_at")?,
        verdict: column(row, "verdict")?,
        reason: column(row, "reason")?,
        detail: column(row, "detail")?,
        remote: column(row, "remote")?,
        headers: typed(column(row, "headers")?)?,
        body_sha256: column(row, "body_sha256")?,
        body_bytes: column(row, "body_bytes")?,
        alerts: column(row, "alerts")?,
    })
}

fn alert_row(row: &Row) -> Result<AlertRow, Lost> {
    Ok(AlertRow {
        id: column(row, "id")?,
        source: column(row, "source")?,
        fingerprint: column(row, "fingerprint")?,
        starts_at: column(row, "starts_at")?,
        status: column(row, "status")?,
        first_received_at: column(row, "first_received_at")?,
        last_received_at: column(row, "last_received_at")?,
        resolved_at: column(row, "resolved_at")?,
        labels: typed(column(row, "labels")?)?,
        summary: column(row, "summary")?,
        truncated: column(row, "truncated")?,
        first_delivery: column(row, "first_delivery")?,
        last_delivery: column(row, "last_delivery")?,
        resolved_delivery: column(row, "resolved_delivery")?,
        last_body_sha256: column(row, "last_body_sha256")?,
    })
}
