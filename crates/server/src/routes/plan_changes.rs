//! Changes of plans: shown before they are made, made, and taken back with the plan.
//!
//! Invariant: nothing ends without a word: a run goes on with the version with which it began, and a plan stays as long as copies of its
//! machines are up or something of it is to begin by itself.

use api::{
    Code,
    access::Role,
    plans::{ApplyPlan, PlanApplied, PlanDiff},
    policies::PolicyChanged,
};
use axum::{
    Json,
    extract::{Path, State},
};
use recovery::{
    ItemRecord, PlanName,
    plan::{Plan, changes},
};
use sha2::{Digest, Sha256};
use store::plans::{NewPlan, PlanRow};
use workflows::plan_workflow_id;

use super::{
    items,
    plans::{MOST_NAMED, fits, known, plan_of, records, run_view, seen},
};
use crate::{
    app::{App, Asked, parsed, storable},
    caller::Caller,
    problem::{Answer, Refusal},
};

pub(super) async fn apply(caller: Caller, State(app): State<App>, Asked(asked): Asked<ApplyPlan>) -> Answer<PlanApplied> {
    caller.may(Role::Admin)?;
    let plan = read_plan(&asked.text)?;
    fits(&app, &plan).await?;
    let before = app.store.plans(Some(plan.name.as_str())).await?.pop();
    let diff = difference(before.as_ref(), &plan, &asked.text);
    let items: Vec<&str> = plan.members().map(|member| member.item.as_str()).collect();
    let tree = items::json(&plan)?;
    storable("the plan", &tree)?;
    let new = NewPlan { name: plan.name.as_str(), text: &asked.text, plan: &tree, sha256: Sha256::digest(asked.text.as_bytes()).into(), items: &items, by: &caller.name };
    let version = app.store.apply_plan(&new).await?;
    tracing::info!(plan = %plan.name, version, by = caller.name, "a plan was applied");
    let view = seen(&app, known(&app, plan.name.as_str()).await?).await?;
    let open = match view.open_run {
        Some(run) => app.store.plan_runs(None, Some(run), 1).await?.pop().map(run_view).transpose()?,
        None => None,
    };
    let goes_on = open.filter(|run| run.version != version);
    Ok(Json(PlanApplied { plan: view, diff, goes_on }))
}

pub(super) async fn diff(_: Caller, State(app): State<App>, Asked(asked): Asked<ApplyPlan>) -> Answer<PlanDiff> {
    let plan = read_plan(&asked.text)?;
    fits(&app, &plan).await?;
    let row = app.store.plans(Some(plan.name.as_str())).await?.pop();
    Ok(Json(difference(row.as_ref(), &plan, &asked.text)))
}

/// What a text changes of the version that stands. One that can't be read any more is in nobody's way: all of the text is new then.
fn difference(row: Option<&PlanRow>, plan: &Plan, text: &str) -> PlanDiff {
    let before = row.and_then(|row| plan_of(row).ok());
    let changes = before.as_ref().map(|before| changes(before, plan)).unwrap_or_default();
    PlanDiff {
        name: plan.name.clone(),
        version: row.map(|row| row.version),
        changes,
        unchanged: row.is_some_and(|row| row.text.as_deref() == Some(text)),
        outline: before.is_none().then(|| plan.outline()),
    }
}

pub(super) async fn remove(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PolicyChanged> {
    caller.may(Role::Admin)?;
    let about = plan_workflow_id(&parsed::<PlanName>(&name)?);
    let row = known(&app, &name).await?;
    // A plan that this build can't read is removed all the same; its machines' copies go by themselves in the end.
    if let Ok(plan) = plan_of(&row) {
        no_copies(&name, &records(&app, &plan).await?)?;
    }
    let changed = app.store.remove_plan(&name, &about).await?;
    if !changed {
        still_needed(&app, &name, &about).await?;
    }
    tracing::info!(plan = name, by = caller.name, changed, "a plan was removed");
    Ok(Json(PolicyChanged { changed }))
}

/// Refuses while copies are up that the plan's own clean-up would remove.
fn no_copies(name: &str, records: &[ItemRecord]) -> Result<(), Refusal> {
    let copies: Vec<&str> = records.iter().filter(|record| record.test_copy.is_some()).map(|record| record.name.as_str()).collect();
    if copies.is_empty() {
        return Ok(());
    }
    let (shown, more) = (copies[..copies.len().min(MOST_NAMED)].join(", "), copies.len().saturating_sub(MOST_NAMED));
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let detail = format!("copies of {shown}{more} are up after a test failover; `switchback plan clean-test-failover {name}` first, or `switchback clean-test-failover ITEM` for each");
    Err(Refusal::new(Code::NotNow, detail))
}

/// Says why a plan was not removed. Whoever does not find it any more has removed it at the same time.
async fn still_needed(app: &App, name: &str, about: &str) -> Result<(), Refusal> {
    let Some(row) = app.store.plans(Some(name)).await?.pop() else { return Ok(()) };
    if let Some(run) = row.open_run {
        return Err(Refusal::new(Code::NotNow, format!("run {run} carries plan {name} out now; `switchback cancel {run}` first, or wait for its end")));
    }
    let due = app.store.deadlines(Some(about)).await?.pop();
    let begins = due.map(|due| format!("at {} the {} judges the failover by itself", due.due_at.format("%Y-%m-%d %H:%M:%SZ"), due.cause));
    let detail = format!(
        "plan {name} is still needed: {}, which nothing would do without the plan; `switchback plan commit {name}` or `switchback plan undo {name}` first",
        begins.unwrap_or_else(|| "something of it was about to begin by itself".to_owned())
    );
    Err(Refusal::new(Code::NotNow, detail))
}

fn read_plan(text: &str) -> Result<Plan, Refusal> {
    Plan::from_yaml(text).map_err(|error| Refusal::new(Code::InvalidRequest, error.to_string()))
}
