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

use crate::{
    arguments::{Output, Waiting},
    event, exit, output,
};

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

/// Something that is looked at again and again until it has ended.
pub(crate) trait Watched {
    /// What is known then.
    type End;
    /// Between two looks.
    const EVERY: Duration;
    /// The command that tells how it goes on.
    const SEE: &'static str;

    /// Looks once; nothing while it goes on. May be given up at any time.
    async fn look(&mut self) -> Result<Option<Self::End>, ClientError>;
    /// Nobody answered; it will be looked at again.
    fn silence(&mut self, error: &ClientError);
}

/// Stays with a run until it has ended; otherwise gives the exit code of who did not.
pub(crate) async fn until_ended<W: Watched>(watched: &mut W, run: RunId, waiting: Waiting) -> Result<Result<W::End, u8>> {
    let too_long = async {
        match waiting.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    // A server that hangs holds neither the limit nor Ctrl-C up.
    tokio::select! {
        ended = looking(watched) => Ok(Ok(ended?)),
        () = too_long => {
            eprintln!("switchback: run {run} has not ended in time; it goes on, see `switchback {} {run}`", W::SEE);
            Ok(Err(exit::WAITED_IN_VAIN))
        }
        _ = tokio::signal::ctrl_c() => {
            eprintln!("switchback: run {run} goes on; `switchback cancel {run}` asks it to stop");
            Ok(Err(exit::INTERRUPTED))
        }
    }
}

async fn looking<W: Watched>(watched: &mut W) -> Result<W::End, ClientError> {
    loop {
        let begun = tokio::time::Instant::now();
        match watched.look().await {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            Err(error) if passes(&error) => watched.silence(&error),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause(W::EVERY, begun.elapsed())).await;
    }
}

/// What takes the server long, such as all steps of a plan with thousands of machines, is asked less often: a tenth of its time at most
/// is ours. Nobody waits longer than that for what has happened.
fn pause(every: Duration, took: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(15);
    every.max((took * 9).min(LONGEST))
}

fn passes(error: &ClientError) -> bool {
    match error.problem() {
        Some(problem) => matches!(problem.code(), Some(Code::DatabaseUnavailable | Code::Internal)),
        // An answer that says that all is well and can't be read comes from another version, and will not get better.
        None => match error {
            ClientError::Unreachable { .. } => true,
            ClientError::Unreadable { status, .. } => !status.is_success(),
            ClientError::Problem(_) | ClientError::Address(_) | ClientError::Trust(_) | ClientError::Setup(_) => false,
        },
    }
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
    let mut history = Followed { client, run, events: vec![], shown: Shown::new() };
    let ended = until_ended(&mut history, run, waiting).await?;
    drop(history);
    match ended {
        Ok(ended) => {
            output::answer(output, &ended, |ended| told(ended).0)?;
            Ok(told(&ended).1.into())
        }
        Err(code) => Ok(code.into()),
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

/// A run, event by event.
struct Followed<'a> {
    client: &'a Client,
    run: RunId,
    events: Vec<Event>,
    shown: Shown,
}

impl Watched for Followed<'_> {
    type End = Ended;
    const EVERY: Duration = Duration::from_millis(300);
    const SEE: &'static str = "why";

    async fn look(&mut self) -> Result<Option<Ended>, ClientError> {
        let Self { client, run, events, shown } = self;
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
        Ok(Some(Ended { run: *run, state: view.state, output, problem: view.problem.or(failure) }))
    }

    fn silence(&mut self, error: &ClientError) {
        self.shown.progress(&format!("no answer, waiting for it: {error}"));
    }
}

/// On a terminal a moving last line on standard error; elsewhere nothing. Goes when it is dropped.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self(terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        }))
    }

    pub(crate) fn says(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(output::visible(text));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Events as lines, above what moves.
struct Shown(Progress);

impl Shown {
    fn new() -> Self {
        Self(Progress::new())
    }

    fn event(&self, event: &Event, before: &[Event]) {
        let words = event::words(event, before);
        let line = format!("{} epoch {} {} {words}", event.at.format("%H:%M:%SZ"), event.run_epoch, event.body.kind().replace('_', " "));
        match &self.0.0 {
            Some(bar) => bar.println(line.trim_end()),
            None => eprintln!("{}", line.trim_end()),
        }
    }

    fn progress(&self, text: &str) {
        self.0.says(text);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use api::Problem;

    use super::*;

    #[test]
    fn what_takes_the_server_long_is_asked_less_often() {
        let every = Duration::from_millis(500);
        let paused = [0, 55, 200, 60_000].map(|took_ms| pause(every, Duration::from_millis(took_ms)));
        assert_eq!(paused, [500, 500, 1_800, 15_000].map(Duration::from_millis));
    }

    /// Answers by a script, then goes on for ever.
    struct Script {
        answers: Vec<Result<Option<u8>, Code>>,
        silent: usize,
    }

    impl Watched for Script {
        type End = u8;
        const EVERY: Duration = Duration::from_secs(1);
        const SEE: &'static str = "why";

        async fn look(&mut self) -> Result<Option<u8>, ClientError> {
            let answer = if self.answers.is_empty() { Ok(None) } else { self.answers.remove(0) };
            answer.map_err(|code| ClientError::Problem(Box::new(Problem::new(code, "x"))))
        }

        fn silence(&mut self, _: &ClientError) {
            self.silent += 1;
        }
    }

    async fn waited(answers: Vec<Result<Option<u8>, Code>>) -> (Result<Result<u8, u8>>, usize) {
        let mut script = Script { answers, silent: 0 };
        let waiting = Waiting { wait: true, timeout: Some(Duration::from_secs(10)) };
        let ended = until_ended(&mut script, RunId(uuid::Uuid::nil()), waiting).await;
        (ended, script.silent)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_away_is_waited_for_and_who_refuses_is_not() {
        let (ended, silent) = waited(vec![Ok(None), Err(Code::DatabaseUnavailable), Err(Code::Internal), Ok(Some(7))]).await;
        assert_eq!((ended.unwrap(), silent), (Ok(7), 2));
        let (ended, silent) = waited(vec![Err(Code::Forbidden), Ok(Some(7))]).await;
        assert_eq!((ended.is_err(), silent), (true, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_told_so_by_the_exit_code() {
        assert_eq!(waited(vec![Ok(None)]).await.0.unwrap(), Err(exit::WAITED_IN_VAIN));
    }
}
