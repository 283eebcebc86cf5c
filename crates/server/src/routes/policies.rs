//! Trigger policies: applied, looked at, tried, unlocked, removed. And kill switches.

use alerts::{Headers, Settings, SourceName, decode};
use api::{
    Code,
    access::Role,
    items::Listed,
    policies::{ApplyPolicy, KillSwitchView, PolicyChanged, PolicyView, Tried, TriedAlert, TriedPolicy, TryDelivery, TurnKillSwitch},
};
use axum::{
    Json,
    extract::{Path, State},
};
use engine::RunStore;
use recovery::{
    SiteName,
    trigger::{AlertSeen, AlertState, TriggerName, TriggerPolicy, judge},
};
use sha2::{Digest, Sha256};
use store::policies::{NewPolicy, PolicyRow};

use super::approvals::{self, Standing};
use crate::{
    app::{App, Asked, parsed, storable},
    caller::Caller,
    load_evidence::{LookError, as_if, evidence, scope},
    problem::{Answer, Refusal},
};

/// Longest policy: it stands in the history of each evaluation.
const POLICY_BYTES: usize = 64 << 10;

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<PolicyView>> {
    let mut items = Vec::new();
    for row in app.store.policies(None).await? {
        items.push(view(&app, row).await?);
    }
    Ok(Json(Listed { items }))
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PolicyView> {
    view(&app, known(&app, &name).await?).await.map(Json)
}

pub(super) async fn apply(caller: Caller, State(app): State<App>, Asked(asked): Asked<ApplyPolicy>) -> Answer<PolicyView> {
    caller.may(Role::Admin)?;
    if asked.text.len() > POLICY_BYTES {
        return Err(Refusal::new(Code::InvalidRequest, format!("the policy has {} bytes, at most {POLICY_BYTES} are read", asked.text.len())));
    }
    let policy = TriggerPolicy::from_yaml(&asked.text).map_err(|error| Refusal::new(Code::InvalidRequest, error.to_string()))?;
    let item = policy.item.as_str();
    if app.store.items(Some(item)).await?.is_empty() {
        return Err(Refusal::new(Code::UnknownItem, format!("policy {}: nobody protects an item called {item}", policy.name)));
    }
    let sources: Vec<&str> = policy.listens_to().into_iter().collect();
    let read = serde_json::to_value(&policy).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    storable("the policy", &read)?;
    let sha256 = Sha256::digest(asked.text.as_bytes()).into();
    let labels = serde_json::json!(policy.labels());
    let new = NewPolicy { name: policy.name.as_str(), item, text: &asked.text, policy: &read, sha256, sources: &sources, labels: &labels, by: &caller.name };
    let version = app.store.apply_policy(&new).await?;
    let Some(version) = version else {
        let known = app.store.trigger_sources(None).await?;
        let lacking: Vec<&str> = sources.iter().copied().filter(|source| known.iter().all(|row| row.name != *source)).collect();
        let detail = format!("policy {} listens to {}, which is no source; see `switchback trigger source list`", policy.name, lacking.join(", "));
        return Err(Refusal::new(Code::InvalidRequest, detail));
    };
    tracing::info!(policy = %policy.name, version, by = caller.name, "a trigger policy was applied");
    app.wakes.notify_one();
    view(&app, known(&app, policy.name.as_str()).await?).await.map(Json)
}

pub(super) async fn remove(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PolicyChanged> {
    caller.may(Role::Admin)?;
    let row = known(&app, &name).await?;
    if let Some(run) = row.open_run {
        let detail = format!("run {run} evaluates policy {name} now; `switchback cancel {run}` first, or wait for its end");
        return Err(Refusal::new(Code::NotNow, detail));
    }
    let changed = app.store.remove_policy(&row.name).await?;
    tracing::info!(policy = name, by = caller.name, "a trigger policy was removed");
    Ok(Json(PolicyChanged { changed }))
}

pub(super) async fn unlock(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PolicyChanged> {
    caller.may(Role::Operator)?;
    let row = known(&app, &name).await?;
    let changed = app.store.unlock_policy(&row.name).await?;
    tracing::info!(policy = name, by = caller.name, changed, "a trigger policy was unlocked");
    app.wakes.notify_one();
    Ok(Json(PolicyChanged { changed }))
}

/// What a delivery would lead to, if it went on for as long as each policy asks for.
pub(super) async fn try_delivery(caller: Caller, State(app): State<App>, Asked(asked): Asked<TryDelivery>) -> Answer<Tried> {
    caller.may(Role::Operator)?;
    let source: SourceName = parsed(&asked.source)?;
    let unknown = || Refusal::new(Code::UnknownSource, format!("no source of alerts is called {source}"));
    let judging = app.store.judging(source.as_str()).await?.ok_or_else(unknown)?;
    let settings = Settings::from_kept(&judging.settings).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let headers: Headers = asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let read = decode(&settings, &headers, asked.body.as_bytes());
    let read = read.map_err(|error| Refusal::new(Code::InvalidRequest, format!("as a delivery to source {source}: {error}")))?;
    let now = app.store.now().await?;
    let mut policies = Vec::new();
    for row in app.store.policies(None).await? {
        let policy = policy_of(&row)?;
        if !policy.listens_to().contains(source.as_str()) {
            continue;
        }
        let mut seen = evidence(&app.store, &row, &policy).await.map_err(refused)?;
        let tried: Vec<AlertSeen> = read.iter().filter_map(|alert| as_if(source.as_str(), alert, now)).collect();
        seen.alerts.extend(tried);
        for alert in seen.alerts.iter_mut().filter(|alert| alert.state == AlertState::Firing) {
            alert.first_at = alert.first_at.min(now - policy.hold_down.delta());
        }
        policies.push(TriedPolicy { judgement: judge(&policy, &seen, false), policy: policy.name, version: row.version });
    }
    let alert = |alert: &alerts::Alert| TriedAlert {
        fingerprint: alert.fingerprint.clone(),
        firing: matches!(alert.said, alerts::Said::Firing { .. }),
        labels: alert.labels.clone(),
        summary: alert.summary.clone(),
    };
    Ok(Json(Tried { alerts: read.iter().map(alert).collect(), policies }))
}

pub(super) async fn kill_switches(_: Caller, State(app): State<App>) -> Answer<Listed<KillSwitchView>> {
    let view = |row: store::policies::SwitchRow| KillSwitchView { scope: row.scope, by: row.by, reason: row.reason, since: row.since };
    Ok(Json(Listed { items: app.store.kill_switches().await?.into_iter().map(view).collect() }))
}

pub(super) async fn turn_kill_switch(caller: Caller, State(app): State<App>, Asked(asked): Asked<TurnKillSwitch>) -> Answer<Listed<KillSwitchView>> {
    caller.may(Role::Operator)?;
    let TurnKillSwitch { scope: reach, on, reason } = asked;
    if scope(&reach).is_none() {
        return Err(Refusal::new(Code::InvalidRequest, format!("{reach:?} is no reach of a kill switch; it is all, site:NAME or policy:NAME")));
    }
    if on && reason.trim().is_empty() {
        return Err(Refusal::new(Code::InvalidRequest, "a kill switch needs a reason: whoever finds it wants to know"));
    }
    reaches_something(&app, &reach).await?;
    app.store.turn_kill_switch(&reach, on, &caller.name, &reason).await?;
    tracing::warn!(scope = reach, on, by = caller.name, reason, "a kill switch was turned");
    app.wakes.notify_one();
    kill_switches(caller, State(app)).await
}

/// A switch with a mistyped name would stop nothing, and its owner would believe it did.
async fn reaches_something(app: &App, reach: &str) -> Result<(), Refusal> {
    match reach.split_once(':') {
        Some(("site", name)) => {
            let site: SiteName = parsed(name)?;
            let known = app.store.sites().await?.iter().any(|known| known.name == site.as_str());
            if known { Ok(()) } else { Err(Refusal::new(Code::UnknownSite, format!("there is no site called {name}"))) }
        }
        Some(("policy", name)) => known(app, name).await.map(drop),
        None | Some(_) => Ok(()),
    }
}

/// How each policy stands, for those who page people: whoever is to agree has to hear of it.
pub(super) async fn gauges(app: &App) -> Result<String, Refusal> {
    let mut text = String::new();
    for row in app.store.policies(None).await? {
        let view = view(app, row).await?;
        let states = [("asks", view.asks.is_some()), ("locked", view.flap_locked_at.is_some()), ("set-aside", view.set_aside), ("evaluated", view.open_run.is_some())];
        for (state, holds) in states {
            text += &format!("switchback_trigger_policy{{policy=\"{}\",state=\"{state}\"}} {}\n", view.name, u8::from(holds));
        }
    }
    Ok(text)
}

async fn known(app: &App, name: &str) -> Result<PolicyRow, Refusal> {
    let name: TriggerName = parsed(name)?;
    let row = app.store.policies(Some(name.as_str())).await?.pop();
    row.ok_or_else(|| Refusal::new(Code::UnknownPolicy, format!("no trigger policy is called {name}")))
}

fn policy_of(row: &PolicyRow) -> Result<TriggerPolicy, Refusal> {
    let read = serde_json::from_value(row.policy.clone());
    read.map_err(|error| Refusal::new(Code::Internal, format!("trigger policy {} can't be read: {error}", row.name)))
}

fn refused(error: LookError) -> Refusal {
    match error {
        LookError::Lost(lost) => lost.into(),
        LookError::Time(error) => error.into(),
        unreadable @ LookError::Unreadable { .. } => Refusal::new(Code::Internal, unreadable.to_string()),
    }
}

async fn view(app: &App, row: PolicyRow) -> Result<PolicyView, Refusal> {
    let policy = policy_of(&row)?;
    let standing = match row.open_run {
        Some(run) => approvals::standing(app, run).await?,
        None => Standing::default(),
    };
    let unlock = row.flap_locked_at.is_some().then_some("unlock");
    let approve = standing.question.is_some().then_some("approve");
    let remove = row.open_run.is_none().then_some("remove");
    Ok(PolicyView {
        allowed_operations: ["apply"].into_iter().chain(unlock).chain(approve).chain(remove).map(str::to_owned).collect(),
        name: policy.name,
        version: row.version,
        item: policy.item,
        mode: policy.mode,
        text: row.text,
        sha256: row.sha256,
        applied_by: row.applied_by,
        applied_at: row.applied_at,
        flap_locked_at: row.flap_locked_at,
        open_run: row.open_run,
        set_aside: row.set_aside,
        standing: standing.words,
        asks: standing.question,
    })
}
