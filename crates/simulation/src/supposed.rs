//! What is supposed to go wrong: a step fails, a site is down, something is slow.
//!
//! Invariant: what means nothing in the plan is refused with what there is: an answer to a misspelt question looks like one to the right one.

use std::{collections::BTreeSet, str::FromStr};

use recovery::{SiteName, plan::Stage};
use serde::{Deserialize, Serialize};

use crate::{Impossible, Question};

/// Names that a refusal shows of each kind: more than a screen of them helps nobody.
const MOST_SHOWN: usize = 30;

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
    /// A site, an item, an activity, a step's key, or the first parts of some, such as `data` or `data/db1`.
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

/// Refuses a step or a site that is none.
pub(crate) fn check(question: &Question) -> Result<(), Impossible> {
    let (from, to) = (&question.plan.from, &question.plan.to);
    if let Some(site) = question.supposed.site_down.as_ref().filter(|site| *site != from && *site != to) {
        return Err(Impossible::NoSuchSite { site: site.clone(), from: from.clone(), to: to.clone() });
    }
    let keys = keys(question);
    match &question.supposed.fail_at {
        Some(step) if !keys.contains(step) => Err(Impossible::NoSuchStep { step: step.clone(), known: shown(keys.iter().map(String::as_str)) }),
        Some(_) | None => Ok(()),
    }
}

/// Refuses to slow down what is none of these, no site, no machine and no step of the plan.
pub(crate) fn check_slow(question: &Question, activities: &BTreeSet<&'static str>) -> Result<(), Impossible> {
    let Question { plan, supposed, .. } = question;
    if supposed.slow.is_empty() {
        return Ok(());
    }
    let keys = keys(question);
    let known = |what: &str| {
        let place = [plan.from.as_str(), plan.to.as_str()].contains(&what) || plan.members().any(|member| member.item.as_str() == what);
        place || activities.contains(what) || keys.iter().any(|key| begins(key, what))
    };
    let Some(strange) = supposed.slow.iter().find(|slow| !known(&slow.what)) else { return Ok(()) };
    let known = format!(
        "the sites {} and {}; the machines {}; the steps {}, or the first parts of their keys; and the activities {}",
        plan.from,
        plan.to,
        shown(plan.members().map(|member| member.item.as_str())),
        shown(keys.iter().map(String::as_str)),
        activities.iter().copied().collect::<Vec<_>>().join(", "),
    );
    Err(Impossible::NothingToSlow { what: strange.what.clone(), known })
}

fn keys(question: &Question) -> Vec<String> {
    question.plan.stages(question.work).iter().flat_map(Stage::steps).map(|step| step.key.clone()).collect()
}

/// The first of them, and how many more there are.
fn shown<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(MOST_SHOWN);
    let first = names[..names.len().min(MOST_SHOWN)].join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// Whether a key is this one, or has it as its first parts: `data/db1` is no beginning of `data/db10/start`.
fn begins(key: &str, with: &str) -> bool {
    key.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
            slow.what == activity || item == Some(slow.what.as_str()) || site == Some(slow.what.as_str()) || key.is_some_and(|key| begins(key, &slow.what))
        };
        self.slow.iter().filter(meant).map(|slow| u64::from(slow.times)).product()
    }
}
