//! Trigger policies, kill switches, and the evidence that a judgement is made from.
//!
//! Invariant: what says that a policy should be looked at is read before what is looked at, so a change in between is not missed:
//! it has left something that was not read.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sdk::RunId;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Lost, PgStore,
    access::Digest,
    pg::{column, typed},
    sql,
};

/// Most alerts that are read for one look: of a source that tells of more, nobody can say what is missing.
pub const MOST_ALERTS: i64 = 5_000;

/// A policy as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRow {
    /// Its name.
    pub name: String,
    /// Counts its changes, from 1.
    pub version: i64,
    /// Which item.
    pub item: String,
    /// As it was written.
    pub text: String,
    /// As it was read.
    pub policy: Value,
    /// SHA-256 of the text, lower-case hex.
    pub sha256: String,
    /// Who applied it.
    pub applied_by: String,
    /// When.
    pub applied_at: DateTime<Utc>,
    /// Since when a person decides, because alerts came and went.
    pub flap_locked_at: Option<DateTime<Utc>>,
    /// When somebody last unlocked it.
    pub unlocked_at: Option<DateTime<Utc>>,
    /// The run that evaluates it now.
    pub open_run: Option<RunId>,
    /// That run was set aside: until a person resumes it, no alert starts anything.
    pub set_aside: bool,
}

/// A kill switch that is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchRow {
    /// `all`, `site:NAME` or `policy:NAME`.
    pub scope: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A policy that has not looked at something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WokenRow {
    /// Which.
    pub policy: String,
    /// The newest of what it has not looked at.
    pub newest: i64,
    /// The run that evaluates it now.
    pub open_run: Option<RunId>,
}

/// An alert and what a policy answered to it.
#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceRow {
    /// Its number.
    pub id: i64,
    /// Who said it.
    pub source: String,
    /// What fires.
    pub fingerprint: String,
    /// Since when, by the sender's clock.
    pub starts_at: Option<DateTime<Utc>>,
    /// When it was first heard of.
    pub first_at: DateTime<Utc>,
    /// When it was last heard of.
    pub last_at: DateTime<Utc>,
    /// When its end was first heard of.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// In the sender's words.
    pub summary: String,
    /// Its senders left other alerts out.
    pub truncated: bool,
    /// Of the last delivery, lower-case hex; empty if that was pruned.
    pub body_sha256: String,
    /// What was answered.
    pub answer: Option<String>,
}

/// Which alerts are evidence.
#[derive(Clone, Debug)]
pub struct EvidenceAsked<'a> {
    /// For which policy.
    pub policy: &'a str,
    /// Of these sources.
    pub sources: &'a [&'a str],
    /// Objects of labels of which an alert holds one whole.
    pub labels: &'a [Value],
    /// Those that fire: heard of within so many seconds.
    pub firing_s: f64,
    /// Those that are over: since so many seconds at most.
    pub over_s: f64,
}

/// A run of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRunRow {
    /// Which.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// When it ended; `None`: it is open.
    pub closed_at: Option<DateTime<Utc>>,
}

/// A policy to be applied.
#[derive(Clone, Debug)]
pub struct NewPolicy<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which item.
    pub item: &'a str,
    /// As it was written.
    pub text: &'a str,
    /// As it was read.
    pub policy: &'a Value,
    /// SHA-256 of the text.
    pub sha256: Digest,
    /// All sources that it listens to.
    pub sources: &'a [&'a str],
    /// Objects of labels; an alert that holds none of them whole can't be meant.
    pub labels: &'a Value,
    /// Who applies it.
    pub by: &'a str,
}

