//! Schedules: made, looked at, paused, started by hand.
//!
//! Invariant: what is kept here can be computed: a calendar that can't be read, or never fires, is refused with the reason.

use api::{
    Code, Problem,
    access::Role,
    items::Listed,
    schedules::{
        Calendar, CatchUpRuns, ComingView, FiringView, MissingHour, Overlap, PauseRequest, PauseView, PreviewRequest, Removed, RepeatedHour, ScheduleRequest,
        ScheduleView, Starts, default_count,
    },
};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use engine::{
    RunStore, StartRun,
    schedule::{self as kept, Fired, Firing, FiringKind, FiringStart, NewSchedule, NextFire, Schedule, ScheduleSpec, ScheduleStore},
};
use sdk::{RunId, Workflow};
use serde::Deserialize;
use uuid::Uuid;
use workflows::{Drill, drill_workflow_id};

use super::{drills, items};
use crate::{
    app::{App, Asked, Queried, storable},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Most times in one answer.
const MOST_TIMES: u32 = 1_000;
/// Most schedules of an installation: each is looked at when it is due, a thousand at once take a second.
const MOST_SCHEDULES: usize = 1_000;
/// Longest name, as of a host: it stands in lists and paths.
const MOST_NAME: usize = 63;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limited {
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counted {
    count: Option<u32>,
}

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<ScheduleView>> {
    let mut items = Vec::new();
    for schedule in app.store.schedules(None).await? {
        items.push(view(&app, schedule).await?);
    }
    Ok(Json(Listed { items }))
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<ScheduleView> {
    let schedule = known(&app, &name).await?;
    view(&app, schedule).await.map(Json)
}

pub(super) async fn create(caller: Caller, State(app): State<App>, Asked(asked): Asked<ScheduleRequest>) -> Answer<ScheduleView> {
    caller.may(Role::Operator)?;
    let ScheduleRequest { name, calendar, starts } = asked;
    check_name(&name)?;
    let Starts::Drill { item, drill } = starts;
    drills::known(&app, &item).await?;
    let input = items::json(&drills::input(&item, drill)?)?;
    storable("the drill", &input)?;
    let spec = spec(calendar, Drill::NAME, drill_workflow_id(&item), input);
    let next = coming_times(&name, &spec, app.store.now().await?, 1)?.pop().ok_or_else(|| refused("it never fires"))?;
    if app.store.schedules(None).await?.len() >= MOST_SCHEDULES {
        return Err(refused(&format!("there are {MOST_SCHEDULES} schedules already, which is the most that are kept")));
    }
    let new = NewSchedule { name: name.clone(), spec, by: caller.name.clone(), next: NextFire { at: next.at, due_at: next.due_at } };
    if !app.store.create_schedule(&new).await? {
        return Err(Refusal::new(Code::NameTaken, format!("a schedule is called {name}; `switchback schedule remove {name}` forgets it")));
    }
    tracing::info!(schedule = name, by = caller.name, "a schedule was made");
    let schedule = known(&app, &name).await?;
    view(&app, schedule).await.map(Json)
}

pub(super) async fn remove(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<Removed> {
    caller.may(Role::Operator)?;
    if !app.store.remove_schedule(&name).await? {
        return Err(unknown(&name));
    }
    tracing::info!(schedule = name, by = caller.name, "a schedule was removed");
    Ok(Json(Removed { removed: true }))
}

pub(super) async fn pause(caller: Caller, State(app): State<App>, Path(name): Path<String>, Asked(asked): Asked<PauseRequest>) -> Answer<ScheduleView> {
    caller.may(Role::Operator)?;
    if asked.reason.trim().is_empty() {
        return Err(refused("a pause needs a reason: it stands beside each time that is missed because of it"));
    }
    let paused = app.store.pause_schedule(&name, &caller.name, &asked.reason).await?;
    let schedule = known(&app, &name).await?;
    if !paused {
        let by = schedule.paused().map(|pause| format!(" by {} ({})", pause.by, pause.reason)).unwrap_or_default();
        return Err(Refusal::new(Code::NotNow, format!("schedule {name} is paused{by}")));
    }
    tracing::info!(schedule = name, by = caller.name, reason = asked.reason, "a schedule was paused");
    view(&app, schedule).await.map(Json)
}

pub(super) async fn resume(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Answer<ScheduleView> {
    caller.may(Role::Operator)?;
    let resumed = app.store.resume_schedule(&name).await?;
    let schedule = known(&app, &name).await?;
    if !resumed {
        return Err(Refusal::new(Code::NotNow, format!("schedule {name} is not paused")));
    }
    tracing::info!(schedule = name, by = caller.name, "a schedule goes on");
    view(&app, schedule).await.map(Json)
}

/// Starts a run now, whether or not the schedule is paused; its times stay as they are.
pub(super) async fn run_now(caller: Caller, State(app): State<App>, Path(name): Path<String>) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let schedule = known(&app, &name).await?;
    let run = RunId(Uuid::now_v7());
    let start = FiringStart {
        at: app.store.now().await?,
        kind: FiringKind::ByHand,
        cause: format!("asked for by {}", caller.name),
        overlap: kept::Overlap::Wait,
        run: StartRun { run, start: schedule.start_message(caller.name.clone(), telemetry::traceparent()) },
    };
    match app.store.fire(&Firing { schedule: name.clone(), moves: None, missed: vec![], start: Some(start) }).await? {
        Fired::Started(run) => {
            tracing::info!(schedule = name, %run, by = caller.name, "a run of a schedule was asked for");
            Ok(items::accepted(run))
        }
        Fired::Waits(open) | Fired::Skipped(open) => {
            let detail = format!("run {open} of {} has not ended", schedule.spec.workflow_id);
            Err(Problem::new(Code::RunInProgress, detail).naming(open).into())
        }
        Fired::Recorded | Fired::Taken => Err(unknown(&name)),
    }
}

pub(super) async fn history(_: Caller, State(app): State<App>, Path(name): Path<String>, Queried(query): Queried<Limited>) -> Answer<Listed<FiringView>> {
    let recorded = app.store.firings(&name, query.limit.unwrap_or(50).clamp(1, MOST_TIMES)).await?;
    if recorded.is_empty() {
        known(&app, &name).await?;
    }
    Ok(Json(Listed { items: firings(&app, recorded).await? }))
}

pub(super) async fn coming(_: Caller, State(app): State<App>, Path(name): Path<String>, Queried(query): Queried<Counted>) -> Answer<Listed<ComingView>> {
    let schedule = known(&app, &name).await?;
    let count = query.count.unwrap_or_else(default_count).clamp(1, MOST_TIMES);
    let items = coming_times(&name, &schedule.spec, app.store.now().await?, count)?;
    Ok(Json(Listed { items }))
}

pub(super) async fn preview(_: Caller, State(app): State<App>, Asked(asked): Asked<PreviewRequest>) -> Answer<Listed<ComingView>> {
    let mut spec = spec(asked.calendar, "", String::new(), serde_json::Value::Null);
    coming_times("", &spec, app.store.now().await?, 1)?;
    // Jitter goes by the name, and there is none yet.
    spec.jitter_ms = 0;
    let items = coming_times("", &spec, app.store.now().await?, asked.count.clamp(1, MOST_TIMES))?;
    Ok(Json(Listed { items }))
}

fn coming_times(name: &str, spec: &ScheduleSpec, after: chrono::DateTime<chrono::Utc>, count: u32) -> Result<Vec<ComingView>, Refusal> {
    let times = kept::fire_times(name, spec, after, count as usize).map_err(|error| refused(&error.to_string()))?;
    Ok(times.into_iter().map(coming_view).collect())
}

fn coming_view(time: kept::FireTime) -> ComingView {
    ComingView { at: time.at, due_at: time.due_at, note: time.note(), local: time.local }
}

async fn known(app: &App, name: &str) -> Result<Schedule, Refusal> {
    app.store.schedules(Some(name)).await?.pop().ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(Code::UnknownSchedule, format!("no schedule is called {name}"))
}

fn refused(why: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, why)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=MOST_NAME).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('-') && name != "preview";
    let form = format!("{name:?} is no name of a schedule: 1 to {MOST_NAME} lower-case letters, digits and dashes, and not `preview`");
    if fits { Ok(()) } else { Err(refused(&form)) }
}

async fn view(app: &App, schedule: Schedule) -> Result<ScheduleView, Refusal> {
    let last = app.store.firings(&schedule.name, 1).await?;
    let last = firings(app, last).await?.pop();
    let pause = schedule.paused().map(|pause| PauseView { from: pause.from, by: pause.by.clone(), reason: pause.reason.clone() });
    let table = schedule.spec.timetable(&schedule.name).map_err(|error| Refusal::new(Code::Internal, format!("schedule {}: {error}", schedule.name)))?;
    let before = schedule.next.at - chrono::TimeDelta::milliseconds(1);
    let note = table.after(before).next().filter(|time| time.at == schedule.next.at).and_then(|time| time.note());
    let next = ComingView { at: schedule.next.at, due_at: schedule.next.due_at, local: table.local(schedule.next.at), note };
    let run_now = schedule.open_run.is_none().then_some("run-now");
    let allowed = [if pause.is_some() { "resume" } else { "pause" }, "remove"].into_iter().chain(run_now);
    Ok(ScheduleView {
        next,
        allowed_operations: allowed.map(str::to_owned).collect(),
        pause,
        last,
        calendar: calendar(&schedule.spec),
        name: schedule.name,
        workflow: schedule.spec.workflow,
        workflow_id: schedule.spec.workflow_id,
        input: schedule.spec.input,
        open_run: schedule.open_run,
        created_by: schedule.created_by,
        created_at: schedule.created_at,
    })
}

async fn firings(app: &App, recorded: Vec<kept::Recorded>) -> Result<Vec<FiringView>, Refusal> {
    let runs: Vec<RunId> = recorded.iter().filter(|row| row.kind.started()).filter_map(|row| row.run).collect();
    let outcomes = app.store.outcomes(&runs).await?;
    let mut views = recorded.into_iter().map(firing).collect::<Result<Vec<_>, _>>()?;
    for view in views.iter_mut().filter(|view| view.started) {
        view.outcome = view.run.and_then(|run| outcomes.get(&run)).map(|(state, passed)| match passed {
            Some(true) => "passed".to_owned(),
            Some(false) => "not passed".to_owned(),
            None => state.clone(),
        });
    }
    Ok(views)
}

fn firing(row: kept::Recorded) -> Result<FiringView, Refusal> {
    let kind = items::json(&row.kind)?.as_str().map(str::to_owned).unwrap_or_default();
    let kept::Recorded { at, until, count, cause, run, recorded_at, .. } = row;
    Ok(FiringView { at, until, count, started: row.kind.started(), kind, cause, run, outcome: None, recorded_at })
}

fn spec(calendar: Calendar, workflow: &str, workflow_id: String, input: serde_json::Value) -> ScheduleSpec {
    let Calendar { cron, zone, jitter_ms, overlap, catch_up_ms, catch_up_runs, missing_hour, repeated_hour } = calendar;
    let overlap = match overlap {
        Overlap::Skip => kept::Overlap::Skip,
        Overlap::Wait => kept::Overlap::Wait,
    };
    let which = match catch_up_runs {
        CatchUpRuns::Last => kept::CatchUpRuns::Last,
        CatchUpRuns::All => kept::CatchUpRuns::All,
        CatchUpRuns::None => kept::CatchUpRuns::None,
    };
    let missing = match missing_hour {
        MissingHour::RunAfter => kept::Missing::RunAfter,
        MissingHour::Skip => kept::Missing::Skip,
    };
    let repeated = match repeated_hour {
        RepeatedHour::First => kept::Repeated::First,
        RepeatedHour::Second => kept::Repeated::Second,
        RepeatedHour::Both => kept::Repeated::Both,
    };
    let catch_up = kept::CatchUp { within_ms: catch_up_ms, which };
    let clock_change = kept::ClockChange { missing, repeated };
    ScheduleSpec { v: ScheduleSpec::FORM, cron, zone, jitter_ms, overlap, catch_up, clock_change, workflow: workflow.to_owned(), workflow_id, input }
}

fn calendar(spec: &ScheduleSpec) -> Calendar {
    Calendar {
        cron: spec.cron.clone(),
        zone: spec.zone.clone(),
        jitter_ms: spec.jitter_ms,
        overlap: match spec.overlap {
            kept::Overlap::Skip => Overlap::Skip,
            kept::Overlap::Wait => Overlap::Wait,
        },
        catch_up_ms: spec.catch_up.within_ms,
        catch_up_runs: match spec.catch_up.which {
            kept::CatchUpRuns::Last => CatchUpRuns::Last,
            kept::CatchUpRuns::All => CatchUpRuns::All,
            kept::CatchUpRuns::None => CatchUpRuns::None,
        },
        missing_hour: match spec.clock_change.missing {
            kept::Missing::RunAfter => MissingHour::RunAfter,
            kept::Missing::Skip => MissingHour::Skip,
        },
        repeated_hour: match spec.clock_change.repeated {
            kept::Repeated::First => RepeatedHour::First,
            kept::Repeated::Second => RepeatedHour::Second,
            kept::Repeated::Both => RepeatedHour::Both,
        },
    }
}
