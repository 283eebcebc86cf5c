//! What is configured of a source: how its sender proves itself and how its bodies are read. No secret is in it.
//!
//! Invariant: kept settings carry a version; settings of a later version are refused, never half understood.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Kind, Mapping};

/// Of what is kept.
const VERSION: u64 = 1;
/// Longest age that a source may allow, a day: an older delivery says nothing about now.
const MOST_AGE_S: u32 = 86_400;
/// Headers that the transport needs or that carry something else.
const TAKEN_HEADERS: [&str; 6] = ["authorization", "content-length", "content-type", "cookie", "host", "transfer-encoding"];

/// How a source is authenticated and read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Settings {
    /// Prometheus Alertmanager.
    Alertmanager {
        /// What it shows.
        credential: Credential,
    },
    /// Grafana.
    Grafana {
        /// The header in which it sends the signed time, if one is configured there. Without it a delivery can be replayed;
        /// what it says of an incident was said before then, and changes nothing.
        timestamp_header: Option<String>,
    },
    /// PagerDuty.
    #[serde(rename = "pagerduty")]
    PagerDuty {
        /// Oldest event that is believed, seconds.
        max_age_s: u32,
    },
    /// CloudEvents; the mapping reads the event in its JSON form, attributes beside `data`.
    CloudEvents {
        /// What it shows.
        credential: Credential,
        /// How events are read.
        mapping: Mapping,
    },
    /// Any JSON.
    Generic {
        /// What it shows.
        credential: Credential,
        /// How bodies are read.
        mapping: Mapping,
    },
}

/// How a secret is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// `Authorization: Bearer SECRET`.
    Bearer,
    /// `Authorization: Basic`, user and secret.
    Basic {
        /// The user's name.
        user: String,
    },
    /// `Authorization: SCHEME SECRET`.
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// `HEADER: SECRET`.
    Header {
        /// The header's name.
        header: String,
    },
}

/// Why settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Kept by a newer build.
    #[error("the settings have version {0}, this build knows version {VERSION}")]
    Version(String),
    /// They can't be read.
    #[error("the settings can't be read: {0}")]
    Unreadable(String),
    /// A header's name is none, or taken.
    #[error("{0:?} can't be the header: it is no header's name, or HTTP needs it")]
    Header(String),
    /// A scheme or user that can't be sent.
    #[error("{0:?} can't be a scheme or user: visible ASCII without spaces and `:`")]
    Word(String),
    /// A limit out of its range.
    #[error("events may be at most 1 to {MOST_AGE_S} seconds old, not {0}")]
    Age(u32),
    /// A mapping that contradicts itself.
    #[error("the mapping can't be used: {0}")]
    Mapping(String),
}

impl Settings {
    /// PagerDuty tries for some twenty minutes; ten more are for clocks and its own queue.
    pub const PAGERDUTY_AGE_S: u32 = 1800;

    /// Whose form.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Settings::Alertmanager { .. } => Kind::Alertmanager,
            Settings::Grafana { .. } => Kind::Grafana,
            Settings::PagerDuty { .. } => Kind::PagerDuty,
            Settings::CloudEvents { .. } => Kind::CloudEvents,
            Settings::Generic { .. } => Kind::Generic,
        }
    }

    /// How its secret is shown, if it does not sign.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        match self {
            Settings::Alertmanager { credential } | Settings::CloudEvents { credential, .. } | Settings::Generic { credential, .. } => {
                Some(credential)
            }
            Settings::Grafana { .. } | Settings::PagerDuty { .. } => None,
        }
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(credential) = self.credential() {
            credential.check()?;
        }
        match self {
            Settings::Alertmanager { .. } | Settings::Grafana { timestamp_header: None } => Ok(()),
            Settings::Grafana { timestamp_header: Some(header) } => own_header(header),
            Settings::PagerDuty { max_age_s } if (1..=MOST_AGE_S).contains(max_age_s) => Ok(()),
            Settings::PagerDuty { max_age_s } => Err(SettingsError::Age(*max_age_s)),
            Settings::CloudEvents { mapping, .. } | Settings::Generic { mapping, .. } => mapping.check().map_err(SettingsError::Mapping),
        }
    }

    /// To be kept.
    #[must_use]
    pub fn to_kept(&self) -> Value {
        json!({"version": VERSION, "settings": self})
    }

    /// As kept.
    ///
    /// # Errors
    /// [`SettingsError::Version`], [`SettingsError::Unreadable`].
    pub fn from_kept(kept: &Value) -> Result<Self, SettingsError> {
        if kept["version"] != VERSION {
            return Err(SettingsError::Version(kept["version"].to_string()));
        }
        Settings::deserialize(&kept["settings"]).map_err(|error| SettingsError::Unreadable(error.to_string()))
    }
}

impl Credential {
    fn check(&self) -> Result<(), SettingsError> {
        match self {
            Credential::Bearer => Ok(()),
            Credential::Basic { user: word } | Credential::Scheme { scheme: word } => {
                let plain = (1..=63).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
                if plain { Ok(()) } else { Err(SettingsError::Word(word.clone())) }
            }
            Credential::Header { header } => own_header(header),
        }
    }
}

/// A header's name that nothing else needs.
fn own_header(header: &str) -> Result<(), SettingsError> {
    let token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let free = !TAKEN_HEADERS.contains(&header.to_ascii_lowercase().as_str());
    let valid = (1..=63).contains(&header.len()) && header.chars().all(token) && free;
    if valid { Ok(()) } else { Err(SettingsError::Header(header.to_owned())) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn kept_settings_are_read_as_they_were() {
        let all = [
            Settings::Alertmanager { credential: Credential::Bearer },
            Settings::Alertmanager { credential: Credential::Basic { user: "alertmanager".to_owned() } },
            Settings::Grafana { timestamp_header: Some("X-Time".to_owned()) },
            Settings::PagerDuty { max_age_s: Settings::PAGERDUTY_AGE_S },
        ];
        for settings in all {
            settings.check().unwrap();
            assert_eq!(Settings::from_kept(&settings.to_kept()).unwrap(), settings);
        }
        insta::assert_json_snapshot!(Settings::Grafana { timestamp_header: None }.to_kept(), @r#"
        {
          "settings": {
            "kind": "grafana",
            "timestamp_header": null
          },
          "version": 1
        }
        "#);
    }

    #[test]
    fn settings_of_a_newer_build_are_refused_and_so_is_what_is_unknown() {
        let newer = json!({"version": 2, "settings": {"kind": "grafana", "timestamp_header": null}});
        assert_eq!(Settings::from_kept(&newer), Err(SettingsError::Version("2".to_owned())));
        let unknown = json!({"version": 1, "settings": {"kind": "grafana", "timestamp_header": null, "trust": "all"}});
        assert!(matches!(Settings::from_kept(&unknown), Err(SettingsError::Unreadable(_))));
    }

    #[test]
    fn a_header_that_http_needs_cannot_carry_a_secret() {
        for header in ["Content-Length", "authorization", "a b", "", "x:y"] {
            let settings = Settings::Alertmanager { credential: Credential::Header { header: header.to_owned() } };
            assert_eq!(settings.check(), Err(SettingsError::Header(header.to_owned())));
        }
        assert_eq!(Settings::PagerDuty { max_age_s: 0 }.check(), Err(SettingsError::Age(0)));
        let basic = Settings::Alertmanager { credential: Credential::Basic { user: "a:b".to_owned() } };
        assert_eq!(basic.check(), Err(SettingsError::Word("a:b".to_owned())));
    }
}
