//! What a simulation tells: how it ends, step by step, and what becomes of each machine.

use std::{collections::BTreeMap, sync::PoisonError};

use chrono::{DateTime, Utc};
use recovery::{
    ItemName, ItemRecord, Rest, SiteName,
    plan::{Forecast, Step, StepKind, StepRun, StepState, Timed, Timeline, Work, forecast},
};
use sdk::{Command, EventBody, RunId};
use serde::{Deserialize, Serialize};

use crate::{Impossible, Question, drive::Everybody};

/// How a plan would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every step ends well.
    Whole,
    /// It goes through, and leaves something out.
    Partly,
    /// It stops.
    Stopped,
}

/// What becomes of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Which.
    pub item: ItemName,
    /// Its main state, in words.
    pub state: String,
    /// Where it runs.
    pub runs_at: SiteName,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Of which work.
    pub work: Work,
    /// How it ends.
    pub ending: Ending,
    /// Why it stops, if it does.
    pub why: Option<String>,
    /// From the beginning to the end, milliseconds.
    pub total_ms: u64,
    /// What the steps alone take.
    pub critical_path_ms: u64,
    /// As the plan wants it.
    pub rto_target_ms: Option<u64>,
    /// Steps in time.
    pub steps: Vec<Timed>,
    /// What became of each step.
    pub timeline: Timeline,
    /// What becomes of each machine.
    pub machines: Vec<Machine>,
    /// Steps of which nobody knows how long they take: usual times were assumed.
    pub assumed: Vec<String>,
}

/// What becomes of a plan if a step fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Which step.
    pub step: String,
    /// How the plan ends.
    pub ending: Ending,
    /// Why it stops, if it does.
    pub why: Option<String>,
    /// When, milliseconds.
    pub total_ms: u64,
    /// What becomes of each machine.
    pub machines: Vec<Machine>,
}

/// Totals of many simulations, milliseconds: that with durations in the middle, and others with drawn ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Of the shortest.
    pub low_ms: u64,
    /// In the middle: half of them are not longer. What is to be expected.
    pub middle_ms: u64,
    /// Of the longest.
    pub high_ms: u64,
    /// So many.
    pub of: usize,
    /// So many of them are longer than the plan allows; none if it allows any.
    pub late: usize,
}

impl Range {
    pub(crate) fn of(mut totals: Vec<u64>, target_ms: Option<u64>) -> Self {
        totals.sort_unstable();
        let (last, of) = (totals.len().saturating_sub(1), totals.len());
        let at = |place: usize| totals.get(place).copied().unwrap_or(0);
        let late = totals.iter().filter(|total| target_ms.is_some_and(|target| **total > target)).count();
        Self { low_ms: at(0), middle_ms: at(last / 2), high_ms: at(last), of, late }
    }
}

pub(crate) fn told(question: &Question, world: &Everybody, root: RunId, began_at: DateTime<Utc>) -> Result<Told, Impossible> {
    let seen = std::mem::take(&mut *world.seen.lock().unwrap_or_else(PoisonError::into_inner));
    let mut steps: Vec<StepRun> = seen.steps.into_values().collect();
    steps.sort_by(|one, other| (one.began_at, &one.key).cmp(&(other.began_at, &other.key)));
    let timeline = Timeline { steps };
    let Forecast { steps, total_ms: critical_path_ms } = laid(question, world, &timeline);
    let history = world.store.history(root)?;
    let ended_at = history.events.last().map_or(began_at, |last| last.event.at);
    let why = history.events.last().and_then(|last| match &last.event.body {
        EventBody::Command(Command::RunFailed { failure } | Command::RunCancelled { failure }) => Some(failure.message.clone()),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let wrong = timeline.steps.iter().any(|step| step.state == StepState::Failed);
    let ending = match (&why, wrong) {
        (Some(_), _) => Ending::Stopped,
        (None, true) => Ending::Partly,
        (None, false) => Ending::Whole,
    };
    let assumed = steps.iter().map(|timed| timed.step.key.clone()).filter(|key| !question.durations.knows(key)).collect();
    Ok(Told {
        work: question.work,
        ending,
        why,
        total_ms: u64::try_from((ended_at - began_at).num_milliseconds()).unwrap_or(0),
        critical_path_ms,
        rto_target_ms: question.plan.rto_target.map(|span| span.ms()),
        steps,
        machines: machines(question, seen.records),
        timeline,
        assumed,
    })
}

/// As long as they took, in the plan's order; what platforms did beside recovering machines is a step of its own.
fn laid(question: &Question, world: &Everybody, timeline: &Timeline) -> Forecast {
    let took: BTreeMap<&str, u64> = timeline.steps.iter().filter_map(|step| Some((step.key.as_str(), step.took_ms()?))).collect();
    let takes = |step: &Step| {
        let extra_ms = step.item.as_ref().and_then(|item| world.extra_ms.get(item)).copied();
        match step.kind {
            StepKind::Extra => extra_ms,
            StepKind::Prepare => took.get(step.key.as_str()).map(|ms| ms.saturating_sub(extra_ms.unwrap_or(0))),
            StepKind::Start | StepKind::Operate | StepKind::Action => took.get(step.key.as_str()).copied(),
        }
    };
    let mut stages = world.rules.extra.put_into(question.plan.stages(question.work), |key| !took.contains_key(key));
    for unit in stages.iter_mut().flat_map(|stage| &mut stage.lanes).flat_map(|lane| &mut lane.units) {
        unit.steps.retain(|step| takes(step).is_some());
    }
    forecast(&stages, |step| takes(step).unwrap_or(0))
}

fn machines(question: &Question, mut records: BTreeMap<String, ItemRecord>) -> Vec<Machine> {
    let mut of = |item: &ItemName| {
        let record = records.remove(item.as_str());
        Machine {
            item: item.clone(),
            state: record.as_ref().map_or_else(|| Rest::Unprotected.to_string(), |record| record.state.main.to_string()),
            runs_at: record.map_or_else(|| question.plan.from.clone(), |record| record.active_site().clone()),
        }
    };
    question.plan.members().map(|member| of(&member.item)).collect()
}
