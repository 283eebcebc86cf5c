//! Simulations of plans, told.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context, Result};
use api::{
    Client,
    items::{ItemView, Listed},
    plans::{DurationsView, PlanView},
};
use recovery::{
    plan::{MOST_TEXT, Plan, Work},
    span::Span,
};
use serde::Serialize;
use simulation::{Durations, Ending, Failing, Inventory, Known, Question, Range, Supposed, Told, each_failing, range, simulate};
use workflows::{Acceptance, PlanOptions};

use super::super::policies;
use crate::{
    arguments::{Output, Simulate, SimulatedWork},
    exit,
    output::{self, facts, visible},
    span,
};

/// What a simulation shows.
#[derive(Debug, Serialize)]
struct Shown {
    /// With durations in the middle.
    told: Told,
    /// With drawn durations; none if nothing was drawn.
    range: Option<Range>,
    /// What each failing step would come to, if that was asked for.
    each_step: Option<Vec<Failing>>,
}

pub(in crate::commands) async fn plan(client: impl FnOnce() -> Result<Client>, output: Output, arguments: Simulate) -> Result<ExitCode> {
    let work = work(arguments.work);
    let question = asked(client, &arguments, work).await?;
    let (draws, each) = (arguments.draws, arguments.each_step);
    let shown = super::super::apart(move || shown(&question, draws, each)).await?;
    let told = &shown.told;
    let late = told.rto_target_ms.is_some_and(|target| told.total_ms > target);
    let well = told.ending == Ending::Whole && !late;
    output::answer(output, &shown, people)?;
    Ok(if well { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

fn shown(question: &Question, draws: u64, each: bool) -> Result<Shown> {
    let middle = Question { seed: 0, ..question.clone() };
    let told = simulate(&middle)?;
    let range = if draws > 0 { Some(range(question, draws)?) } else { None };
    let each_step = if each { Some(each_failing(&middle)?) } else { None };
    Ok(Shown { told, range, each_step })
}

fn work(work: SimulatedWork) -> Work {
    match work {
        SimulatedWork::TestFailover => Work::Test,
        SimulatedWork::CleanTestFailover => Work::CleanTest,
        SimulatedWork::PlannedFailover => Work::Planned,
        SimulatedWork::Failover => Work::Unplanned,
        SimulatedWork::Failback => Work::Failback,
        SimulatedWork::Commit => Work::Commit,
        SimulatedWork::Undo => Work::Undo,
        SimulatedWork::Reprotect => Work::Reprotect,
    }
}

async fn asked(client: impl FnOnce() -> Result<Client>, arguments: &Simulate, work: Work) -> Result<Question> {
    let people = Some(span_of(arguments.people_take));
    let (plan, inventory, steps) = match (&arguments.file, &arguments.plan) {
        (Some(file), _) => (Plan::from_yaml(&policies::read(file, MOST_TEXT as u64)?)?, Inventory::default(), BTreeMap::new()),
        (None, name) => {
            let client = client()?;
            let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
            let view: PlanView = client.get(&format!("/v1/plans/{name}")).await?;
            let items: Listed<ItemView> = client.get("/v1/items").await?;
            let known: DurationsView = client.get(&format!("/v1/plans/{name}/durations/{work}")).await?;
            let steps = known.steps.into_iter().map(|step| (step.key, Known { middle_ms: step.middle_ms, longest_ms: step.longest_ms })).collect();
            let records = items.items.into_iter().map(|view| view.record).collect();
            (Plan::from_yaml(&view.text).context("the plan as it was applied can't be read by this build")?, Inventory { records }, steps)
        }
    };
    let accept_unfenced = arguments.accept_unfenced.then(|| Acceptance { by: "somebody".to_owned(), reason: "it is supposed".to_owned() });
    Ok(Question {
        seed: arguments.seed,
        options: PlanOptions { point: arguments.point, accept_unfenced, ..PlanOptions::default() },
        durations: Durations { steps, people },
        supposed: Supposed { fail_at: arguments.fail_at.clone(), site_down: arguments.site_down.clone(), slow: arguments.slow.clone() },
        plan,
        work,
        inventory,
    })
}

fn span_of(time: std::time::Duration) -> Span {
    Span::seconds(time.as_secs().max(1))
}

fn people(shown: &Shown) -> String {
    let told = &shown.told;
    let rows = told.steps.iter().map(|timed| {
        let run = told.timeline.steps.iter().find(|step| step.key == timed.step.key);
        let state = run.map_or("-", |step| step.state.as_str()).to_owned();
        let took = words(timed.ends_ms - timed.begins_ms);
        let assumed = if told.assumed.contains(&timed.step.key) { "assumed" } else { "" };
        [timed.step.key.clone(), state, format!("+{}", words(timed.begins_ms)), took, if timed.critical { "*" } else { "" }.to_owned(), assumed.to_owned(), timed.step.does.clone()]
    });
    let mut text = output::table(["STEP", "STATE", "BEGINS", "TAKES", "", "", "WHAT IT DOES"], rows, "there is nothing to do");
    text += "\n\n";
    let ends = match told.ending {
        Ending::Whole => "would end whole",
        Ending::Partly => "would end, and leave something out",
        Ending::Stopped => "would STOP",
    };
    let target = told.rto_target_ms.map_or_else(|| "none".to_owned(), |target| {
        let late = if told.total_ms > target { " (TOO LATE)" } else { "" };
        format!("{}{late}", words(target))
    });
    let ranged = shown.range.map_or_else(|| "not drawn".to_owned(), |range| format!("{} to {}, {} in the middle, of {} draws", words(range.low_ms), words(range.high_ms), words(range.middle_ms), range.of));
    text += &facts(&[
        (told.work.as_str(), ends.to_owned()),
        ("RTO", format!("{}; its steps alone {} (*)", words(told.total_ms), words(told.critical_path_ms))),
        ("range", ranged),
        ("target", target),
    ]);
    if let Some(why) = &told.why {
        text += &format!("{}\n", visible(why));
    }
    if !told.assumed.is_empty() {
        text += "Where nothing is known of a step, usual times are assumed; a test failover of the plan measures them.\n";
    }
    for machine in &told.machines {
        text += &format!("  {} runs at {}: {}\n", machine.item, machine.runs_at, machine.state);
    }
    if let Some(each) = &shown.each_step {
        text += &format!("\n{}", failing(each));
    }
    text
}

fn failing(each: &[Failing]) -> String {
    let rows = each.iter().map(|failing| {
        let mut at: BTreeMap<String, usize> = BTreeMap::new();
        failing.machines.iter().for_each(|machine| *at.entry(format!("{} {}", machine.runs_at, machine.state)).or_default() += 1);
        let machines = at.into_iter().map(|(what, count)| format!("{count} at {what}")).collect::<Vec<_>>().join(", ");
        let ending = match failing.ending {
            Ending::Whole => "whole",
            Ending::Partly => "partly",
            Ending::Stopped => "stops",
        };
        [failing.step.clone(), ending.to_owned(), format!("+{}", words(failing.total_ms)), machines]
    });
    output::table(["IF THIS STEP FAILS", "THE PLAN", "AT", "MACHINES"], rows, "there is nothing to fail")
}

fn words(ms: u64) -> String {
    span::words(i64::try_from(ms).unwrap_or(i64::MAX))
}
