//! Runs of plans: followed step by step against the clock, and answered.
//!
//! Invariant: what people are asked is read from the projection that the run writes with its events; whether an answer counts is decided
//! by the run.

use std::collections::BTreeMap;

use api::{
    Code,
    access::Role,
    plans::{AnswerTaken, Clock, DurationView, DurationsView, GiveAnswer, PlanProgress, StepView},
};
use axum::{
    Json,
    extract::{Path, State},
};
use chrono::{DateTime, Utc};
use engine::{RunStore, Sent};
use recovery::plan::{Extra, Forecast, LeftOut, NOT_IN_A_TEST, Plan, Stage, Step, StepRun, StepState, Timeline, Work, forecast};
use sdk::{Message, RunId, Workflow};
use store::{
    look::RunFilter,
    plans::{DurationRow, PlanStepRow},
};
use workflows::{Reply, answer_signal};

use super::{
    plan_questions,
    plans::{known, named, plan_of, records, run_view},
};
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
    let Some(row) = app.store.plan_runs(None, Some(root), 1).await?.pop() else { return Err(not_begun(app, root).await?.unwrap_or_else(unknown)) };
    let plan = app.store.plan_version(&row.plan, row.version).await?.map(serde_json::from_value::<Plan>).transpose();
    let plan = plan.map_err(|error| Refusal::new(Code::Internal, format!("plan {} can't be read: {error}", row.plan)))?.ok_or_else(unknown)?;
    let run = run_view(row)?;
    let rows = app.store.plan_steps(root).await?;
    let asks = rows.iter().any(|row| row.state == StepState::Waiting.as_str());
    let questions = if asks { plan_questions::open(app, Some(root)).await?.into_iter().map(|asked| asked.question).collect() } else { vec![] };
    let steps: Vec<StepRun> = rows.into_iter().map(step_run).collect::<Result<_, _>>()?;
    let durations = durations(app, &plan, run.work).await?;
    let now = app.store.now().await?;
    let steps = steps.into_iter().map(|step| (step.key.clone(), step)).collect();
    // A run that has ended has no step ahead.
    let standing = if run.ended_at.is_some() { vec![] } else { records(app, &plan).await? };
    let extra = Extra::of(&plan, run.work, &standing.into_iter().map(|record| (record.name, record.profile)).collect());
    let known = Known { plan: &plan, work: run.work, began_at: run.began_at, now: run.ended_at.unwrap_or(now), steps: &steps, durations: &durations, extra: &extra };
    let laid = known.laid();
    let clock = known.clock(&laid, run.ended_at, run.rto_target_ms);
    Ok(PlanProgress { steps: known.views(&laid, run.ended_at.is_some()), questions, clock, run })
}

/// A run that was accepted and that no worker has taken up yet has recorded nothing.
async fn not_begun(app: &App, root: RunId) -> Result<Option<Refusal>, Refusal> {
    let filter = RunFilter { run: Some(root), open: true, limit: 1, ..RunFilter::default() };
    let row = app.store.runs(&filter).await?.pop().filter(|row| row.workflow == workflows::Plan::NAME);
    Ok(row.map(|row| Refusal::new(Code::NotNow, format!("run {root} of {} begins: no worker has taken it up yet", row.workflow_id))))
}

