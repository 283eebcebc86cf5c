//! What did not go as one would wish, though it may have ended well.

use chrono::{DateTime, Utc};
use recovery::Fact;
use sdk::{Command, EventBody, History, Inbound, RunId, Seq};
use serde::{Deserialize, Serialize};
use workflows::{ITEM_PROJECTION, ItemChange};

use super::{Recovery, Step, steps::StepResult};
use crate::Bundle;

/// Something to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// In which run.
    pub run: RunId,
    /// Its event.
    pub seq: Seq,
    /// When.
    pub at: DateTime<Utc>,
    /// Of which kind.
    pub kind: DeviationKind,
    /// In words.
    pub words: String,
}

/// Of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviationKind {
    /// The target started although nobody could prove that the source can't write.
    Unfenced,
    /// A step did not go well.
    Step,
    /// A step was taken back.
    Undone,
    /// Somebody asked for the run to stop.
    CancelRequested,
    /// That came too late.
    CancelRefused,
    /// Another worker took the run over, because the one before had died or lost its lease.
    TakenOver,
    /// A target was missed.
    TargetMissed,
    /// A check did not hold.
    NotServing,
}

pub(super) fn of(bundle: &Bundle, steps: &[Step], recoveries: &[Recovery]) -> Vec<Deviation> {
    let mut found: Vec<Deviation> = Vec::new();
    for history in bundle.runs() {
        found.extend(in_events(history));
        found.extend(steps.iter().filter(|step| step.run == history.run).filter_map(in_step));
        let last = history.events.last().map(|last| (last.event.seq, last.event.at));
        for (recovery, (seq, at)) in recoveries.iter().filter(|recovery| recovery.run == history.run).zip(last) {
            found.extend(in_recovery(recovery).into_iter().map(|(kind, words)| Deviation { run: history.run, seq, at, kind, words }));
        }
    }
    found.sort_by_key(|deviation| (deviation.at, deviation.run, deviation.seq));
    found
}

fn in_events(history: &History) -> Vec<Deviation> {
    let mut found = Vec::new();
    let mut before: Option<&sdk::Event> = None;
    for stored in &history.events {
        let event = &stored.event;
        let mut note = |kind, words: String| found.push(Deviation { run: history.run, seq: event.seq, at: event.at, kind, words });
        if let Some(before) = before.filter(|before| before.worker != event.worker || before.lease_epoch != event.lease_epoch) {
            let words = format!("run epoch {} by worker {} goes on with what run epoch {} had written", event.run_epoch, event.worker, before.run_epoch);
            note(DeviationKind::TakenOver, words);
        }
        match &event.body {
            EventBody::Inbound(Inbound::CancelRequested { by, reason }) => note(DeviationKind::CancelRequested, format!("{by} asked for it to stop: {reason}")),
            EventBody::Command(Command::CancelRefused { reason }) => note(DeviationKind::CancelRefused, reason.clone()),
            EventBody::Command(Command::Recorded { projection, fact }) if projection == ITEM_PROJECTION => {
                if let Some((by, reason)) = accepted(fact) {
                    note(DeviationKind::Unfenced, format!("nobody could prove that the source can't write; {by} accepted that: {reason}"));
                }
            }
            EventBody::Inbound(_) | EventBody::Command(_) => {}
        }
        before = Some(event);
    }
    found
}

/// Who went on without a proven fence, and why.
fn accepted(fact: &serde_json::Value) -> Option<(String, String)> {
    let change: ItemChange = serde_json::from_value(fact.clone()).ok()?;
    if let Fact::UnfencedAccepted { by, reason, .. } = change.fact { Some((by, reason)) } else { None }
}

fn in_step(step: &Step) -> Option<Deviation> {
    let note = |kind, words| Deviation { run: step.run, seq: step.seq, at: step.finished_at.unwrap_or(step.scheduled_at), kind, words };
    let why = step.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let tries = step.attempts.filter(|attempts| *attempts > 1).map(|attempts| format!(" after {attempts} attempts")).unwrap_or_default();
    match step.result {
        StepResult::Failed => Some(note(DeviationKind::Step, format!("{} at {} failed{tries}{why}", step.name, step.actor))),
        StepResult::TimedOut => Some(note(DeviationKind::Step, format!("{} at {} ran into a limit{tries}{why}", step.name, step.actor))),
        StepResult::Cancelled => Some(note(DeviationKind::Step, format!("{} at {} was given up before it began", step.name, step.actor))),
        StepResult::Unknown => Some(note(DeviationKind::Step, format!("whether {} at {} happened is unknown{why}", step.name, step.actor))),
        StepResult::Open | StepResult::Done if step.undoes => {
            Some(note(DeviationKind::Undone, format!("{} at {} put an earlier step back", step.name, step.actor)))
        }
        StepResult::Open | StepResult::Done => None,
    }
}

fn in_recovery(recovery: &Recovery) -> Vec<(DeviationKind, String)> {
    let mut found = Vec::new();
    for (what, figure) in [("RTO", recovery.rto), ("RPO", recovery.rpo)] {
        if let (Some(false), Some(target), Some(actual)) = (figure.kept, figure.target_ms, figure.actual_ms) {
            let words = format!("{what} of {}: {} instead of at most {}", recovery.item, super::words::span(actual), super::words::span(target));
            found.push((DeviationKind::TargetMissed, words));
        }
    }
    if recovery.serves == Some(false) {
        found.push((DeviationKind::NotServing, format!("the machine of {} at {} did not serve in time", recovery.item, recovery.to)));
    }
    found
}
