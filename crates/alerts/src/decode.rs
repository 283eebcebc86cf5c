//! Bodies of all kinds, read as alerts; see the files of this folder for each sender's form.
//!
//! Invariants: 1. What is not understood is refused, whole. 2. Everything that comes out is within limits that the database and
//! people can bear; labels, on which policies decide, are never cut.

mod alertmanager;
mod cloud_events;
mod generic;
mod pagerduty;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::{Alert, Headers, Said, Settings, alert::joined, headers::cut, mapping::in_range};

/// Most alerts of one delivery: a group that large is a storm, and its sender can be told to cut it (`max_alerts`).
pub const MOST_ALERTS: usize = 1_000;
/// Most bytes of a fingerprint: it is part of a key.
const FINGERPRINT_BYTES: usize = 512;
/// Most labels of an alert, and most bytes of their names and values: several times what Prometheus' users have.
const MOST_LABELS: usize = 64;
const LABEL_NAME_BYTES: usize = 256;
const LABEL_VALUE_BYTES: usize = 4_096;
/// Most bytes of a summary; the rest is cut, since it is for people only.
const SUMMARY_BYTES: usize = 1_024;

/// Which limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Alerts of a delivery.
    Alerts,
    /// Bytes of a fingerprint, of which there must be one at least.
    Fingerprint,
    /// Labels of an alert.
    Labels,
    /// Bytes of a label's name or value.
    Label,
}

/// Why a body is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the sender's form.
    #[error("the body can't be read: {0}")]
    Json(String),
    /// Another version than the one that is understood.
    #[error("the body has version {found:?}, understood is {known:?}")]
    Version {
        /// Which.
        found: String,
        /// Which would be.
        known: &'static str,
    },
    /// Neither structured nor binary nor a batch.
    #[error("content type {0:?} without `ce-` headers is no CloudEvent")]
    MediaType(String),
    /// Against the rules of CloudEvents.
    #[error("this is no CloudEvent: {0}")]
    CloudEvent(String),
    /// Nothing where the mapping points.
    #[error("there is nothing at {0:?}")]
    Missing(String),
    /// Something else than a text where the mapping points.
    #[error("at {0:?} is a list or an object where a text is needed")]
    NoText(String),
    /// Something else than a time.
    #[error("at {0:?} is no time of the expected form")]
    Time(String),
    /// A word that nobody gave a meaning.
    #[error("{0:?} is neither firing nor resolved nor to be ignored")]
    Word(String),
    /// More than is taken.
    #[error("{}", limit_words(*.0, *.1))]
    TooMuch(Limit, usize),
}

fn limit_words(limit: Limit, found: usize) -> String {
    match limit {
        Limit::Alerts => format!("{found} alerts in one delivery, at most {MOST_ALERTS} are taken"),
        Limit::Fingerprint => format!("a fingerprint of {found} bytes, 1 to {FINGERPRINT_BYTES} are taken"),
        Limit::Labels => format!("{found} labels at one alert, at most {MOST_LABELS} are taken"),
        Limit::Label => format!("a label of {found} bytes, at most {LABEL_NAME_BYTES} in a name and {LABEL_VALUE_BYTES} in a value are taken"),
    }
}

impl DecodeError {
    /// The word under which the refusal is recorded.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            DecodeError::Json(_) => "unreadable",
            DecodeError::Version { .. } => "other-version",
            DecodeError::MediaType(_) => "other-media-type",
            DecodeError::CloudEvent(_) => "no-cloud-event",
            DecodeError::Missing(_) | DecodeError::NoText(_) | DecodeError::Time(_) => "not-as-mapped",
            DecodeError::Word(_) => "unknown-word",
            DecodeError::TooMuch(..) => "too-much",
        }
    }
}

/// The alerts of an authenticated delivery: one for each incident, ordered by fingerprint and beginning.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(settings: &Settings, headers: &Headers, body: &[u8]) -> Result<Vec<Alert>, DecodeError> {
    let alerts = match settings {
        Settings::Alertmanager { .. } => alertmanager::read(body, "4")?,
        Settings::Grafana { .. } => alertmanager::read(body, "1")?,
        Settings::PagerDuty { .. } => pagerduty::read(body)?,
        Settings::CloudEvents { mapping, .. } => cloud_events::read(mapping, headers, body)?,
        Settings::Generic { mapping, .. } => generic::read(mapping, body)?,
    };
    if alerts.len() > MOST_ALERTS {
        return Err(DecodeError::TooMuch(Limit::Alerts, alerts.len()));
    }
    Ok(joined(alerts))
}

/// An alert within its limits, and without U+0000, which Postgres keeps in no text.
pub(crate) fn checked(alert: Alert) -> Result<Alert, DecodeError> {
    let plain = |text: &str| text.replace('\0', "\u{fffd}");
    let labels: BTreeMap<_, _> = alert.labels.iter().map(|(name, value)| (plain(name), plain(value))).collect();
    let fingerprint = plain(&alert.fingerprint);
    if !(1..=FINGERPRINT_BYTES).contains(&fingerprint.len()) {
        return Err(DecodeError::TooMuch(Limit::Fingerprint, fingerprint.len()));
    }
    if labels.len() > MOST_LABELS {
        return Err(DecodeError::TooMuch(Limit::Labels, labels.len()));
    }
    let long = labels.iter().find(|(name, value)| name.len() > LABEL_NAME_BYTES || value.len() > LABEL_VALUE_BYTES);
    if let Some((name, value)) = long {
        return Err(DecodeError::TooMuch(Limit::Label, name.len().max(value.len())));
    }
    let at = match &alert.said {
        Said::Firing { starts_at } | Said::Resolved { starts_at } => *starts_at,
        Said::ResolvedUntil { until } => Some(*until),
    };
    if at.is_some_and(|at| !in_range(at)) {
        return Err(DecodeError::Time("the beginning".to_owned()));
    }
    Ok(Alert { fingerprint, labels, summary: cut(&plain(&alert.summary), SUMMARY_BYTES), ..alert })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(body).map_err(|error| DecodeError::Json(error.to_string()))
}
