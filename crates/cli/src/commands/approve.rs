//! What people are asked now, by alerts and by plans, and their yes or no to it.

use std::process::ExitCode;

use anyhow::Result;
use api::{
    Client, ClientError, Code, Problem,
    items::Listed,
    plans::{GiveAnswer, PlanProgress, PlanQuestion, PlanView, QuestionView},
    policies::{GiveApproval, PolicyView, VoteTaken},
    runs::RunView,
};
use sdk::{RunId, Workflow};
use serde::Serialize;

use super::plan;
use crate::{
    arguments::{Approve, Output, Waiting},
    output::{self, or_dash},
    wait,
};

/// Words of a plan's approval.
const YES: &str = "approve";
const NO: &str = "deny";

/// What is asked now.
#[derive(Debug, Serialize)]
struct AskedNow {
    /// Whether alerts may start a failover.
    policies: Vec<PolicyView>,
    /// What runs of plans wait for.
    plans: Vec<PlanQuestion>,
}

/// Who is meant.
enum Meant {
    Evaluation(RunId),
    Plan(RunId),
}

pub(super) async fn approve(client: &Client, output: Output, arguments: Approve) -> Result<ExitCode> {
    let Approve { what, deny, reason, round, waiting } = arguments;
    let Some(what) = what else {
        let policies: Listed<PolicyView> = client.get("/v1/trigger-policies").await?;
        let plans: Listed<PlanQuestion> = client.get("/v1/plan-questions").await?;
        let policies = policies.items.into_iter().filter(|view| view.asks.is_some()).collect();
        output::answer(output, &AskedNow { policies, plans: plans.items }, listed)?;
        return Ok(ExitCode::SUCCESS);
    };
    let run = match meant(client, &what).await? {
        Meant::Evaluation(run) => run,
        Meant::Plan(_) if round.is_some() => return Err(not_now(format!("{what} is one of a plan, and only policies ask again and again: leave --round out"))),
        Meant::Plan(run) => return of_plan(client, output, run, deny, reason, waiting).await,
    };
    let vote: VoteTaken = client.post(&format!("/v1/runs/{run}/approval"), &GiveApproval { approve: !deny, reason, round }).await?;
    if waiting.wait {
        return wait::for_end(client, output, run, waiting, "the evaluation").await;
    }
    output::answer(output, &vote, voted)?;
    Ok(ExitCode::SUCCESS)
}

/// A run, or the name of a policy or else of a plan.
async fn meant(client: &Client, what: &str) -> Result<Meant> {
    if let Ok(run) = what.parse::<RunId>() {
        let view: RunView = client.get(&format!("/v1/runs/{run}")).await?;
        return Ok(if view.workflow == workflows::Plan::NAME { Meant::Plan(run) } else { Meant::Evaluation(run) });
    }
    match client.get::<PolicyView>(&format!("/v1/trigger-policies/{what}")).await {
        Ok(view) => match view.open_run {
            Some(run) => Ok(Meant::Evaluation(run)),
            None => Err(not_now(format!("no alert is being looked at by policy {what}, so it asks nobody; see `switchback trigger explain {what}`"))),
        },
        Err(unknown) if unknown.problem().is_some_and(|problem| problem.code() == Some(Code::UnknownPolicy)) => {
            match client.get::<PlanView>(&format!("/v1/plans/{what}")).await {
                Ok(PlanView { open_run: Some(run), .. }) => Ok(Meant::Plan(run)),
                Ok(PlanView { open_run: None, .. }) => Err(not_now(format!("no run carries plan {what} out now, so it asks nobody; see `switchback plan runs {what}`"))),
                Err(_) => Err(unknown.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn not_now(detail: String) -> anyhow::Error {
    ClientError::Problem(Box::new(Problem::new(Code::NotNow, detail))).into()
}

/// Answers the only approval that a plan's run asks for; of several, and of other questions, it says how they are answered.
async fn of_plan(client: &Client, output: Output, run: RunId, deny: bool, reason: Option<String>, waiting: Waiting) -> Result<ExitCode> {
    let progress: PlanProgress = client.get(&format!("/v1/plan-runs/{run}")).await?;
    let approvals: Vec<&QuestionView> = progress.questions.iter().filter(|question| question.choices.iter().any(|choice| choice == YES)).collect();
    let [only] = approvals.as_slice() else {
        let how = |question: &QuestionView| format!("`switchback plan answer {run} {} --step {}`", question.choices.join("|"), question.step);
        let open: Vec<String> = progress.questions.iter().map(how).collect();
        let many = if approvals.is_empty() { "no approval" } else { "several approvals" };
        let open = if open.is_empty() { String::new() } else { format!("; what it asks is answered with {}", open.join(", ")) };
        return Err(not_now(format!("run {run} of plan {} asks for {many} now{open}", progress.run.plan)));
    };
    let choice = if deny { NO } else { YES }.to_owned();
    let given = GiveAnswer { step: Some(only.step.clone()), choice, reason };
    if waiting.wait {
        plan::told(client, run, &given).await?;
        return plan::progress::followed(client, output, run, waiting).await;
    }
    plan::answer(client, output, run, given).await
}

fn listed(asked: &AskedNow) -> String {
    let rows = asked.policies.iter().filter_map(|view| {
        let question = view.asks.as_ref()?;
        let until = question.until.format("%Y-%m-%d %H:%M:%S").to_string();
        let agreed = question.agreed.join(", ");
        Some([view.name.to_string(), question.round.to_string(), view.item.to_string(), people(&question.by, question.need), agreed, until, or_dash(view.open_run)])
    });
    let mut tables = vec![];
    if !asked.policies.is_empty() {
        tables.push(output::table(["POLICY", "ROUND", "FAILOVER OF", "ASKS", "AGREED", "UNTIL (UTC)", "RUN"], rows, ""));
    }
    let rows = asked.plans.iter().map(|PlanQuestion { run, plan, work, question }| {
        let given: Vec<String> = question.given.iter().map(|answer| format!("{}: {}", answer.by, answer.choice)).collect();
        let until = question.until.format("%Y-%m-%d %H:%M:%S").to_string();
        [plan.to_string(), work.to_string(), question.step.clone(), question.choices.join("|"), people(&question.by, question.need), given.join(", "), until, run.to_string(), question.text.clone()]
    });
    if !asked.plans.is_empty() {
        let heads = ["PLAN", "WORK", "ABOUT STEP", "ANSWERS", "ASKS", "SAID", "UNTIL (UTC)", "RUN", "QUESTION"];
        tables.push(output::table(heads, rows, "") + "\nanswer a plan with `switchback plan answer RUN ANSWER --step STEP`");
    }
    if tables.is_empty() { "nobody is asked anything now".to_owned() } else { tables.join("\n\n") }
}

fn voted(vote: &VoteTaken) -> String {
    let agreed = vote.question.agreed.len() + usize::from(!vote.question.agreed.contains(&vote.by));
    let follows = match vote.question.need.saturating_sub(agreed) {
        _ if !vote.approve => "nothing is started for these alerts; new ones are looked at again".to_owned(),
        0 => "that is enough: the failover starts if all rules still hold".to_owned(),
        more => format!("{more} more must agree by {}", vote.question.until.format("%H:%M:%SZ")),
    };
    format!("{} {}; {follows}; `switchback trigger explain {}`", vote.by, if vote.approve { "agrees" } else { "denies" }, vote.run)
}

/// How many of whom.
pub(super) fn people(by: &[String], need: usize) -> String {
    if by.is_empty() { format!("{need} of all operators") } else { format!("{need} of {}", by.join(", ")) }
}
