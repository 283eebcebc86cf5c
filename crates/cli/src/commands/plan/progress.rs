//! A plan's run, followed: steps as they begin and end, what people are asked, and the clock.
//!
//! Invariants: 1. A server or database that is away is waited for: the run goes on without us. 2. Ctrl-C ends the waiting, not the run.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::Result;
use api::{
    Client, ClientError, Code,
    plans::{Clock, PlanProgress, PlanRunView, QuestionView, StepView},
};
use recovery::plan::{Asks, StepRun, StepState};
use sdk::RunId;

use crate::{
    arguments::{Output, Waiting},
    exit,
    output::{self, or_dash, visible},
    span,
    wait::{self, Watched},
};

/// How a run stands, in a word.
pub(super) fn stands(run: &PlanRunView) -> &'static str {
    match (run.ended_at.is_some(), run.failure.is_some()) {
        (false, _) => "goes on",
        (true, false) => "ended",
        (true, true) => "stopped",
    }
}

/// The same, where its steps are known: one that went through without some of its machines is no success.
fn stood(progress: &PlanProgress) -> String {
    let failed = |view: &&StepView| view.step.as_ref().is_some_and(|step| step.state == StepState::Failed);
    let failed: Vec<&str> = progress.steps.iter().filter(failed).map(|view| view.key.as_str()).collect();
    let ended = progress.run.ended_at.is_some() && progress.run.failure.is_none();
    if ended && !failed.is_empty() { format!("ended without {}", failed.join(", ")) } else { stands(&progress.run).to_owned() }
}

/// Of who waited for it. 0: every step ended well. 6: it went through, and a step did not end well. 1: it stopped.
fn code(progress: &PlanProgress) -> u8 {
    if progress.run.failure.is_some() { exit::FAILED } else { looked_at(progress) }
}

/// Of who looks: a run that goes on, waits for people or was stopped is no error of the look. 6: a step has failed, or the run stopped.
pub(super) fn looked_at(progress: &PlanProgress) -> u8 {
    let wrong = progress.steps.iter().filter_map(|view| view.step.as_ref()).any(|step| step.state == StepState::Failed);
    if wrong || progress.run.failure.is_some() { exit::DEGRADED } else { 0 }
}

/// Stays with a run, and tells its steps on standard error as they begin and end.
pub(in crate::commands) async fn followed(client: &Client, output: Output, run: RunId, waiting: Waiting) -> Result<ExitCode> {
    match wait::until_ended(&mut Followed { client, run, told: Told::default() }, run, waiting).await? {
        Ok(progress) => {
            output::answer(output, &progress, shown)?;
            Ok(code(&progress).into())
        }
        Err(code) => Ok(code.into()),
    }
}

/// A plan's run, step by step.
struct Followed<'a> {
    client: &'a Client,
    run: RunId,
    told: Told,
}

impl Watched for Followed<'_> {
    type End = PlanProgress;
    const EVERY: Duration = Duration::from_millis(500);
    const SEE: &'static str = "plan status";

    async fn look(&mut self) -> Result<Option<PlanProgress>, ClientError> {
        let progress: PlanProgress = match self.client.get(&format!("/v1/plan-runs/{}", self.run)).await {
            Ok(progress) => progress,
            Err(error) if has_not_begun(&error) => {
                self.told.begins(self.run);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.told.tell(&progress);
        Ok(progress.run.ended_at.is_some().then_some(progress))
    }

    fn silence(&mut self, error: &ClientError) {
        self.told.silence(error);
    }
}

/// The run was asked for, and no worker has taken it up yet.
fn has_not_begun(error: &ClientError) -> bool {
    // The second is the word of servers that do not tell a run that has not begun from one of which they know nothing.
    error.problem().is_some_and(|problem| matches!(problem.code(), Some(Code::NotNow | Code::UnknownRun)))
}

/// What was told already.
#[derive(Default)]
struct Told {
    steps: BTreeMap<String, (StepState, u32)>,
    asked: BTreeMap<String, i64>,
    late: bool,
    silent: bool,
    begins: bool,
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

    /// It was accepted, and recorded nothing so far.
    fn begins(&mut self, run: RunId) {
        self.silent = false;
        if !std::mem::replace(&mut self.begins, true) {
            eprintln!("run {run} begins");
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
    let took = step.took_ms().map(|ms| format!(" after {}", span::took(ms))).unwrap_or_default();
    let said = if step.said.is_empty() { String::new() } else { format!(": {}", visible(&step.said)) };
    format!("{at} {:<8} {}{took}{said}", step.state.as_str(), step.key)
}

fn asks(question: &QuestionView, run: RunId) -> String {
    let who = if question.by.is_empty() { "anybody who may operate".to_owned() } else { question.by.join(", ") };
    let roles = if question.roles.is_empty() { String::new() } else { format!(" ({})", question.roles.join(", ")) };
    let given: Vec<String> = question.given.iter().map(|answer| format!("; {} has said {}", answer.by, answer.choice)).collect();
    let given = given.concat();
    format!(
        "? {}: {}\n  {} of {who}{roles}, until {}{given}: `switchback plan answer {run} {} --step {}`",
        question.step,
        visible(&question.text),
        question.need,
        question.until.format("%Y-%m-%d %H:%M:%SZ"),
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
    text += &format!("\n{} of plan {} {}: {}", run.work, run.plan, stood(progress), clock(&progress.clock));
    if let Some(waits) = waits(progress) {
        text += &format!("\n{waits}");
    }
    if let Some(failure) = &run.failure {
        text += &format!("\n{}", visible(failure));
    }
    text + &format!("\nrun {}", run.run)
}

/// What no forecast counts.
fn waits(progress: &PlanProgress) -> Option<String> {
    let uncounted = progress.steps.iter().filter(|view| progress.clock.waits_for.contains(&view.key));
    let counted = Asks::counted(uncounted.filter_map(|view| view.asks.as_ref()))?;
    Some(format!("plus {counted}: how long people take is not known, and no time here counts it ({})", progress.clock.waits_for.join(", ")))
}

fn row(view: &StepView, run: &PlanRunView) -> [String; 7] {
    let since = |at: chrono::DateTime<chrono::Utc>| format!("+{}", span::words((at - run.began_at).num_milliseconds()));
    let began = view.step.as_ref().map(|step| since(step.began_at)).or(view.expected_at.map(|at| format!("~{}", since(at))));
    let (state, said) = match (&view.step, &view.left_out) {
        (Some(step), _) => (step.state.as_str(), step.said.clone()),
        (None, Some(why)) => (StepState::Skipped.as_str(), format!("{why}: {}", view.does)),
        (None, None) => ("-", view.does.clone()),
    };
    [
        view.key.clone(),
        state.to_owned(),
        or_dash(began),
        or_dash(view.step.as_ref().and_then(StepRun::took_ms).map(span::took)),
        or_dash(view.expected_ms.map(span::took)),
        if view.critical { "*" } else { "" }.to_owned(),
        said,
    ]
}

fn clock(clock: &Clock) -> String {
    let target = clock.target_ms.map(|target| format!(", {} allowed", span::took(target))).unwrap_or_default();
    let late = if clock.late { " (TOO LATE)" } else { "" };
    let eta = clock.eta.map(|eta| format!(", expected to end at {} from {} earlier runs", eta.format("%H:%M:%SZ"), clock.from_runs)).unwrap_or_default();
    format!("{}{target}{late}; its steps alone {} (*){eta}", span::took(clock.elapsed_ms), span::took(clock.critical_path_ms))
}
