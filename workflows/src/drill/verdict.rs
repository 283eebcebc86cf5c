//! What a drill has shown: a verdict from what was seen, with a sentence for each claim that did not hold.

use chrono::{DateTime, Utc};
use recovery::{ItemName, PointChoice, PointId, SiteName};
use sdk::{ChildError, Failure, RunId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::DrillInput;
use crate::{
    declared::TestObject,
    test_failover::{Stage, Tested, elapsed_ms},
};

/// What a drill has shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drilled {
    /// Form of this text, 1.
    pub v: u32,
    /// Which.
    pub item: ItemName,
    /// Where the copy ran.
    pub site: SiteName,
    /// Whether every claim was seen to hold.
    pub passed: bool,
    /// The claims that did not, a sentence each.
    pub why_not: Vec<String>,
    /// When it was asked for, by the clock of the database.
    pub requested_at: DateTime<Utc>,
    /// What was asked for.
    pub requested: PointChoice,
    /// Which point that was.
    pub point: Option<PointId>,
    /// Why, in the words of whoever asked.
    pub note: Option<String>,
    /// The test failover's run.
    pub test_run: Option<RunId>,
    /// What it has shown.
    pub tested: Option<Tested>,
    /// The clean-up's runs; more than one if it had to be tried again.
    pub clean_runs: Vec<RunId>,
    /// Whether nothing of the copy was left to be removed.
    pub cleaned: bool,
    /// What test failovers made that is there after the drill and was not before; absent if the site could not be asked.
    pub left_behind: Option<Vec<TestObject>>,
    /// Longest time until it serves.
    pub rto_target_ms: Option<u64>,
    /// From the test failover's start until it served.
    pub rto_actual_ms: Option<u64>,
    /// Greatest age of the point.
    pub rpo_target_ms: Option<u64>,
    /// Age of the point when the drill was asked for: what a failover then would have lost.
    pub rpo_actual_ms: Option<u64>,
    /// How long each part took; those of the test failover are in `tested`.
    pub stages: Vec<Stage>,
}

/// How far the test failover came.
pub(super) enum Trial {
    /// It never began.
    NotBegun(String),
    /// It failed and has put everything back.
    Failed(String),
    /// It failed and left something behind.
    FailedWithCopy(String),
    /// It came to its end; its copy is there.
    Tested(Box<Tested>),
}

/// What was seen of a drill.
pub(super) struct Seen {
    pub(super) site: SiteName,
    pub(super) test_run: Option<RunId>,
    pub(super) trial: Trial,
    pub(super) cleaned: Result<(), Failure>,
    pub(super) clean_runs: Vec<RunId>,
    pub(super) left_behind: Result<Vec<TestObject>, Failure>,
}

impl Trial {
    pub(super) fn of_error(error: ChildError) -> Self {
        let failure = Failure::from(error);
        if failure.detail.get("left_behind").is_some() { Self::FailedWithCopy(failure.message) } else { Self::Failed(failure.message) }
    }

    /// Whether there is something to clean up that is ours.
    pub(super) fn has_a_copy(&self) -> bool {
        matches!(self, Self::FailedWithCopy(_) | Self::Tested(_))
    }
}

/// The verdict.
pub(super) fn of(input: DrillInput, requested_at: DateTime<Utc>, seen: Seen, stages: Vec<Stage>) -> Drilled {
    let cleaned = seen.cleaned.is_ok();
    let mut why_not = of_cleaning(&seen);
    let tested = match seen.trial {
        Trial::Tested(tested) => Some(*tested),
        Trial::NotBegun(why) => {
            why_not.insert(0, format!("the test failover did not begin: {why}"));
            None
        }
        Trial::Failed(why) | Trial::FailedWithCopy(why) => {
            why_not.insert(0, format!("the test failover failed: {why}"));
            None
        }
    };
    let rto_actual_ms = tested.as_ref().map(|tested| tested.rto_actual_ms);
    let rpo_actual_ms = tested.as_ref().map(|tested| elapsed_ms(tested.point_taken_at, requested_at));
    if let Some(tested) = &tested {
        why_not.splice(0..0, of_copy(&input, tested, rpo_actual_ms.unwrap_or_default()));
    }
    Drilled {
        v: 1,
        item: input.item,
        site: seen.site,
        passed: why_not.is_empty(),
        why_not,
        requested_at,
        requested: input.choice,
        point: tested.as_ref().map(|tested| tested.point),
        note: input.note,
        test_run: seen.test_run,
        tested,
        clean_runs: seen.clean_runs,
        cleaned,
        left_behind: seen.left_behind.ok(),
        rto_target_ms: input.rto_target_ms,
        rto_actual_ms,
        rpo_target_ms: input.rpo_target_ms,
        rpo_actual_ms,
        stages,
    }
}

fn of_copy(input: &DrillInput, tested: &Tested, rpo_actual_ms: u64) -> Vec<String> {
    let mut why_not = vec![];
    if !tested.serves {
        why_not.push(format!("the copy did not serve: {}", tested.evidence));
    }
    if tested.isolation.trim().is_empty() {
        why_not.push("nothing shows that the copy's network was isolated".to_owned());
    }
    if let Some(target) = input.rto_target_ms.filter(|target| tested.rto_actual_ms > *target) {
        why_not.push(format!("it took {} until it served; {} were allowed", seconds(tested.rto_actual_ms), seconds(target)));
    }
    if let Some(target) = input.rpo_target_ms.filter(|target| rpo_actual_ms > *target) {
        why_not.push(format!("point {} was {} old; {} were allowed", tested.point, seconds(rpo_actual_ms), seconds(target)));
    }
    why_not
}

fn of_cleaning(seen: &Seen) -> Vec<String> {
    let mut why_not = vec![];
    if let Err(why) = &seen.cleaned {
        why_not.push(format!("the clean-up did not succeed: {}; try `switchback clean-test-failover`", why.message));
    }
    match &seen.left_behind {
        Ok(left) if left.is_empty() => {}
        Ok(left) => {
            let names: Vec<String> = left.iter().map(|object| format!("{} {}", object.kind, object.name)).collect();
            why_not.push(format!("left behind at site {}: {}", seen.site, names.join(", ")));
        }
        Err(why) => why_not.push(format!("site {} could not list what it has, so that nothing is left is not shown: {}", seen.site, why.message)),
    }
    why_not
}

/// How a drill that was cancelled ends: with what it left behind, if anything.
pub(super) fn cancelled(drilled: &Drilled) -> Failure {
    let mut failure = Failure::from(sdk::Cancelled);
    let left = !drilled.cleaned || drilled.left_behind.as_ref().is_none_or(|left| !left.is_empty());
    if left && drilled.test_run.is_some() {
        failure.message = format!("{}; {}", failure.message, drilled.why_not.join("; "));
        failure.detail = json!({ "left_behind": drilled.left_behind, "why_not": drilled.why_not });
    }
    failure
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
