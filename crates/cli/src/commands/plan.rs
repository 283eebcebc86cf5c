//! Plans: keeping them, carrying them out, following and answering their runs.

mod changed;
pub(super) mod progress;
mod simulated;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use api::{
    Client, ClientError, Code, Problem,
    items::{AcceptUnfenced, Accepted, Listed},
    plans::{AnswerTaken, GiveAnswer, PlanProgress, PlanRunView, PlanView, PlanWorkRequest, PlansView},
    policies::PolicyChanged,
};
use recovery::{
    PlanName,
    plan::{MOST_TEXT, Plan, Work},
};
use sdk::RunId;

use super::{items, policies, readiness};
use crate::{
    exit,
    arguments::{Location, Output, PlanCommand, PlanFailback, PlanFailover, PlanOnly, PlanReprotect, PlanShutDown, PlanTest, PlanUndo, PlanWork, Sync, Waiting},
    output::{self, facts, or_dash, visible},
};

/// `client` is made only where a server is asked.
pub(super) async fn plan(client: impl FnOnce() -> Result<Client>, output: Output, command: PlanCommand) -> Result<ExitCode> {
    match command {
        PlanCommand::Apply { file } => changed::apply(&client()?, output, &file).await,
        PlanCommand::Diff { file } => changed::diff(&client()?, output, &file).await,
        PlanCommand::List => list(&client()?, output).await,
        PlanCommand::Describe { plan } => describe(&client()?, output, &plan).await,
        PlanCommand::Text { plan } => shown(&client()?, output, &plan, |view| view.text.clone().unwrap_or_default()).await,
        PlanCommand::Schema => schema(),
        PlanCommand::Remove { plan } => remove(&client()?, output, &plan).await,
        PlanCommand::Work(work) => carried_out(&client()?, output, work).await,
        PlanCommand::Simulate(asked) => simulated::plan(client, output, *asked).await,
        PlanCommand::Check { plan, all } => readiness::check(&client()?, output, &format!("/v1/plans/{plan}/readiness"), all).await,
        PlanCommand::Runs { plan } => runs(&client()?, output, &plan).await,
        PlanCommand::Status { run } => status(&client()?, output, run).await,
        PlanCommand::Answer { run, choice, step, reason } => answer(&client()?, output, run, GiveAnswer { step, choice, reason }).await,
    }
}

