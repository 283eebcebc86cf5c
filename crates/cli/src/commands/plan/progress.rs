//! A plan's run, followed: steps as they begin and end, what people are asked, and the clock.
//!
//! Invariants: 1. A server or database that is away is waited for: the run goes on without us. 2. Ctrl-C ends the waiting, not the run.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Result;
use api::{
    Client, ClientError, Code,
    plans::{Clock, PlanProgress, PlanRunView, QuestionView, StepView},
};
use recovery::plan::{StepRun, StepState};
use sdk::RunId;
use tokio::time::Instant;

use crate::{
    arguments::{Output, Waiting},
    exit,
    output::{self, or_dash, visible},
    span,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// How a run stands, in a word.
pub(super) fn stands(run: &PlanRunView) -> &'static str {
    match (run.ended_at.is_some(), run.failure.is_some()) {
        (false, _) => "goes on",
        (true, false) => "ended",
        (true, true) => "stopped",
    }
}

/// 0: every step ended well. 6: it goes on, or ended and a step did not. 1: it stopped.
pub(super) fn code(progress: &PlanProgress) -> u8 {
    let wrong = progress.steps.iter().filter_map(|view| view.step.as_ref()).any(|step| step.state == StepState::Failed);
    match (stands(&progress.run), wrong) {
        ("stopped", _) => exit::FAILED,
        ("ended", false) => 0,
        _ => exit::DEGRADED,
    }
}

/// Stays with a run, and tells its steps on standard error as they begin and end.
pub(super) async fn followed(client: &Client, output: Output, run: RunId, waiting: Waiting) -> Result<ExitCode> {
    let deadline = waiting.timeout.map(|timeout| Instant::now() + timeout);
    let mut told = Told::default();
    loop {
        let end = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let path = format!("/v1/plan-runs/{run}");
        let looked = tokio::select! {
            looked = client.get::<PlanProgress>(&path) => looked,
            () = end => {
                eprintln!("switchback: run {run} has not ended in time; it goes on, see `switchback plan status {run}`");
                return Ok(exit::WAITED_IN_VAIN.into());
            }
            _ = tokio::signal::ctrl_c() => {
                eprintln!("switchback: run {run} goes on; `switchback cancel {run}` asks it to stop");
                return Ok(exit::INTERRUPTED.into());
            }
        };
        match looked {
            Ok(progress) => {
                told.tell(&progress);
                if progress.run.ended_at.is_some() {
                    output::answer(output, &progress, shown)?;
                    return Ok(code(&progress).into());
                }
            }
            // Its first event may not be there yet.
            Err(error) if passes(&error) => told.silence(&error),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => {
                eprintln!("switchback: run {run} goes on; `switchback cancel {run}` asks it to stop");
                return Ok(exit::INTERRUPTED.into());
            }
        }
    }
}

fn passes(error: &ClientError) -> bool {
    match error.problem() {
        Some(problem) => matches!(problem.code(), Some(Code::DatabaseUnavailable | Code::Internal | Code::UnknownRun)),
        None => matches!(error, ClientError::Unreachable { .. } | ClientError::Unreadable { .. }),
    }
}

/// What was told already.
#[derive(Default)]
struct Told {
    steps: BTreeMap<String, (StepState, u32)>,
    asked: BTreeMap<String, i64>,
    late: bool,
    silent: bool,
}

impl Told {
    fn tell(&mut self, progress: &PlanProgress) {
        self.silent = false;
        for step in progress.steps.iter().filter_map(|view| view.step.as_ref()) {
            let stands = (step.state, step.attempts);
            if self.steps.insert(step.key.clone(), stands) != Some(stands) {
                eprintln!("{}", line(step));
            }
        }
        for question in &progress.questions {
            let until = question.until.timestamp_millis();
            if self.asked.insert(question.step.clone(), until) != Some(until) {
                eprintln!("{}", asks(question, progress.run.run));
            }
        }
        if progress.clock.late && !self.late && progress.run.ended_at.is_none() {
            self.late = true;
            eprintln!("! this will take longer than the plan allows: {}", clock(&progress.clock));
        }
    }

    fn silence(&mut self, error: &ClientError) {
        if !std::mem::replace(&mut self.silent, true) {
            eprintln!("switchback: no answer, waiting for it: {}", visible(&error.to_string()));
        }
    }
}

fn line(step: &StepRun) -> String {
    let at = step.ended_at.unwrap_or(step.began_at).format("%H:%M:%SZ");
    let took = step.took_ms().map(|ms| format!(" after {}", words(ms))).unwrap_or_default();
    let said = if step.said.is_empty() { String::new() } else { format!(": {}", visible(&step.said)) };
    format!("{at} {:<8} {}{took}{said}", step.state.as_str(), step.key)
}

fn asks(question: &QuestionView, run: RunId) -> String {
    let who = if question.by.is_empty() { "anybody who may operate".to_owned() } else { question.by.join(", ") };
    format!(
        "? {}: {}\n  {} of {who}, until {}: `switchback plan answer {run} {} --step {}`",
        question.step,
        visible(&question.text),
        question.need,
        question.until.format("%H:%M:%SZ"),
        question.choices.join("|"),
        question.step
    )
}

/// The whole timeline.
pub(super) fn shown(progress: &PlanProgress) -> String {
    let run = &progress.run;
    let rows = progress.steps.iter().map(|view| row(view, run));
    let mut text = output::table(["STEP", "STATE", "BEGAN", "TOOK", "EXPECTED", "", "WHAT CAME OF IT"], rows, "nothing has begun yet");
    for question in &progress.questions {
        text += &format!("\n{}", asks(question, run.run));
    }
    text += &format!("\n{} of plan {} {}: {}", run.work, run.plan, stands(run), clock(&progress.clock));
    if let Some(failure) = &run.failure {
        text += &format!("\n{}", visible(failure));
    }
    text + &format!("\nrun {}", run.run)
}

fn row(view: &StepView, run: &PlanRunView) -> [String; 7] {
    let since = |at: chrono::DateTime<chrono::Utc>| format!("+{}", span::words((at - run.began_at).num_milliseconds()));
    let began = view.step.as_ref().map(|step| since(step.began_at)).or(view.expected_at.map(|at| format!("~{}", since(at))));
    let said = view.step.as_ref().map_or_else(|| view.does.clone(), |step| step.said.clone());
    [
        view.key.clone(),
        view.step.as_ref().map_or("-", |step| step.state.as_str()).to_owned(),
        or_dash(began),
        or_dash(view.step.as_ref().and_then(StepRun::took_ms).map(words)),
        or_dash(view.expected_ms.map(words)),
        if view.critical { "*" } else { "" }.to_owned(),
        said,
    ]
}

fn clock(clock: &Clock) -> String {
    let target = clock.target_ms.map(|target| format!(", {} allowed", words(target))).unwrap_or_default();
    let late = if clock.late { " (TOO LATE)" } else { "" };
    let eta = clock.eta.map(|eta| format!(", expected to end at {} from {} earlier runs", eta.format("%H:%M:%SZ"), clock.from_runs)).unwrap_or_default();
    format!("{}{target}{late}; its steps alone {} (*){eta}", words(clock.elapsed_ms), words(clock.critical_path_ms))
}

fn words(ms: u64) -> String {
    span::words(i64::try_from(ms).unwrap_or(i64::MAX))
}
