//! Runs of plans: followed step by step against the clock, and answered.
//!
//! Invariant: what people are asked is read from the projection that the run writes with its events; whether an answer counts is decided
//! by the run.

use std::collections::BTreeMap;

use api::{
    Code,
    access::Role,
    plans::{AnswerTaken, Clock, DurationView, DurationsView, GiveAnswer, PlanProgress, QuestionView, StepView},
};
use axum::{
    Json,
    extract::{Path, State},
};
use chrono::{DateTime, Utc};
use engine::{RunStore, Sent};
use recovery::plan::{Forecast, Plan, StepRun, StepState, Timeline, Work, forecast};
use sdk::{Message, RunId};
use store::plans::{DurationRow, PlanStepRow};
use workflows::{Question, Reply, answer_signal};

use super::plans::{known, named, plan_of, run_view};
use crate::{
    app::{App, Asked, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
};

pub(super) async fn one(_: Caller, State(app): State<App>, Path(run): Path<String>) -> Answer<PlanProgress> {
    progress(&app, parsed(&run)?).await.map(Json)
}

async fn progress(app: &App, root: RunId) -> Result<PlanProgress, Refusal> {
    let unknown = || Refusal::new(Code::UnknownRun, format!("run {root} is none of a plan; see `switchback plan runs NAME`"));
    let row = app.store.plan_runs(None, Some(root), 1).await?.pop().ok_or_else(unknown)?;
    let plan = app.store.plan_version(&row.plan, row.version).await?.map(serde_json::from_value::<Plan>).transpose();
    let plan = plan.map_err(|error| Refusal::new(Code::Internal, format!("plan {} can't be read: {error}", row.plan)))?.ok_or_else(unknown)?;
    let run = run_view(row)?;
    let rows = app.store.plan_steps(root).await?;
    let questions = questions(&rows)?;
    let steps: Vec<StepRun> = rows.into_iter().map(step_run).collect::<Result<_, _>>()?;
    let durations = durations(app, &plan, run.work).await?;
    let now = app.store.now().await?;
    let known = Known { plan: &plan, work: run.work, began_at: run.began_at, now: run.ended_at.unwrap_or(now), steps: &steps, durations: &durations };
    let clock = known.clock(run.ended_at, run.rto_target_ms);
    Ok(PlanProgress { steps: known.views(run.ended_at.is_some()), questions, clock, run })
}

/// How long steps took: in runs of this work, or of tests, whose steps are much the same.
async fn durations(app: &App, plan: &Plan, work: Work) -> Result<BTreeMap<String, DurationRow>, Refusal> {
    let word = |work: Work| serde_json::to_value(work).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    let mut known = BTreeMap::new();
    let alike = if matches!(work, Work::Planned | Work::Unplanned) { vec![Work::Test, work] } else { vec![work] };
    for work in alike {
        let rows = app.store.plan_durations(plan.name.as_str(), &word(work)).await?;
        known.extend(rows.into_iter().map(|row| (row.key.clone(), row)));
    }
    Ok(known)
}

/// What steps of a plan took.
pub(super) async fn known_durations(_: Caller, State(app): State<App>, Path((name, work)): Path<(String, String)>) -> Answer<DurationsView> {
    let plan = plan_of(&known(&app, &name).await?)?;
    let work = named(&work)?;
    let steps = durations(&app, &plan, work).await?.into_values().map(|row| DurationView {
        key: row.key,
        middle_ms: row.middle_ms.unsigned_abs(),
        longest_ms: row.longest_ms.unsigned_abs(),
        runs: row.runs.unsigned_abs(),
    });
    Ok(Json(DurationsView { steps: steps.collect() }))
}

fn step_run(row: PlanStepRow) -> Result<StepRun, Refusal> {
    let states = [StepState::Running, StepState::Waiting, StepState::Done, StepState::Failed, StepState::Skipped, StepState::PutBack];
    let unreadable = || Refusal::new(Code::Internal, format!("a step can't be read: {}", row.state));
    let state = states.into_iter().find(|state| state.as_str() == row.state).ok_or_else(unreadable)?;
    let PlanStepRow { key, began_at, ended_at, attempts, said, run, .. } = row;
    Ok(StepRun { key, state, began_at, ended_at, attempts: attempts.unsigned_abs(), said, run: run.map(|run| run.to_string()) })
}

fn questions(rows: &[PlanStepRow]) -> Result<Vec<QuestionView>, Refusal> {
    let mut open = vec![];
    for row in rows.iter().filter(|row| row.state == StepState::Waiting.as_str()) {
        let question = question(row)?;
        open.push(QuestionView {
            step: row.key.clone(),
            text: question.text,
            choices: question.choices,
            by: question.by.into_iter().collect(),
            need: question.need,
            until: question.until,
        });
    }
    Ok(open)
}

fn question(row: &PlanStepRow) -> Result<Question, Refusal> {
    serde_json::from_value(row.question.clone().unwrap_or_default()).map_err(|error| Refusal::new(Code::Internal, format!("a question can't be read: {error}")))
}

pub(super) async fn answer(caller: Caller, State(app): State<App>, Path(run): Path<String>, Asked(asked): Asked<GiveAnswer>) -> Answer<AnswerTaken> {
    caller.may(Role::Operator)?;
    let root: RunId = parsed(&run)?;
    let rows = app.store.plan_steps(root).await?;
    let open: Vec<&PlanStepRow> = rows.iter().filter(|row| row.state == StepState::Waiting.as_str()).collect();
    let names = || open.iter().map(|row| row.key.clone()).collect::<Vec<_>>().join(", ");
    let meant = match (&asked.step, open.as_slice()) {
        (_, []) => return Err(Refusal::new(Code::NotNow, format!("run {root} asks nobody anything now; see `switchback plan status {root}`"))),
        (None, [only]) => Some(*only),
        (None, _) => return Err(Refusal::new(Code::InvalidRequest, format!("run {root} asks about several steps, name one with --step: {}", names()))),
        (Some(step), _) => open.iter().copied().find(|row| row.key == *step),
    };
    let row = meant.ok_or_else(|| Refusal::new(Code::NotNow, format!("run {root} asks nobody about that step now; it asks about {}", names())))?;
    let (question, by) = (question(row)?, caller.name.clone());
    if !question.by.is_empty() && !question.by.contains(&by) {
        let people = question.by.iter().cloned().collect::<Vec<_>>().join(", ");
        return Err(Refusal::new(Code::Forbidden, format!("{by} plays none of the roles that step {} asks: {people} do", row.key)));
    }
    let GiveAnswer { choice, reason, .. } = asked;
    if !question.choices.contains(&choice) {
        return Err(Refusal::new(Code::InvalidRequest, format!("{choice:?} is no answer to step {}: {}", row.key, question.choices.join(", "))));
    }
    let body = serde_json::to_value(Reply { choice: choice.clone(), reason }).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    // Asked again, the same person may give the same answer again.
    let key = format!("{}:{by}:{choice}", question.until.timestamp_millis());
    let asks = row.asked_by.unwrap_or(root);
    match app.store.send(asks, Message::Signal { name: answer_signal(&row.key), key, body, by: by.clone() }).await? {
        Sent::Accepted => tracing::info!(%root, step = row.key, by, choice, "somebody has answered"),
        Sent::Closed | Sent::NoSuchRun => return Err(Refusal::new(Code::RunEnded, format!("run {root} has ended"))),
    }
    Ok(Json(AnswerTaken { step: row.key.clone(), choice }))
}

/// What is known of a run in time.
struct Known<'a> {
    plan: &'a Plan,
    work: Work,
    began_at: DateTime<Utc>,
    now: DateTime<Utc>,
    steps: &'a [StepRun],
    durations: &'a BTreeMap<String, DurationRow>,
}

