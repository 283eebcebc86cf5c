//! Reads a trigger policy and the evidence for it, for an evaluation or for a person who wants to know what would happen.
//!
//! Invariant: the wakes are read first. What changes after that has left a wake that stays.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use engine::{Fault, Job, Perform, Probed, RunStore};
use recovery::{
    ItemRecord, Operation, allowed_operations,
    trigger::{AlertKey, AlertSeen, AlertState, Evidence, ItemSeen, KillSwitch, LastFailover, SwitchScope, TriggerPolicy},
};
use sdk::Failure;
use store::{
    Lost, PgStore,
    policies::{EvidenceAsked, EvidenceRow, MOST_ALERTS, PolicyRow, SwitchRow},
};
use workflows::declared::{LoadEvidence, Look, SiteError};

/// Most wakes that one look takes off the list; the rest is for the next.
const MOST_WAKES: i64 = 1_000;
/// Most alerts that one judgement is made from: they stand in its history.
const MOST_MEANT: usize = 200;
/// How far back alerts are read that still fire: what nobody has repeated for a week is not news.
const WEEK_S: f64 = 7.0 * 86_400.0;
/// How far back alerts are read that are over, at least: what was over an hour ago explains why nothing fires now.
const OVER_S: f64 = 3_600.0;

/// Why there is no look.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The database does not answer.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The database does not answer.
    #[error(transparent)]
    Time(#[from] engine::StoreError),
    /// What was kept can't be read by this build.
    #[error("{what} can't be read")]
    Unreadable {
        /// What.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn unreadable<E: std::error::Error + Send + Sync + 'static>(what: impl Into<String>) -> impl FnOnce(E) -> LookError {
    let what = what.into();
    move |error| LookError::Unreadable { what, source: Box::new(error) }
}

/// A policy and the evidence for it; `None` if there is no such policy.
pub(crate) async fn look(store: &PgStore, policy: &str) -> Result<Option<Look>, LookError> {
    let wakes = store.trigger_wakes(policy, MOST_WAKES).await?.into_iter().map(|wake| wake.id).collect();
    let Some(row) = store.policies(Some(policy)).await?.pop() else { return Ok(None) };
    let policy: TriggerPolicy = serde_json::from_value(row.policy.clone()).map_err(unreadable(format!("trigger policy {}", row.name)))?;
    let evidence = evidence(store, &row, &policy).await?;
    Ok(Some(Look { policy, version: row.version, sha256: row.sha256, wakes, evidence }))
}

/// The evidence for a policy now.
pub(crate) async fn evidence(store: &PgStore, row: &PolicyRow, policy: &TriggerPolicy) -> Result<Evidence, LookError> {
    let sources: Vec<&str> = policy.listens_to().into_iter().collect();
    let labels: Vec<serde_json::Value> = policy.labels().into_iter().map(|labels| serde_json::json!(labels)).collect();
    let over_s = policy.looks_back().duration().as_secs_f64().max(OVER_S);
    let asked = EvidenceAsked { policy: policy.name.as_str(), sources: &sources, labels: &labels, firing_s: WEEK_S, over_s };
    let rows = store.evidence_alerts(&asked).await?;
    let all_read = rows.len() <= usize::try_from(MOST_ALERTS).unwrap_or(usize::MAX);
    let at = store.now().await?;
    let after = at - policy.looks_back().delta().max(chrono::TimeDelta::hours(1));
    let alerts: Vec<AlertSeen> = rows.into_iter().map(seen).filter(|alert| matters(policy, alert, after)).collect();
    let too_many = !all_read || alerts.len() > MOST_MEANT;
    let switches = store.kill_switches().await?.into_iter().map(switch).collect::<Result<_, _>>()?;
    let item = item(store, policy).await?;
    let alerts = alerts.into_iter().take(MOST_MEANT).collect();
    Ok(Evidence { at, alerts, too_many, item, switches, flap_locked_at: row.flap_locked_at, forgiven_at: row.unlocked_at })
}

/// Whether a policy means it, for or against, and it goes on or ended lately. Rather too many than too few: the judgement looks again.
fn matters(policy: &TriggerPolicy, alert: &AlertSeen, after: DateTime<Utc>) -> bool {
    let lately = match alert.state {
        AlertState::Firing => true,
        AlertState::Resolved { at } => at >= after,
    };
    (policy.means(alert) || policy.is_vetoed_by(alert)) && lately
}

fn seen(row: EvidenceRow) -> AlertSeen {
    AlertSeen {
        key: AlertKey { id: row.id, source: row.source, fingerprint: row.fingerprint, starts_at: row.starts_at },
        state: row.resolved_at.map_or(AlertState::Firing, |at| AlertState::Resolved { at }),
        first_at: row.first_at,
        last_at: row.last_at,
        labels: row.labels,
        summary: row.summary,
        truncated: row.truncated,
        answered: row.answer,
        body_sha256: row.body_sha256,
    }
}

/// The scope of a kill switch as it is kept: `all`, `site:NAME` or `policy:NAME`.
pub(crate) fn scope(text: &str) -> Option<SwitchScope> {
    match text.split_once(':') {
        None if text == "all" => Some(SwitchScope::All),
        Some(("site", name)) => name.parse().ok().map(SwitchScope::Site),
        Some(("policy", name)) => Some(SwitchScope::Policy(name.to_owned())),
        None | Some(_) => None,
    }
}

fn switch(row: SwitchRow) -> Result<KillSwitch, LookError> {
    let SwitchRow { scope: text, by, reason, since } = row;
    // One that nobody understands stops everything: it was turned on to stop something.
    let scope = scope(&text).unwrap_or(SwitchScope::All);
    Ok(KillSwitch { scope, by, reason, since })
}

async fn item(store: &PgStore, policy: &TriggerPolicy) -> Result<Option<ItemSeen>, LookError> {
    let name = policy.item.as_str();
    let Some(row) = store.items(Some(name)).await?.pop() else { return Ok(None) };
    let record: ItemRecord = serde_json::from_value(row.record).map_err(unreadable(format!("the record of item {name}")))?;
    let runs = store.item_runs(name).await?;
    let target = record.target_site().as_str();
    let points = store.points(Some(name)).await?;
    let newest = points.into_iter().filter(|point| point.site == target && !point.withdrawn).max_by_key(|point| point.point);
    let open = runs.iter().find(|run| run.closed_at.is_none());
    let last = runs.iter().find_map(|run| run.closed_at.map(|ended_at| LastFailover { run: run.run.to_string(), ended_at }));
    Ok(Some(ItemSeen {
        main: record.state.main,
        active: record.state.active,
        site: record.active_site().clone(),
        failover_allowed: allowed_operations(&record.state, record.profile).contains(&Operation::Failover),
        newest_point_at: newest.map(|point| point.taken_at),
        open_run: open.map(|run| (run.run.to_string(), run.workflow.clone())),
        last_failover: last,
    }))
}

/// Carries the activity out.
pub(crate) struct EvidenceOf(pub(crate) Arc<PgStore>);

#[async_trait]
impl Perform<LoadEvidence> for EvidenceOf {
    async fn perform(&self, _: &Job, wanted: LoadEvidence) -> Result<Option<Look>, Fault<SiteError>> {
        look(&self.0, wanted.policy.as_str()).await.map_err(|error| Fault::Other(failed(&wanted, &error)))
    }

    /// Looking twice is looking.
    async fn probe(&self, _: &Job, _: &LoadEvidence) -> Result<Probed<Option<Look>>, Failure> {
        Ok(Probed::NotDone)
    }
}

fn failed(wanted: &LoadEvidence, error: &LookError) -> Failure {
    let message = format!("reading the evidence for trigger policy {}: {error}", wanted.policy);
    match error {
        LookError::Lost(_) | LookError::Time(_) => Failure::retryable("store-silent", message).not_applied(),
        LookError::Unreadable { source, .. } => Failure::fatal("unreadable-record", format!("{message}: {source}")).not_applied(),
    }
}

/// What an alert that was just read would look like among the evidence: for those who try a payload.
pub(crate) fn as_if(source: &str, alert: &alerts::Alert, at: DateTime<Utc>) -> Option<AlertSeen> {
    let starts_at = match alert.said {
        alerts::Said::Firing { starts_at } => starts_at,
        alerts::Said::Resolved { .. } | alerts::Said::ResolvedUntil { .. } => return None,
    };
    Some(AlertSeen {
        key: AlertKey { id: 0, source: source.to_owned(), fingerprint: alert.fingerprint.clone(), starts_at },
        state: AlertState::Firing,
        first_at: at,
        last_at: at,
        labels: alert.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>(),
        summary: alert.summary.clone(),
        truncated: alert.truncated,
        answered: None,
        body_sha256: String::new(),
    })
}
