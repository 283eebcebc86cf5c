//! How long each part of a step takes: what steps of the plan took in the past, shared out among their parts; otherwise what such parts
//! usually take.
//!
//! Invariant: a step that never ran is said to be assumed.

use std::collections::BTreeMap;

use recovery::span::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::places::Places;

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
    /// What people take to answer, whatever they took in the past.
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
/// What people take where nothing is said and nothing is known.
pub const PEOPLE: Span = Span::seconds(60);

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

    /// How long people take to answer about a step, milliseconds: as is supposed; else as they took; else as they usually do.
    pub(crate) fn answer_ms(&self, key: Option<&str>, draw: f64) -> u64 {
        match (self.people, key.and_then(|key| self.steps.get(key))) {
            (Some(people), _) => people.ms(),
            (None, Some(known)) => drawn(known, draw),
            (None, None) => PEOPLE.ms(),
        }
    }

    /// How long an activity takes, milliseconds. `draw` is between 0 and 1: how far from the middle to the longest.
    pub(crate) fn of(&self, places: &Places, activity: &str, input: &Value, draw: f64) -> u64 {
        let usual = usual(activity);
        let key = key_of(places, activity, input);
        let known = key.as_ref().and_then(|(key, _)| self.steps.get(key));
        match (known, &key) {
            (Some(known), Some((_, others))) => drawn(known, draw).saturating_sub(*others),
            _ => spread(usual, draw),
        }
    }
}

/// What a platform does beside recovering some machines comes before these.
pub(crate) fn is_recovery(activity: &str) -> bool {
    main_part("prepare", activity)
}

fn usual(activity: &str) -> u64 {
    let named = if activity == "carry-out-once" { "carry-out" } else { activity };
    USUAL.iter().find(|(name, _)| *name == named).map_or(OTHERS_MS, |(_, ms)| *ms)
}

/// The step whose main part this is, and what its other parts usually take.
fn key_of(places: &Places, activity: &str, input: &Value) -> Option<(String, u64)> {
    if input["context"]["step"].is_string() {
        return places.action(input).map(|key| (key.to_owned(), 0));
    }
    let words = [("prepare", usual("fence-machine") + usual("seal-replica") + usual("pin-point")), ("start", usual("start-machine")), ("commit", 0), ("reprotect", 0), ("undo", 0), ("clean-test-failover", 0)];
    let (word, others) = words.into_iter().find(|(word, _)| main_part(word, activity))?;
    Some((places.member(input, word)?, others))
}

/// The step that an activity with this input is the main part of.
pub(crate) fn step_of(places: &Places, activity: &str, input: &Value) -> Option<String> {
    key_of(places, activity, input).map(|(key, _)| key)
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
pub(crate) fn scaled(ms: u64, draw: f64) -> u64 {
    (ms as f64 * draw.clamp(0.0, 1.0)) as u64
}
