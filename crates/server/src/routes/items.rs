//! Items: looking at them, and asking for operations.
//!
//! ```text
//!   who may ─▶ item known? ─▶ another run? ─▶ state allows? ─▶ a plan has it? ─▶ offered? ─▶ what the operation needs ─▶ run
//! ```
//!
//! Invariants: 1. Nothing is written before all of that holds. 2. The last word has the database: one open run for each item.

use std::collections::BTreeMap;

use api::{
    Code, Problem,
    access::Role,
    agent::MachinesStatus,
    items::{Accepted, ItemView, Listed, PointView, ReplicationView},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::{RunStore, StartRun, Started};
use recovery::{
    Generation, GroupMoment, ItemName, ItemRecord, ItemState, Operation, PointId, Profile, RecoveryPoint, Seen, SiteName, alarms, allowed_operations, old_machine, profile::stages::is_protected,
};
use sdk::{Message, RunId, Workflow};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::{
    access::Request,
    items::{ItemRow, MachinesRow, PointRow, ReplicationRow},
};
use uuid::Uuid;
use workflows::{
    ChangePoint, ChangePolicy, CleanTestFailover, CleanTestInput, Commit, CommitInput, Failback, Failover, Forget, Hold, PlannedFailover, Protect, Release, Reprotect, Resolve, Resync,
    ResyncInput, TestFailover, Undo, Unprotect, UnprotectInput, item_workflow_id,
};

use super::{asked, held};
use crate::{
    app::{App, parsed},
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
    once(&app, &caller, &headers, &format!("{name} {operation} "), &body, begun(&app, &caller, &name, operation, &body)).await
}

/// Carries a request out; with a key the same request, `asked` and its body, gets its first answer again.
pub(super) async fn once(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    asked: &str,
    body: &[u8],
    begun: impl Future<Output = Result<RunId, Refusal>>,
) -> Result<Response, Refusal> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let Some(key) = key else {
        return begun.await.map(accepted);
    };
    let digest = Sha256::new().chain_update(asked).chain_update(body).finalize().into();
    match app.store.begin_request(&caller.name, &key, digest).await? {
        Request::Fresh => {}
        Request::Answered { answer, .. } => return Ok((StatusCode::ACCEPTED, Json(answer)).into_response()),
        Request::Conflict => {
            let detail = format!("the key {key} belongs to another request of {}, or to one that is being worked on", caller.name);
            return Err(Refusal::new(Code::IdempotencyConflict, detail));
        }
    }
    let answer = begun.await;
    let kept = answer.as_ref().ok().and_then(|run| serde_json::to_value(Accepted { run: *run }).ok());
    app.store.end_request(&caller.name, &key, kept.as_ref().map(|answer| (202, answer))).await?;
    answer.map(accepted)
}

pub(super) fn accepted(run: RunId) -> Response {
    let location = [(header::LOCATION, format!("/v1/runs/{run}"))];
    (StatusCode::ACCEPTED, location, Json(Accepted { run })).into_response()
}

