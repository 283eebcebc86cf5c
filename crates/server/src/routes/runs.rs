//! Runs, their histories, and the job queue.

use api::{
    Code,
    access::Role,
    items::Listed,
    queues::{QueueView, TaskChanged},
    runs::{HistoryView, ReasonRequest, RunState, RunView, TaskView, WhyView},
};
use axum::{
    Json,
    extract::{Path, State},
};
use engine::{RunStore, Sent};
use recovery::ItemName;
use sdk::{Failure, Message, RunId, Seq, Workflow};
use serde::Deserialize;
use store::look::{RunFilter, RunRow, TaskSeen};
use workflows::{PlanGroup, Trigger, item_workflow_id};

use super::{approvals, plan_questions};
use crate::{
    app::{App, Asked, Queried, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
    why,
};

/// Most runs in one answer.
const MOST_RUNS: i64 = 1000;
/// Most tasks in one answer.
const MOST_TASKS: i64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    item: Option<String>,
    about: Option<String>,
    #[serde(default)]
    open: bool,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    after: Option<i32>,
}

pub(super) async fn list(_: Caller, State(app): State<App>, Queried(query): Queried<ListQuery>) -> Answer<Listed<RunView>> {
    let item: Option<ItemName> = query.item.as_deref().map(parsed).transpose()?;
    let limit = query.limit.unwrap_or(100).clamp(1, MOST_RUNS);
    let workflow_id = query.about.or_else(|| item.as_ref().map(item_workflow_id));
    let filter = RunFilter { run: None, workflow_id, open: query.open, limit };
    let runs = app.store.runs(&filter).await?;
    let items = runs.into_iter().map(|row| view(row, vec![])).collect::<Result<_, _>>()?;
    Ok(Json(Listed { items }))
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(run): Path<String>) -> Answer<RunView> {
    let row = known(&app, &run).await?;
    let tasks = app.store.tasks_seen(Some(row.run), false, MOST_TASKS).await?;
    view(row, tasks).map(Json)
}

pub(super) async fn history(_: Caller, State(app): State<App>, Path(run): Path<String>, Queried(query): Queried<HistoryQuery>) -> Answer<HistoryView> {
    let row = known(&app, &run).await?;
    let history = app.store.load_history(row.run).await?;
    let head = history.head().to_string();
    let after = query.after.unwrap_or(-1);
    let events = history.events.into_iter().map(|stored| stored.event).filter(|event| event.seq.0 > after).collect();
    Ok(Json(HistoryView { run: row.run, state: state(&row.state)?, events, head }))
}

pub(super) async fn why(_: Caller, State(app): State<App>, Path(run): Path<String>) -> Answer<WhyView> {
    let row = known(&app, &run).await?;
    if row.held {
        return Ok(Json(WhyView { run: row.run, why: why::held(&row) }));
    }
    if row.workflow == Trigger::NAME && row.state == "open" {
        let standing = approvals::standing(&app, row.run).await?;
        let asks = standing.question.map(|question| approvals::waits_for(&question, row.run));
        let words = standing.words.map(|words| format!("{words}; `switchback trigger explain {}` tells all of it", row.run));
        if let Some(why) = asks.or(words) {
            return Ok(Json(WhyView { run: row.run, why }));
        }
    }
    let tasks = app.store.tasks_seen(Some(row.run), false, MOST_TASKS).await?;
    let waits = app.store.waits(row.run).await?;
    let now = app.store.now().await?;
    let idle = tasks.is_empty() && waits.is_empty();
    if row.state == "open" && (idle || [workflows::Plan::NAME, PlanGroup::NAME].contains(&row.workflow.as_str()))
        && let Some(why) = plan_questions::why(&app, &row, idle).await?
    {
        return Ok(Json(WhyView { run: row.run, why }));
    }
    Ok(Json(WhyView { run: row.run, why: why::line(&row, &tasks, &waits, now) }))
}

pub(super) async fn cancel(caller: Caller, State(app): State<App>, Path(run): Path<String>, Asked(asked): Asked<ReasonRequest>) -> Answer<RunView> {
    caller.may(Role::Operator)?;
    let run = run_id(&run)?;
    let reason = asked.reason.unwrap_or_else(|| "no reason given".to_owned());
    let message = Message::Cancel { by: caller.name.clone(), reason };
    match app.store.send(run, message).await? {
        Sent::Accepted => tracing::info!(%run, by = caller.name, "a run was asked to stop"),
        Sent::Closed => return Err(Refusal::new(Code::RunEnded, format!("run {run} has ended"))),
        Sent::NoSuchRun => return Err(unknown(run)),
    }
    let tasks = app.store.tasks_seen(Some(run), false, MOST_TASKS).await?;
    view(known(&app, &run.to_string()).await?, tasks).map(Json)
}