impl Known<'_> {
    fn of(&self, key: &str) -> Option<&StepRun> {
        self.steps.iter().find(|step| step.key == key)
    }

    fn expected_ms(&self, key: &str) -> Option<u64> {
        self.durations.get(key).map(|row| row.middle_ms.unsigned_abs())
    }

    /// As long as they took, or take at least, or took in the past.
    fn laid(&self) -> Forecast {
        let elapsed = |step: &StepRun| u64::try_from((self.now - step.began_at).num_milliseconds()).unwrap_or(0);
        forecast(&self.plan.stages(self.work), |step| {
            let expected = self.expected_ms(&step.key).unwrap_or(0);
            match self.of(&step.key) {
                Some(run) => run.took_ms().unwrap_or_else(|| expected.max(elapsed(run))),
                None => expected,
            }
        })
    }

    fn clock(&self, ended_at: Option<DateTime<Utc>>, target_ms: Option<u64>) -> Clock {
        let elapsed_ms = u64::try_from((self.now - self.began_at).num_milliseconds()).unwrap_or(0);
        let critical_path_ms = Timeline { steps: self.steps.to_vec() }.critical_path(self.plan, self.work).total_ms;
        let from_runs = self.durations.values().map(|row| row.runs.unsigned_abs()).max().unwrap_or(0);
        let total_ms = self.laid().total_ms.max(elapsed_ms);
        let eta = (ended_at.is_none() && from_runs > 0).then(|| self.began_at + chrono::TimeDelta::milliseconds(i64::try_from(total_ms).unwrap_or(i64::MAX)));
        let takes_ms = if eta.is_some() { total_ms } else { elapsed_ms };
        Clock { elapsed_ms, target_ms, critical_path_ms, eta, late: target_ms.is_some_and(|target| takes_ms > target), from_runs }
    }

    fn views(&self, ended: bool) -> Vec<StepView> {
        let laid = self.laid().steps;
        let expected_at = |begins_ms: u64| self.began_at + chrono::TimeDelta::milliseconds(i64::try_from(begins_ms).unwrap_or(i64::MAX));
        let view = |timed: &recovery::plan::Timed| StepView {
            key: timed.step.key.clone(),
            does: timed.step.does.clone(),
            step: self.of(&timed.step.key).cloned(),
            expected_ms: self.expected_ms(&timed.step.key),
            expected_at: (!ended && self.of(&timed.step.key).is_none()).then(|| expected_at(timed.begins_ms)),
            critical: timed.critical,
        };
        let mut views: Vec<StepView> = laid.iter().map(view).collect();
        if ended {
            views.retain(|view| view.step.is_some());
        }
        views.sort_by_key(|view| (view.step.is_none(), view.step.as_ref().map(|step| step.began_at), view.expected_at));
        views
    }
}
