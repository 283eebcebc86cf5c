//! Items: looking at them, and asking for operations.
//!
//! ```text
//!   who may ─▶ item known? ─▶ another run? ─▶ state allows? ─▶ offered? ─▶ what the operation needs ─▶ run
//! ```
//!
//! Invariants: 1. Nothing is written before all of that holds. 2. The last word has the database: one open run for each item.

use api::{
    Code, Problem,
    access::Role,
    items::{Accepted, AcceptUnfenced, FailoverRequest, ItemView, Listed, PlainRequest, PointView, ProtectRequest, ReplicationView},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::{RunStore, StartRun, Started};
use recovery::{Generation, ItemName, ItemRecord, ItemState, Operation, PointId, RecoveryPoint, SiteName, allowed_operations, resolve};
use sdk::{Message, RunId, Workflow};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::{
    access::Request,
    items::{ItemRow, PointRow, ReplicationRow},
};
use uuid::Uuid;
use workflows::{Acceptance, Commit, CommitInput, Failover, FailoverInput, Protect, ProtectInput, Unprotect, UnprotectInput, item_workflow_id};

use crate::{
    app::{App, parsed, read},
    caller::Caller,
    problem::{Answer, Refusal},
};

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<ItemView>> {
    views(&app, None).await.map(|items| Json(Listed { items }))
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(item): Path<String>) -> Answer<ItemView> {
    let name: ItemName = parsed(&item)?;
    let view = views(&app, Some(&name)).await?.into_iter().next();
    view.map(Json).ok_or_else(|| unknown(&name))
}

pub(super) async fn points(_: Caller, State(app): State<App>, Path(item): Path<String>) -> Answer<Listed<PointView>> {
    let name: ItemName = parsed(&item)?;
    if app.store.items(Some(name.as_str())).await?.is_empty() {
        return Err(unknown(&name));
    }
    let rows = app.store.points(Some(name.as_str())).await?;
    let items = rows.into_iter().map(|row| Ok(PointView { site: site(&row.site)?, point: point(&row)? }));
    Ok(Json(Listed { items: items.collect::<Result<_, Refusal>>()? }))
}

/// Asks for an operation; with a key the same request gets its first answer again.
pub(super) async fn begin(
    caller: Caller,
    State(app): State<App>,
    Path((item, operation)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let body = body.map_err(|error| Refusal::new(Code::InvalidRequest, format!("the request's body can't be read: {}", error.body_text())))?;
    let (name, operation): (ItemName, Operation) = (parsed(&item)?, parsed(&operation)?);
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let Some(key) = key else {
        return begun(&app, &caller, &name, operation, &body).await.map(accepted);
    };
    let digest = Sha256::new().chain_update(format!("{name} {operation} ")).chain_update(&body).finalize().into();
    match app.store.begin_request(&caller.name, &key, digest).await? {
        Request::Fresh => {}
        Request::Answered { answer, .. } => return Ok((StatusCode::ACCEPTED, Json(answer)).into_response()),
        Request::Conflict => {
            let detail = format!("the key {key} belongs to another request of {}, or to one that is being worked on", caller.name);
            return Err(Refusal::new(Code::IdempotencyConflict, detail));
        }
    }
    let answer = begun(&app, &caller, &name, operation, &body).await;
    let kept = answer.as_ref().ok().and_then(|run| serde_json::to_value(Accepted { run: *run }).ok());
    app.store.end_request(&caller.name, &key, kept.as_ref().map(|answer| (202, answer))).await?;
    answer.map(accepted)
}

fn accepted(run: RunId) -> Response {
    let location = [(header::LOCATION, format!("/v1/runs/{run}"))];
    (StatusCode::ACCEPTED, location, Json(Accepted { run })).into_response()
}

async fn begun(app: &App, caller: &Caller, name: &ItemName, operation: Operation, body: &[u8]) -> Result<RunId, Refusal> {
    let row = app.store.items(Some(name.as_str())).await?.into_iter().next();
    let record = row.as_ref().map(|row| record(&row.record)).transpose()?;
    check_state(name, operation, row.as_ref(), record.as_ref())?;
    let (workflow, input) = match operation {
        Operation::Protect => (Protect::NAME, protect(app, name, body).await?),
        Operation::Failover => (Failover::NAME, failover(app, caller, record.as_ref(), body).await?),
        Operation::Commit => (Commit::NAME, plain(body, &CommitInput { item: name.clone() })?),
        Operation::Unprotect => (Unprotect::NAME, plain(body, &UnprotectInput { item: name.clone() })?),
        Operation::TestFailover
        | Operation::CleanTestFailover
        | Operation::PlannedFailover
        | Operation::ChangePoint
        | Operation::Failback
        | Operation::Undo
        | Operation::Reprotect
        | Operation::Resync
        | Operation::ChangePolicy
        | Operation::Cancel
        | Operation::Resolve => return Err(not_offered(name, operation, record.as_ref())),
    };
    let start = Message::Start {
        workflow: workflow.to_owned(),
        input,
        workflow_id: item_workflow_id(name),
        requested_by: caller.name.clone(),
        trace: telemetry::traceparent(),
    };
    let run = RunId(Uuid::now_v7());
    match app.store.start_run(StartRun { run, start }).await? {
        Started::New => {
            tracing::info!(item = %name, %operation, %run, by = caller.name, "a run was asked for");
            Ok(run)
        }
        Started::AlreadyOpen(other) => Err(in_progress(name, other)),
    }
}

fn check_state(name: &ItemName, operation: Operation, row: Option<&ItemRow>, record: Option<&ItemRecord>) -> Result<(), Refusal> {
    if record.is_none() && operation != Operation::Protect {
        return Err(unknown(name));
    }
    if let Some(run) = row.and_then(|row| row.open_run) {
        return Err(in_progress(name, run));
    }
    let state = record.map_or_else(ItemState::new, |record| record.state);
    if !allowed_operations(&state).contains(&operation) {
        let detail = format!("item {name} is {}, which does not allow {operation}", state.main);
        return Err(Problem::new(Code::OperationNotAllowed, detail).allowing(offered(&state)).into());
    }
    if !operation.offered() {
        return Err(not_offered(name, operation, record));
    }
    Ok(())
}

async fn protect(app: &App, name: &ItemName, body: &[u8]) -> Result<Value, Refusal> {
    let ProtectRequest { from, to, machine, policy, checks } = read(body)?;
    if from == to {
        return Err(Refusal::new(Code::InvalidRequest, format!("item {name} would be replicated from site {from} to itself")));
    }
    let sites = app.store.sites().await?;
    for wanted in [&from, &to] {
        if !sites.iter().any(|known| known.name == wanted.as_str() && !known.agents.is_empty()) {
            return Err(Refusal::new(Code::UnknownSite, format!("no agent is enrolled for a site {wanted}")));
        }
    }
    let machine = machine.unwrap_or_else(|| name.as_str().to_owned());
    json(&ProtectInput { item: name.clone(), machine, from, to, policy, checks })
}

async fn failover(app: &App, caller: &Caller, record: Option<&ItemRecord>, body: &[u8]) -> Result<Value, Refusal> {
    let FailoverRequest { point: choice, accept_unfenced, fence_timeout_ms } = read(body)?;
    let Some(record) = record else {
        return Err(Refusal::new(Code::Internal, "a failover of an item without record passed the check"));
    };
    if let Some(AcceptUnfenced { reason }) = &accept_unfenced
        && reason.trim().is_empty()
    {
        return Err(Refusal::new(Code::InvalidRequest, "to go on unfenced needs a reason: it stands in the history beside your name"));
    }
    let known = offered_points(app, record).await?;
    resolve(&known, choice).map_err(|none| Refusal::new(Code::NoRecoveryPoint, format!("item {}: {none}", record.name)))?;
    let accept_unfenced = accept_unfenced.map(|AcceptUnfenced { reason }| Acceptance { by: caller.name.clone(), reason });
    json(&FailoverInput { item: record.name.clone(), choice, accept_unfenced, fence_timeout_ms })
}

/// What the target's journal listed when it last reported.
async fn offered_points(app: &App, record: &ItemRecord) -> Result<Vec<RecoveryPoint>, Refusal> {
    let rows = app.store.points(Some(record.name.as_str())).await?;
    rows.iter().filter(|row| row.site == record.target_site().as_str()).map(point).collect()
}

fn plain(body: &[u8], input: &impl serde::Serialize) -> Result<Value, Refusal> {
    let PlainRequest {} = read(body)?;
    json(input)
}

fn unknown(name: &ItemName) -> Refusal {
    Refusal::new(Code::UnknownItem, format!("no item is called {name}"))
}

fn in_progress(name: &ItemName, run: RunId) -> Refusal {
    Problem::new(Code::RunInProgress, format!("run {run} has item {name}")).naming(run).allowing(vec![Operation::Cancel]).into()
}

fn not_offered(name: &ItemName, operation: Operation, record: Option<&ItemRecord>) -> Refusal {
    let state = record.map_or_else(ItemState::new, |record| record.state);
    Problem::new(Code::OperationNotOffered, format!("{operation} of item {name} is not built yet")).allowing(offered(&state)).into()
}

/// What the state allows and this build can do.
fn offered(state: &ItemState) -> Vec<Operation> {
    allowed_operations(state).into_iter().filter(|operation| operation.offered()).collect()
}

async fn views(app: &App, name: Option<&ItemName>) -> Result<Vec<ItemView>, Refusal> {
    let wanted = name.map(ItemName::as_str);
    let points = app.store.points(wanted).await?;
    let replication = app.store.replication(wanted).await?;
    app.store.items(wanted).await?.iter().map(|row| view(row, &points, &replication)).collect()
}

fn view(row: &ItemRow, points: &[PointRow], replication: &[ReplicationRow]) -> Result<ItemView, Refusal> {
    let record = record(&row.record)?;
    let target = record.target_site().as_str();
    let offered_here = points.iter().filter(|point| point.item == row.name && point.site == target && !point.withdrawn);
    let offered_here: Vec<&PointRow> = offered_here.collect();
    let source = record.source_site().as_str();
    let status = replication.iter().find(|status| status.item == row.name && status.site == source);
    Ok(ItemView {
        state: record.state.main.to_string(),
        allowed_operations: offered(&record.state),
        open_run: row.open_run,
        points: offered_here.len() as u64,
        newest_point: offered_here.iter().max_by_key(|row| row.point).map(|row| point(row)).transpose()?,
        replication: status.map(replication_view).transpose()?,
        version: row.version,
        updated_at: row.updated_at,
        record,
    })
}

fn replication_view(row: &ReplicationRow) -> Result<ReplicationView, Refusal> {
    let status = serde_json::from_value(row.status.clone()).map_err(unreadable)?;
    Ok(ReplicationView { site: site(&row.site)?, status, reported_at: row.reported_at })
}

fn record(value: &Value) -> Result<ItemRecord, Refusal> {
    serde_json::from_value(value.clone()).map_err(unreadable)
}

fn point(row: &PointRow) -> Result<RecoveryPoint, Refusal> {
    let consistency = row.consistency.parse().map_err(unreadable)?;
    Ok(RecoveryPoint {
        id: PointId(row.point.unsigned_abs()),
        consistency,
        taken_at: row.taken_at,
        generation: Generation { era: row.era, grant_epoch: row.grant_epoch },
        size_bytes: row.size_bytes.unsigned_abs(),
        pinned: row.pinned,
        withdrawn: row.withdrawn,
    })
}

fn site(name: &str) -> Result<SiteName, Refusal> {
    name.parse().map_err(unreadable)
}

fn json(value: &impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("a stored value can't be read: {error}"))
}
