//! Schedules.

use std::process::ExitCode;

use anyhow::{Context, Result};
use api::{
    Client,
    items::{Accepted, Listed},
    schedules::{
        Calendar, CatchUpRuns, ComingView, FiringView, MissingHour, Overlap, PauseRequest, PreviewRequest, Removed, RepeatedHour, ScheduleRequest, ScheduleView,
        Starts,
    },
};
use chrono::{DateTime, Utc};

use super::drill;
use crate::{
    arguments::{self, CalendarRules, Create, Output, Preview, ScheduleCommand},
    exit,
    output::{self, facts, or_dash, table, visible},
    span,
};

pub(super) async fn carry_out(client: &Client, output: Output, command: ScheduleCommand) -> Result<ExitCode> {
    match command {
        ScheduleCommand::Create(create) => made(client, output, *create).await,
        ScheduleCommand::List => list(client, output).await,
        ScheduleCommand::Describe { name } => {
            let view: ScheduleView = client.get(&format!("/v1/schedules/{name}")).await?;
            output::answer(output, &view, described)?;
            Ok(ExitCode::SUCCESS)
        }
        ScheduleCommand::Pause { name, reason } => {
            let view: ScheduleView = client.post(&format!("/v1/schedules/{name}/pause"), &PauseRequest { reason }).await?;
            output::answer(output, &view, |view| format!("schedule {} starts nothing until `switchback schedule resume {}`", view.name, view.name))?;
            Ok(ExitCode::SUCCESS)
        }
        ScheduleCommand::Resume { name } => {
            let view: ScheduleView = client.post(&format!("/v1/schedules/{name}/resume"), &serde_json::json!({})).await?;
            output::answer(output, &view, |view| format!("schedule {} goes on; next {}", view.name, view.next.local))?;
            Ok(ExitCode::SUCCESS)
        }
        ScheduleCommand::Remove { name } => {
            let removed: Removed = client.post(&format!("/v1/schedules/{name}/remove"), &serde_json::json!({})).await?;
            output::answer(output, &removed, |_| format!("schedule {name} is forgotten; its runs and its history stay"))?;
            Ok(ExitCode::SUCCESS)
        }
        ScheduleCommand::History { name, limit } => history(client, output, &name, limit).await,
        ScheduleCommand::Preview(preview) => previewed(client, output, *preview).await,
        ScheduleCommand::RunNow { name, waiting } => {
            let accepted: Accepted = client.post(&format!("/v1/schedules/{name}/run-now"), &serde_json::json!({})).await?;
            drill::begun(client, output, &accepted, waiting, &format!("the run of schedule {name}")).await
        }
    }
}

async fn made(client: &Client, output: Output, create: Create) -> Result<ExitCode> {
    let Create { name, cron, zone, rules, starts } = create;
    let arguments::Starts::Drill(options) = starts;
    let (item, drill) = (options.item.clone(), drill::request(options)?);
    let request = ScheduleRequest { name, calendar: calendar(cron, zone, rules)?, starts: Starts::Drill { item, drill } };
    let view: ScheduleView = client.post("/v1/schedules", &request).await?;
    output::answer(output, &view, |view| format!("schedule {} is kept; it starts {} next at {}", view.name, view.workflow_id, view.next.local))?;
    Ok(ExitCode::SUCCESS)
}

/// Degraded if the last time of a schedule was missed or what it started went badly: that is no rehearsal.
async fn list(client: &Client, output: Output) -> Result<ExitCode> {
    let schedules: Listed<ScheduleView> = client.get("/v1/schedules").await?;
    output::answer(output, &schedules, |schedules| {
        let rows = schedules.items.iter().map(|view| {
            let state = if view.pause.is_some() { "paused" } else { "on" };
            let last = view.last.as_ref().map(|last| {
                let what = if last.started { last.outcome.clone().unwrap_or_else(|| "started".to_owned()) } else { "missed".to_owned() };
                format!("{} {}", if rehearsed(last) { what } else { what.to_uppercase() }, utc(last.at))
            });
            [view.name.clone(), state.to_owned(), format!("{} {}", view.calendar.cron, view.calendar.zone), view.workflow_id.clone(), view.next.local.clone(), or_dash(last)]
        });
        table(["SCHEDULE", "STATE", "CALENDAR", "STARTS", "NEXT", "LAST (UTC)"], rows, "there are no schedules")
    })?;
    let missed = schedules.items.iter().any(|view| view.pause.is_none() && view.last.as_ref().is_some_and(|last| !rehearsed(last)));
    Ok(if missed { exit::DEGRADED.into() } else { ExitCode::SUCCESS })
}

