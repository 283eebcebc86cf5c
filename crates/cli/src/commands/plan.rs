//! Plans: keeping them, carrying them out, following and answering their runs.

mod progress;
pub(super) mod simulated;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use api::{
    Client,
    items::{AcceptUnfenced, Accepted, Listed},
    plans::{AnswerTaken, ApplyPlan, GiveAnswer, PlanDiff, PlanProgress, PlanRunView, PlanView, PlanWorkRequest},
    policies::PolicyChanged,
};
use recovery::{
    PlanName,
    plan::{MOST_TEXT, Work},
};
use sdk::RunId;

use super::{items, policies, readiness};
use crate::{
    arguments::{Location, Output, PlanCommand, PlanFailback, PlanFailover, PlanFromPoint, PlanOnly, PlanReprotect, PlanShutDown, PlanUndo, Sync, Waiting},
    exit,
    output::{self, facts, or_dash, visible},
};

pub(super) async fn plan(client: &Client, output: Output, command: PlanCommand) -> Result<ExitCode> {
    match command {
        PlanCommand::Apply { file } => apply(client, output, &file).await,
        PlanCommand::Diff { file } => diff(client, output, &file).await,
        PlanCommand::List => list(client, output).await,
        PlanCommand::Describe { plan } => {
            let view: PlanView = client.get(&format!("/v1/plans/{plan}")).await?;
            output::answer(output, &view, described)?;
            Ok(ExitCode::SUCCESS)
        }
        PlanCommand::Text { plan } => {
            let view: PlanView = client.get(&format!("/v1/plans/{plan}")).await?;
            output::answer(output, &view, |view| view.text.clone())?;
            Ok(ExitCode::SUCCESS)
        }
        PlanCommand::Schema | PlanCommand::Simulate(_) => schema(),
        PlanCommand::Remove { plan } => {
            let changed: PolicyChanged = client.post(&format!("/v1/plans/{plan}/remove"), &serde_json::json!({})).await?;
            output::answer(output, &changed, |_| format!("plan {plan} is gone; its versions and histories stay, no machine was touched"))?;
            Ok(ExitCode::SUCCESS)
        }
        PlanCommand::Check { plan, all } => readiness::check(client, output, &format!("/v1/plans/{plan}/readiness"), all).await,
        PlanCommand::Runs { plan } => runs(client, output, &plan).await,
        PlanCommand::Status { run } => {
            let progress: PlanProgress = client.get(&format!("/v1/plan-runs/{run}")).await?;
            output::answer(output, &progress, progress::shown)?;
            Ok(progress::code(&progress).into())
        }
        PlanCommand::Answer { run, choice, step, reason } => answer(client, output, run, GiveAnswer { step, choice, reason }).await,
        work @ (PlanCommand::TestFailover(_)
        | PlanCommand::CleanTestFailover(_)
        | PlanCommand::PlannedFailover(_)
        | PlanCommand::Failover(_)
        | PlanCommand::Failback(_)
        | PlanCommand::Commit(_)
        | PlanCommand::Undo(_)
        | PlanCommand::Reprotect(_)) => carried_out(client, output, work).await,
    }
}

/// The JSON Schema does not depend on a server.
pub(super) fn schema() -> Result<ExitCode> {
    output::line(&serde_json::to_string_pretty(&recovery::plan::schema())?);
    Ok(ExitCode::SUCCESS)
}

