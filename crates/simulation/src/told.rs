//! What a simulation tells: how it ends, step by step, and what becomes of each machine.

use chrono::{DateTime, Utc};
use recovery::{
    ItemName, Rest, SiteName,
    plan::{Forecast, StepRun, StepState, Timed, Timeline, Work},
};
use sdk::{Command, EventBody, RunId};
use serde::{Deserialize, Serialize};
use workflows::{PLAN_PROJECTION, PlanFact, PlanNote};

use crate::{Impossible, Question, answers::record, drive::Everybody};

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

/// Totals of many simulations, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// One in ten is shorter.
    pub low_ms: u64,
    /// In the middle.
    pub middle_ms: u64,
    /// One in ten is longer.
    pub high_ms: u64,
    /// So many.
    pub of: usize,
}

impl Range {
    pub(crate) fn of(mut totals: Vec<u64>) -> Self {
        totals.sort_unstable();
        let at = |tenths: usize| totals.get((totals.len().saturating_sub(1)) * tenths / 10).copied().unwrap_or(0);
        Self { low_ms: at(1), middle_ms: at(5), high_ms: at(9), of: totals.len() }
    }
}

pub(crate) fn told(question: &Question, world: &Everybody, root: RunId, began_at: DateTime<Utc>) -> Result<Told, Impossible> {
    let timeline = Timeline { steps: steps(world, root) };
    let Forecast { steps, total_ms: critical_path_ms } = timeline.critical_path(&question.plan, question.work);
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
        machines: machines(question, world),
        timeline,
        assumed,
    })
}

/// Each as it was last recorded.
fn steps(world: &Everybody, root: RunId) -> Vec<StepRun> {
    let mut known: std::collections::BTreeMap<String, StepRun> = std::collections::BTreeMap::new();
    for (_, row) in world.store.projections_from(0).into_iter().filter(|(_, row)| row.projection == PLAN_PROJECTION) {
        let Ok(note) = serde_json::from_value::<PlanNote>(row.fact) else { continue };
        if let PlanFact::Step { step, .. } = note.fact
            && note.root == root
        {
            known.insert(step.key.clone(), step);
        }
    }
    let mut steps: Vec<StepRun> = known.into_values().collect();
    steps.sort_by(|one, other| (one.began_at, &one.key).cmp(&(other.began_at, &other.key)));
    steps
}

fn machines(question: &Question, world: &Everybody) -> Vec<Machine> {
    let of = |item: &ItemName| {
        let record = record(&world.store, item.as_str());
        Machine {
            item: item.clone(),
            state: record.as_ref().map_or_else(|| Rest::Unprotected.to_string(), |record| record.state.main.to_string()),
            runs_at: record.map_or_else(|| question.plan.from.clone(), |record| record.active_site().clone()),
        }
    };
    question.plan.members().map(|member| of(&member.item)).collect()
}
