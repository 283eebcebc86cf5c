//! Drills: asked for by hand here, by schedules with the same input.

use api::{Code, Problem, access::Role, items::DrillRequest};
use axum::{
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::HeaderMap,
    response::Response,
};
use recovery::{ItemName, ItemRecord, Operation, allowed_operations};
use sdk::{RunId, Workflow};
use workflows::{Drill, DrillInput, drill_workflow_id};

use super::{asked, held, items};
use crate::{
    app::{App, parsed, read},
    caller::Caller,
    problem::Refusal,
};

/// Longest note: it is read in a report, not searched in one.
const MOST_NOTE: usize = 1_000;
/// Most checks of one drill: they are asked one after the other, within five minutes.
const MOST_CHECKS: usize = 20;

pub(super) async fn begin(
    caller: Caller,
    State(app): State<App>,
    Path(item): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let body = body.map_err(|error| Refusal::new(Code::InvalidRequest, format!("the request's body can't be read: {}", error.body_text())))?;
    let name: ItemName = parsed(&item)?;
    items::once(&app, &caller, &headers, &format!("{name} drill "), &body, begun(&app, &caller, &name, &body)).await
}

async fn begun(app: &App, caller: &Caller, name: &ItemName, body: &[u8]) -> Result<RunId, Refusal> {
    let request: DrillRequest = read(body)?;
    let choice = request.point;
    let input = input(name, request)?;
    let record = known(app, name).await?;
    let allowed = allowed_operations(&record.state, record.profile);
    if !allowed.contains(&Operation::TestFailover) {
        let detail = format!("item {name} is {} and its test failover {:?}, which does not allow a drill", record.state.main, record.state.test_failover);
        return Err(Problem::new(Code::OperationNotAllowed, detail).allowing(allowed).into());
    }
    held::free(app, &[name.as_str()], None, "a drill now", false).await?;
    asked::choosable(app, &record, choice).await?;
    let started = items::start(app, caller, Drill::NAME, drill_workflow_id(name), items::json(&input)?).await?;
    started.map_err(|other| open(name, other))
}

/// The record of an item that somebody protects.
pub(super) async fn known(app: &App, name: &ItemName) -> Result<ItemRecord, Refusal> {
    let row = app.store.items(Some(name.as_str())).await?.into_iter().next();
    row.map(|row| items::record(&row.record)).transpose()?.ok_or_else(|| items::unknown(name))
}

/// The input of a drill's run.
pub(super) fn input(name: &ItemName, request: DrillRequest) -> Result<DrillInput, Refusal> {
    let DrillRequest { point, checks, rto_target_ms, rpo_target_ms, note } = request;
    if checks.len() > MOST_CHECKS {
        return Err(Refusal::new(Code::InvalidRequest, format!("{} checks are more than {MOST_CHECKS}", checks.len())));
    }
    if note.as_ref().is_some_and(|note| note.len() > MOST_NOTE) {
        return Err(Refusal::new(Code::InvalidRequest, format!("the note is longer than {MOST_NOTE} letters")));
    }
    Ok(DrillInput { item: name.clone(), choice: point, checks, rto_target_ms, rpo_target_ms, note })
}

fn open(name: &ItemName, run: RunId) -> Refusal {
    Problem::new(Code::RunInProgress, format!("run {run} is a drill of item {name} that has not ended")).naming(run).into()
}
