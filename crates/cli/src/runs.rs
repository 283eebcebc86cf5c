//! Commands on runs: history, why, cancel, resume, and looking at them.

use anyhow::{Context, Result};
use api::{
    Client,
    agent::Done,
    items::Listed,
    runs::{HistoryView, ReasonRequest, RunView, WhyView},
};
use sdk::{Event, EventBody, RunId};

use crate::{
    arguments::{Form, Runs, Waiting},
    ending::Ending,
    print, waiting,
};

pub(crate) async fn cancel(client: &Client, run: RunId, reason: Option<String>, wait: Waiting, form: Form) -> Result<Ending> {
    let Done {} = client.post(&format!("/v1/runs/{run}/cancel"), &ReasonRequest { reason }).await?;
    eprintln!("run {run} is asked to stop; what it did is undone first");
    if wait.wait { waiting::wait(client, run, wait.timeout, form).await } else { Ok(Ending::Well) }
}

pub(crate) async fn resume(client: &Client, run: RunId, reason: Option<String>) -> Result<Ending> {
    let Done {} = client.post(&format!("/v1/runs/{run}/resume"), &ReasonRequest { reason }).await?;
    eprintln!("run {run} goes on");
    Ok(Ending::Well)
}

pub(crate) async fn why(client: &Client, run: RunId, form: Form) -> Result<Ending> {
    let why: WhyView = client.get(&format!("/v1/runs/{run}/why")).await?;
    match form {
        Form::Json => print::json(&why)?,
        Form::Table => println!("{}", why.why),
    }
    Ok(Ending::Well)
}

pub(crate) async fn history(client: &Client, run: RunId, form: Form) -> Result<Ending> {
    let history: HistoryView = client.get(&format!("/v1/runs/{run}/history")).await?;
    if form == Form::Json {
        print::json(&history)?;
        return Ok(Ending::Well);
    }
    for event in &history.events {
        println!("{}", line(event));
    }
    eprintln!("{} events, run {}, chain head {}", history.events.len(), history.state.as_str(), history.head);
    Ok(Ending::Well)
}

/// One event: position, time, the epochs and worker that wrote it, what.
fn line(event: &Event) -> String {
    let at = event.at.format("%H:%M:%S%.3f");
    let worker: String = event.worker.to_string().chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
    let direction = match &event.body {
        EventBody::Inbound(_) => "◀",
        EventBody::Command(_) => "▶",
    };
    format!(
        "{:>4}  {at}  run epoch {} · worker …{worker} lease epoch {}  {direction} {:<24} {}",
        event.seq.0,
        event.run_epoch,
        event.lease_epoch,
        event.body.kind(),
        said(&event.body)
    )
}

fn said(body: &EventBody) -> String {
    let inner = match body {
        EventBody::Inbound(inbound) => serde_json::to_value(inbound),
        EventBody::Command(command) => serde_json::to_value(command),
    };
    let mut inner = inner.unwrap_or_default();
    if let Some(fields) = inner.as_object_mut() {
        fields.remove("kind");
        fields.remove("options");
        // The whole record stands in the JSON form; here the fact says it.
        if let Some(fact) = fields.get_mut("fact").and_then(|fact| fact.as_object_mut()) {
            fact.remove("record");
        }
    }
    shortened(&print::flat(&inner))
}

/// Longest text of an event on one line.
const LINE: usize = 220;

fn shortened(text: &str) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= LINE { text } else { text.chars().take(LINE - 1).chain(['…']).collect() }
}

pub(crate) async fn list(client: &Client, wanted: Runs, form: Form) -> Result<Ending> {
    let mut query = format!("/v1/runs?limit={}", wanted.limit);
    if let Some(item) = &wanted.item {
        query += &format!("&item={item}");
    }
    if wanted.open {
        query += "&open=true";
    }
    let runs: Listed<RunView> = client.get(&query).await?;
    if form == Form::Json {
        print::json(&runs)?;
        return Ok(Ending::Well);
    }
    let rows = runs.items.iter().map(|view| {
        let ended = view.closed_at.map(|at| print::millis((at - view.started_at).num_milliseconds()));
        let problem = view.problem.as_ref().map(|problem| problem.code.clone());
        [
            view.run.to_string(),
            view.workflow.clone(),
            view.workflow_id.clone(),
            view.state.as_str().to_owned(),
            print::time(view.started_at),
            print::or_dash(ended),
            view.requested_by.clone(),
            print::or_dash(problem),
        ]
    });
    print::table(["RUN", "WORKFLOW", "ABOUT", "STATE", "STARTED", "TOOK", "ASKED BY", "PROBLEM"], rows);
    Ok(Ending::Well)
}

pub(crate) async fn describe(client: &Client, run: &str, form: Form) -> Result<Ending> {
    let run: RunId = run.parse().with_context(|| format!("{run:?} is not the id of a run"))?;
    let view: RunView = client.get(&format!("/v1/runs/{run}")).await?;
    if form == Form::Json {
        print::json(&view)?;
        return Ok(Ending::Well);
    }
    let why: WhyView = client.get(&format!("/v1/runs/{run}/why")).await?;
    print::sheet(&[
        ("run", view.run.to_string()),
        ("workflow", view.workflow.clone()),
        ("about", view.workflow_id.clone()),
        ("state", view.state.as_str().to_owned()),
        ("waits for", why.why),
        ("problem", print::or_dash(view.problem.as_ref())),
        ("asked by", view.requested_by.clone()),
        ("started", print::time(view.started_at)),
        ("ended", print::or_dash(view.closed_at.map(print::time))),
        ("owner", print::or_dash(view.owner.map(|lease| format!("worker {} lease epoch {}", lease.worker, lease.epoch)))),
        ("run epoch", view.epoch.to_string()),
        ("events", view.events.to_string()),
        ("trace", print::or_dash(view.trace_id.as_ref())),
    ]);
    for task in &view.tasks {
        let progress = task.progress.as_ref().map(print::flat).unwrap_or_default();
        let trouble = task.problem.as_ref().map(|problem| format!(" last trouble: {problem}")).unwrap_or_default();
        println!("task {} {} on {}: {}, attempt {} of {} {progress}{trouble}", task.seq, task.activity, task.queue, task.state, task.attempt, task.max_attempts);
    }
    Ok(Ending::Well)
}
