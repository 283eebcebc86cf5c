//! How long each part of a step takes: what steps of the plan took in the past, shared out among their parts; otherwise what such parts
//! usually take.
//!
//! Invariant: a step that never ran is said to be assumed.

use std::collections::BTreeMap;

use recovery::{ItemName, plan::Plan, span::Span};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a step took in the past, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// In the middle.
    pub middle_ms: u64,
    /// At most.
    pub longest_ms: u64,
}

/// What steps took in the past, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// By the key of the step.
    pub steps: BTreeMap<String, Known>,
    /// What people take to answer.
    pub people: Option<Span>,
}

/// What parts take on machines of a few GiB, milliseconds, where nothing is known: measured with KVM on plain disks.
const USUAL: [(&str, u64); 18] = [
    ("fence-machine", 1_500),
    ("shut-down-machine", 15_000),
    ("final-sync", 4_000),
    ("seal-replica", 100),
    ("list-points", 50),
    ("pin-point", 50),
    ("recover-machine", 1_500),
    ("start-machine", 1_500),
    ("check-machine", 20_000),
    ("recover-test", 2_000),
    ("start-test", 2_000),
    ("check-test", 20_000),
    ("clean-test", 2_000),
    ("keep-extent-map", 2_000),
    ("flatten-machine", 60_000),
    ("await-first-point", 60_000),
    ("discard-machine", 2_000),
    ("carry-out", 2_000),
];
/// Of all others: a look, a record, a word.
const OTHERS_MS: u64 = 50;
/// What people take where nothing is said.
const PEOPLE: Span = Span::seconds(60);

/// The part of a step that takes its time; the others take what they usually do.
fn main_part(word: &str, activity: &str) -> bool {
    match word {
        "prepare" => matches!(activity, "recover-machine" | "recover-test"),
        "start" => matches!(activity, "check-machine" | "check-test"),
        "commit" => activity == "flatten-machine",
        "reprotect" => activity == "await-first-point",
        "undo" => activity == "discard-machine",
        "clean-test-failover" => activity == "clean-test",
        _ => false,
    }
}

impl Durations {
    /// Whether anything is known of a step.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.steps.contains_key(key)
    }

    /// How long people take to answer.
    pub(crate) fn people(&self) -> Span {
        self.people.unwrap_or(PEOPLE)
    }

    /// How long an activity takes, milliseconds. `draw` is between 0 and 1: how far from the middle to the longest.
    pub(crate) fn of(&self, plan: &Plan, activity: &str, input: &Value, draw: f64) -> u64 {
        let usual = usual(activity);
        let key = key_of(plan, activity, input);
        let known = key.as_ref().and_then(|(key, _)| self.steps.get(key));
        match (known, &key) {
            (Some(known), Some((_, others))) => drawn(known, draw).saturating_sub(*others),
            _ => spread(usual, draw),
        }
    }
}

fn usual(activity: &str) -> u64 {
    let named = if activity == "carry-out-once" { "carry-out" } else { activity };
    USUAL.iter().find(|(name, _)| *name == named).map_or(OTHERS_MS, |(_, ms)| *ms)
}

/// The step whose main part this is, and what its other parts usually take.
fn key_of(plan: &Plan, activity: &str, input: &Value) -> Option<(String, u64)> {
    if let Some(step) = input["context"]["step"].as_str() {
        let places = [input["context"]["group"].as_str(), input["context"]["item"].as_str()];
        let place = places.into_iter().flatten().collect::<Vec<_>>().join("/");
        let stages = plan.stages(recovery::plan::Work::Unplanned);
        let keys = stages.iter().flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.units).flat_map(|unit| &unit.steps).map(|step| step.key.clone());
        let mut fits = keys.filter(|key| key.starts_with(&place) && key.ends_with(&format!("/{step}")));
        return fits.next().map(|key| (key, 0));
    }
    let item: ItemName = input["item"].as_str()?.parse().ok()?;
    let group = plan.groups.iter().find(|group| group.items.iter().any(|member| member.item == item))?;
    let words = [("prepare", usual("fence-machine") + usual("seal-replica") + usual("pin-point")), ("start", usual("start-machine")), ("commit", 0), ("reprotect", 0), ("undo", 0), ("clean-test-failover", 0)];
    let (word, others) = words.into_iter().find(|(word, _)| main_part(word, activity))?;
    Some((format!("{}/{item}/{word}", group.name), others))
}

/// The step that an activity with this input is the main part of.
pub(crate) fn step_of(plan: &Plan, activity: &str, input: &Value) -> Option<String> {
    key_of(plan, activity, input).map(|(key, _)| key)
}

fn drawn(known: &Known, draw: f64) -> u64 {
    let above = known.longest_ms.saturating_sub(known.middle_ms);
    known.middle_ms + scaled(above, draw)
}

/// Up to twice what is usual.
fn spread(usual: u64, draw: f64) -> u64 {
    usual + scaled(usual, draw)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "milliseconds of days fit, and the factor is 0 to 1")]
fn scaled(ms: u64, draw: f64) -> u64 {
    (ms as f64 * draw.clamp(0.0, 1.0)) as u64
}
