//! What a trigger's judgement is made from. It stands in the run's history, so that the judgement can be made again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::TriggerName;
use crate::{MainState, Side, SiteName};

/// Names one occurrence of an alert: the same alert that fires again later is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// Its number in the store.
    pub id: i64,
    /// Which source told of it.
    pub source: String,
    /// The sender's name of the alert.
    pub fingerprint: String,
    /// The sender's time of its beginning, if it tells one.
    pub starts_at: Option<DateTime<Utc>>,
}

/// How an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It was not said to be over.
    Firing,
    /// It is over.
    Resolved {
        /// By our clock.
        at: DateTime<Utc>,
    },
}

/// An alert as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSeen {
    /// Which.
    pub key: AlertKey,
    /// How it stands.
    pub state: AlertState,
    /// When it was first heard of, by our clock.
    pub first_at: DateTime<Utc>,
    /// When it was last heard of, by our clock.
    pub last_at: DateTime<Utc>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// In the sender's words.
    pub summary: String,
    /// Each delivery so far left other alerts out.
    pub truncated: bool,
    /// What was decided about it before, in words; nothing is started for it again.
    pub answered: Option<String>,
    /// SHA-256 of the body of the delivery that told of it last, lower-case hex.
    pub body_sha256: String,
}

/// How far a kill switch reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "of", content = "name", rename_all = "snake_case")]
pub enum SwitchScope {
    /// No alert starts anything.
    All,
    /// Nothing that runs at this site now.
    Site(SiteName),
    /// Nothing by this policy.
    Policy(String),
}

/// Somebody wants no alert to start anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// How far.
    pub scope: SwitchScope,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// The last failover of an item that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailover {
    /// Its run.
    pub run: String,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

/// The item as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSeen {
    /// Its main state.
    pub main: MainState,
    /// Where it runs.
    pub active: Side,
    /// The site where it runs.
    pub site: SiteName,
    /// Whether the state allows a failover.
    pub failover_allowed: bool,
    /// When the newest point was taken; `None`: there is none.
    pub newest_point_at: Option<DateTime<Utc>>,
    /// The open run that has the item, with the name of its workflow.
    pub open_run: Option<(String, String)>,
    /// The last failover that has ended.
    pub last_failover: Option<LastFailover>,
}

/// All of it, at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// When it was read, by the store's clock.
    pub at: DateTime<Utc>,
    /// Alerts of the policy's sources, firing now or heard of within the policy's longest look back; newest first.
    pub alerts: Vec<AlertSeen>,
    /// More alerts than are looked at: then nothing is started.
    pub too_many: bool,
    /// `None`: nobody protects an item of that name.
    pub item: Option<ItemSeen>,
    /// Those that reach this policy.
    pub switches: Vec<KillSwitch>,
    /// Since when alerts flap; until somebody unlocks it.
    pub flap_locked_at: Option<DateTime<Utc>>,
    /// When somebody last unlocked it: what came and went before that is forgiven.
    #[serde(default)]
    pub forgiven_at: Option<DateTime<Utc>>,
}

impl Evidence {
    /// The kill switch that reaches a policy, if one is on.
    #[must_use]
    pub fn kill_switch(&self, policy: &TriggerName) -> Option<&KillSwitch> {
        self.switches.iter().find(|switch| match &switch.scope {
            SwitchScope::All => true,
            SwitchScope::Site(site) => self.item.as_ref().is_some_and(|item| item.site == *site),
            SwitchScope::Policy(name) => name == policy.as_str(),
        })
    }
}
