//! `--wait`: stays with a run until it has ended, and shows what it does on standard error.
//!
//! Invariants: 1. A server or database that is away is waited for: the run goes on without us, and so do we. 2. Ctrl-C ends the
//! waiting, not the run.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anyhow::Result;
use api::{
    Client, ClientError, Code,
    runs::{HistoryView, RunState, RunView, WhyView},
};
use indicatif::{ProgressBar, ProgressStyle};
use sdk::{Command, Event, EventBody, Failure, RunId};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    arguments::{Output, Waiting},
    event, exit, output,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// How a run ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ended {
    /// Which.
    pub(crate) run: RunId,
    /// How.
    pub(crate) state: RunState,
    /// What it gave.
    pub(crate) output: Option<Value>,
    /// Why it gave nothing.
    pub(crate) problem: Option<Failure>,
}

/// What came of waiting.
enum Waited {
    Ended(Box<Ended>),
    InVain,
    Interrupted,
}

impl Ended {
    /// Of the process that waited for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.state {
            RunState::Completed => 0,
            RunState::Failed | RunState::Cancelled => exit::FAILED,
            RunState::Open | RunState::Suspended => exit::DEGRADED,
        }
    }
}

/// Stays with a run, and answers how it ended; `what` says in words what was asked for.
pub(crate) async fn for_end(client: &Client, output: Output, run: RunId, waiting: Waiting, what: &str) -> Result<ExitCode> {
    for_verdict(client, output, run, waiting, |ended| (sentence(what, ended), ended.exit_code())).await
}

/// The same, with words for people and an exit code that depend on what the run gave.
pub(crate) async fn for_verdict(
    client: &Client,
    output: Output,
    run: RunId,
    waiting: Waiting,
    told: impl Fn(&Ended) -> (String, u8),
) -> Result<ExitCode> {
    match until_ended(client, run, waiting).await? {
        Waited::Ended(ended) => {
            output::answer(output, ended.as_ref(), |ended| told(ended).0)?;
            Ok(told(&ended).1.into())
        }
        Waited::InVain => {
            eprintln!("switchback: run {run} has not ended in time; it goes on, see `switchback why {run}`");
            Ok(exit::WAITED_IN_VAIN.into())
        }
        Waited::Interrupted => {
            eprintln!("switchback: run {run} goes on; `switchback cancel {run}` asks it to stop");
            Ok(exit::INTERRUPTED.into())
        }
    }
}

pub(crate) fn sentence(what: &str, ended: &Ended) -> String {
    let detail = match (&ended.output, &ended.problem) {
        (_, Some(problem)) => format!(": {problem}"),
        (Some(output), None) if !output.is_null() => format!(": {output}"),
        _ => String::new(),
    };
    format!("{what} is {}{}\nrun {}", ended.state.as_str(), output::visible(&detail), ended.run)
}

async fn until_ended(client: &Client, run: RunId, waiting: Waiting) -> Result<Waited> {
    let shown = Shown::new();
    let deadline = waiting.timeout.map(|timeout| Instant::now() + timeout);
    let mut events: Vec<Event> = Vec::new();
    loop {
        let end = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // A server that hangs holds neither the limit nor Ctrl-C up.
        let looked = tokio::select! {
            looked = look(client, run, &mut events, &shown) => looked,
            () = end => return Ok(Waited::InVain),
            _ = tokio::signal::ctrl_c() => return Ok(Waited::Interrupted),
        };
        match looked {
            Ok(Some(ended)) => return Ok(Waited::Ended(Box::new(ended))),
            Ok(None) => {}
            Err(error) if passes(&error) => shown.progress(&format!("no answer, waiting for it: {error}")),
            Err(error) => return Err(error.into()),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Waited::InVain);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Waited::Interrupted),
        }
    }
}

fn passes(error: &ClientError) -> bool {
    match error.problem() {
        Some(problem) => matches!(problem.code(), Some(Code::DatabaseUnavailable | Code::Internal)),
        None => matches!(error, ClientError::Unreachable { .. } | ClientError::Unreadable { .. }),
    }
}

async fn look(client: &Client, run: RunId, events: &mut Vec<Event>, shown: &Shown) -> Result<Option<Ended>, ClientError> {
    let after = events.last().map_or(-1, |event| event.seq.0);
    let seen: HistoryView = client.get(&format!("/v1/runs/{run}/history?after={after}")).await?;
    for event in seen.events {
        shown.event(&event, events);
        events.push(event);
    }
    if seen.state == RunState::Open {
        let why: WhyView = client.get(&format!("/v1/runs/{run}/why")).await?;
        shown.progress(&why.why);
        return Ok(None);
    }
    let view: RunView = client.get(&format!("/v1/runs/{run}")).await?;
    let output = events.iter().rev().find_map(|event| match &event.body {
        EventBody::Command(Command::RunCompleted { output }) => Some(output.clone()),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let failure = events.iter().rev().find_map(|event| match &event.body {
        EventBody::Command(Command::RunFailed { failure } | Command::RunCancelled { failure }) => Some(failure.clone()),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    Ok(Some(Ended { run, state: view.state, output, problem: view.problem.or(failure) }))
}

/// On a terminal a moving last line; elsewhere lines only.
struct Shown(Option<ProgressBar>);

impl Shown {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self(terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        }))
    }

    fn event(&self, event: &Event, before: &[Event]) {
        let words = event::words(event, before);
        let line = format!("{} epoch {} {} {words}", event.at.format("%H:%M:%SZ"), event.run_epoch, event.body.kind().replace('_', " "));
        match &self.0 {
            Some(bar) => bar.println(line.trim_end()),
            None => eprintln!("{}", line.trim_end()),
        }
    }

    fn progress(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(output::visible(text));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
