//! What would have happened if a step had ended otherwise: the real engine runs on from there, in memory and in virtual time.
//!
//! ```text
//!   histories ─▶ cut where the step was asked for ─▶ store in memory ─▶ engine's worker ─┬─ the step: fails | times out
//!                                                                                        ├─ others: what they answered then
//!                                                                                        └─ new ones: a sample, marked as assumed
//! ```
//!
//! Invariants: 1. Locks, timers, limits, retries and children are the engine's own; nothing here decides what a run does. 2. What was
//! not recorded is assumed, and said to be. 3. People and time do as they did: signals and requests to stop arrive when they had.

mod answers;
mod asked;
mod drive;
mod samples;

use std::collections::BTreeMap;

use recovery::{ItemName, ItemRecord};
use sdk::{Event, EventBody, History, Inbound, Registry, RunId, Seq};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Bundle, file, replay,
    report::{RunState, ending, recoveries},
    timeline,
};
pub use asked::{InvalidWhatIf, Outcome, WhatIf};
pub use drive::Assumed;
pub use samples::sample;

/// What would have been.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Imagined {
    /// What was supposed.
    pub supposed: String,
    /// In which run.
    pub run: RunId,
    /// Of which step, by its scheduling event.
    pub seq: Seq,
    /// Every run that went another way, or that is only in one of the two worlds.
    pub branches: Vec<Branch>,
    /// Every item that is or would be touched, as it is and as it would be.
    pub items: BTreeMap<ItemName, ItemBranch>,
    /// Answers that nobody has recorded.
    pub assumed: Vec<Assumed>,
    /// Why it was not followed to its end.
    pub open: Option<String>,
}

/// A run in both worlds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// Which.
    pub run: RunId,
    /// Its id in the other world, where it is there: that of a child follows from the time at which it was asked for.
    pub imagined_run: Option<RunId>,
    /// Name of its code.
    pub workflow: String,
    /// What it is about.
    pub workflow_id: String,
    /// The first event that is another one.
    pub from: Seq,
    /// What is recorded, all of it; nothing if the run did not exist.
    pub recorded: Vec<Event>,
    /// What would be, all of it; nothing if the run would not exist.
    pub imagined: Vec<Event>,
    /// How it ended.
    pub recorded_end: Option<End>,
    /// How it would have ended.
    pub imagined_end: Option<End>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// In a word.
    pub state: RunState,
    /// Why.
    pub failure: Option<String>,
}

/// An item in both worlds, behind the last event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemBranch {
    /// As the histories leave it.
    pub recorded: Option<ItemRecord>,
    /// As it would be.
    pub imagined: Option<ItemRecord>,
}

/// Why it can't be imagined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// No such step.
    #[error("step {step}#{nth} was never asked for; these were: {known}")]
    NoSuchStep {
        /// Its name.
        step: String,
        /// Which of that name.
        nth: usize,
        /// Those that there are.
        known: String,
    },
    /// The code is another.
    #[error("run {run} does not replay identically with this build, so it can't be run on from here; see `switchback replay` without --what-if")]
    OtherCode {
        /// Which.
        run: RunId,
    },
    /// The engine refused.
    #[error("the engine could not run on: {0}")]
    Engine(String),
}

/// Runs on from the step that is meant, with another outcome.
///
/// # Errors
/// [`Impossible`].
pub fn imagine(bundle: &Bundle, registry: &Registry, what_if: &WhatIf) -> Result<Imagined, Impossible> {
    if let Some(other) = replay::all(bundle, registry).into_iter().find(|replayed| replayed.differs.is_some()) {
        return Err(Impossible::OtherCode { run: other.run });
    }
    let (run, seq) = meant(bundle, what_if)?;
    let past = past(bundle, run, seq);
    let driven = drive::on(bundle, &past, registry, what_if, (run, seq)).map_err(|error| Impossible::Engine(error.to_string()))?;
    let items = items(bundle, &driven.histories);
    Ok(Imagined {
        supposed: what_if.to_string(),
        run,
        seq,
        branches: branches(bundle, &driven.histories),
        items,
        assumed: driven.assumed,
        open: driven.open,
    })
}

