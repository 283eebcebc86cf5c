//! What it all comes to, in a word and a sentence.
//!
//! Invariant: it passed only if everything that was asked for came about; what speaks against that is listed.

use serde::{Deserialize, Serialize};
use workflows::Drilled;

use super::{
    CleanUp, Deviation, Kind, Recovery, RunShown, RunState,
    deviations::DeviationKind,
    recoveries::{is_drill, output},
    words,
};
use crate::Bundle;

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Everything came about as it should.
    Passed,
    /// It came about, and something is to be explained.
    PassedWithDeviations,
    /// It did not come about.
    Failed,
    /// A part that belongs to it is not in these histories.
    Incomplete,
    /// It has not ended.
    Running,
}

/// The word and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conclusion {
    /// The word.
    pub result: Judgement,
    /// In a sentence.
    pub sentence: String,
    /// What speaks against `passed`.
    pub reasons: Vec<String>,
}

impl Judgement {
    /// As people are told.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Passed => "Passed",
            Self::PassedWithDeviations => "Passed, with deviations",
            Self::Failed => "Failed",
            Self::Incomplete => "Incomplete",
            Self::Running => "Still running",
        }
    }
}

pub(super) fn of(bundle: &Bundle, runs: &[RunShown], recoveries: &[Recovery], clean_up: &[CleanUp], deviations: &[Deviation]) -> Conclusion {
    let drills = bundle.runs().iter().filter(|history| is_drill(history)).filter_map(output);
    let drills = drills.filter_map(|output| serde_json::from_value::<Drilled>(output.clone()).ok());
    let mut failed: Vec<String> = drills.filter(|drilled| !drilled.passed).flat_map(|drilled| drilled.why_not).collect();
    failed.extend(runs.iter().filter(|run| matches!(run.state, RunState::Failed | RunState::Cancelled)).map(ended_badly));
    for recovery in recoveries {
        if recovery.serves == Some(false) {
            failed.push(format!("{} did not serve at {}", recovery.item, recovery.to));
        }
        let missed = [("RTO", recovery.rto), ("RPO", recovery.rpo)].into_iter().filter(|(_, figure)| figure.kept == Some(false));
        failed.extend(missed.map(|(what, _)| format!("the {what} target of {} was missed", recovery.item)));
    }
    failed.extend(clean_up.iter().filter(|clean| !clean.complete).map(|clean| format!("the test copy of {} was not removed whole", clean.item)));
    let running: Vec<String> = runs.iter().filter(|run| run.state == RunState::Open).map(|run| format!("run {} ({}) has not ended", run.run, run.workflow)).collect();
    let copies = recoveries.iter().filter(|recovery| recovery.kind == Kind::Test && recovery.serves.is_some());
    let left: Vec<String> = copies.filter(|copy| !clean_up.iter().any(|clean| clean.item == copy.item)).map(|copy| {
        format!("the test copy of {} is still there as far as these histories go: its clean-up is no part of them", copy.item)
    }).collect();
    let deviates = |deviation: &&Deviation| deviation.kind != DeviationKind::TakenOver;
    let (result, reasons) = match () {
        () if !running.is_empty() => (Judgement::Running, [running, failed].concat()),
        () if !failed.is_empty() => (Judgement::Failed, failed),
        () if !left.is_empty() => (Judgement::Incomplete, left),
        () if deviations.iter().any(|deviation| deviates(&deviation)) => {
            (Judgement::PassedWithDeviations, deviations.iter().filter(deviates).map(|deviation| deviation.words.clone()).collect())
        }
        () => (Judgement::Passed, vec![]),
    };
    Conclusion { result, sentence: words::sentence(result, runs, recoveries), reasons }
}

fn ended_badly(run: &RunShown) -> String {
    let how = if run.state == RunState::Cancelled { "was cancelled" } else { "failed" };
    let why = run.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
    format!("{} {how}{why}", run.workflow)
}