/// The JSON Schema does not depend on a server.
fn schema() -> Result<ExitCode> {
    output::line(&serde_json::to_string_pretty(&recovery::plan::schema())?);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn describe(client: &Client, output: Output, plan: &PlanName) -> Result<ExitCode> {
    shown(client, output, plan, described).await
}

async fn shown(client: &Client, output: Output, plan: &PlanName, words: impl Fn(&PlanView) -> String) -> Result<ExitCode> {
    let view: PlanView = client.get(&format!("/v1/plans/{plan}")).await?;
    output::answer(output, &view, words)?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(client: &Client, output: Output, plan: &PlanName) -> Result<ExitCode> {
    let changed: PolicyChanged = client.post(&format!("/v1/plans/{plan}/remove"), &serde_json::json!({})).await?;
    output::answer(output, &changed, |_| format!("plan {plan} is gone; its versions and histories stay, no machine was touched"))?;
    Ok(ExitCode::SUCCESS)
}

async fn carried_out(client: &Client, output: Output, asked: PlanWork) -> Result<ExitCode> {
    let nothing = PlanWorkRequest::default;
    let (plan, work, request, waiting) = match asked {
        PlanWork::TestFailover(PlanTest { from, ttl }) => {
            (from.plan, Work::Test, PlanWorkRequest { point: from.point, ttl_ms: Some(ms(ttl)?), ..nothing() }, from.waiting)
        }
        PlanWork::CleanTestFailover(PlanOnly { plan, waiting }) => (plan, Work::CleanTest, nothing(), waiting),
        PlanWork::PlannedFailover(PlanShutDown { plan, shutting_down, waiting }) => {
            (plan, Work::Planned, PlanWorkRequest { shut_down_ms: Some(ms(shutting_down.shut_down_timeout)?), ..nothing() }, waiting)
        }
        PlanWork::Failover(PlanFailover { from, accept_unfenced, reason, fence_timeout, shut_down, shut_down_timeout }) => {
            let accept_unfenced = reason.filter(|_| accept_unfenced).map(|reason| AcceptUnfenced { reason });
            let shut_down_ms = if shut_down { Some(ms(shut_down_timeout)?) } else { None };
            let fence_timeout_ms = Some(ms(fence_timeout)?);
            let request = PlanWorkRequest { point: from.point, accept_unfenced, fence_timeout_ms, shut_down_ms, try_shut_down: shut_down, ..nothing() };
            (from.plan, Work::Unplanned, request, from.waiting)
        }
        PlanWork::Failback(PlanFailback { planned, sync, point, accept_loss, reason }) => {
            let accept_loss = reason.filter(|_| accept_loss).map(|reason| AcceptUnfenced { reason });
            let sync = match sync {
                Sync::BeforeFailover => recovery::Sync::BeforeFailover,
                Sync::DuringFailover => recovery::Sync::DuringFailover,
            };
            let request = PlanWorkRequest { shut_down_ms: Some(ms(planned.shutting_down.shut_down_timeout)?), sync, point, accept_loss, ..nothing() };
            (planned.plan, Work::Failback, request, planned.waiting)
        }
        PlanWork::Commit(PlanOnly { plan, waiting }) => (plan, Work::Commit, nothing(), waiting),
        PlanWork::Undo(PlanUndo { only, discard_writes }) => (only.plan, Work::Undo, PlanWorkRequest { discard_writes, ..nothing() }, only.waiting),
        PlanWork::Reprotect(PlanReprotect { only, location }) => {
            let location = match location {
                Location::Original => recovery::Location::Original,
                Location::Alternate => recovery::Location::Alternate,
            };
            (only.plan, Work::Reprotect, PlanWorkRequest { location, ..nothing() }, only.waiting)
        }
    };
    begin(client, output, &plan, work, &request, waiting).await
}

fn ms(time: Duration) -> Result<u64> {
    u64::try_from(time.as_millis()).context("the time is too long")
}

async fn begin(client: &Client, output: Output, plan: &PlanName, work: Work, request: &PlanWorkRequest, waiting: Waiting) -> Result<ExitCode> {
    let accepted = items::asked(client, &format!("/v1/plans/{plan}/{work}"), request).await?;
    if !waiting.wait {
        output::answer(output, &accepted, |Accepted { run }| format!("run {run} was begun; follow it with `switchback plan status {run}`"))?;
        return Ok(ExitCode::SUCCESS);
    }
    progress::followed(client, output, accepted.run, waiting).await
}

/// A plan in a file, as the server would read it: what it refuses is refused here as well.
fn read_plan(file: &Path) -> Result<Plan> {
    let text = policies::read(file, MOST_TEXT as u64)?;
    Ok(Plan::from_yaml(&text).map_err(|why| ClientError::Problem(Box::new(Problem::new(Code::InvalidRequest, why.to_string()))))?)
}

pub(super) async fn list(client: &Client, output: Output) -> Result<ExitCode> {
    let plans: PlansView = client.get("/v1/plans").await?;
    output::answer(output, &plans, |plans| {
        let rows = plans.items.iter().map(|view| {
            let last = view.last_run.as_ref().map(|run| format!("{} {}", run.work, progress::stands(run)));
            let now = view.open_run.map_or_else(|| "-".to_owned(), |run| format!("run {run}"));
            [view.name.to_string(), view.version.to_string(), view.items.to_string(), format!("{} -> {}", view.from, view.to), now, or_dash(last)]
        });
        let rows: Vec<_> = rows.collect();
        let none = if plans.unreadable.is_empty() { "there are no plans; `switchback plan apply -f FILE` keeps one" } else { "no plan can be read" };
        let text = output::table(["PLAN", "VERSION", "MACHINES", "SITES", "NOW", "LAST RUN"], rows, none);
        plans.unreadable.iter().fold(text, |text, plan| format!("{text}\n! version {} of {}", plan.version, visible(&plan.why)))
    })?;
    // What can't be read can't be carried out.
    Ok(if plans.unreadable.is_empty() { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

fn described(view: &PlanView) -> String {
    let allowed: Vec<&str> = view.allowed_operations.iter().map(|work| work.as_str()).collect();
    let mut text = facts(&[
        ("plan", format!("{} version {}", view.name, view.version)),
        ("machines", format!("{} in {} groups", view.items, view.groups)),
        ("sites", format!("{} -> {}", view.from, view.to)),
        ("applied", format!("by {} at {}", view.applied_by, view.applied_at.format("%Y-%m-%d %H:%M:%SZ"))),
        ("sha256", view.sha256.clone()),
        ("allowed now", if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") }),
        ("open run", or_dash(view.open_run)),
        ("last run", or_dash(view.last_run.as_ref().map(|run| format!("{} {} ({})", run.work, progress::stands(run), run.run)))),
        ("by itself", or_dash(view.deadline.as_ref().map(|due| format!("{} at {}", due.cause, due.due_at.format("%Y-%m-%d %H:%M:%SZ"))))),
    ]);
    for warning in &view.warnings {
        text += &format!("! {}\n", visible(warning));
    }
    text
}

async fn runs(client: &Client, output: Output, plan: &PlanName) -> Result<ExitCode> {
    let runs: Listed<PlanRunView> = client.get(&format!("/v1/plans/{plan}/runs")).await?;
    output::answer(output, &runs, |runs| {
        let rows = runs.items.iter().map(|run| {
            let took = run.ended_at.map(|ended| crate::span::words((ended - run.began_at).num_milliseconds()));
            [run.run.to_string(), run.work.to_string(), run.version.to_string(), run.began_at.format("%Y-%m-%d %H:%M:%S").to_string(), or_dash(took), progress::stands(run).to_owned()]
        });
        output::table(["RUN", "WORK", "VERSION", "BEGAN (UTC)", "TOOK", ""], rows, "the plan was never carried out")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn status(client: &Client, output: Output, run: RunId) -> Result<ExitCode> {
    let progress: PlanProgress = client.get(&format!("/v1/plan-runs/{run}")).await?;
    output::answer(output, &progress, progress::shown)?;
    Ok(progress::looked_at(&progress).into())
}

/// Answers a run.
pub(super) async fn told(client: &Client, run: RunId, given: &GiveAnswer) -> Result<AnswerTaken> {
    Ok(client.post(&format!("/v1/plan-runs/{run}/answer"), given).await?)
}

pub(super) async fn answer(client: &Client, output: Output, run: RunId, given: GiveAnswer) -> Result<ExitCode> {
    let taken = told(client, run, &given).await?;
    output::answer(output, &taken, |taken| format!("{} of {} was told to the run; what it made of it says `switchback plan status {run}`", taken.choice, taken.step))?;
    Ok(ExitCode::SUCCESS)
}