async fn begun(app: &App, caller: &Caller, name: &ItemName, operation: Operation, body: &[u8]) -> Result<RunId, Refusal> {
    let row = app.store.items(Some(name.as_str())).await?.into_iter().next();
    let record = row.as_ref().map(|row| record(&row.record)).transpose()?;
    check_state(name, operation, row.as_ref(), record.as_ref())?;
    let real = matches!(operation, Operation::Failover | Operation::PlannedFailover | Operation::Failback);
    held::free(app, &[name.as_str()], None, &format!("a {operation} now"), real).await?;
    let (workflow, input) = match operation {
        Operation::Protect => (Protect::NAME, asked::protect(app, name, body).await?),
        Operation::Failover => (Failover::NAME, asked::failover(app, caller, record.as_ref(), body).await?),
        Operation::Commit => (Commit::NAME, asked::plain(body, &CommitInput { item: name.clone() })?),
        Operation::Unprotect => (Unprotect::NAME, asked::plain(body, &UnprotectInput { item: name.clone() })?),
        Operation::PlannedFailover => (PlannedFailover::NAME, asked::planned(app, caller, record.as_ref(), operation, body).await?),
        Operation::Failback => (Failback::NAME, asked::planned(app, caller, record.as_ref(), operation, body).await?),
        Operation::ChangePoint => (ChangePoint::NAME, asked::change_point(app, record.as_ref(), body).await?),
        Operation::Undo => (Undo::NAME, asked::undo(record.as_ref(), body)?),
        Operation::Reprotect => (Reprotect::NAME, asked::reprotect(name, body)?),
        Operation::TestFailover => (TestFailover::NAME, asked::test_failover(app, record.as_ref(), body).await?),
        Operation::CleanTestFailover => (CleanTestFailover::NAME, asked::plain(body, &CleanTestInput { item: name.clone() })?),
        Operation::Resync => (Resync::NAME, asked::plain(body, &ResyncInput { item: name.clone() })?),
        Operation::ChangePolicy => (ChangePolicy::NAME, asked::change_policy(record.as_ref(), body)?),
        Operation::Hold => (Hold::NAME, asked::hold(app, caller, record.as_ref(), body).await?),
        Operation::Release => (Release::NAME, asked::release(caller, record.as_ref(), body)?),
        Operation::Resolve => (Resolve::NAME, asked::resolve_contradiction(caller, record.as_ref(), body)?),
        Operation::Forget => (Forget::NAME, asked::forget(app, caller, record.as_ref(), body).await?),
        Operation::Cancel => return Err(not_offered(name, operation, record.as_ref())),
    };
    let started = start(app, caller, workflow, item_workflow_id(name), input).await?;
    started.map_err(|other| in_progress(name, other))
}

/// Starts a run that somebody asks for; otherwise which open run is about the same.
pub(super) async fn start(app: &App, caller: &Caller, workflow: &str, workflow_id: String, input: Value) -> Result<Result<RunId, RunId>, Refusal> {
    let run = RunId(Uuid::now_v7());
    let (about, requested_by, trace) = (workflow_id.clone(), caller.name.clone(), telemetry::traceparent());
    let start = Message::Start { workflow: workflow.to_owned(), input, workflow_id, requested_by, trace, parent: None };
    Ok(match app.store.start_run(StartRun { run, start }).await? {
        Started::New => {
            tracing::info!(about, workflow, %run, by = caller.name, "a run was asked for");
            Ok(run)
        }
        Started::AlreadyOpen(other) => Err(other),
    })
}

fn check_state(name: &ItemName, operation: Operation, row: Option<&ItemRow>, record: Option<&ItemRecord>) -> Result<(), Refusal> {
    if record.is_none() && operation != Operation::Protect {
        return Err(unknown(name));
    }
    if let Some(run) = row.and_then(|row| row.open_run) {
        return Err(in_progress(name, run));
    }
    let (state, profile) = record.map_or_else(|| (ItemState::new(), Profile::default()), |record| (record.state, record.profile));
    let allowed = allowed_operations(&state, profile);
    if allowed.contains(&operation) {
        return Ok(());
    }
    let of_profile = if profile == Profile::default() { String::new() } else { format!(" and follows the rules of {profile}") };
    let held = record.and_then(|record| record.hold.as_ref()).map_or_else(String::new, |hold| format!("; point {} is held by {} ({})", hold.point, hold.by, hold.reason));
    let detail = format!("item {name} is {}{of_profile}, which does not allow {operation}{held}", state.main);
    Err(Problem::new(Code::OperationNotAllowed, detail).allowing(allowed).into())
}

pub(super) fn unknown(name: &ItemName) -> Refusal {
    Refusal::new(Code::UnknownItem, format!("no item is called {name}"))
}

fn in_progress(name: &ItemName, run: RunId) -> Refusal {
    Problem::new(Code::RunInProgress, format!("run {run} has item {name}")).naming(run).allowing(vec![Operation::Cancel]).into()
}

/// Runs are cancelled, not items.
fn not_offered(name: &ItemName, operation: Operation, record: Option<&ItemRecord>) -> Refusal {
    let allowed = record.map_or_else(Vec::new, |record| allowed_operations(&record.state, record.profile));
    let detail = format!("{operation} of item {name} is asked of its run, at /v1/runs/RUN/cancel");
    Problem::new(Code::OperationNotOffered, detail).allowing(allowed).into()
}

