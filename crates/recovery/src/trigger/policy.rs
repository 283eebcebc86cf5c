//! The trigger policy: which alerts may start which failover, after how long, and who has a say.
//!
//! ```yaml
//! version: 1
//! name: db9-site-loss
//! item: db9
//! mode: armed                                  # shadow: as if; off: nothing
//! sources: [prometheus-a, prometheus-b]
//! match: [alertname = DatabaseNodeDown]
//! require: 2                                   # of the sources
//! hold-down: 60s
//! approval: { need: 1, by: [ada, bob], within: 15m }
//! failover: { point: latest-processed }
//! ```
//!
//! Invariants: 1. A policy that was read is within its limits. 2. What is left out is careful: a person is asked, the fence must be
//! proven. 3. An unknown key is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{AlertSeen, InvalidWindow, Matcher, Window};
use crate::{InvalidId, ItemName, PointChoice, span::Span};

/// Names a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TriggerName(String);

/// What a policy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It starts failovers.
    Armed,
    /// It says what it would have done.
    Shadow,
    /// It does nothing.
    Off,
}

/// Alerts that say that the source still lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Veto {
    /// Who says so.
    pub source: String,
    /// By which alerts.
    #[serde(rename = "match")]
    pub matchers: Vec<Matcher>,
}

/// How much coming and going is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Flap {
    /// So many beginnings and endings …
    pub changes: u32,
    /// … within this time lock the policy until somebody unlocks it.
    pub within: Span,
}

/// What no answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// No.
    Deny,
    /// Yes.
    Act,
}

/// Who has a say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Approval {
    /// How many different people must agree; 0: nobody is asked.
    pub need: usize,
    /// Who may; everybody who may operate, if nobody is named.
    #[serde(default)]
    pub by: BTreeSet<String>,
    /// How long they may take.
    #[serde(default = "quarter_of_an_hour")]
    pub within: Span,
    /// What happens if they say nothing.
    #[serde(default = "deny")]
    pub on_silence: Silence,
}

/// The failover that is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Proposal {
    /// From which point.
    #[serde(default = "latest")]
    pub point: PointChoice,
    /// How long the source's agent may take to pick the fence up.
    #[serde(default = "half_a_minute")]
    pub fence_timeout: Span,
    /// Goes on although the fence could not be proven, for this reason. Left out: it stops then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_unfenced: Option<String>,
    /// The newest point must not be older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rpo: Option<Span>,
}

/// When alerts may start a failover of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TriggerPolicy {
    /// Of this format: 1.
    pub version: u32,
    /// Its name.
    pub name: TriggerName,
    /// Which item.
    pub item: ItemName,
    /// What it may do.
    pub mode: Mode,
    /// Who may tell of alerts.
    pub sources: BTreeSet<String>,
    /// Which alerts; all must hold.
    #[serde(rename = "match")]
    pub matchers: Vec<Matcher>,
    /// So many of the sources must tell.
    #[serde(default = "one")]
    pub require: usize,
    /// They must have told without a break for so long.
    #[serde(default = "a_minute")]
    pub hold_down: Span,
    /// And have told it again within this time.
    #[serde(default = "quarter_of_an_hour")]
    pub freshness: Span,
    /// Alerts that forbid it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub veto: Vec<Veto>,
    /// How much coming and going is too much.
    #[serde(default = "four_changes")]
    pub flap: Flap,
    /// Times without failovers by alerts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Window>,
    /// After a failover of the item has ended, none by alerts for so long.
    #[serde(default = "an_hour")]
    pub cool_down: Span,
    /// Who has a say.
    #[serde(default = "one_person")]
    pub approval: Approval,
    /// The failover that is proposed.
    #[serde(default = "plain")]
    pub failover: Proposal,
}