pub(super) async fn resume(caller: Caller, State(app): State<App>, Path(run): Path<String>, Asked(asked): Asked<ReasonRequest>) -> Answer<RunView> {
    caller.may(Role::Operator)?;
    let row = known(&app, &run).await?;
    let run = row.run;
    if !app.store.resume_run(run).await? {
        return Err(Refusal::new(Code::OperationNotAllowed, format!("run {run} is {}, not set aside", row.state)));
    }
    tracing::info!(%run, by = caller.name, reason = asked.reason, "a run that was set aside goes on");
    view(known(&app, &run.to_string()).await?, vec![]).map(Json)
}

pub(super) async fn queues(_: Caller, State(app): State<App>) -> Answer<Listed<QueueView>> {
    let queue = |row: store::look::QueueRow| QueueView {
        queue: row.queue,
        queued: row.queued,
        claimed: row.claimed,
        dead: row.dead,
        oldest_age_ms: row.oldest_age_ms,
        attempts: row.attempts,
    };
    Ok(Json(Listed { items: app.store.queues().await?.into_iter().map(queue).collect() }))
}

pub(super) async fn dead(_: Caller, State(app): State<App>) -> Answer<Listed<TaskView>> {
    let tasks = app.store.tasks_seen(None, true, MOST_TASKS).await?;
    Ok(Json(Listed { items: tasks.into_iter().map(task).collect() }))
}

pub(super) async fn retry_dead(caller: Caller, State(app): State<App>, Path((run, seq)): Path<(String, i32)>) -> Answer<TaskChanged> {
    caller.may(Role::Operator)?;
    let (run, seq): (RunId, Seq) = (run_id(&run)?, Seq(seq));
    if !app.store.retry_dead(run, seq).await? {
        return Err(no_dead_letter(run, seq));
    }
    tracing::info!(%run, %seq, by = caller.name, "a dead letter is tried again");
    Ok(Json(TaskChanged { changed: true }))
}

pub(super) async fn discard_dead(caller: Caller, State(app): State<App>, Path((run, seq)): Path<(String, i32)>) -> Answer<TaskChanged> {
    caller.may(Role::Operator)?;
    let (run, seq): (RunId, Seq) = (run_id(&run)?, Seq(seq));
    let dead = app.store.tasks_seen(Some(run), true, MOST_TASKS).await?.into_iter().find(|task| task.seq == seq);
    let Some(dead) = dead else { return Err(no_dead_letter(run, seq)) };
    let cause = dead.problem.as_ref().map(|problem| format!("; it was set aside because of {problem}")).unwrap_or_default();
    let failure = Failure::fatal("discarded", format!("{} gave {} up{cause}", caller.name, dead.activity));
    if !app.store.discard_dead(run, seq, &failure, dead.attempt).await? {
        return Err(no_dead_letter(run, seq));
    }
    tracing::info!(%run, %seq, by = caller.name, "a dead letter is given up");
    Ok(Json(TaskChanged { changed: true }))
}

async fn known(app: &App, run: &str) -> Result<RunRow, Refusal> {
    let run = run_id(run)?;
    let row = app.store.runs(&RunFilter { run: Some(run), limit: 1, ..RunFilter::default() }).await?.into_iter().next();
    row.ok_or_else(|| unknown(run))
}

fn run_id(text: &str) -> Result<RunId, Refusal> {
    let refused = |error| Refusal::new(Code::InvalidRequest, format!("{text:?} is no id of a run ({error}); `switchback runs` lists them"));
    text.parse().map_err(refused)
}

fn unknown(run: RunId) -> Refusal {
    Refusal::new(Code::UnknownRun, format!("there is no run {run}"))
}

fn no_dead_letter(run: RunId, seq: Seq) -> Refusal {
    Refusal::new(Code::UnknownTask, format!("task {seq} of run {run} is no dead letter"))
}

fn state(word: &str) -> Result<RunState, Refusal> {
    let known = serde_json::from_value(serde_json::Value::String(word.to_owned()));
    known.map_err(|error| Refusal::new(Code::Internal, format!("a run is in a state that is none: {error}")))
}

fn view(row: RunRow, tasks: Vec<TaskSeen>) -> Result<RunView, Refusal> {
    let trace_id = row.trace.as_ref().and_then(|parent| parent.split('-').nth(1).map(str::to_owned));
    Ok(RunView {
        run: row.run,
        workflow: row.workflow,
        workflow_id: row.workflow_id,
        requested_by: row.requested_by,
        state: state(&row.state)?,
        allowed_operations: state(&row.state)?.allowed_operations(),
        problem: row.problem,
        owner: row.owner,
        epoch: row.epoch,
        started_at: row.started_at,
        closed_at: row.closed_at,
        events: row.events,
        held: row.held,
        trace_id,
        tasks: tasks.into_iter().map(task).collect(),
    })
}

fn task(seen: TaskSeen) -> TaskView {
    TaskView {
        run: seen.run,
        seq: seen.seq,
        queue: seen.queue,
        activity: seen.activity,
        state: seen.state,
        attempt: seen.attempt,
        max_attempts: seen.max_attempts,
        in_doubt: seen.in_doubt,
        holder: seen.holder,
        agent: seen.agent,
        scheduled_at: seen.scheduled_at,
        not_before: seen.not_before,
        progress: seen.progress,
        problem: seen.problem,
    }
}