/// How many items have an alarm. Asked at every scrape: points and replication are not loaded for it.
pub(super) async fn alarmed(app: &App) -> Result<usize, Refusal> {
    let machines = by_item(app.store.machines(None).await?, |row| &row.item);
    let mut count = 0;
    for row in app.store.items(None).await? {
        let record = record(&row.record)?;
        let raised = alarms(&record, row.running_since, &seen(of(&machines, &row.name))?);
        count += usize::from(!raised.is_empty() || record.source_left.is_some());
    }
    Ok(count)
}

/// Rows by their item: looking through all of them for each of ten thousand items takes minutes.
pub(crate) fn by_item<T>(rows: Vec<T>, item: impl Fn(&T) -> &str) -> BTreeMap<String, Vec<T>> {
    let mut found: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for row in rows {
        found.entry(item(&row).to_owned()).or_default().push(row);
    }
    found
}

/// Those of an item.
pub(crate) fn of<'a, T>(rows: &'a BTreeMap<String, Vec<T>>, item: &str) -> &'a [T] {
    rows.get(item).map_or(&[], Vec::as_slice)
}

async fn views(app: &App, name: Option<&ItemName>) -> Result<Vec<ItemView>, Refusal> {
    let wanted = name.map(ItemName::as_str);
    let points = by_item(app.store.points(wanted).await?, |row| &row.item);
    let replication = by_item(app.store.replication(wanted).await?, |row| &row.item);
    let machines = by_item(app.store.machines(wanted).await?, |row| &row.item);
    let rows = app.store.items(wanted).await?;
    rows.iter().map(|row| view(row, of(&points, &row.name), of(&replication, &row.name), of(&machines, &row.name))).collect()
}

fn view(row: &ItemRow, points: &[PointRow], replication: &[ReplicationRow], machines: &[MachinesRow]) -> Result<ItemView, Refusal> {
    let record = record(&row.record)?;
    let target = record.target_site().as_str();
    let offered_here = points.iter().filter(|point| point.site == target && !point.withdrawn);
    let offered_here: Vec<&PointRow> = offered_here.collect();
    let source = record.source_site().as_str();
    let status = replication.iter().find(|status| status.site == source);
    let seen = seen(machines)?;
    Ok(ItemView {
        old_machine: old_machine(&record, row.running_since, &seen),
        alarms: alarms(&record, row.running_since, &seen).into_iter().chain(record.source_left.as_ref().map(|left| left.told(&record.machine))).collect(),
        machines: seen,
        state: record.state.main.to_string(),
        allowed_operations: allowed_operations(&record.state, record.profile),
        protected: is_protected(&record.state),
        change_until: record.change_until(),
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

/// What the sites reported of an item's machines.
pub(crate) fn seen(of_item: &[MachinesRow]) -> Result<Vec<Seen>, Refusal> {
    of_item.iter().map(seen_at).collect()
}

fn seen_at(row: &MachinesRow) -> Result<Seen, Refusal> {
    let MachinesStatus { source_runs, autostart, quarantined, recovered_runs } = serde_json::from_value(row.seen.clone()).map_err(unreadable)?;
    Ok(Seen { site: site(&row.site)?, source_runs, autostart, quarantined, recovered_runs, reported_at: row.reported_at })
}

pub(crate) fn record(value: &Value) -> Result<ItemRecord, Refusal> {
    serde_json::from_value(value.clone()).map_err(unreadable)
}

pub(crate) fn point(row: &PointRow) -> Result<RecoveryPoint, Refusal> {
    let consistency = row.consistency.parse().map_err(unreadable)?;
    let group = match (&row.group_name, &row.moment) {
        (Some(group), Some(moment)) => Some(GroupMoment { group: group.parse().map_err(unreadable)?, moment: moment.clone() }),
        (None, _) | (_, None) => None,
    };
    Ok(RecoveryPoint {
        id: PointId(row.point.unsigned_abs()),
        consistency,
        taken_at: row.taken_at,
        generation: Generation { era: row.era, grant_epoch: row.grant_epoch },
        size_bytes: row.size_bytes.unsigned_abs(),
        group,
        pinned: row.pinned,
        withdrawn: row.withdrawn,
    })
}

pub(super) fn site(name: &str) -> Result<SiteName, Refusal> {
    name.parse().map_err(unreadable)
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(unreadable)
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("a stored value can't be read: {error}"))
}
