//! Every step of a run with its end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sdk::{Command, EventBody, History, Inbound, Outcome, RunId, Scope, Seq};
use serde::{Deserialize, Serialize};

use crate::signing::sha256;

/// An activity that a run asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Of which run.
    pub run: RunId,
    /// Its scheduling event.
    pub seq: Seq,
    /// Declared name.
    pub name: String,
    /// The queue on which it waited: a site's agents, or the server.
    pub actor: String,
    /// What it may touch.
    pub scope: Scope,
    /// Whether it undid an earlier step.
    pub undoes: bool,
    /// When it was asked for.
    pub scheduled_at: DateTime<Utc>,
    /// When its end was recorded.
    pub finished_at: Option<DateTime<Utc>>,
    /// Between the two.
    pub duration_ms: Option<u64>,
    /// Attempts, where its end says how many there were: one that went well does not.
    pub attempts: Option<i32>,
    /// How it ended.
    pub result: StepResult,
    /// Why it did not go well.
    pub why: Option<String>,
    /// SHA-256 of what it was asked.
    pub input_sha256: String,
    /// SHA-256 of what it gave.
    pub output_sha256: Option<String>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// It has not.
    Open,
    /// Well.
    Done,
    /// For good.
    Failed,
    /// A limit ran out.
    TimedOut,
    /// It was given up before it began.
    Cancelled,
    /// It may have happened.
    Unknown,
}

pub(super) fn of(history: &History) -> Vec<Step> {
    let ends: BTreeMap<Seq, (DateTime<Utc>, &Outcome)> = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Inbound(Inbound::ActivityFinished { of, outcome }) => Some((*of, (stored.event.at, outcome))),
        EventBody::Inbound(_) | EventBody::Command(_) => None,
    }).collect();
    let steps = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::ActivityScheduled { activity, queue, input, scope, compensation, .. }) => {
            let (at, seq) = (stored.event.at, stored.event.seq);
            let end = ends.get(&seq);
            let (result, attempts, why) = end.map_or((StepResult::Open, None, None), |(_, outcome)| ended(outcome));
            let output = end.and_then(|(_, outcome)| match outcome {
                Outcome::Completed { output } => Some(sha256(output.to_string().as_bytes())),
                Outcome::Failed { .. } | Outcome::TimedOut { .. } | Outcome::Cancelled | Outcome::Unknown { .. } => None,
            });
            Some(Step {
                run: history.run,
                seq,
                name: activity.clone(),
                actor: queue.to_string(),
                scope: *scope,
                undoes: *compensation,
                scheduled_at: at,
                finished_at: end.map(|(at, _)| *at),
                duration_ms: end.map(|(end, _)| between_ms(at, *end)),
                attempts,
                result,
                why,
                input_sha256: sha256(input.to_string().as_bytes()),
                output_sha256: output,
            })
        }
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    steps.collect()
}

fn ended(outcome: &Outcome) -> (StepResult, Option<i32>, Option<String>) {
    match outcome {
        Outcome::Completed { .. } => (StepResult::Done, None, None),
        Outcome::Failed { failure, attempts } => (StepResult::Failed, Some(*attempts), Some(failure.to_string())),
        Outcome::TimedOut { kind, attempts } => {
            let limit = match kind {
                sdk::TimeoutKind::Queue => "nobody picked it up in time",
                sdk::TimeoutKind::StartToClose => "an attempt took too long",
                sdk::TimeoutKind::Total => "all attempts together took too long",
                sdk::TimeoutKind::Heartbeat => "whoever had it fell silent",
            };
            (StepResult::TimedOut, Some(*attempts), Some(limit.into()))
        }
        Outcome::Cancelled => (StepResult::Cancelled, None, None),
        Outcome::Unknown { failure, attempts } => (StepResult::Unknown, Some(*attempts), Some(failure.to_string())),
    }
}

pub(super) fn between_ms(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    u64::try_from((to - from).num_milliseconds()).unwrap_or(0)
}
