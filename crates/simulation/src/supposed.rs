//! What is supposed to go wrong: a step fails, a site is down, something is slow.

use std::str::FromStr;

use recovery::SiteName;
use serde::{Deserialize, Serialize};

use crate::{Impossible, Question};

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supposed {
    /// The step of that key fails for good.
    pub fail_at: Option<String>,
    /// Nobody answers at that site.
    pub site_down: Option<SiteName>,
    /// Some take longer.
    pub slow: Vec<Slow>,
}

/// Something takes so many times as long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// A site, an item, an activity, or the beginning of a step's key.
    pub what: String,
    /// How many times as long.
    pub times: u32,
}

/// A text that supposes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not WHAT=TIMES, such as db1=3 or site-b=10, with 1 to 1000 times")]
pub struct InvalidSupposition {
    /// What was given.
    pub text: String,
}

impl FromStr for Slow {
    type Err = InvalidSupposition;
    fn from_str(text: &str) -> Result<Self, InvalidSupposition> {
        let invalid = || InvalidSupposition { text: text.to_owned() };
        let (what, times) = text.rsplit_once('=').ok_or_else(invalid)?;
        let times = times.parse().ok().filter(|times| (1..=1_000).contains(times)).ok_or_else(invalid)?;
        if what.is_empty() { Err(invalid()) } else { Ok(Self { what: what.to_owned(), times }) }
    }
}

/// Refuses a step that is none.
pub(crate) fn check(question: &Question) -> Result<(), Impossible> {
    let stages = question.plan.stages(question.work);
    let keys: Vec<&str> =
        stages.iter().flat_map(|stage| &stage.lanes).flat_map(|lane| &lane.units).flat_map(|unit| &unit.steps).map(|step| step.key.as_str()).collect();
    match &question.supposed.fail_at {
        Some(step) if !keys.contains(&step.as_str()) => {
            let shown = keys.iter().take(30).copied().collect::<Vec<_>>().join(", ");
            let more = if keys.len() > 30 { format!(" and {} more", keys.len() - 30) } else { String::new() };
            Err(Impossible::NoSuchStep { step: step.clone(), known: shown + &more })
        }
        Some(_) | None => Ok(()),
    }
}

impl Supposed {
    /// Whether this activity is the one that fails: the effect by which its step lives.
    pub(crate) fn fails(&self, activity: &str, input: &serde_json::Value) -> bool {
        let Some(key) = &self.fail_at else { return false };
        let parts: Vec<&str> = key.split('/').collect();
        if let Some(step) = input["context"]["step"].as_str() {
            let of = |name: &str| input["context"][name].as_str();
            let place = [of("group"), of("item")].into_iter().flatten().collect::<Vec<_>>().join("/");
            return key.starts_with(&place) && parts.last() == Some(&step);
        }
        let (Some(item), Some(word)) = (input["item"].as_str(), parts.last()) else { return false };
        let of_item = parts.iter().rev().nth(1) == Some(&item);
        let hit = match *word {
            "prepare" => matches!(activity, "recover-machine" | "recover-test"),
            "start" => matches!(activity, "start-machine" | "start-test"),
            "commit" => activity == "keep-extent-map",
            "reprotect" => activity == "prepare-replica",
            "undo" => activity == "discard-machine",
            "clean-test-failover" => activity == "clean-test",
            _ => false,
        };
        of_item && hit
    }

    /// How many times as long it takes.
    pub(crate) fn times(&self, activity: &str, queue: &str, input: &serde_json::Value, key: Option<&str>) -> u64 {
        let item = input["item"].as_str();
        let meant = |slow: &&Slow| {
            let site = queue.strip_prefix("site:");
            slow.what == activity || item == Some(slow.what.as_str()) || site == Some(slow.what.as_str()) || key.is_some_and(|key| key.starts_with(&slow.what))
        };
        self.slow.iter().filter(meant).map(|slow| u64::from(slow.times)).product()
    }
}