fn one() -> usize {
    1
}
fn a_minute() -> Span {
    Span::seconds(60)
}
fn half_a_minute() -> Span {
    Span::seconds(30)
}
fn quarter_of_an_hour() -> Span {
    Span::seconds(900)
}
fn an_hour() -> Span {
    Span::seconds(3_600)
}
fn four_changes() -> Flap {
    Flap { changes: 4, within: Span::seconds(1_800) }
}
fn deny() -> Silence {
    Silence::Deny
}
fn latest() -> PointChoice {
    PointChoice::LatestProcessed
}
fn one_person() -> Approval {
    Approval { need: 1, by: BTreeSet::new(), within: quarter_of_an_hour(), on_silence: deny() }
}
fn plain() -> Proposal {
    Proposal { point: latest(), fence_timeout: half_a_minute(), accept_unfenced: None, max_rpo: None }
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTriggerPolicy {
    /// The text is no policy.
    #[error("the policy can't be read: {0}")]
    Unreadable(String),
    /// Another format.
    #[error("the policy is of format {found}; this build reads 1")]
    Format {
        /// The one it says.
        found: u32,
    },
    /// Nobody may tell of alerts, or too many.
    #[error("a policy has 1 to 16 sources, not {found}")]
    Sources {
        /// How many.
        found: usize,
    },
    /// Without matchers every alert would do.
    #[error("a policy needs 1 to 32 matchers; every alert of its sources would start a failover")]
    Matchers,
    /// More than there are, or none.
    #[error("require is {require}, but there are {sources} sources")]
    Require {
        /// As it says.
        require: usize,
        /// How many there are.
        sources: usize,
    },
    /// More people than are named.
    #[error("{need} people must agree, but only {named} may")]
    Approvers {
        /// As it says.
        need: usize,
        /// How many are named.
        named: usize,
    },
    /// A veto without matchers would always or never hold.
    #[error("the veto of {source_name} has no matcher")]
    EmptyVeto {
        /// Whose.
        source_name: String,
    },
    /// One change is no flapping, and evidence is kept for a week.
    #[error("flapping is 2 or more changes within at most 7d")]
    Flap,
    /// Nothing would ever be fresh, or evidence is too old to be kept.
    #[error("{what} is {found}; it must be between {least} and {most}")]
    Time {
        /// Which.
        what: &'static str,
        /// As it says.
        found: Span,
        /// Lower limit.
        least: Span,
        /// Upper limit.
        most: Span,
    },
    /// A maintenance window does not hold together.
    #[error(transparent)]
    Window(#[from] InvalidWindow),
    /// Nobody took it upon themselves.
    #[error("accept-unfenced needs a reason")]
    NoReason,
    /// A point that is fixed now will be gone when the alert comes.
    #[error("a policy can't name one point, it would be gone when the alert comes; use latest-processed or latest-app-consistent")]
    ExactPoint,
}

/// The reader adds a picture of the text behind it, and advice to programmers.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.split(", set DuplicateKeyPolicy").next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl TriggerPolicy {
    /// Reads a policy from YAML.
    ///
    /// # Errors
    /// [`InvalidTriggerPolicy`], with line and column where the text is at fault.
    pub fn from_yaml(text: &str) -> Result<Self, InvalidTriggerPolicy> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| InvalidTriggerPolicy::Unreadable(first_line(&error.to_string())))?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), InvalidTriggerPolicy> {
        let day = Span::seconds(86_400);
        if self.version != 1 {
            return Err(InvalidTriggerPolicy::Format { found: self.version });
        }
        if !(1..=16).contains(&self.sources.len()) {
            return Err(InvalidTriggerPolicy::Sources { found: self.sources.len() });
        }
        if !(1..=32).contains(&self.matchers.len()) {
            return Err(InvalidTriggerPolicy::Matchers);
        }
        if !(1..=self.sources.len()).contains(&self.require) {
            return Err(InvalidTriggerPolicy::Require { require: self.require, sources: self.sources.len() });
        }
        let named = self.approval.by.len();
        if named > 0 && self.approval.need > named {
            return Err(InvalidTriggerPolicy::Approvers { need: self.approval.need, named });
        }
        if let Some(veto) = self.veto.iter().find(|veto| veto.matchers.is_empty()) {
            return Err(InvalidTriggerPolicy::EmptyVeto { source_name: veto.source.clone() });
        }
        if self.flap.changes < 2 || self.flap.within > Span::seconds(7 * 86_400) {
            return Err(InvalidTriggerPolicy::Flap);
        }
        let limits = [
            ("hold-down", self.hold_down, Span::seconds(0), day),
            ("freshness", self.freshness, Span::seconds(10), day),
            ("approval.within", self.approval.within, Span::seconds(1), day),
            ("cool-down", self.cool_down, Span::seconds(0), Span::seconds(30 * 86_400)),
            ("failover.fence-timeout", self.failover.fence_timeout, Span::seconds(1), Span::seconds(3_600)),
        ];
        if let Some((what, found, least, most)) = limits.into_iter().find(|(_, found, least, most)| found < least || found > most) {
            return Err(InvalidTriggerPolicy::Time { what, found, least, most });
        }
        self.maintenance.iter().try_for_each(Window::check)?;
        if self.failover.accept_unfenced.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(InvalidTriggerPolicy::NoReason);
        }
        if matches!(self.failover.point, PointChoice::Exact(_)) {
            return Err(InvalidTriggerPolicy::ExactPoint);
        }
        Ok(())
    }

    /// Whether it means this alert: one of its sources tells of it, and all matchers hold.
    #[must_use]
    pub fn means(&self, alert: &AlertSeen) -> bool {
        self.sources.contains(&alert.key.source) && all(&self.matchers, alert)
    }

    /// Whether this alert, while it fires, says that the source still lives.
    #[must_use]
    pub fn is_vetoed_by(&self, alert: &AlertSeen) -> bool {
        self.veto.iter().any(|veto| veto.source == alert.key.source && all(&veto.matchers, alert))
    }

    /// Sets of labels: an alert that holds none of them whole is meant neither for nor against it. A way to leave most alerts out early.
    #[must_use]
    pub fn labels(&self) -> Vec<BTreeMap<String, String>> {
        let held = |matchers: &[Matcher]| {
            matchers.iter().filter_map(Matcher::required).map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
        };
        std::iter::once(&self.matchers).chain(self.veto.iter().map(|veto| &veto.matchers)).map(|matchers| held(matchers)).collect()
    }

    /// Everybody who is listened to, for the alerts and for vetoes.
    #[must_use]
    pub fn listens_to(&self) -> BTreeSet<&str> {
        self.sources.iter().map(String::as_str).chain(self.veto.iter().map(|veto| veto.source.as_str())).collect()
    }

    /// How far back alerts matter that are over.
    #[must_use]
    pub fn looks_back(&self) -> Span {
        self.flap.within
    }
}