impl PgStore {
    /// Applies a policy; gives its version, which stays if the text is the same. `None`: one of its sources does not exist.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn apply_policy(&self, new: &NewPolicy<'_>) -> Result<Option<i64>, Lost> {
        let NewPolicy { name, item, text, policy, sha256, sources, labels, by } = new;
        column(&self.one(&sql::APPLY_POLICY, &[name, item, text, policy, &&sha256[..], sources, by, labels]).await?, "version")
    }

    /// Removes a policy; `false` if there is none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_policy(&self, name: &str) -> Result<bool, Lost> {
        column(&self.one(&sql::REMOVE_POLICY, &[&name]).await?, "removed")
    }

    /// Ends a policy's lock; `false` if it was not locked.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unlock_policy(&self, name: &str) -> Result<bool, Lost> {
        column(&self.one(&sql::UNLOCK_POLICY, &[&name]).await?, "unlocked")
    }

    /// Policies, or one of them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn policies(&self, name: Option<&str>) -> Result<Vec<PolicyRow>, Lost> {
        self.rows(&sql::POLICIES, &[&name]).await?.iter().map(policy).collect()
    }

    /// Kill switches that are on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn kill_switches(&self) -> Result<Vec<SwitchRow>, Lost> {
        let switch = |row: &Row| {
            Ok(SwitchRow { scope: column(row, "scope")?, by: column(row, "by")?, reason: column(row, "reason")?, since: column(row, "since")? })
        };
        self.rows(&sql::KILL_SWITCHES, &[]).await?.iter().map(switch).collect()
    }

    /// Turns a kill switch and wakes every policy.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn turn_kill_switch(&self, scope: &str, on: bool, by: &str, reason: &str) -> Result<(), Lost> {
        self.rows(&sql::TURN_KILL_SWITCH, &[&scope, &on, &by, &reason]).await.map(drop)
    }

    /// Policies that have not looked at something.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn woken_policies(&self) -> Result<Vec<WokenRow>, Lost> {
        let woken = |row: &Row| {
            let open: Option<Uuid> = column(row, "open_run")?;
            Ok(WokenRow { policy: column(row, "policy")?, newest: column(row, "newest")?, open_run: open.map(RunId) })
        };
        self.rows(&sql::WOKEN_POLICIES, &[]).await?.iter().map(woken).collect()
    }

    /// Alerts that a policy may mean, newest first, at most [`MOST_ALERTS`] and one. Others, however many, take no place.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn evidence_alerts(&self, asked: &EvidenceAsked<'_>) -> Result<Vec<EvidenceRow>, Lost> {
        let EvidenceAsked { policy, sources, labels, firing_s, over_s } = asked;
        let rows = self.rows(&sql::EVIDENCE_ALERTS, &[policy, sources, firing_s, &(MOST_ALERTS + 1), labels, over_s]).await?;
        rows.iter().map(evidence).collect()
    }

    /// The open run of an item and the last failover of it that has ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn item_runs(&self, item: &str) -> Result<Vec<ItemRunRow>, Lost> {
        let run = |row: &Row| Ok(ItemRunRow { run: RunId(column(row, "run_id")?), workflow: column(row, "workflow")?, closed_at: column(row, "closed_at")? });
        self.rows(&sql::ITEM_RUNS, &[&item]).await?.iter().map(run).collect()
    }
}

fn policy(row: &Row) -> Result<PolicyRow, Lost> {
    let open: Option<Uuid> = column(row, "open_run")?;
    Ok(PolicyRow {
        name: column(row, "name")?,
        version: column(row, "version")?,
        item: column(row, "item")?,
        text: column(row, "text")?,
        policy: column(row, "policy")?,
        sha256: column(row, "sha256")?,
        applied_by: column(row, "applied_by")?,
        applied_at: column(row, "applied_at")?,
        flap_locked_at: column(row, "flap_locked_at")?,
        unlocked_at: column(row, "unlocked_at")?,
        open_run: open.map(RunId),
        set_aside: column::<Option<bool>>(row, "set_aside")?.unwrap_or(false),
    })
}

fn evidence(row: &Row) -> Result<EvidenceRow, Lost> {
    Ok(EvidenceRow {
        id: column(row, "id")?,
        source: column(row, "source")?,
        fingerprint: column(row, "fingerprint")?,
        starts_at: column(row, "starts_at")?,
        first_at: column(row, "first_received_at")?,
        last_at: column(row, "last_received_at")?,
        resolved_at: column(row, "resolved_at")?,
        labels: typed(column(row, "labels")?)?,
        summary: column(row, "summary")?,
        truncated: column(row, "truncated")?,
        body_sha256: column::<Option<String>>(row, "body_sha256")?.unwrap_or_default(),
        answer: column(row, "answer")?,
    })
}
