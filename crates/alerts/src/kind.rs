//! Whose form a source speaks, and what a source is called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Whose form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Prometheus Alertmanager, webhook version 4.
    Alertmanager,
    /// Grafana's webhook contact point, signed.
    Grafana,
    /// PagerDuty's webhooks, version 3.
    #[serde(rename = "pagerduty")]
    PagerDuty,
    /// CloudEvents 1.0 over HTTP: structured, binary, batch.
    CloudEvents,
    /// Any JSON, read by a mapping.
    Generic,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Kind::Alertmanager, Kind::Grafana, Kind::PagerDuty, Kind::CloudEvents, Kind::Generic];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Alertmanager => "alertmanager",
            Kind::Grafana => "grafana",
            Kind::PagerDuty => "pagerduty",
            Kind::CloudEvents => "cloud-events",
            Kind::Generic => "generic",
        }
    }

    /// Whether its deliveries are signed; all others show a secret.
    #[must_use]
    pub fn signs(self) -> bool {
        matches!(self, Kind::Grafana | Kind::PagerDuty)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not alertmanager, grafana, pagerduty, cloud-events or generic")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// Names a source of alerts; part of the path that its sender posts to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceName(String);

/// Longest name of a source: it stands in paths, labels and logs.
const NAME_BYTES: usize = 40;

/// A text that can't name a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't name a source: 1 to {NAME_BYTES} lower-case letters, digits and `-`, beginning with a letter or digit")]
pub struct InvalidSourceName(pub String);

impl SourceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SourceName {
    type Err = InvalidSourceName;
    fn from_str(text: &str) -> Result<Self, InvalidSourceName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=NAME_BYTES).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSourceName(text.to_owned())) }
    }
}

impl TryFrom<String> for SourceName {
    type Error = InvalidSourceName;
    fn try_from(text: String) -> Result<Self, InvalidSourceName> {
        text.parse()
    }
}

impl From<SourceName> for String {
    fn from(name: SourceName) -> String {
        name.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_and_read_as_its_word() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse::<Kind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!("nagios".parse::<Kind>(), Err(UnknownKind("nagios".to_owned())));
    }

    #[test]
    fn a_source_has_a_name_that_is_safe_in_a_path() {
        for text in ["prometheus", "site-b-2", &"a".repeat(40)] {
            assert_eq!(text.parse::<SourceName>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "A", "a/b", "a b", "a%2f", "ä", &"a".repeat(41)] {
            assert_eq!(text.parse::<SourceName>(), Err(InvalidSourceName(text.to_owned())));
        }
    }
}