fn all(matchers: &[Matcher], alert: &AlertSeen) -> bool {
    matchers.iter().all(|matcher| matcher.matches(&alert.labels))
}

impl TriggerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TriggerName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const ALLOWED: &str = "lower-case letters, digits and `-`";
        if text.is_empty() || text.len() > 63 {
            return Err(InvalidId::Length { kind: "trigger policy", text: text.to_owned(), limit: 63 });
        }
        let accept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !text.chars().all(accept) || text.starts_with('-') {
            return Err(InvalidId::Characters { kind: "trigger policy", text: text.to_owned(), allowed: ALLOWED });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TriggerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TriggerName {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<TriggerName> for String {
    fn from(name: TriggerName) -> Self {
        name.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    const LEAST: &str = "version: 1\nname: db9\nitem: db9\nmode: armed\nsources: [a]\nmatch: [alertname = Down]\n";

    #[test]
    fn what_is_left_out_is_careful() {
        let policy = TriggerPolicy::from_yaml(LEAST).unwrap();
        insta::assert_json_snapshot!(policy);
        let again: TriggerPolicy = serde_json::from_value(serde_json::to_value(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
    }

    #[test]
    fn a_policy_out_of_its_limits_is_refused_with_what_is_wrong() {
        let cases = [
            ("mode: armed", "mode: on", "line 4"),
            ("item: db9", "item: db9\ncolour: red", "colour"),
            ("sources: [a]", "sources: []", "1 to 16 sources"),
            ("match: [alertname = Down]", "match: []", "matchers"),
            ("sources: [a]", "sources: [a]\nrequire: 2", "there are 1 sources"),
            ("sources: [a]", "sources: [a]\napproval: { need: 2, by: [ada] }", "only 1 may"),
            ("sources: [a]", "sources: [a]\nfreshness: 1s", "freshness is 1s"),
            ("sources: [a]", "sources: [a]\nhold-down: soon", "no length of time"),
            ("sources: [a]", "sources: [a]\nfailover: { accept-unfenced: ' ' }", "needs a reason"),
            ("sources: [a]", "sources: [a]\nfailover: { point: '7' }", "can't name one point"),
            ("sources: [a]", "sources: [a]\nflap: { changes: 1, within: 5m }", "2 or more"),
            ("sources: [a]", "sources: [a]\nmaintenance: [{ reason: x }]", "either from and until"),
            ("version: 1", "version: 2", "format 2"),
        ];
        for (from, to, expected) in cases {
            let refused = TriggerPolicy::from_yaml(&LEAST.replace(from, to)).unwrap_err().to_string();
            assert!(refused.contains(expected), "{to}: {refused}");
        }
    }
}
