//! Plans: applied, compared, looked at, carried out.
//!
//! Invariant: nothing is begun before the plan fits what is there; the last word has the database: one open run for each plan.

use api::{
    Code, Problem,
    access::Role,
    items::{AcceptUnfenced, Listed, MAX_SHUT_DOWN_MS},
    plans::{ApplyPlan, DeadlineView, PlanDiff, PlanRunView, PlanView, PlanWorkRequest},
    policies::PolicyChanged,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::HeaderMap,
    response::Response,
};
use recovery::{
    ItemRecord, PlanName,
    plan::{At, Does, Fit, Mode, Plan, Work, action, changes, fit, together},
};
use sdk::{RunId, Workflow};
use sha2::{Digest, Sha256};
use store::plans::{NewPlan, PlanRow, PlanRunRow};
use workflows::{Acceptance, PlanInput, PlanOptions, plan_workflow_id};

use super::items;
use crate::{
    app::{App, Asked, parsed, read},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Most runs in one answer.
const MOST_RUNS: i64 = 200;

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<PlanView>> {
    let mut items = Vec::new();
    for row in app.store.plans(None).await? {
        items.push(view(&app, row).await?);
    }
    Ok(Json(Listed { items }))
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PlanView> {
    let row = known(&app, &name).await?;
    view(&app, row).await.map(Json)
}

pub(super) async fn apply(caller: Caller, State(app): State<App>, Asked(asked): Asked<ApplyPlan>) -> Answer<PlanView> {
    caller.may(Role::Admin)?;
    let plan = read_plan(&asked.text)?;
    fits(&app, &plan).await?;
    let items: Vec<&str> = plan.members().map(|member| member.item.as_str()).collect();
    let tree = items::json(&plan)?;
    let sha256 = Sha256::digest(asked.text.as_bytes()).into();
    let new = NewPlan { name: plan.name.as_str(), text: &asked.text, plan: &tree, sha256, items: &items, by: &caller.name };
    let version = app.store.apply_plan(&new).await?;
    tracing::info!(plan = %plan.name, version, by = caller.name, "a plan was applied");
    view(&app, known(&app, plan.name.as_str()).await?).await.map(Json)
}

pub(super) async fn diff(_: Caller, State(app): State<App>, Asked(asked): Asked<ApplyPlan>) -> Answer<PlanDiff> {
    let plan = read_plan(&asked.text)?;
    fits(&app, &plan).await?;
    let row = app.store.plans(Some(plan.name.as_str())).await?.pop();
    let before = row.as_ref().map(plan_of).transpose()?;
    let changes = before.map(|before| changes(&before, &plan)).unwrap_or_default();
    Ok(Json(PlanDiff { name: plan.name, version: row.map(|row| row.version), changes }))
}

pub(super) async fn remove(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PolicyChanged> {
    caller.may(Role::Admin)?;
    let row = known(&app, &name).await?;
    if let Some(run) = row.open_run {
        return Err(Refusal::new(Code::NotNow, format!("run {run} carries plan {name} out now; `switchback cancel {run}` first, or wait for its end")));
    }
    let changed = app.store.remove_plan(&row.name).await?;
    app.store.drop_deadline(&plan_workflow_id(&parsed::<PlanName>(&row.name)?)).await?;
    tracing::info!(plan = name, by = caller.name, "a plan was removed");
    Ok(Json(PolicyChanged { changed }))
}

pub(super) async fn runs(_: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<Listed<PlanRunView>> {
    let rows = app.store.plan_runs(Some(&name), None, MOST_RUNS).await?;
    if rows.is_empty() {
        known(&app, &name).await?;
    }
    Ok(Json(Listed { items: rows.into_iter().map(run_view).collect::<Result<_, _>>()? }))
}

/// Carries the plan out; with a key the same request gets its first answer again.
pub(super) async fn begin(
    caller: Caller,
    State(app): State<App>,
    Path((name, work)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let body = body.map_err(|error| Refusal::new(Code::InvalidRequest, format!("the request's body can't be read: {}", error.body_text())))?;
    let work = named(&work)?;
    items::once(&app, &caller, &headers, &format!("plan {name} {work} "), &body, begun(&app, &caller, &name, work, &body)).await
}

/// The work of that name.
pub(super) fn named(work: &str) -> Result<Work, Refusal> {
    let words = || Work::ALL.map(Work::as_str).join(", ");
    let known = Work::ALL.into_iter().find(|known| known.as_str() == work);
    known.ok_or_else(|| Refusal::new(Code::UnknownPath, format!("{work:?} is nothing that is done with a plan; there are {}", words())))
}

async fn begun(app: &App, caller: &Caller, name: &str, work: Work, body: &[u8]) -> Result<RunId, Refusal> {
    let request: PlanWorkRequest = read(body)?;
    let row = known(app, name).await?;
    let plan = plan_of(&row)?;
    if let Some(open) = row.open_run {
        return Err(in_progress(name, open));
    }
    let options = options(caller, &plan, work, request)?;
    let point = options.point.unwrap_or(plan.point);
    if let recovery::PointChoice::Exact(id) = point {
        let detail = format!("point {id} is one of one machine, and plan {name} has {}; choose one of the latest-… options", plan.members().count());
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    let records = records(app, &plan).await?;
    together(&plan, point, &records).map_err(|why| Refusal::new(Code::InvalidRequest, why.to_string()))?;
    something_to_do(&plan, work, &records)?;
    let input = PlanInput { version: row.version, sha256: row.sha256, work, options, plan };
    let about = plan_workflow_id(&input.plan.name);
    let started = items::start(app, caller, workflows::Plan::NAME, about, items::json(&input)?).await?;
    started.map_err(|open| in_progress(name, open))
}

fn options(caller: &Caller, plan: &Plan, work: Work, request: PlanWorkRequest) -> Result<PlanOptions, Refusal> {
    let refused = |detail: String| Err(Refusal::new(Code::InvalidRequest, detail));
    let PlanWorkRequest { point, accept_unfenced, fence_timeout_ms, shut_down_ms, try_shut_down, accept_loss, sync, location, discard_writes } = request;
    let given = [
        (point.is_some(), "point", matches!(work, Work::Test | Work::Unplanned | Work::Failback)),
        (try_shut_down, "try_shut_down", work == Work::Unplanned),
        (accept_loss.is_some(), "accept_loss", work == Work::Failback && point.is_some()),
        (accept_unfenced.is_some(), "accept_unfenced", work == Work::Unplanned),
        (fence_timeout_ms.is_some(), "fence_timeout_ms", work == Work::Unplanned),
        (shut_down_ms.is_some(), "shut_down_ms", matches!(work, Work::Planned | Work::Failback) || try_shut_down),
        (sync != recovery::Sync::default(), "sync", work == Work::Failback),
        (location != recovery::Location::default(), "location", work == Work::Reprotect),
        (discard_writes, "discard_writes", work == Work::Undo),
    ];
    if let Some((_, word, _)) = given.iter().find(|(given, _, fits)| *given && !fits) {
        return refused(format!("{word} means nothing for {work}"));
    }
    if work == Work::Undo && !discard_writes {
        let detail = format!(
            "this ends the machines of plan {} that were failed over and discards everything they have written at {}; nothing has changed yet. Repeat with \
             --discard-writes (discard_writes: true) to do it; how much it was will stand in the histories",
            plan.name, plan.to
        );
        return Err(Refusal::new(Code::ConfirmationNeeded, detail));
    }
    if shut_down_ms.is_some_and(|ms| !(1_000..=MAX_SHUT_DOWN_MS).contains(&ms)) {
        return refused(format!("the time for guests to shut down must be 1 s to {} s", MAX_SHUT_DOWN_MS / 1_000));
    }
    if accept_unfenced.as_ref().is_some_and(|accepted| accepted.reason.trim().is_empty()) {
        return refused("to go on unfenced needs a reason: it stands in the histories beside your name".to_owned());
    }
    if accept_loss.as_ref().is_some_and(|accepted| accepted.reason.trim().is_empty()) {
        return refused("to lose what an older point loses needs a reason: it stands in the histories beside your name".to_owned());
    }
    let accepted = |given: Option<AcceptUnfenced>| given.map(|AcceptUnfenced { reason }| Acceptance { by: caller.name.clone(), reason });
    let (accept_unfenced, accept_loss) = (accepted(accept_unfenced), accepted(accept_loss));
    let otherwise = PlanOptions::default();
    Ok(PlanOptions {
        point,
        accept_unfenced,
        fence_timeout_ms: fence_timeout_ms.unwrap_or(otherwise.fence_timeout_ms),
        shut_down_ms: shut_down_ms.unwrap_or(otherwise.shut_down_ms),
        try_shut_down,
        accept_loss,
        sync,
        location,
    })
}

/// Refuses what means nothing for any machine, and says how each stands.
fn something_to_do(plan: &Plan, work: Work, records: &[ItemRecord]) -> Result<(), Refusal> {
    let fits: Vec<Fit> = records.iter().map(|record| fit(work, &plan.from, &plan.to, record)).collect();
    if fits.contains(&Fit::Do) {
        return Ok(());
    }
    let each = records.iter().zip(&fits).take(5).map(|(record, fit)| match fit {
        Fit::There(why) | Fit::Not(why) => format!("{}: {why}", record.name),
        Fit::Do => record.name.to_string(),
    });
    let each = each.collect::<Vec<_>>().join("; ");
    Err(Refusal::new(Code::OperationNotAllowed, format!("there is nothing to do for {work} of plan {}: {each}", plan.name)))
}

fn in_progress(name: &str, run: RunId) -> Refusal {
    Problem::new(Code::RunInProgress, format!("run {run} carries plan {name} out and has not ended")).naming(run).into()
}

fn read_plan(text: &str) -> Result<Plan, Refusal> {
    Plan::from_yaml(text).map_err(|error| Refusal::new(Code::InvalidRequest, error.to_string()))
}

/// The plan of a row.
pub(crate) fn plan_of(row: &PlanRow) -> Result<Plan, Refusal> {
    serde_json::from_value(row.plan.clone()).map_err(|error| Refusal::new(Code::Internal, format!("plan {} can't be read: {error}", row.name)))
}

/// The records of a plan's machines that there are, in the plan's order.
pub(super) async fn records(app: &App, plan: &Plan) -> Result<Vec<ItemRecord>, Refusal> {
    let mut known = std::collections::BTreeMap::new();
    for row in app.store.items(None).await? {
        known.insert(row.name.clone(), row);
    }
    plan.members().filter_map(|member| known.get(member.item.as_str())).map(|row| items::record(&row.record)).collect()
}

/// Refuses machines and sites that are not there, all of them at once.
async fn fits(app: &App, plan: &Plan) -> Result<(), Refusal> {
    let sites = app.store.sites().await?;
    if let Some(site) = [&plan.from, &plan.to].into_iter().find(|wanted| !sites.iter().any(|known| known.name == wanted.as_str())) {
        return Err(Refusal::new(Code::UnknownSite, format!("plan {}: no agent is enrolled for a site {site}", plan.name)));
    }
    let records = records(app, plan).await?;
    let missing: Vec<&str> =
        plan.members().map(|member| member.item.as_str()).filter(|item| !records.iter().any(|record| record.name.as_str() == *item)).collect();
    if !missing.is_empty() {
        return Err(Refusal::new(Code::UnknownItem, format!("plan {}: nobody protects {}", plan.name, missing.join(", "))));
    }
    together(plan, plan.point, &records).map_err(|why| Refusal::new(Code::InvalidRequest, why.to_string()))?;
    let elsewhere = records.iter().find(|record| record.primary != plan.from || record.recovery != plan.to);
    elsewhere.map_or(Ok(()), |record| {
        let detail = format!(
            "plan {} moves machines from {} to {}, and item {} is protected from {} to {}",
            plan.name, plan.from, plan.to, record.name, record.primary, record.recovery
        );
        Err(Refusal::new(Code::InvalidRequest, detail))
    })
}

/// A plan of that name.
pub(super) async fn known(app: &App, name: &str) -> Result<PlanRow, Refusal> {
    let unknown = || Refusal::new(Code::UnknownPlan, format!("no plan is called {name}"));
    app.store.plans(Some(name)).await?.pop().ok_or_else(unknown)
}

pub(super) fn run_view(row: PlanRunRow) -> Result<PlanRunView, Refusal> {
    let unreadable = || Refusal::new(Code::Internal, format!("a run of a plan can't be read: {}", row.work));
    let work = Work::ALL.into_iter().find(|work| serde_json::to_value(work).is_ok_and(|word| word == row.work.as_str())).ok_or_else(unreadable)?;
    Ok(PlanRunView {
        run: row.root,
        plan: parsed(&row.plan)?,
        version: row.version,
        work,
        began_at: row.began_at,
        ended_at: row.ended_at,
        failure: row.failure,
        rto_target_ms: row.rto_target_ms.map(i64::unsigned_abs),
    })
}

async fn view(app: &App, row: PlanRow) -> Result<PlanView, Refusal> {
    let plan = plan_of(&row)?;
    let records = records(app, &plan).await?;
    let does = |work: &Work| records.iter().any(|record| fit(*work, &plan.from, &plan.to, record) == Fit::Do);
    let allowed = if row.open_run.is_some() { vec![] } else { Work::ALL.into_iter().filter(does).collect() };
    let last = app.store.plan_runs(Some(&row.name), None, 1).await?.pop();
    let deadline = app.store.deadlines(Some(&plan_workflow_id(&plan.name))).await?.pop();
    Ok(PlanView {
        version: row.version,
        sha256: row.sha256,
        from: plan.from.clone(),
        to: plan.to.clone(),
        items: plan.members().count(),
        groups: plan.groups.len(),
        applied_by: row.applied_by,
        applied_at: row.applied_at,
        allowed_operations: allowed,
        open_run: row.open_run,
        set_aside: row.set_aside,
        last_run: last.map(run_view).transpose()?,
        deadline: deadline.map(|row| DeadlineView { due_at: row.due_at, cause: row.cause }),
        warnings: warnings(&plan, &records),
        text: row.text,
        name: plan.name,
    })
}

/// What should be known before the night comes.
fn warnings(plan: &Plan, records: &[ItemRecord]) -> Vec<String> {
    let mut found: Vec<String> = plan
        .members()
        .filter(|member| !records.iter().any(|record| record.name == member.item))
        .map(|member| format!("nobody protects {} any more", member.item))
        .collect();
    for stage in plan.stages(Work::Unplanned) {
        let steps = stage.lanes.iter().flat_map(|lane| &lane.units).flat_map(|unit| &unit.steps);
        found.extend(steps.filter(|step| step.site == plan.from).map(|step| format!("{} depends on site {}, which may be dead: {}", step.key, step.site, step.does)));
    }
    let actions = |group: &recovery::plan::Group| [group.before.clone(), group.after.clone()].concat();
    for action in [plan.before.clone(), plan.after.clone()].concat().into_iter().chain(plan.groups.iter().flat_map(actions)) {
        if let Ok(Does::Performed(performed)) = action.does() {
            found.extend(action::warnings(&performed, action.on.as_ref(), None).into_iter().map(|warning| format!("{}: {} {}", action.name, warning.what, warning.means)));
        }
        if action.at == At::Source && action.runs_in(Mode::Unplanned, None) {
            found.push(format!("{} is done at the source, which may be dead in a failover", action.name));
        }
    }
    found.sort();
    found.dedup();
    found
}
