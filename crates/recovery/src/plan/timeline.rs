//! What became of the steps of a run, and when: measured against what they alone would have taken.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    forecast::{Forecast, forecast},
    spec::Plan,
    steps::Work,
};

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It is under way.
    Running,
    /// A person is asked.
    Waiting,
    /// It has ended well.
    Done,
    /// It has ended badly.
    Failed,
    /// There was nothing to do, or somebody said that it may be left out.
    Skipped,
    /// It was done and then undone, because the plan stopped.
    PutBack,
}

impl StepState {
    /// The word used in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Running => "running",
            StepState::Waiting => "waiting",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Skipped => "skipped",
            StepState::PutBack => "put-back",
        }
    }
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRun {
    /// Which.
    pub key: String,
    /// How it stands.
    pub state: StepState,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Tries that were made.
    pub attempts: u32,
    /// What came of it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
    /// Id of the run that did it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl StepRun {
    /// How long it took, if it has ended; milliseconds.
    #[must_use]
    pub fn took_ms(&self) -> Option<u64> {
        self.ended_at.map(|ended| u64::try_from((ended - self.began_at).num_milliseconds()).unwrap_or(0))
    }
}

/// The steps of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// In the order in which they ended.
    pub steps: Vec<StepRun>,
}

impl Timeline {
    /// What the run would have taken if nothing but its own steps had taken time: its steps, as long as they were, in the order and
    /// with the limits of the plan. Steps that were not begun take none.
    #[must_use]
    pub fn critical_path(&self, plan: &Plan, work: Work) -> Forecast {
        let took: BTreeMap<&str, u64> = self.steps.iter().filter_map(|step| Some((step.key.as_str(), step.took_ms()?))).collect();
        let mut stages = plan.stages(work);
        for unit in stages.iter_mut().flat_map(|stage| &mut stage.lanes).flat_map(|lane| &mut lane.units) {
            unit.steps.retain(|step| took.contains_key(step.key.as_str()));
        }
        forecast(&stages, |step| took.get(step.key.as_str()).copied().unwrap_or(0))
    }
}
