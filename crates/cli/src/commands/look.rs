//! Looking at runs, queues and what there is; and the few things done to them by hand.

use std::process::ExitCode;

use anyhow::Result;
use api::{
    Client, Code, Problem, ClientError,
    access::SiteView,
    items::{ItemView, Listed},
    queues::{QueueView, TaskChanged},
    runs::{HistoryView, ReasonRequest, RunView, TaskView, WhyView},
};
use recovery::{Fence, ItemName, ItemRecord, MainState, OldMachineSeen, Rest, TestFailover};
use sdk::RunId;

use super::{access, group, plan};
use crate::{
    arguments::{Described, Kind, Output, QueueCommand, Waiting},
    event, output,
    output::{facts, or_dash, table},
    span, wait,
};

pub(super) async fn cancel(client: &Client, output: Output, run: RunId, reason: Option<String>, waiting: Waiting) -> Result<ExitCode> {
    let view: RunView = client.post(&format!("/v1/runs/{run}/cancel"), &ReasonRequest { reason }).await?;
    if waiting.wait {
        return wait::for_end(client, output, run, waiting, &format!("{} of {}", view.workflow, view.workflow_id)).await;
    }
    output::answer(output, &view, |view| format!("run {} was asked to stop; see `switchback why {}`", view.run, view.run))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn resume(client: &Client, output: Output, run: RunId, reason: Option<String>) -> Result<ExitCode> {
    let view: RunView = client.post(&format!("/v1/runs/{run}/resume"), &ReasonRequest { reason }).await?;
    output::answer(output, &view, |view| format!("run {} goes on", view.run))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn history(client: &Client, output: Output, run: RunId) -> Result<ExitCode> {
    let view: HistoryView = client.get(&format!("/v1/runs/{run}/history")).await?;
    output::answer(output, &view, |view| {
        let lines: Vec<String> = view.events.iter().map(|event| event::line(event, &view.events)).collect();
        format!("{}\nrun {} is {}; chain {}", lines.join("\n"), view.run, view.state.as_str(), view.head)
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn why(client: &Client, output: Output, run: RunId) -> Result<ExitCode> {
    let view: WhyView = client.get(&format!("/v1/runs/{run}/why")).await?;
    output::answer(output, &view, |view| output::visible(&view.why))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn runs(client: &Client, output: Output, item: Option<&ItemName>, open: bool) -> Result<ExitCode> {
    let about = item.map(|item| format!("&item={item}")).unwrap_or_default();
    let runs: Listed<RunView> = client.get(&format!("/v1/runs?open={open}{about}")).await?;
    output::answer(output, &runs, |runs| {
        let rows = runs.items.iter().map(|run| {
            let took = run.closed_at.map(|closed| span::words((closed - run.started_at).num_milliseconds()));
            [
                run.run.to_string(),
                run.workflow.clone(),
                run.workflow_id.clone(),
                stands(run),
                run.started_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                or_dash(took),
                run.requested_by.clone(),
                run.events.to_string(),
            ]
        });
        table(["RUN", "WORKFLOW", "ABOUT", "STATE", "ASKED FOR AT (UTC)", "TOOK", "BY", "EVENTS"], rows, "there are no runs")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn queue(client: &Client, output: Output, command: Option<QueueCommand>) -> Result<ExitCode> {
    match command.unwrap_or(QueueCommand::List) {
        QueueCommand::List => {
            let queues: Listed<QueueView> = client.get("/v1/queues").await?;
            output::answer(output, &queues, |queues| {
                let rows = queues.items.iter().map(|queue| {
                    let QueueView { queue, queued, claimed, dead, oldest_age_ms, attempts } = queue;
                    [queue.clone(), queued.to_string(), claimed.to_string(), dead.to_string(), span::words(*oldest_age_ms), attempts.to_string()]
                });
                table(["QUEUE", "QUEUED", "CLAIMED", "DEAD", "OLDEST", "ATTEMPTS"], rows, "nothing waits")
            })?;
        }
        QueueCommand::Dead => {
            let dead: Listed<TaskView> = client.get("/v1/queues/dead").await?;
            output::answer(output, &dead, |dead| {
                let rows = dead.items.iter().map(|task| {
                    let TaskView { run, seq, activity, queue, attempt, problem, .. } = task;
                    [run.to_string(), seq.to_string(), activity.clone(), queue.clone(), attempt.to_string(), or_dash(problem.as_ref())]
                });
                table(["RUN", "SEQ", "ACTIVITY", "QUEUE", "ATTEMPT", "PROBLEM"], rows, "there are no dead letters")
            })?;
        }
        QueueCommand::Retry { run, seq } => {
            let changed: TaskChanged = client.post(&format!("/v1/tasks/{run}/{seq}/retry"), &serde_json::json!({})).await?;
            output::answer(output, &changed, |_| format!("task {seq} of run {run} is queued again"))?;
        }
        QueueCommand::Discard { run, seq } => {
            let changed: TaskChanged = client.post(&format!("/v1/tasks/{run}/{seq}/discard"), &serde_json::json!({})).await?;
            output::answer(output, &changed, |_| format!("task {seq} of run {run} is given up; the run hears that it failed"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn get(client: &Client, output: Output, kind: Kind, name: Option<&str>) -> Result<ExitCode> {
    match (kind, name) {
        (Kind::Items, Some(name)) => return describe(client, output, Described::Item, name).await,
        (Kind::Runs, Some(name)) => return describe(client, output, Described::Run, name).await,
        (Kind::Runs, None) => return runs(client, output, None, false).await,
        (Kind::Plans, Some(name)) => return describe(client, output, Described::Plan, name).await,
        (Kind::Plans, None) => return plan::list(client, output).await,
        (Kind::Groups, Some(name)) => return describe(client, output, Described::Group, name).await,
        (Kind::Groups, None) => return group::list(client, output).await,
        (Kind::Agents, name) => return access::agents(client, output, name).await,
        (Kind::Items, None) => {
            let items: Listed<ItemView> = client.get("/v1/items").await?;
            output::answer(output, &items, item_table)?;
        }
        (Kind::Sites, name) => {
            let mut sites: Listed<SiteView> = client.get("/v1/sites").await?;
            if let Some(name) = name {
                sites.items.retain(|site| site.name.as_str() == name);
                if sites.items.is_empty() {
                    return Err(missing(Code::UnknownSite, format!("no site is called {name}")).into());
                }
            }
            output::answer(output, &sites, |sites| {
                let rows = sites.items.iter().map(|site| [site.name.to_string(), site.connected.to_string(), site.agents.join(", ")]);
                table(["SITE", "CONNECTED", "AGENTS"], rows, "there are no sites")
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a list does not hold is not found, as if the server had said so.
pub(super) fn missing(code: Code, detail: String) -> ClientError {
    ClientError::Problem(Box::new(Problem::new(code, detail)))
}

/// Which way, if at all.
fn replicated(record: &ItemRecord) -> String {
    let way = || format!("{} → {}", record.source_site(), record.target_site());
    match record.state.main {
        MainState::Seeding | MainState::Protected | MainState::FailingOver { .. } | MainState::Reprotecting => way(),
        MainState::Failed { before: Some(Rest::Protected), .. } | MainState::Undoing | MainState::Unprotecting => way(),
        MainState::Unprotected
        | MainState::CommitPending
        | MainState::ChangingPoint
        | MainState::Committing
        | MainState::Committed
        | MainState::Failed { .. }
        | MainState::Reconcile => "no".to_owned(),
    }
}

/// The main state, and the old machine where it is not simply off.
fn stated(item: &ItemView) -> String {
    match item.old_machine {
        OldMachineSeen::None | OldMachineSeen::Off => item.state.clone(),
        OldMachineSeen::Quarantined => format!("{}, old machine quarantined", item.state),
        OldMachineSeen::Running => format!("{}, RUNS TWICE", item.state),
        OldMachineSeen::Unknown => format!("{}, old machine not heard of", item.state),
    }
}

fn item_table(items: &Listed<ItemView>) -> String {
    let rows = items.items.iter().map(|item| {
        let record = &item.record;
        [
            record.name.to_string(),
            stated(item),
            record.active_site().to_string(),
            replicated(record),
            item.points.to_string(),
            or_dash(item.newest_point.as_ref().map(|point| point.taken_at.format("%Y-%m-%d %H:%M:%S"))),
            or_dash(item.open_run),
        ]
    });
    let shown = table(["ITEM", "STATE", "RUNS AT", "REPLICATED", "POINTS", "NEWEST (UTC)", "RUN"], rows, "nothing is protected yet");
    let alarms = items.items.iter().flat_map(|item| item.alarms.iter().map(move |alarm| format!("\nALARM {}: {alarm}", item.record.name)));
    alarms.fold(shown, |shown, alarm| shown + &alarm)
}

pub(super) async fn describe(client: &Client, output: Output, kind: Described, name: &str) -> Result<ExitCode> {
    match kind {
        Described::Item => {
            let name: ItemName = name.parse()?;
            let item: ItemView = client.get(&format!("/v1/items/{name}")).await?;
            output::answer(output, &item, described_item)?;
        }
        Described::Run => {
            let run: RunId = name.parse()?;
            let view: RunView = client.get(&format!("/v1/runs/{run}")).await?;
            output::answer(output, &view, described_run)?;
        }
        Described::Plan => return plan::describe(client, output, &name.parse()?).await,
        Described::Group => return group::describe(client, output, &name.parse()?).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn described_item(item: &ItemView) -> String {
    let record = &item.record;
    let allowed: Vec<&str> = item.allowed_operations.iter().map(|operation| operation.as_str()).collect();
    let disks: Vec<String> = record.disks.iter().map(|disk| format!("{} ({})", disk.name, span::size(disk.size_bytes))).collect();
    let policy = record.policy_in_force();
    let mut known = vec![
        ("item", record.name.to_string()),
        ("state", item.state.clone()),
        ("allowed", if allowed.is_empty() { "nothing, for now".to_owned() } else { allowed.join(", ") }),
        ("protected", if item.protected { "yes".to_owned() } else { "NO: a loss of this site now would lose the item".to_owned() }),
        ("machine", record.machine.clone()),
        ("profile", record.profile.to_string()),
        ("runs at", record.active_site().to_string()),
        ("replicated", replicated(record)),
        ("old machine", item.old_machine.as_str().to_owned()),
        ("generation", record.state.generation.to_string()),
        ("disks", or_dash(Some(disks.join(", ")).filter(|disks| !disks.is_empty()))),
        ("policy", format!("every {}, {} points over {}", span::seconds(policy.interval_s().into()), policy.retention_points(), span::seconds(policy.retention_window_s()))),
        ("points", item.points.to_string()),
        ("newest point", or_dash(item.newest_point.as_ref().map(|point| format!("{} taken {}", point.id, point.taken_at)))),
        ("run", or_dash(item.open_run)),
    ];
    known.extend(policy.rpo_threshold_s().map(|age| ("RPO threshold", span::seconds(age.into()))));
    known.extend(policy.change_window_s().map(|window| ("change window", span::seconds(window))));
    if let Some(group) = &record.group {
        known.push(("group", format!("{}, see `switchback group describe {}`", group.name(), group.name())));
    }
    for check in &record.checks {
        known.push(("check", check.to_string()));
    }
    if let Some(view) = &item.replication {
        let status = &view.status;
        let copied = format!("{} of {}", span::size(status.bytes_done), span::size(status.bytes_total));
        known.push(("replication", format!("{}, {copied}, as of {}", status.phase, view.reported_at)));
        known.extend(status.last_app_point.iter().map(|point| ("newest app-consistent point", point.to_string())));
        known.extend(status.app_error.iter().map(|error| ("no app-consistent point", error.clone())));
        known.extend(status.last_error.iter().map(|error| ("last error", error.clone())));
    }
    known.extend(record.chosen.iter().map(|chosen| ("recovered from", format!("{} taken {}, asked for {}", chosen.point, chosen.taken_at, chosen.requested))));
    known.extend(record.fence.iter().map(|fence| ("fence", fence_words(fence))));
    known.extend(record.rto_actual_ms.map(|ms| ("RTO actual", format!("{ms} ms"))));
    known.extend(record.rpo_actual_ms.map(|ms| ("RPO actual", format!("{ms} ms"))));
    known.extend(item.change_until.map(|until| ("another point until", until.to_string())));
    known.extend(record.hold.iter().map(|hold| ("held", format!("point {} by {} since {}: {}", hold.point, hold.by, hold.at, hold.reason))));
    known.extend(record.contradiction.iter().map(|found| ("contradicted", format!("{}, seen at {}", found.why.join("; "), found.at))));
    if let Some(copy) = &record.test_copy {
        known.extend(copy.expires_at.map(|at| ("its copy goes", at.to_string())));
        known.push(("test failover", format!("{}, from point {} at {}", test_words(record.state.test_failover), copy.point, copy.site)));
        known.extend(copy.evidence.iter().map(|evidence| ("", evidence.clone())));
    }
    known.extend(item.alarms.iter().map(|alarm| ("ALARM", alarm.clone())));
    facts(&known)
}

fn test_words(state: TestFailover) -> &'static str {
    match state {
        TestFailover::None => "none",
        TestFailover::Running => "being made",
        TestFailover::Ready => "ready to be looked at",
        TestFailover::Cleaning => "being removed",
        TestFailover::Failed => "failed, to be cleaned",
    }
}

fn fence_words(fence: &Fence) -> String {
    match fence {
        Fence::Proven { evidence, at } => format!("proven at {at}: {evidence}"),
        Fence::Unfenced { by, reason, at } => format!("unfenced, accepted by {by} at {at}: {reason}"),
    }
}

/// How a run stands, in a word; two if nobody may carry it on.
fn stands(run: &RunView) -> String {
    let held = if run.held { ", held: `switchback why` says more" } else { "" };
    format!("{}{held}", run.state.as_str())
}

fn described_run(run: &RunView) -> String {
    let mut known = vec![
        ("run", run.run.to_string()),
        ("workflow", run.workflow.clone()),
        ("about", run.workflow_id.clone()),
        ("state", stands(run)),
        ("asked for", format!("{} by {}", run.started_at, run.requested_by)),
        ("ended", or_dash(run.closed_at)),
        ("owner", or_dash(run.owner.map(|lease| format!("worker {} under lease epoch {}, run epoch {}", lease.worker, lease.epoch, run.epoch)))),
        ("events", run.events.to_string()),
        ("trace", or_dash(run.trace_id.as_ref())),
    ];
    known.extend(run.problem.iter().map(|problem| ("problem", problem.to_string())));
    for task in &run.tasks {
        let TaskView { seq, activity, queue, state, attempt, max_attempts, .. } = task;
        let progress = task.progress.as_ref().map(|progress| format!(", progress {progress}")).unwrap_or_default();
        known.push(("task", format!("{seq} {activity} on {queue}: {state}, attempt {attempt} of {max_attempts}{progress}")));
    }
    facts(&known)
}
