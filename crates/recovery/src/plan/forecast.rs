//! When each step of a plan would begin and end, if nothing but its steps took time: the critical path.
//!
//! Invariant: the same order and limits as a run has, so that a run's own durations, put in here, give the time it would have taken
//! without any overhead.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::steps::{Lane, Stage, Step};

/// A step in time, from the beginning of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Which.
    pub step: Step,
    /// Milliseconds.
    pub begins_ms: u64,
    /// Milliseconds.
    pub ends_ms: u64,
    /// Whether the whole would end earlier if it were shorter.
    pub critical: bool,
}

/// All steps in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// By their beginning.
    pub steps: Vec<Timed>,
    /// When the last one ends, milliseconds.
    pub total_ms: u64,
}

/// Puts steps in time that take as long as `takes_ms` says.
#[must_use]
pub fn forecast(stages: &[Stage], takes_ms: impl Fn(&Step) -> u64) -> Forecast {
    let mut laid = Laid { steps: vec![], causes: BTreeMap::new() };
    let (mut begins, mut cause) = (0, None);
    for stage in stages {
        let lanes: Vec<End> = stage.lanes.iter().map(|lane| laid.lane(lane, begins, cause, &takes_ms)).collect();
        (begins, cause) = lanes.into_iter().max_by_key(|end| end.0).unwrap_or((begins, cause));
    }
    let mut next = cause;
    while let Some(place) = next {
        laid.steps[place].critical = true;
        next = laid.causes.get(&place).copied().flatten();
    }
    let mut steps = laid.steps;
    steps.sort_by_key(|timed| timed.begins_ms);
    Forecast { steps, total_ms: begins }
}

/// Steps as they are laid, and which one each of them had to wait for.
struct Laid {
    steps: Vec<Timed>,
    causes: BTreeMap<usize, Option<usize>>,
}

/// When something is over, and the step with which it is.
type End = (u64, Option<usize>);

impl Laid {
    /// Its units are begun in order, each as soon as there is room.
    fn lane(&mut self, lane: &Lane, begins: u64, cause: Option<usize>, takes_ms: &impl Fn(&Step) -> u64) -> End {
        let mut ended: Vec<End> = vec![];
        let mut running: VecDeque<End> = VecDeque::new();
        for unit in &lane.units {
            let mut from = (begins, cause);
            if running.len() >= lane.limit.max(1) {
                let first = running.iter().enumerate().min_by_key(|(_, end)| end.0).map(|(place, _)| place);
                from = first.and_then(|place| running.remove(place)).filter(|end| end.0 > begins).unwrap_or(from);
            }
            let needed = unit.needs.iter().filter_map(|place| ended.get(*place)).max_by_key(|end| end.0);
            from = needed.copied().filter(|end| end.0 > from.0).unwrap_or(from);
            for step in &unit.steps {
                from = self.step(step, from, takes_ms(step));
            }
            ended.push(from);
            running.push_back(from);
        }
        ended.into_iter().max_by_key(|end| end.0).unwrap_or((begins, cause))
    }

    fn step(&mut self, step: &Step, (begins_ms, cause): End, takes_ms: u64) -> End {
        let (place, ends_ms) = (self.steps.len(), begins_ms + takes_ms);
        self.steps.push(Timed { step: step.clone(), begins_ms, ends_ms, critical: false });
        self.causes.insert(place, cause);
        (ends_ms, Some(place))
    }
}