fn described(view: &ScheduleView) -> String {
    let Calendar { cron, zone, jitter_ms, overlap, catch_up_ms, catch_up_runs, missing_hour, repeated_hour } = &view.calendar;
    let word = |value: serde_json::Result<serde_json::Value>| value.ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    let late = view.next.due_at - view.next.at;
    let next = if late.is_zero() { view.next.local.clone() } else { format!("{}, started {} later", view.next.local, span::words(late.num_milliseconds())) };
    let last = view.last.as_ref().map(|last| format!("{} {}", utc(last.at), became(last)));
    facts(&[
        ("schedule", view.name.clone()),
        ("calendar", format!("{cron} in {zone}")),
        ("jitter", span::took(*jitter_ms)),
        ("overlap", word(serde_json::to_value(overlap))),
        ("catch-up", format!("{} within {}", word(serde_json::to_value(catch_up_runs)), span::took(*catch_up_ms))),
        ("clock change", format!("left out: {}; repeated: {}", word(serde_json::to_value(missing_hour)), word(serde_json::to_value(repeated_hour)))),
        ("starts", format!("{} as {}, with {}", view.workflow, view.workflow_id, view.input)),
        ("next", next),
        ("note", or_dash(view.next.note.clone())),
        ("paused", or_dash(view.pause.as_ref().map(|pause| format!("by {} since {}: {}", pause.by, utc(pause.from), pause.reason)))),
        ("open run", or_dash(view.open_run)),
        ("last", or_dash(last)),
        ("made by", format!("{} at {}", view.created_by, utc(view.created_at))),
    ])
}

async fn history(client: &Client, output: Output, name: &str, limit: u32) -> Result<ExitCode> {
    let firings: Listed<FiringView> = client.get(&format!("/v1/schedules/{name}/history?limit={limit}")).await?;
    output::answer(output, &firings, |firings| {
        let rows = firings.items.iter().map(|row| [times(row), row.kind.replace('_', " "), outcome(row), or_dash(row.run), row.cause.clone()]);
        table(["TIME (UTC)", "WHAT", "OUTCOME", "RUN", "CAUSE"], rows, "no time has come yet")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What went wrong is in capitals: it is what the eye looks for.
fn outcome(row: &FiringView) -> String {
    match row.outcome.as_deref() {
        Some("not passed") => "NOT PASSED, see `switchback report RUN`".to_owned(),
        Some("failed") => "FAILED".to_owned(),
        other => or_dash(other),
    }
}

fn rehearsed(row: &FiringView) -> bool {
    row.started && !matches!(row.outcome.as_deref(), Some("not passed" | "failed" | "cancelled"))
}

fn times(row: &FiringView) -> String {
    if row.count > 1 { format!("{} to {} ({} times)", utc(row.at), utc(row.until), row.count) } else { utc(row.at) }
}

fn became(row: &FiringView) -> String {
    let run = row.run.map(|run| format!(", run {run}")).unwrap_or_default();
    let cause = if row.cause.is_empty() { String::new() } else { format!(": {}", visible(&row.cause)) };
    let outcome = row.outcome.as_ref().map(|outcome| format!(", {outcome}")).unwrap_or_default();
    format!("{}{run}{outcome}{cause}", row.kind.replace('_', " "))
}

async fn previewed(client: &Client, output: Output, preview: Preview) -> Result<ExitCode> {
    let Preview { name, cron, zone, rules, count } = preview;
    let coming: Listed<ComingView> = match (name, cron, zone) {
        (None, Some(cron), Some(zone)) => client.post("/v1/schedules/preview", &PreviewRequest { calendar: calendar(cron, zone, rules)?, count }).await?,
        (name, _, _) => client.get(&format!("/v1/schedules/{}/preview?count={count}", name.unwrap_or_default())).await?,
    };
    output::answer(output, &coming, |coming| {
        let rows = coming.items.iter().map(|time| {
            let starts = if time.due_at == time.at { String::new() } else { time.due_at.format("%H:%M:%S").to_string() };
            [time.local.clone(), utc(time.at), starts, time.note.clone().unwrap_or_default()]
        });
        table(["LOCAL", "UTC", "STARTS (UTC)", "NOTE"], rows, "it never fires")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

fn calendar(cron: String, zone: String, rules: CalendarRules) -> Result<Calendar> {
    use arguments::schedule as asked;
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).context("a time is too long");
    Ok(Calendar {
        cron,
        zone,
        jitter_ms: ms(rules.jitter)?,
        overlap: match rules.overlap {
            asked::Overlap::Skip => Overlap::Skip,
            asked::Overlap::Wait => Overlap::Wait,
        },
        catch_up_ms: ms(rules.catch_up)?,
        catch_up_runs: match rules.catch_up_runs {
            asked::CatchUpRuns::Last => CatchUpRuns::Last,
            asked::CatchUpRuns::All => CatchUpRuns::All,
            asked::CatchUpRuns::None => CatchUpRuns::None,
        },
        missing_hour: match rules.missing_hour {
            asked::MissingHour::RunAfter => MissingHour::RunAfter,
            asked::MissingHour::Skip => MissingHour::Skip,
        },
        repeated_hour: match rules.repeated_hour {
            asked::RepeatedHour::First => RepeatedHour::First,
            asked::RepeatedHour::Second => RepeatedHour::Second,
            asked::RepeatedHour::Both => RepeatedHour::Both,
        },
    })
}
