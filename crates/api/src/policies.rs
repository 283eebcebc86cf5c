//! Trigger policies: applying and trying them, approving what they propose, and switching them off.
//!
//! ```text
//!   GET  /v1/trigger-policies[/NAME]        POST /v1/trigger-policies            text of a policy, YAML
//!   POST /v1/trigger-policies/NAME/{remove,unlock}      POST /v1/trigger-policies/try
//!   GET  /v1/kill-switches                  POST /v1/kill-switches
//!   POST /v1/runs/RUN/approval
//! ```

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use recovery::{
    ItemName,
    trigger::{Judgement, Mode, TriggerName},
};
use sdk::RunId;
use serde::{Deserialize, Serialize};

/// Applies a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyPolicy {
    /// YAML.
    pub text: String,
}

/// A policy as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its name.
    pub name: TriggerName,
    /// Counts its changes, from 1.
    pub version: i64,
    /// Which item.
    pub item: ItemName,
    /// What it may do.
    pub mode: Mode,
    /// As it was written.
    pub text: String,
    /// SHA-256 of the text, lower-case hex.
    pub sha256: String,
    /// Who applied it.
    pub applied_by: String,
    /// When.
    pub applied_at: DateTime<Utc>,
    /// What may be asked for now.
    #[serde(default)]
    pub allowed_operations: Vec<String>,
    /// Since when a person decides, because alerts came and went.
    pub flap_locked_at: Option<DateTime<Utc>>,
    /// The run that evaluates it now.
    pub open_run: Option<RunId>,
    /// That run was set aside: until a person resumes it, no alert starts anything.
    pub set_aside: bool,
    /// What that run made of its last look, in words.
    pub standing: Option<String>,
    /// What that run asks people.
    pub asks: Option<Question>,
}

/// People are asked whether a failover may be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Which time of asking.
    pub round: u32,
    /// So many must agree.
    pub need: usize,
    /// Who may; everybody who may operate, if nobody is named.
    pub by: Vec<String>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Who has agreed so far.
    pub agreed: Vec<String>,
}

/// What a person says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveApproval {
    /// Yes or no.
    pub approve: bool,
    /// Kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
    /// Which time of asking is meant; refused if it is not the one that is open. Left out: the one that is open.
    #[serde(default)]
    pub round: Option<u32>,
}

/// A vote that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteTaken {
    /// Of which evaluation.
    pub run: RunId,
    /// Whose.
    pub by: String,
    /// Yes or no.
    pub approve: bool,
    /// What was asked.
    pub question: Question,
}

/// A kill switch that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitchView {
    /// `all`, `site:NAME` or `policy:NAME`.
    pub scope: String,
    /// Who turned it on.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Turns a kill switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnKillSwitch {
    /// `all`, `site:NAME` or `policy:NAME`.
    pub scope: String,
    /// On or off.
    pub on: bool,
    /// Kept with it.
    pub reason: String,
}

/// Asks what a delivery would lead to. Nothing is stored, nothing is started, and no signature is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TryDelivery {
    /// As if it came to this source.
    pub source: String,
    /// With these headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// And this body.
    pub body: String,
}

/// What it would lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The alerts that it holds, as they are read: fingerprint, state, labels.
    pub alerts: Vec<TriedAlert>,
    /// What each policy that listens to the source would make of it, right now.
    pub policies: Vec<TriedPolicy>,
}

/// An alert of a tried delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedAlert {
    /// The sender's name of it.
    pub fingerprint: String,
    /// Whether it fires.
    pub firing: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// In the sender's words.
    pub summary: String,
}

/// What one policy would make of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedPolicy {
    /// Which.
    pub policy: TriggerName,
    /// Its version.
    pub version: i64,
    /// As it would be judged if the alerts had gone on for as long as the policy asks for.
    pub judgement: Judgement,
}

/// A policy that is gone, or a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// Whether anything was changed.
    pub changed: bool,
}
