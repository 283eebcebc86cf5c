//! What plans ask people now: listed, told to whoever wonders why a run waits, and counted for monitoring.
//!
//! ```text
//!   projection (what is asked, by which run) ─┐
//!   plan (which roles)                        ├─▶ question ─▶ status, list, `why` of the plan's run and of all below it
//!   history of the run that asks (who said)  ─┘
//! ```
//!
//! Invariant: an answer is told only if its run has recorded it and will count it.

use std::collections::BTreeMap;

use api::{
    Code,
    items::Listed,
    plans::{AnswerGiven, PlanQuestion, QuestionView},
};
use axum::{Json, extract::State};
use engine::RunStore;
use recovery::plan::{Asks, Plan, Stage, Work};
use sdk::{Command, Event, EventBody, Inbound, RunId, Workflow};
use store::{
    look::{RunFilter, RunRow},
    plans::PlanQuestionRow,
};
use workflows::{PLAN_PROJECTION, PlanFact, PlanGroup, PlanNote, Question, Reply, answer_signal};

use crate::{
    app::{App, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Most questions in one answer: more than people answer in a night.
const MOST: i64 = 500;
/// A machine's run has its group above it, and that its plan.
const MOST_ABOVE: usize = 2;

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<PlanQuestion>> {
    open(&app, None).await.map(|items| Json(Listed { items }))
}

/// What is asked now, by all plans or by the run of one.
pub(super) async fn open(app: &App, root: Option<RunId>) -> Result<Vec<PlanQuestion>, Refusal> {
    let mut plans: BTreeMap<(String, i64), Option<Plan>> = BTreeMap::new();
    let mut asked = vec![];
    for row in app.store.plan_questions(root, MOST).await? {
        let version = (row.plan.clone(), row.version);
        if !plans.contains_key(&version) {
            let tree = app.store.plan_version(&row.plan, row.version).await?;
            // A question can be answered although its plan can't be read any more.
            plans.insert(version.clone(), tree.and_then(|tree| serde_json::from_value(tree).ok()));
        }
        let plan = plans.get(&version).and_then(Option::as_ref);
        asked.push(one(app, row, plan).await?);
    }
    Ok(asked)
}

async fn one(app: &App, row: PlanQuestionRow, plan: Option<&Plan>) -> Result<PlanQuestion, Refusal> {
    let unreadable = |what: &str| Refusal::new(Code::Internal, format!("a run of a plan can't be read: {what}"));
    let work = Work::of_recorded(&row.work).ok_or_else(|| unreadable(&row.work))?;
    let question = read(row.question)?;
    let history = app.store.load_history(row.asked_by.unwrap_or(row.root)).await?;
    let given = given(history.events.into_iter().map(|stored| stored.event), &row.key, &question);
    let stages = plan.map(|plan| plan.stages(work)).unwrap_or_default();
    let asks = stages.iter().flat_map(Stage::steps).find(|step| step.key == row.key).and_then(|step| step.asks.as_ref());
    // Everybody is asked about a step that failed.
    let roles = asks.map(Asks::roles).filter(|_| !question.by.is_empty()).into_iter().flatten().cloned().collect();
    let Question { text, choices, by, need, until } = question;
    let question = QuestionView { step: row.key, text, choices, by: by.into_iter().collect(), roles, need, until, given };
    Ok(PlanQuestion { run: row.root, plan: parsed(&row.plan)?, work, question })
}

/// A question as the run recorded it.
pub(super) fn read(question: Option<serde_json::Value>) -> Result<Question, Refusal> {
    serde_json::from_value(question.unwrap_or_default()).map_err(|error| Refusal::new(Code::Internal, format!("a question can't be read: {error}")))
}

/// What was said since it was asked, as the run counts it: the first word of each who is asked.
fn given(events: impl Iterator<Item = Event>, key: &str, question: &Question) -> Vec<AnswerGiven> {
    let signal = answer_signal(key);
    let mut given: Vec<AnswerGiven> = vec![];
    for event in events {
        match event.body {
            EventBody::Command(Command::Recorded { projection, fact }) if projection == PLAN_PROJECTION => {
                if let Ok(PlanNote { fact: PlanFact::Step { step, question: Some(_) }, .. }) = serde_json::from_value(fact)
                    && step.key == key
                {
                    given.clear();
                }
            }
            EventBody::Inbound(Inbound::SignalReceived { name, body, by, .. }) if name == signal => {
                let Ok(Reply { choice, reason }) = serde_json::from_value(body) else { continue };
                let heard = question.by.is_empty() || question.by.contains(&by);
                if heard && question.choices.contains(&choice) && !given.iter().any(|before| before.by == by) {
                    given.push(AnswerGiven { by, choice, reason });
                }
            }
            EventBody::Command(_) | EventBody::Inbound(_) => {}
        }
    }
    given
}

/// What an open run of a plan, of its groups or of its machines waits for, if that is a question, or if it only waits for the plan.
pub(super) async fn why(app: &App, run: &RunRow, idle: bool) -> Result<Option<String>, Refusal> {
    let Some(root) = root(app, run).await? else { return Ok(None) };
    let mine = |row: &PlanQuestionRow| run.run == root || row.asked_by == Some(run.run);
    let asked = app.store.plan_questions(Some(root), MOST).await?;
    if asked.iter().any(mine) {
        let mine: Vec<String> = asked.iter().filter(|row| mine(row)).map(|row| row.key.clone()).collect();
        let open = open(app, Some(root)).await?;
        let said: Vec<String> = open.iter().filter(|asked| mine.contains(&asked.question.step)).map(words).collect();
        return Ok(Some(said.join("; and ")));
    }
    if !idle {
        return Ok(None);
    }
    if run.run == root {
        return Ok(Some(format!("waits for its groups; `switchback plan status {root}` says how each step stands")));
    }
    let open = open(app, Some(root)).await?;
    let said: Vec<String> = open.iter().map(words).collect();
    let above = if said.is_empty() { format!("; `switchback plan status {root}` says where that is") } else { format!(", which {}", said.join("; and ")) };
    let what = if run.workflow == PlanGroup::NAME { "its machines, or for its turn" } else { "its turn" };
    Ok(Some(format!("waits for {what} in the plan of run {root}{above}")))
}

/// The run of the plan that this one is, or is a part of.
async fn root(app: &App, run: &RunRow) -> Result<Option<RunId>, Refusal> {
    if run.workflow == workflows::Plan::NAME {
        return Ok(Some(run.run));
    }
    let mut above = run.parent;
    for _ in 0..MOST_ABOVE {
        let Some(id) = above else { return Ok(None) };
        let filter = RunFilter { run: Some(id), limit: 1, ..RunFilter::default() };
        let Some(parent) = app.store.runs(&filter).await?.pop() else { return Ok(None) };
        if parent.workflow == workflows::Plan::NAME {
            return Ok(Some(parent.run));
        }
        above = parent.parent.filter(|_| parent.workflow == PlanGroup::NAME);
    }
    Ok(None)
}

/// A question in one line: until when, of whom, about what, who has said what, and how it is answered.
fn words(asked: &PlanQuestion) -> String {
    let QuestionView { step, text, choices, by, roles, need, until, given } = &asked.question;
    let names = if by.is_empty() { "all operators".to_owned() } else { by.join(", ") };
    let roles = if roles.is_empty() { String::new() } else { format!(" ({})", roles.join(", ")) };
    let said: Vec<String> = given.iter().map(|answer| format!("{} has said {}", answer.by, answer.choice)).collect();
    let said = if said.is_empty() { "nobody has yet".to_owned() } else { said.join(", ") };
    let until = until.format("%Y-%m-%d %H:%M:%SZ");
    let answer = format!("switchback plan answer {} {} --step {step}", asked.run, choices.join("|"));
    format!("waits until {until} for {need} of {names}{roles} to answer about {step}, {text:?} ({said}): `{answer}`")
}

/// Refuses an answer to an alert that was meant for a plan, and says how that is answered.
pub(super) async fn meant(app: &App, run: RunId) -> Result<Option<Refusal>, Refusal> {
    let filter = RunFilter { run: Some(run), limit: 1, ..RunFilter::default() };
    let Some(row) = app.store.runs(&filter).await?.pop() else { return Ok(None) };
    let Some(root) = root(app, &row).await? else { return Ok(None) };
    let open = open(app, Some(root)).await?;
    let said: Vec<String> = open.iter().map(words).collect();
    let asks = if said.is_empty() { "asks nobody anything now".to_owned() } else { said.join("; and ") };
    Ok(Some(Refusal::new(Code::NotNow, format!("run {run} belongs to the plan of run {root}, which {asks}"))))
}

/// How many questions each plan asks, for monitoring.
pub(super) async fn gauges(app: &App) -> Result<String, Refusal> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in app.store.plan_questions(None, MOST).await? {
        *counts.entry(row.plan).or_default() += 1;
    }
    Ok(counts.into_iter().map(|(plan, count)| format!("switchback_plan_questions{{plan=\"{plan}\"}} {count}\n")).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use chrono::DateTime;
    use recovery::plan::{StepRun, StepState};
    use sdk::{Seq, WorkerId};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const KEY: &str = "web/before/agree";

    fn event(body: EventBody) -> Event {
        let (nobody, at) = (Uuid::nil(), DateTime::UNIX_EPOCH);
        Event { v: 1, seq: Seq(0), at, worker: WorkerId(nobody), lease_epoch: 1, run_epoch: 1, turn: nobody, msg_key: None, body }
    }

    fn said(by: &str, choice: &str) -> Event {
        let body = json!({ "choice": choice });
        event(EventBody::Inbound(Inbound::SignalReceived { name: answer_signal(KEY), key: format!("{by}:{choice}"), body, by: by.into() }))
    }

    fn asked(question: &Question) -> Event {
        let at = DateTime::UNIX_EPOCH;
        let step = StepRun { key: KEY.into(), state: StepState::Waiting, began_at: at, ended_at: None, attempts: 1, said: String::new(), run: None };
        let note = PlanNote { plan: "shop".parse().unwrap(), root: RunId(Uuid::nil()), fact: PlanFact::Step { step, question: Some(question.clone()) } };
        event(EventBody::Command(Command::Recorded { projection: PLAN_PROJECTION.into(), fact: serde_json::to_value(note).unwrap() }))
    }

    #[test]
    fn only_the_first_word_of_those_who_are_asked_since_they_were_is_told() {
        let by = ["ada", "bob", "eve"].map(str::to_owned).into();
        let choices = ["approve", "deny"].map(str::to_owned).to_vec();
        let question = Question { text: "may it?".into(), choices, by, need: 2, until: DateTime::UNIX_EPOCH };
        let events = [
            asked(&question),
            said("eve", "approve"),
            asked(&question), // once more
            said("mallory", "approve"),
            said("ada", "perhaps"),
            said("bob", "approve"),
            said("bob", "approve"),
        ];
        let given = given(events.into_iter(), KEY, &question);
        assert_eq!(given, [AnswerGiven { by: "bob".into(), choice: "approve".into(), reason: None }]);
        let view = QuestionView { step: KEY.into(), text: question.text, choices: question.choices, by: vec!["ada".into(), "bob".into(), "eve".into()], roles: vec!["boss".into()], need: 2, until: question.until, given };
        let asked = PlanQuestion { run: RunId(Uuid::nil()), plan: "shop".parse().unwrap(), work: Work::Unplanned, question: view };
        let told = "waits until 1970-01-01 00:00:00Z for 2 of ada, bob, eve (boss) to answer about web/before/agree, \"may it?\" (bob has said approve): \
                    `switchback plan answer 00000000-0000-0000-0000-000000000000 approve|deny --step web/before/agree`";
        assert_eq!(words(&asked), told);
    }
}
