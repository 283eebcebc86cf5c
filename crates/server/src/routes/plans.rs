//! Plans: looked at, carried out.
//!
//! Invariant: nothing is begun before the plan fits what is there; the last word has the database: one open run for each plan.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    Code, Problem,
    access::Role,
    items::{AcceptUnfenced, Listed, MAX_SHUT_DOWN_MS},
    plans::{DeadlineView, PlanRunView, PlanView, PlanWorkRequest, PlansView, UnreadablePlan},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::HeaderMap,
    response::Response,
};
use recovery::{
    ItemName, ItemRecord, PlanName, Sync,
    plan::{Extra, Fit, InvalidWork, Plan, Work, fit, hindrances, together, undone},
};
use sdk::{RunId, Workflow};
use store::plans::{DeadlineRow, PlanRow, PlanRunRow};
use workflows::{Acceptance, PlanInput, PlanOptions, plan_workflow_id};

use super::{asked, held, items};
use crate::{
    app::{App, parsed, read},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Most runs in one answer.
const MOST_RUNS: i64 = 200;
/// Most machines that an error names: the rest is found with the same text once these are mended.
pub(super) const MOST_NAMED: usize = 20;

/// One that can't be read hides none of the others.
pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<PlansView> {
    let (rows, plans, unreadable) = read_all(app.store.plans(None).await?);
    let stands = Stands::of(&app, &plans, None).await?;
    let items = rows.into_iter().zip(plans).map(|(row, plan)| view(row, plan, &stands));
    Ok(Json(PlansView { items: items.collect::<Result<_, Refusal>>()?, unreadable }))
}

/// Those that can be read, with their plans, and those that can't.
fn read_all(all: Vec<PlanRow>) -> (Vec<PlanRow>, Vec<Plan>, Vec<UnreadablePlan>) {
    let (mut rows, mut plans, mut unreadable) = (vec![], vec![], vec![]);
    for row in all {
        match plan_of(&row) {
            Ok(plan) => {
                rows.push(row);
                plans.push(plan);
            }
            Err(Refusal(problem)) => unreadable.push(UnreadablePlan { name: row.name, version: row.version, why: problem.detail, open_run: row.open_run }),
        }
    }
    (rows, plans, unreadable)
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<PlanView> {
    let row = known(&app, &name).await?;
    seen(&app, row).await.map(Json)
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
    work.parse().map_err(|error: InvalidWork| Refusal::new(Code::UnknownPath, error.to_string()))
}

async fn begun(app: &App, caller: &Caller, name: &str, work: Work, body: &[u8]) -> Result<RunId, Refusal> {
    let request: PlanWorkRequest = read(body)?;
    let row = known(app, name).await?;
    let plan = plan_of(&row)?;
    if let Some(open) = row.open_run {
        return Err(in_progress(name, open));
    }
    let discards = request.discard_writes;
    let options = options(caller, work, request)?;
    let point = options.point.unwrap_or(plan.point);
    if let recovery::PointChoice::Exact(id) = point {
        let detail = format!("point {id} is one of one machine, and plan {name} has {}; choose one of the latest-… options", plan.members().count());
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    let records = records(app, &plan).await?;
    together(&plan, point, &records).map_err(|why| Refusal::new(Code::InvalidRequest, why.to_string()))?;
    something_to_do(&plan, work, &records)?;
    not_hindered(&plan, work, options.sync, &records)?;
    let items: Vec<&str> = plan.members().map(|member| member.item.as_str()).collect();
    let real = matches!(work, Work::Planned | Work::Unplanned | Work::Failback);
    held::free(app, &items, Some(name), &format!("{work} of plan {name} now"), real).await?;
    may_discard(&plan, work, &records, discards)?;
    let input = PlanInput { version: row.version, sha256: row.sha256, work, options, plan };
    let about = plan_workflow_id(&input.plan.name);
    let started = items::start(app, caller, workflows::Plan::NAME, about, items::json(&input)?).await?;
    started.map_err(|open| in_progress(name, open))
}

fn options(caller: &Caller, work: Work, request: PlanWorkRequest) -> Result<PlanOptions, Refusal> {
    let refused = |detail: String| Err(Refusal::new(Code::InvalidRequest, detail));
    let PlanWorkRequest { point, accept_unfenced, fence_timeout_ms, shut_down_ms, try_shut_down, accept_loss, sync, location, discard_writes, ttl_ms } = request;
    let given = [
        (point.is_some(), "point", matches!(work, Work::Test | Work::Unplanned | Work::Failback)),
        (try_shut_down, "try_shut_down", work == Work::Unplanned),
        (accept_loss.is_some(), "accept_loss", work == Work::Failback && point.is_some()),
        (accept_unfenced.is_some(), "accept_unfenced", work == Work::Unplanned),
        (fence_timeout_ms.is_some(), "fence_timeout_ms", work == Work::Unplanned),
        (shut_down_ms.is_some(), "shut_down_ms", matches!(work, Work::Planned | Work::Failback) || try_shut_down),
        (sync != Sync::default(), "sync", work == Work::Failback),
        (location != recovery::Location::default(), "location", work == Work::Reprotect),
        (discard_writes, "discard_writes", work == Work::Undo),
        (ttl_ms.is_some(), "ttl_ms", work == Work::Test),
    ];
    if let Some((_, word, _)) = given.iter().find(|(given, _, fits)| *given && !fits) {
        return refused(format!("{word} means nothing for {work}"));
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
    if let Some(ttl_ms) = ttl_ms {
        asked::stays(ttl_ms)?;
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
        ttl_ms,
        failed_over_until: None,
    })
}

/// Refuses an undo that nobody said may discard what machines have written, and says for each what that is.
fn may_discard(plan: &Plan, work: Work, records: &[ItemRecord], discards: bool) -> Result<(), Refusal> {
    if work != Work::Undo || discards {
        return Ok(());
    }
    let detail = format!(
        "this ends the machines of plan {} that were failed over and loses, of {}; nothing has changed yet. Repeat with --discard-writes \
         (discard_writes: true) to do it; how much it was will stand in the histories",
        plan.name,
        shown(undone(plan, records))
    );
    Err(Refusal::new(Code::ConfirmationNeeded, detail))
}

/// Refuses what would stop at machines that are in no state for it.
fn not_hindered(plan: &Plan, work: Work, sync: Sync, records: &[ItemRecord]) -> Result<(), Refusal> {
    let known: BTreeMap<&ItemName, &ItemRecord> = records.iter().map(|record| (&record.name, record)).collect();
    let found = hindrances(plan, work, sync, |item| known.get(item).copied());
    if found.is_empty() {
        return Ok(());
    }
    let each = shown(found.iter().map(|(item, why)| format!("{item}: {why}")).collect());
    let detail = format!(
        "{work} of plan {} would stop at {} of its {} machines. {each}. Nothing has changed; what is asked of single machines (`switchback {work} ITEM`) \
         is not held up by these",
        plan.name,
        found.len(),
        records.len()
    );
    Err(Refusal::new(Code::NotNow, detail))
}

/// As many as somebody reads.
fn shown(told: Vec<String>) -> String {
    let more = told.len().saturating_sub(MOST_NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    told.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join("; ") + &more
}

/// Refuses what means nothing for any machine, and says how each stands.
fn something_to_do(plan: &Plan, work: Work, records: &[ItemRecord]) -> Result<(), Refusal> {
    let fits: Vec<Fit> = records.iter().map(|record| fit(work, &plan.from, &plan.to, record)).collect();
    if fits.contains(&Fit::Do) {
        return Ok(());
    }
    let each = records.iter().zip(&fits).map(|(record, fit)| match fit {
        Fit::There(why) | Fit::Not(why) => format!("{}: {why}", record.name),
        Fit::Do => record.name.to_string(),
    });
    let detail = format!("there is nothing to do for {work} of plan {}, nothing has changed. {}", plan.name, shown(each.collect()));
    Err(Refusal::new(Code::NotNow, detail))
}

fn in_progress(name: &str, run: RunId) -> Refusal {
    Problem::new(Code::RunInProgress, format!("run {run} carries plan {name} out and has not ended")).naming(run).into()
}

/// The plan of a row.
pub(crate) fn plan_of(row: &PlanRow) -> Result<Plan, Refusal> {
    serde_json::from_value(row.plan.clone()).map_err(|error| Refusal::new(Code::Internal, format!("plan {} can't be read: {error}", row.name)))
}

/// The records of a plan's machines that there are, in the plan's order.
pub(super) async fn records(app: &App, plan: &Plan) -> Result<Vec<ItemRecord>, Refusal> {
    let known = records_of(app, std::slice::from_ref(plan)).await?;
    Ok(plan.members().filter_map(|member| known.get(&member.item).cloned()).collect())
}

/// The records of all machines of some plans that there are.
async fn records_of(app: &App, plans: &[Plan]) -> Result<BTreeMap<ItemName, ItemRecord>, Refusal> {
    let names: BTreeSet<&str> = plans.iter().flat_map(Plan::members).map(|member| member.item.as_str()).collect();
    let rows = app.store.items_named(&Vec::from_iter(names)).await?;
    rows.iter().map(|row| items::record(&row.record).map(|record| (record.name.clone(), record))).collect()
}

/// Refuses machines and sites that are not there, all of them at once.
pub(super) async fn fits(app: &App, plan: &Plan) -> Result<(), Refusal> {
    let sites = app.store.sites().await?;
    if let Some(site) = [&plan.from, &plan.to].into_iter().find(|wanted| !sites.iter().any(|known| known.name == wanted.as_str())) {
        return Err(Refusal::new(Code::UnknownSite, format!("plan {}: no agent is enrolled for a site {site}", plan.name)));
    }
    let records = records(app, plan).await?;
    let there: BTreeSet<&ItemName> = records.iter().map(|record| &record.name).collect();
    let missing: Vec<&str> = plan.members().map(|member| &member.item).filter(|item| !there.contains(item)).map(ItemName::as_str).collect();
    if !missing.is_empty() {
        let (shown, more) = (missing[..missing.len().min(MOST_NAMED)].join(", "), missing.len().saturating_sub(MOST_NAMED));
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        return Err(Refusal::new(Code::UnknownItem, format!("plan {}: nobody protects {shown}{more}", plan.name)));
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
    let work = Work::of_recorded(&row.work).ok_or_else(unreadable)?;
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

/// What a plan's view takes from elsewhere.
struct Stands {
    records: BTreeMap<ItemName, ItemRecord>,
    last: BTreeMap<String, PlanRunRow>,
    deadlines: BTreeMap<String, DeadlineRow>,
}

impl Stands {
    /// Of one plan, or of all that there are.
    async fn of(app: &App, plans: &[Plan], one: Option<&PlanName>) -> Result<Self, Refusal> {
        let last = app.store.last_plan_runs(one.map(PlanName::as_str)).await?;
        let deadlines = app.store.deadlines(one.map(plan_workflow_id).as_deref()).await?;
        Ok(Self {
            records: records_of(app, plans).await?,
            last: last.into_iter().map(|row| (row.plan.clone(), row)).collect(),
            deadlines: deadlines.into_iter().map(|row| (row.workflow_id.clone(), row)).collect(),
        })
    }
}

pub(super) async fn seen(app: &App, row: PlanRow) -> Result<PlanView, Refusal> {
    let plan = plan_of(&row)?;
    let stands = Stands::of(app, std::slice::from_ref(&plan), Some(&plan.name)).await?;
    view(row, plan, &stands)
}

fn view(row: PlanRow, plan: Plan, stands: &Stands) -> Result<PlanView, Refusal> {
    let members: Vec<(&ItemName, Option<&ItemRecord>)> = plan.members().map(|member| (&member.item, stands.records.get(&member.item))).collect();
    let gone = members.iter().filter(|(_, record)| record.is_none()).map(|(item, _)| format!("nobody protects {item} any more"));
    let profiles = stands.records.iter().map(|(item, record)| (item.clone(), record.profile)).collect();
    let extra = Extra::of(&plan, Work::Unplanned, &profiles).told();
    let warnings = gone.take(MOST_NAMED).chain(extra).chain(plan.warnings()).collect();
    let free = |work: Work, sync| hindrances(&plan, work, sync, |item| stands.records.get(item)).is_empty();
    let goes = |work: Work| free(work, Sync::BeforeFailover) || work == Work::Failback && free(work, Sync::DuringFailover);
    let does = |work: &Work| members.iter().filter_map(|(_, record)| *record).any(|record| fit(*work, &plan.from, &plan.to, record) == Fit::Do) && goes(*work);
    let allowed = if row.open_run.is_some() { vec![] } else { Work::ALL.into_iter().filter(does).collect() };
    let deadline = stands.deadlines.get(&plan_workflow_id(&plan.name));
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
        last_run: stands.last.get(&row.name).cloned().map(run_view).transpose()?,
        deadline: deadline.map(|row| DeadlineView { due_at: row.due_at, cause: row.cause.clone() }),
        warnings,
        text: row.text,
        name: plan.name,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::DateTime;
    use serde_json::{Value, json};

    use super::*;

    fn row(name: &str, plan: Value) -> PlanRow {
        PlanRow {
            name: name.to_owned(),
            version: 3,
            text: None,
            plan,
            sha256: String::new(),
            applied_by: "ada".to_owned(),
            applied_at: DateTime::UNIX_EPOCH,
            open_run: None,
            set_aside: false,
        }
    }

    #[test]
    fn a_plan_that_can_not_be_read_hides_none_of_the_others() {
        let shop = Plan::from_yaml("version: 1\nname: shop\nfrom: a\nto: b\ngroups: [{ name: all, items: [{ item: db1 }] }]\n").unwrap();
        let (rows, plans, unreadable) = read_all(vec![row("bank", json!({ "colour": "green" })), row("shop", serde_json::to_value(&shop).unwrap())]);
        assert_eq!((rows.len(), plans), (1, vec![shop]));
        assert_eq!((unreadable.len(), unreadable[0].name.as_str(), unreadable[0].version), (1, "bank", 3));
        assert!(unreadable[0].why.starts_with("plan bank can't be read: "), "{}", unreadable[0].why);
    }
}