/// The step, by the order in which steps of that name were asked for.
fn meant(bundle: &Bundle, what_if: &WhatIf) -> Result<(RunId, Seq), Impossible> {
    let entries = timeline::of(bundle);
    let asked: Vec<(&str, RunId, Seq)> = entries.iter().filter_map(|entry| match &entry.event.body {
        EventBody::Command(sdk::Command::ActivityScheduled { activity, .. }) => Some((activity.as_str(), entry.run, entry.event.seq)),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    }).collect();
    let of_name = asked.iter().filter(|(name, _, _)| *name == what_if.step).nth(what_if.nth - 1);
    let missing = || {
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        asked.iter().for_each(|(name, _, _)| *counted.entry(name).or_default() += 1);
        let known: Vec<String> = counted.iter().map(|(name, count)| if *count == 1 { (*name).to_owned() } else { format!("{name} ({count} times)") }).collect();
        Impossible::NoSuchStep { step: what_if.step.clone(), nth: what_if.nth, known: known.join(", ") }
    };
    of_name.map(|(_, run, seq)| (*run, *seq)).ok_or_else(missing)
}

/// The histories up to where the step was asked for: its own run to the end of that answer; those above it as far as they had to
/// come to begin it, and what they had heard the end of by then; all others as far as they had come before that time.
fn past(bundle: &Bundle, run: RunId, seq: Seq) -> Vec<History> {
    let asked_at = bundle.run(run).and_then(|history| history.events.iter().find(|stored| stored.event.seq == seq)).map(|stored| stored.event.at);
    let needed = needed(bundle, run, seq);
    let cut = |history: &History| {
        let had_come = |stored: &&sdk::StoredEvent| {
            let needed = needed.get(&history.run).is_some_and(|needed| stored.event.seq <= *needed);
            let before = history.run != run && asked_at.is_none_or(|at| stored.event.at < at);
            needed || before || matches!(stored.event.body, EventBody::Command(_)) // the answer to what is kept
        };
        History { run: history.run, events: history.events.iter().take_while(had_come).cloned().collect() }
    };
    bundle.runs().iter().map(cut).filter(|history| !history.events.is_empty()).collect()
}

/// How far runs must have come for the step to be asked for, whatever the clock says: many events may bear one time.
fn needed(bundle: &Bundle, run: RunId, seq: Seq) -> BTreeMap<RunId, Seq> {
    let mut needed = BTreeMap::from([(run, seq)]);
    let mut above = bundle.run(run).and_then(file::parent);
    while let Some(parent) = above.filter(|parent| !needed.contains_key(&parent.run)) {
        needed.insert(parent.run, parent.seq);
        above = bundle.run(parent.run).and_then(file::parent);
    }
    loop {
        let heard: Vec<RunId> = bundle.runs().iter().filter(|history| !needed.contains_key(&history.run)).filter(|history| {
            let parent = file::parent(history).and_then(|parent| Some((parent, bundle.run(parent.run)?, *needed.get(&parent.run)?)));
            parent.is_some_and(|(parent, begun_by, upto)| begun_by.events.iter().any(|stored| {
                stored.event.seq <= upto && matches!(&stored.event.body, EventBody::Inbound(Inbound::ChildClosed { of, .. }) if *of == parent.seq)
            }))
        }).map(|history| history.run).collect();
        if heard.is_empty() {
            return needed;
        }
        needed.extend(heard.into_iter().map(|run| (run, Seq(i32::MAX))));
    }
}

/// Runs of both worlds. A child's id follows from the time at which it was asked for, so the same one may have another id.
fn branches(bundle: &Bundle, imagined: &[History]) -> Vec<Branch> {
    let same = counterparts(bundle, imagined);
    let known: BTreeMap<String, String> = same.iter().filter(|(other, run)| other != run).map(|(other, run)| (other.to_string(), run.to_string())).collect();
    let mut found = Vec::new();
    for recorded in bundle.runs() {
        let other = imagined.iter().find(|history| same.get(&history.run) == Some(&recorded.run));
        found.extend(branch(Some(recorded), other, &known));
    }
    let new = imagined.iter().filter(|history| !same.contains_key(&history.run));
    found.extend(new.filter_map(|history| branch(None, Some(history), &known)));
    found
}

