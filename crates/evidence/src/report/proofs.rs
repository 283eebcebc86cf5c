//! What was asked of recovered machines, how copies were kept apart, and what was removed afterwards.

use recovery::{Fact, ItemName, TestFailover};
use sdk::{Command, EventBody, History, Inbound, Outcome, RunId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Step,
    recoveries::{answers, changes, is_drill},
    steps::StepResult,
};
use crate::{Bundle, file, signing::sha256};

/// What a recovered machine was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckShown {
    /// By which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// The item.
    pub item: Option<String>,
    /// The questions; none means that it was only looked whether the machine runs.
    pub checks: Vec<String>,
    /// Whether all were answered in time.
    pub held: bool,
    /// What was answered, or why it was not.
    pub evidence: String,
    /// SHA-256 of the evidence.
    pub evidence_sha256: String,
}

/// How a copy's network was seen to reach nothing, before the copy was powered on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    /// By which run.
    pub run: RunId,
    /// What was seen.
    pub evidence: String,
    /// SHA-256 of it.
    pub evidence_sha256: String,
}

/// What was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanUp {
    /// By which run.
    pub run: RunId,
    /// Of which item.
    pub item: ItemName,
    /// Whether nothing is left.
    pub complete: bool,
    /// The steps by which it was removed, with how they ended.
    pub steps: Vec<String>,
    /// What there was before, as the site listed it; nothing if the run did not ask.
    pub inventory_before: Option<Value>,
    /// What there was afterwards.
    pub inventory_after: Option<Value>,
}

/// Answers to `check-machine` and `check-test`.
pub(super) fn checks(history: &History) -> Vec<CheckShown> {
    let asked = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::ActivityScheduled { activity, input, .. }) if matches!(activity.as_str(), "check-machine" | "check-test") => {
            Some((stored.event.seq, input))
        }
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let ended = asked.filter_map(|(seq, input)| {
        let outcome = history.events.iter().find_map(|stored| match &stored.event.body {
            EventBody::Inbound(Inbound::ActivityFinished { of, outcome }) if *of == seq => Some(outcome),
            EventBody::Inbound(_) | EventBody::Command(_) => None,
        })?;
        let (held, evidence) = answered(outcome);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let checks = input.get("checks").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect();
        let item = input.get("item").and_then(text);
        Some(CheckShown { run: history.run, seq, item, checks, held, evidence_sha256: sha256(evidence.as_bytes()), evidence })
    });
    ended.collect()
}

fn answered(outcome: &Outcome) -> (bool, String) {
    match outcome {
        Outcome::Completed { output } => (true, output.get("evidence").and_then(Value::as_str).unwrap_or_default().to_owned()),
        Outcome::Failed { failure, .. } | Outcome::Unknown { failure, .. } => (false, failure.to_string()),
        Outcome::TimedOut { .. } => (false, "not answered in time".into()),
        Outcome::Cancelled => (false, "not asked: the run was cancelled".into()),
    }
}

pub(super) fn isolation(history: &History) -> Vec<Isolation> {
    let shown = answers(history, "start-test").into_iter().filter_map(|answer| answer.get("isolation").and_then(Value::as_str));
    shown.map(|evidence| Isolation { run: history.run, evidence: evidence.to_owned(), evidence_sha256: sha256(evidence.as_bytes()) }).collect()
}

/// What a run removed of a test copy, whether after it was looked at or because making it failed.
pub(super) fn clean_up(bundle: &Bundle, history: &History, steps: &[Step]) -> Option<CleanUp> {
    let of_run: Vec<&Step> = steps.iter().filter(|step| step.run == history.run && removes(&step.name)).collect();
    if of_run.is_empty() {
        return None;
    }
    let last = changes(history).into_iter().rev().find_map(|change| {
        if let Fact::TestFailoverIs { test_failover, .. } = change.fact { Some((change.item, test_failover)) } else { None }
    });
    let (item, state) = last?;
    // A drill asks the site before and after, around its children.
    let drill = file::parent(history).and_then(|parent| bundle.run(parent.run)).filter(|parent| is_drill(parent));
    let listed: Vec<Value> = drill.map(|drill| answers(drill, "take-inventory").into_iter().filter_map(|taken| taken.get("objects").cloned()).collect()).unwrap_or_default();
    let (before, after) = (listed.first().cloned(), listed.get(1).cloned());
    let said = |step: &&Step| format!("{} at {}: {}", step.name, step.actor, word(step.result));
    Some(CleanUp {
        run: history.run,
        item,
        complete: state == TestFailover::None && of_run.iter().all(|step| step.result == StepResult::Done) && nothing_new(before.as_ref(), after.as_ref()),
        steps: of_run.iter().map(said).collect(),
        inventory_before: before,
        inventory_after: after,
    })
}

/// Whether everything that is there afterwards was there before, where both are known.
fn nothing_new(before: Option<&Value>, after: Option<&Value>) -> bool {
    let objects = |listed: Option<&Value>| listed.and_then(Value::as_array).cloned();
    match (objects(before), objects(after)) {
        (Some(before), Some(after)) => after.iter().all(|object| before.contains(object)),
        (None, _) | (_, None) => true,
    }
}

/// Steps by which a copy and its pin go.
fn removes(name: &str) -> bool {
    name == "clean-test"
}

fn word(result: StepResult) -> &'static str {
    match result {
        StepResult::Open => "not ended",
        StepResult::Done => "done",
        StepResult::Failed => "failed",
        StepResult::TimedOut => "ran into a limit",
        StepResult::Cancelled => "cancelled",
        StepResult::Unknown => "may have happened",
    }
}