async fn carried_out(client: &Client, output: Output, command: PlanCommand) -> Result<ExitCode> {
    let nothing = PlanWorkRequest::default;
    let (plan, work, request, waiting) = match command {
        PlanCommand::TestFailover(PlanFromPoint { plan, point, waiting }) => (plan, Work::Test, PlanWorkRequest { point, ..nothing() }, waiting),
        PlanCommand::CleanTestFailover(PlanOnly { plan, waiting }) => (plan, Work::CleanTest, nothing(), waiting),
        PlanCommand::PlannedFailover(PlanShutDown { plan, shutting_down, waiting }) => {
            (plan, Work::Planned, PlanWorkRequest { shut_down_ms: Some(ms(shutting_down.shut_down_timeout)?), ..nothing() }, waiting)
        }
        PlanCommand::Failover(PlanFailover { from, accept_unfenced, reason, fence_timeout, shut_down, shut_down_timeout }) => {
            let accept_unfenced = reason.filter(|_| accept_unfenced).map(|reason| AcceptUnfenced { reason });
            let shut_down_ms = if shut_down { Some(ms(shut_down_timeout)?) } else { None };
            let fence_timeout_ms = Some(ms(fence_timeout)?);
            let request = PlanWorkRequest { point: from.point, accept_unfenced, fence_timeout_ms, shut_down_ms, try_shut_down: shut_down, ..nothing() };
            (from.plan, Work::Unplanned, request, from.waiting)
        }
        PlanCommand::Failback(PlanFailback { planned, sync, point, accept_loss, reason }) => {
            let accept_loss = reason.filter(|_| accept_loss).map(|reason| AcceptUnfenced { reason });
            let sync = match sync {
                Sync::BeforeFailover => recovery::Sync::BeforeFailover,
                Sync::DuringFailover => recovery::Sync::DuringFailover,
            };
            let request = PlanWorkRequest { shut_down_ms: Some(ms(planned.shutting_down.shut_down_timeout)?), sync, point, accept_loss, ..nothing() };
            (planned.plan, Work::Failback, request, planned.waiting)
        }
        PlanCommand::Commit(PlanOnly { plan, waiting }) => (plan, Work::Commit, nothing(), waiting),
        PlanCommand::Undo(PlanUndo { only, discard_writes }) => (only.plan, Work::Undo, PlanWorkRequest { discard_writes, ..nothing() }, only.waiting),
        PlanCommand::Reprotect(PlanReprotect { only, location }) => {
            let location = match location {
                Location::Original => recovery::Location::Original,
                Location::Alternate => recovery::Location::Alternate,
            };
            (only.plan, Work::Reprotect, PlanWorkRequest { location, ..nothing() }, only.waiting)
        }
        PlanCommand::Apply { .. }
        | PlanCommand::Diff { .. }
        | PlanCommand::List
        | PlanCommand::Describe { .. }
        | PlanCommand::Text { .. }
        | PlanCommand::Schema
        | PlanCommand::Simulate(_)
        | PlanCommand::Remove { .. }
        | PlanCommand::Runs { .. }
        | PlanCommand::Status { .. }
        | PlanCommand::Check { .. }
        | PlanCommand::Answer { .. } => return Ok(ExitCode::SUCCESS),
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

async fn apply(client: &Client, output: Output, file: &Path) -> Result<ExitCode> {
    let view: PlanView = client.post("/v1/plans", &ApplyPlan { text: policies::read(file, MOST_TEXT as u64)? }).await?;
    output::answer(output, &view, |view| {
        let mut lines = vec![format!("plan {} version {}: {} machines in {} groups, from {} to {}", view.name, view.version, view.items, view.groups, view.from, view.to)];
        lines.extend(view.warnings.iter().map(|warning| format!("  {}", visible(warning))));
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn diff(client: &Client, output: Output, file: &Path) -> Result<ExitCode> {
    let diff: PlanDiff = client.post("/v1/plans/diff", &ApplyPlan { text: policies::read(file, MOST_TEXT as u64)? }).await?;
    output::answer(output, &diff, |diff| {
        let Some(version) = diff.version else { return format!("plan {} is new", diff.name) };
        let word = |value: &Option<serde_json::Value>| or_dash(value.as_ref());
        let rows = diff.changes.iter().map(|change| [change.path.clone(), word(&change.before), word(&change.after)]);
        let none = format!("plan {} stays as version {version} has it", diff.name);
        output::table(["WHERE", &format!("VERSION {version}"), "NEW"], rows, &none)
    })?;
    let same = diff.version.is_some() && diff.changes.is_empty();
    Ok(if same { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

async fn list(client: &Client, output: Output) -> Result<ExitCode> {
    let plans: Listed<PlanView> = client.get("/v1/plans").await?;
    output::answer(output, &plans, |plans| {
        let rows = plans.items.iter().map(|view| {
            let last = view.last_run.as_ref().map(|run| format!("{} {}", run.work, progress::stands(run)));
            let now = view.open_run.map_or_else(|| "-".to_owned(), |run| format!("run {run}"));
            [view.name.to_string(), view.version.to_string(), view.items.to_string(), format!("{} -> {}", view.from, view.to), now, or_dash(last)]
        });
        output::table(["PLAN", "VERSION", "MACHINES", "SITES", "NOW", "LAST RUN"], rows, "there are no plans; `switchback plan apply -f FILE` keeps one")
    })?;
    Ok(ExitCode::SUCCESS)
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

async fn answer(client: &Client, output: Output, run: RunId, given: GiveAnswer) -> Result<ExitCode> {
    let taken: AnswerTaken = client.post(&format!("/v1/plan-runs/{run}/answer"), &given).await?;
    output::answer(output, &taken, |taken| format!("{} was answered: {}; see `switchback plan status {run}`", taken.step, taken.choice))?;
    Ok(ExitCode::SUCCESS)
}