/// To each imagined run the recorded one that it is: by its id, or by who began it, as what and about what.
fn counterparts(bundle: &Bundle, imagined: &[History]) -> BTreeMap<RunId, RunId> {
    let mut same: BTreeMap<RunId, RunId> = imagined.iter().filter(|history| bundle.run(history.run).is_some()).map(|history| (history.run, history.run)).collect();
    let line = |history: &History| (file::run_line(history).workflow, file::run_line(history).workflow_id);
    let mut others: Vec<&History> = imagined.iter().filter(|history| !same.contains_key(&history.run)).collect();
    others.sort_by_key(|history| file::parent(history).map(|parent| (parent.run, parent.seq)));
    loop {
        let before = same.len();
        for history in &others {
            let parent = file::parent(history).and_then(|parent| same.get(&parent.run).copied());
            let free = |recorded: &&History| !same.values().any(|run| *run == recorded.run);
            let alike = |recorded: &&History| file::parent(recorded).map(|parent| parent.run) == parent && line(recorded) == line(history);
            let meant = bundle.runs().iter().filter(free).find(|recorded| parent.is_some() && alike(recorded)).map(|recorded| recorded.run);
            if !same.contains_key(&history.run)
                && let Some(meant) = meant
            {
                same.insert(history.run, meant);
            }
        }
        if same.len() == before {
            return same;
        }
    }
}

/// Both ways of a run, unless they are one.
fn branch(recorded: Option<&History>, imagined: Option<&History>, known: &BTreeMap<String, String>) -> Option<Branch> {
    let of = |history: Option<&History>| history.map(|history| history.events.iter().map(|stored| stored.event.clone()).collect::<Vec<_>>()).unwrap_or_default();
    let (left, right) = (of(recorded), of(imagined));
    let same = left.iter().zip(&right).take_while(|(a, b)| gist(a, known) == gist(b, known)).count();
    if same == left.len() && same == right.len() {
        return None;
    }
    let history = recorded.or(imagined)?;
    let said = file::run_line(history);
    let end = |history: &History| {
        let (state, failure) = ending(history);
        End { state, failure }
    };
    Some(Branch {
        run: history.run,
        imagined_run: imagined.map(|history| history.run),
        workflow: said.workflow,
        workflow_id: said.workflow_id,
        from: Seq(i32::try_from(same).unwrap_or(i32::MAX)),
        recorded: left,
        imagined: right,
        recorded_end: recorded.map(end),
        imagined_end: imagined.map(end),
    })
}

/// What an event says apart from when: the two worlds have clocks of their own, and runs that are the same have one name.
fn gist(event: &Event, known: &BTreeMap<String, String>) -> Value {
    let mut value = serde_json::to_value(&event.body).unwrap_or_default();
    timeless(&mut value, known);
    value
}

fn timeless(value: &mut Value, known: &BTreeMap<String, String>) {
    match value {
        Value::String(text) if chrono::DateTime::parse_from_rfc3339(text).is_ok() => "some time".clone_into(text),
        Value::String(text) => {
            for (other, run) in known {
                *text = text.replace(other, run);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| timeless(value, known)),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if name.ends_with("_ms") && value.is_number() {
                    *value = Value::Null;
                } else {
                    timeless(value, known);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn items(bundle: &Bundle, imagined: &[History]) -> BTreeMap<ItemName, ItemBranch> {
    let mut items: BTreeMap<ItemName, ItemBranch> = BTreeMap::new();
    let empty = || ItemBranch { recorded: None, imagined: None };
    for change in bundle.runs().iter().flat_map(recoveries::changes) {
        items.entry(change.item).or_insert_with(empty).recorded = Some(change.record);
    }
    for change in imagined.iter().flat_map(recoveries::changes) {
        items.entry(change.item).or_insert_with(empty).imagined = Some(change.record);
    }
    items
}
