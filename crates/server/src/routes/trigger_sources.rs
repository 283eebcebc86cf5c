//! Sources of alerts for those who run the installation; deliveries and incidents for those who look.
//!
//! Invariant: a secret that the server makes up leaves it once, in the answer to whoever asked for it; one that was given, never.

use alerts::{Key, Secret, Settings, SourceName};
use api::{
    Code,
    access::Role,
    items::Listed,
    triggers::{
        AlertView, CreateSource, DeliveryBody, DeliveryView, RemoveSource, RotateSecret, SecretText, SourceKeyed, SourceRemoved, SourceView,
    },
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use store::{
    trigger_sources::{MOST_SECRETS, NewSource, SourceRow},
    triggers::{AlertRow, DeliveryRow},
};

use super::access::secret;
use crate::{
    app::{App, Asked, Queried, parsed, read},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Most rows in one answer.
const MOST_ROWS: i64 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveriesQuery {
    source: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertsQuery {
    source: Option<String>,
    #[serde(default)]
    firing: bool,
    limit: Option<i64>,
}

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<SourceView>> {
    let items = app.store.trigger_sources(None).await?.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(Json(Listed { items }))
}

pub(super) async fn create(caller: Caller, State(app): State<App>, Asked(asked): Asked<CreateSource>) -> Answer<SourceKeyed> {
    caller.may(Role::Admin)?;
    let CreateSource { name, settings, secret } = asked;
    settings.check().map_err(|error| Refusal::new(Code::InvalidRequest, error.to_string()))?;
    let (key, made) = new_key(&settings, secret.as_ref())?;
    let new = NewSource { name: name.as_str(), kind: settings.kind(), settings: &settings.to_kept(), by: &caller.name, key: &key };
    if !app.store.add_trigger_source(&new).await? {
        return Err(Refusal::new(Code::NameTaken, format!("there is a source {name}")));
    }
    tracing::info!(source = %name, kind = %settings.kind(), by = caller.name, "a source of alerts was made");
    keyed(&app, &name, made).await
}

/// What can be done to a source.
pub(super) async fn change(caller: Caller, State(app): State<App>, Path((source, change)): Path<(String, String)>, body: Bytes) -> Result<Response, Refusal> {
    caller.may(Role::Admin)?;
    let source: SourceName = parsed(&source)?;
    match change.as_str() {
        "rotate" => rotate(&caller, &app, &source, &read(&body)?).await.map(IntoResponse::into_response),
        "drop-old-secret" => drop_old_secret(&caller, &app, &source).await.map(IntoResponse::into_response),
        "enable" => enable(&caller, &app, &source, true).await.map(IntoResponse::into_response),
        "disable" => enable(&caller, &app, &source, false).await.map(IntoResponse::into_response),
        "remove" => remove(&caller, &app, &source, &read(&body)?).await.map(IntoResponse::into_response),
        _ => Err(Refusal::new(Code::UnknownPath, format!("{change:?} can't be done to a source"))),
    }
}

pub(super) async fn deliveries(_: Caller, State(app): State<App>, Queried(query): Queried<DeliveriesQuery>) -> Answer<Listed<DeliveryView>> {
    if let Some(source) = &query.source {
        one(&app, source).await?;
    }
    let limit = query.limit.unwrap_or(100).clamp(1, MOST_ROWS);
    let rows = app.store.trigger_deliveries(query.source.as_deref(), limit).await?;
    Ok(Json(Listed { items: rows.into_iter().map(delivery_view).collect() }))
}

pub(super) async fn delivery(caller: Caller, State(app): State<App>, Path(id): Path<String>) -> Answer<DeliveryBody> {
    caller.may(Role::Operator)?;
    let id: i64 = parsed(&id)?;
    let body = app.store.trigger_delivery_body(id).await?;
    let body = body.ok_or_else(|| Refusal::new(Code::UnknownDelivery, format!("there is no delivery {id}, or its body is kept no more")))?;
    Ok(Json(DeliveryBody { id, text: String::from_utf8_lossy(&body).into_owned() }))
}

pub(super) async fn alerts(_: Caller, State(app): State<App>, Queried(query): Queried<AlertsQuery>) -> Answer<Listed<AlertView>> {
    if let Some(source) = &query.source {
        one(&app, source).await?;
    }
    let limit = query.limit.unwrap_or(100).clamp(1, MOST_ROWS);
    let rows = app.store.trigger_alerts(query.source.as_deref(), query.firing, limit).await?;
    Ok(Json(Listed { items: rows.into_iter().map(alert_view).collect() }))
}

async fn rotate(caller: &Caller, app: &App, source: &SourceName, asked: &RotateSecret) -> Answer<SourceKeyed> {
    let before = one(app, source.as_str()).await?;
    let (key, made) = new_key(&before.settings, asked.secret.as_ref())?;
    if !app.store.add_trigger_secret(source.as_str(), &key, &caller.name).await? {
        let detail = format!(
            "source {source} has {MOST_SECRETS} secrets already: give the sender the newest one, then drop the old one with \
             `switchback trigger source drop-old-secret {source}`"
        );
        return Err(Refusal::new(Code::SourceConflict, detail));
    }
    tracing::info!(%source, by = caller.name, "a source of alerts was given another secret");
    keyed(app, source, made).await
}

async fn drop_old_secret(caller: &Caller, app: &App, source: &SourceName) -> Answer<SourceView> {
    one(app, source.as_str()).await?;
    if !app.store.drop_old_trigger_secret(source.as_str()).await? {
        let detail = format!("source {source} has one secret only; `switchback trigger source rotate {source}` adds another");
        return Err(Refusal::new(Code::SourceConflict, detail));
    }
    tracing::info!(%source, by = caller.name, "a source's old secret was dropped");
    one(app, source.as_str()).await.map(Json)
}

async fn enable(caller: &Caller, app: &App, source: &SourceName, enabled: bool) -> Answer<SourceView> {
    if !app.store.enable_trigger_source(source.as_str(), enabled).await? {
        return Err(unknown(source.as_str()));
    }
    tracing::info!(%source, enabled, by = caller.name, "a source of alerts was enabled or disabled");
    one(app, source.as_str()).await.map(Json)
}

async fn remove(caller: &Caller, app: &App, source: &SourceName, asked: &RemoveSource) -> Answer<SourceRemoved> {
    let before = one(app, source.as_str()).await?;
    if !asked.discard_deliveries {
        let detail = format!(
            "this removes source {source} with its secrets, {} deliveries and {} alerts, {} of them firing; nothing has changed yet. Repeat with \
             --discard-deliveries (discard_deliveries: true) to do it",
            before.deliveries, before.alerts, before.firing
        );
        return Err(Refusal::new(Code::ConfirmationNeeded, detail));
    }
    if !app.store.remove_trigger_source(source.as_str()).await? {
        let listeners = one(app, source.as_str()).await?.listeners.join(", ");
        return Err(Refusal::new(Code::SourceConflict, format!("policies listen to source {source}: {listeners}")));
    }
    tracing::info!(%source, by = caller.name, deliveries = before.deliveries, alerts = before.alerts, "a source of alerts was removed");
    Ok(Json(SourceRemoved { name: source.clone(), deliveries: before.deliveries, alerts: before.alerts }))
}

/// The key to keep, and the secret to show if it was made up here.
fn new_key(settings: &Settings, given: Option<&SecretText>) -> Result<(Key, Option<SecretText>), Refusal> {
    let refused = |detail: String| Refusal::new(Code::InvalidRequest, detail);
    let own = matches!(settings, Settings::PagerDuty { .. });
    if given.is_none() && own {
        let detail = "PagerDuty makes the secret itself: make the subscription there, with the path /v1/triggers/NAME, and give what it shows \
                      with --secret-file";
        return Err(refused(detail.to_owned()));
    }
    let made = given.is_none().then(|| SecretText(secret("sba")));
    let text = given.or(made.as_ref()).map_or("", |text| text.0.as_str());
    let secret = Secret::chosen(text).map_err(|error| refused(error.to_string()))?;
    let key = if settings.kind().signs() { Key::Signs(secret) } else { Key::Shown(secret.digest()) };
    Ok((key, made))
}

async fn keyed(app: &App, source: &SourceName, secret: Option<SecretText>) -> Answer<SourceKeyed> {
    let url = format!("{}/v1/triggers/{source}", app.public.as_deref().unwrap_or_default());
    Ok(Json(SourceKeyed { source: one(app, source.as_str()).await?, secret, url }))
}

async fn one(app: &App, source: &str) -> Result<SourceView, Refusal> {
    let row = app.store.trigger_sources(Some(source)).await?.into_iter().next();
    row.ok_or_else(|| unknown(source)).and_then(view)
}

fn unknown(source: &str) -> Refusal {
    Refusal::new(Code::UnknownSource, format!("no source of alerts is called {source:?}"))
}

fn view(row: SourceRow) -> Result<SourceView, Refusal> {
    let broken = |error: String| Refusal::new(Code::Internal, format!("source {}: {error}", row.name));
    let name = row.name.parse().map_err(|error: alerts::InvalidSourceName| broken(error.to_string()))?;
    let settings = Settings::from_kept(&row.settings).map_err(|error| broken(error.to_string()))?;
    let drop_old = (row.secrets > 1).then_some("drop-old-secret");
    let rotate = (row.secrets == 1).then_some("rotate");
    let allowed = [if row.enabled { "disable" } else { "enable" }, "remove"].into_iter().chain(rotate).chain(drop_old);
    Ok(SourceView {
        allowed_operations: allowed.map(str::to_owned).collect(),
        name,
        kind: settings.kind(),
        settings,
        enabled: row.enabled,
        secrets: row.secrets,
        listeners: row.listeners,
        created_by: row.created_by,
        created_at: row.created_at,
        accepted_at: row.accepted_at,
        refused_at: row.refused_at,
        deliveries: row.deliveries,
        alerts: row.alerts,
        firing: row.firing,
    })
}

fn delivery_view(row: DeliveryRow) -> DeliveryView {
    DeliveryView {
        id: row.id,
        source: row.source,
        received_at: row.received_at,
        verdict: row.verdict,
        reason: row.reason,
        detail: row.detail,
        remote: row.remote,
        headers: row.headers,
        body_sha256: row.body_sha256.map(hex::encode),
        body_bytes: row.body_bytes,
        alerts: row.alerts,
    }
}

fn alert_view(row: AlertRow) -> AlertView {
    AlertView {
        source: row.source,
        fingerprint: row.fingerprint,
        starts_at: row.starts_at,
        status: row.status,
        first_received_at: row.first_received_at,
        last_received_at: row.last_received_at,
        resolved_at: row.resolved_at,
        labels: row.labels,
        summary: row.summary,
        truncated: row.truncated,
        first_delivery: row.first_delivery,
        last_delivery: row.last_delivery,
        resolved_delivery: row.resolved_delivery,
        last_body_sha256: hex::encode(row.last_body_sha256),
    }
}