/// How long steps took: in runs of this work, or of tests, whose steps are much the same.
async fn durations(app: &App, plan: &Plan, work: Work) -> Result<BTreeMap<String, DurationRow>, Refusal> {
    let mut known = BTreeMap::new();
    let alike = if matches!(work, Work::Planned | Work::Unplanned) { vec![Work::Test, work] } else { vec![work] };
    for work in alike {
        let rows = app.store.plan_durations(plan.name.as_str(), work.recorded()).await?;
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
    let (question, by) = (plan_questions::read(row.question.clone())?, caller.name.clone());
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
    /// By key: there are some for each machine.
    steps: &'a BTreeMap<String, StepRun>,
    durations: &'a BTreeMap<String, DurationRow>,
    extra: &'a Extra,
}

impl Known<'_> {
    fn of(&self, key: &str) -> Option<&StepRun> {
        self.steps.get(key)
    }

    fn expected_ms(&self, step: &Step) -> Option<u64> {
        self.extra.longest_ms(step).or_else(|| self.durations.get(&step.key).map(|row| row.middle_ms.unsigned_abs()))
    }

    /// With extra processing where it lies ahead; preparations that were measured have it in them.
    fn stages(&self) -> Vec<Stage> {
        let counted = |key: &str| self.durations.contains_key(key) || self.of(key).is_some_and(|step| step.ended_at.is_some());
        self.extra.put_into(self.plan.stages(self.work), counted)
    }

    /// As long as they took, or take at least, or took in the past.
    fn laid(&self) -> Forecast {
        let elapsed = |step: &StepRun| u64::try_from((self.now - step.began_at).num_milliseconds()).unwrap_or(0);
        let ran = |key: &str| self.of(key).map_or(0, elapsed);
        forecast(&self.stages(), |step| {
            // Of extra processing what its preparation has not run yet: the rest lies ahead.
            let expected = self.extra.left_ms(step, ran).or_else(|| self.expected_ms(step)).unwrap_or(0);
            match self.of(&step.key) {
                Some(run) => run.took_ms().unwrap_or_else(|| expected.max(elapsed(run))),
                None => expected,
            }
        })
    }

    fn clock(&self, laid: &Forecast, ended_at: Option<DateTime<Utc>>, target_ms: Option<u64>) -> Clock {
        let elapsed_ms = u64::try_from((self.now - self.began_at).num_milliseconds()).unwrap_or(0);
        let critical_path_ms = Timeline { steps: self.steps.values().cloned().collect() }.critical_path(self.plan, self.work).total_ms;
        let from_runs = self.durations.values().map(|row| row.runs.unsigned_abs()).max().unwrap_or(0);
        let total_ms = laid.total_ms.max(elapsed_ms);
        let eta = (ended_at.is_none() && from_runs > 0).then(|| self.began_at + chrono::TimeDelta::milliseconds(i64::try_from(total_ms).unwrap_or(i64::MAX)));
        let takes_ms = if eta.is_some() { total_ms } else { elapsed_ms };
        let unknown = |step: &&Step| step.asks.is_some() && self.expected_ms(step).is_none() && self.of(&step.key).is_none_or(|run| run.ended_at.is_none());
        let waits_for = if ended_at.is_some() { vec![] } else { laid.steps.iter().map(|timed| &timed.step).filter(unknown).map(|step| step.key.clone()).collect() };
        Clock { elapsed_ms, target_ms, critical_path_ms, eta, late: target_ms.is_some_and(|target| takes_ms > target), from_runs, waits_for }
    }

    fn views(&self, laid: &Forecast, ended: bool) -> Vec<StepView> {
        let expected_at = |begins_ms: u64| self.began_at + chrono::TimeDelta::milliseconds(i64::try_from(begins_ms).unwrap_or(i64::MAX));
        let view = |timed: &recovery::plan::Timed| StepView {
            key: timed.step.key.clone(),
            does: timed.step.does.clone(),
            step: self.of(&timed.step.key).cloned(),
            expected_ms: self.expected_ms(&timed.step),
            expected_at: (!ended && self.of(&timed.step.key).is_none()).then(|| expected_at(timed.begins_ms)),
            critical: timed.critical,
            asks: timed.step.asks.clone(),
            left_out: None,
        };
        let mut views: Vec<StepView> = laid.steps.iter().map(view).collect();
        if ended {
            views.retain(|view| view.step.is_some());
        }
        views.sort_by_key(|view| (view.step.is_none(), view.step.as_ref().map(|step| step.began_at), view.expected_at));
        self.put_left_out(&mut views);
        views
    }

    /// What a test leaves out stands where it would come.
    fn put_left_out(&self, views: &mut Vec<StepView>) {
        for LeftOut { step, before } in self.plan.left_out(self.work) {
            let place = views.iter().position(|view| Some(&view.key) == before.as_ref()).unwrap_or(views.len());
            let left_out = Some(NOT_IN_A_TEST.to_owned());
            views.insert(place, StepView { key: step.key, does: step.does, step: None, expected_ms: None, expected_at: None, critical: false, asks: step.asks, left_out });
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    const SHOP: &str = "version: 1\nname: shop\nfrom: a\nto: b\nroles: { boss: [ada] }\ngroups:\n  - name: web\n    before: [{ name: agree, approval: { need: 1, of: [boss] } }]\n    items: [{ item: web }]\n";

    #[test]
    fn an_approval_takes_what_it_took_and_is_named_where_nobody_knows_how_long_that_is() {
        let plan = Plan::from_yaml(SHOP).unwrap();
        let took = |key: &str, middle_ms| (key.to_owned(), DurationRow { key: key.to_owned(), middle_ms, longest_ms: middle_ms, runs: 3 });
        let clock = |agree: Option<i64>| {
            let durations = [took("web/web/prepare", 5_000), took("web/web/start", 20_000)].into_iter().chain(agree.map(|ms| took("web/before/agree", ms))).collect();
            let (began_at, steps, extra) = (DateTime::UNIX_EPOCH, BTreeMap::new(), Extra::default());
            let known = Known { plan: &plan, work: Work::Unplanned, began_at, now: began_at, steps: &steps, durations: &durations, extra: &extra };
            let clock = known.clock(&known.laid(), None, None);
            (clock.eta.unwrap().timestamp_millis(), clock.waits_for)
        };
        assert_eq!(clock(None), (25_000, vec!["web/before/agree".to_owned()]));
        assert_eq!(clock(Some(600_000)), (625_000, vec![]));
    }

    #[test]
    fn a_test_shows_where_it_leaves_a_step_out_and_does_not_wait_for_it() {
        let plan = Plan::from_yaml(SHOP).unwrap();
        let (began_at, steps, durations, extra) = (DateTime::UNIX_EPOCH, BTreeMap::new(), BTreeMap::new(), Extra::default());
        let known = Known { plan: &plan, work: Work::Test, began_at, now: began_at, steps: &steps, durations: &durations, extra: &extra };
        let laid = known.laid();
        let shown: Vec<(String, Option<String>)> = known.views(&laid, false).into_iter().map(|view| (view.key, view.left_out)).collect();
        let expected = [("web/web/prepare", None), ("web/before/agree", Some("not in a test")), ("web/web/start", None)];
        assert_eq!(shown, expected.map(|(key, why)| (key.to_owned(), why.map(str::to_owned))));
        assert_eq!(known.clock(&laid, None, None).waits_for, [""; 0]);
    }
}
