//! Waiting for a run: what it does now on standard error, its result on standard output.
//!
//! The wait outlives the server and the database: they may restart while the run goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use api::{
    Client, ClientError,
    runs::{HistoryView, RunState, RunView, WhyView},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sdk::{Command, EventBody, RunId};
use serde_json::{Value, json};

use crate::{
    arguments::{Form, Waiting},
    ending::Ending,
    print,
};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Says which run was begun, and waits for it if asked to.
pub(crate) async fn begun(client: &Client, run: RunId, waiting: Waiting, form: Form) -> Result<Ending> {
    if waiting.wait {
        eprintln!("run {run}");
        return wait(client, run, waiting.timeout, form).await;
    }
    match form {
        Form::Json => print::json(&json!({ "run": run }))?,
        Form::Table => println!("{run}"),
    }
    Ok(Ending::Well)
}

/// Waits until a run has ended; prints how.
pub(crate) async fn wait(client: &Client, run: RunId, limit: Option<Duration>, form: Form) -> Result<Ending> {
    let shown = Shown::new();
    let until = limit.map(|limit| Instant::now() + limit);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        match look(client, run).await {
            Ok((view, why)) => {
                if view.state.ended() || view.state == RunState::Suspended {
                    shown.done();
                    return ended(client, view, form).await;
                }
                shown.say(&why);
            }
            Err(error) if passing(&error) => shown.say("no answer; waiting for the server and its database to come back"),
            Err(error) => return Err(error.into()),
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            shown.done();
            eprintln!("switchback: run {run} has not ended yet; it goes on. `switchback wait {run}` waits again");
            return Ok(Ending::TimedOut);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = &mut interrupted => {
                shown.done();
                eprintln!("switchback: no longer waiting; run {run} goes on. `switchback cancel {run}` asks it to stop");
                return Ok(Ending::Interrupted);
            }
        }
    }
}

async fn look(client: &Client, run: RunId) -> Result<(RunView, String), ClientError> {
    let view: RunView = client.get(&format!("/v1/runs/{run}")).await?;
    let why: WhyView = client.get(&format!("/v1/runs/{run}/why")).await?;
    Ok((view, why.why))
}

/// Whether asking again may help.
fn passing(error: &ClientError) -> bool {
    match error.problem() {
        Some(problem) => problem.status >= 500,
        None => matches!(error, ClientError::Unreachable { .. } | ClientError::Unreadable { .. }),
    }
}

async fn ended(client: &Client, view: RunView, form: Form) -> Result<Ending> {
    let output = output(client, view.run).await;
    match form {
        Form::Json => print::json(&json!({ "run": view, "output": output }))?,
        Form::Table => {
            println!("run {} {}", view.run, view.state.as_str());
            if !output.is_null() {
                println!("{}", print::flat(&output));
            }
        }
    }
    if let Some(problem) = &view.problem {
        eprintln!("switchback: {} ({})", problem.message, problem.code);
        eprintln!("  next:  `switchback history {}` tells what was done and undone; `switchback get items` what is possible now", view.run);
    }
    Ok(match view.state {
        RunState::Completed => Ending::Well,
        RunState::Failed | RunState::Cancelled => Ending::Failed,
        RunState::Suspended | RunState::Open => Ending::Degraded,
    })
}

/// What a completed run gave; null for others, or if the server can't be asked now.
async fn output(client: &Client, run: RunId) -> Value {
    let history = client.get::<HistoryView>(&format!("/v1/runs/{run}/history")).await;
    let last = history.ok().and_then(|history| history.events.into_iter().last());
    match last.map(|event| event.body) {
        Some(EventBody::Command(Command::RunCompleted { output })) => output,
        Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => Value::Null,
    }
}

/// One live line on a terminal; elsewhere a line for each change.
struct Shown {
    bar: ProgressBar,
    last: std::cell::RefCell<String>,
}

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, last: std::cell::RefCell::default() }
    }

    fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        let changed = self.last.replace(text.to_owned()) != text;
        if changed && self.bar.is_hidden() {
            eprintln!("  {text}");
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}
