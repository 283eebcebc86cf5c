//! Simulations of plans, told.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use anyhow::{Context, Result};
use api::{
    Client, ClientError, Code, Problem,
    items::{ItemView, Listed},
    plans::{DurationsView, PlanView},
};
use recovery::{
    plan::{Asks, LeftOut, NOT_IN_A_TEST, Plan, Step, StepState, Work},
    span::Span,
};
use serde::Serialize;
use simulation::{Durations, Ending, Failing, Impossible, Inventory, Known, PEOPLE, Question, Range, Supposed, Told, World};
use workflows::{Acceptance, PlanOptions};

use crate::{
    arguments::{Output, Simulate, SimulatedWork},
    exit,
    output::{self, facts, visible},
    span,
    wait::Progress,
};

/// What a simulation shows.
#[derive(Debug, Serialize)]
struct Shown {
    /// What to expect, milliseconds: in the middle of the range, or of what is told if nothing was drawn.
    rto_ms: u64,
    /// With durations in the middle; one of those of which the range is.
    told: Told,
    /// Also with drawn durations; none if nothing was drawn.
    range: Option<Range>,
    /// It was drawn less often than asked for: the plan is too large.
    drawn_less: bool,
    /// What people are asked, and how long they are taken to need where nothing is known, in words; nothing if they are asked nothing.
    people: Option<String>,
    /// Steps of a failover that a test of it leaves out.
    left_out: Vec<LeftOut>,
    /// What each failing step would come to, if that was asked for.
    each_step: Option<Vec<Failing>>,
}

pub(super) async fn plan(client: impl FnOnce() -> Result<Client>, output: Output, arguments: Simulate) -> Result<ExitCode> {
    let work = work(arguments.work);
    let question = asked(client, &arguments, work).await?;
    let (draws, each) = (arguments.draws, arguments.each_step);
    let shown = super::super::apart(move || shown(&question, draws, each)).await.map_err(refused)?;
    let told = &shown.told;
    let late = told.rto_target_ms.is_some_and(|target| shown.rto_ms > target);
    let well = told.ending == Ending::Whole && !late;
    output::answer(output, &shown, people)?;
    Ok(if well { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

/// A question about what the plan does not have is a mistake of whoever asks.
fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Impossible>() {
        Some(wrong @ (Impossible::NoSuchStep { .. } | Impossible::NoSuchSite { .. } | Impossible::NothingToSlow { .. })) => {
            ClientError::Problem(Box::new(Problem::new(Code::InvalidRequest, wrong.to_string()))).into()
        }
        Some(_) | None => error,
    }
}

fn shown(question: &Question, wanted: u64, each: bool) -> Result<Shown> {
    let middle = Question { seed: 0, ..question.clone() };
    let machines = question.plan.members().count();
    let progress = Progress::new();
    progress.says(&format!("{machines} machines are brought where they stand"));
    let world = World::of(&middle)?;
    progress.says(&format!("{} of {machines} machines", question.work));
    let told = world.told(&middle)?;
    let draws = simulation::draws(&question.plan, wanted);
    let range = if draws > 0 { Some(world.range(question, &told, draws, &|done| progress.says(&format!("draw {done} of {draws}")))?) } else { None };
    let each_step = if each { Some(world.each_failing(&middle, &|done| progress.says(&format!("{done} steps have failed")))?) } else { None };
    let rto_ms = range.map_or(told.total_ms, |range| range.middle_ms);
    Ok(Shown { rto_ms, people: waits(question, &told), left_out: question.plan.left_out(question.work), told, range, drawn_less: draws < wanted, each_step })
}

/// How long people are taken to need for what they are asked.
fn waits(question: &Question, told: &Told) -> Option<String> {
    let asked = told.steps.iter().filter(|timed| timed.step.asks.is_some());
    let unknown: Vec<&str> = asked.clone().map(|timed| timed.step.key.as_str()).filter(|key| !question.durations.knows(key)).collect();
    let counted = Asks::counted(asked.filter_map(|timed| timed.step.asks.as_ref()))?;
    let takes = question.durations.people.map(|people| format!("{people} each, as supposed")).unwrap_or_else(|| match unknown.as_slice() {
        [] => "as long as they took in the past".to_owned(),
        unknown => format!("{PEOPLE} where nothing is known ({}); --people-take supposes another time", unknown.join(", ")),
    });
    Some(format!("{counted}: they are taken to need {takes}"))
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
    let people = arguments.people_take.map(span_of);
    let (plan, inventory, steps) = match (&arguments.file, &arguments.plan) {
        (Some(file), _) => (super::read_plan(file)?, Inventory::default(), BTreeMap::new()),
        (None, name) => {
            let client = client()?;
            let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
            let view: PlanView = client.get(&format!("/v1/plans/{name}")).await?;
            let items: Listed<ItemView> = client.get("/v1/items").await?;
            let known: DurationsView = client.get(&format!("/v1/plans/{name}/durations/{work}")).await?;
            let steps = known.steps.into_iter().map(|step| (step.key, Known { middle_ms: step.middle_ms, longest_ms: step.longest_ms })).collect();
            let records = items.items.into_iter().map(|view| view.record).collect();
            (Plan::from_yaml(&view.text.unwrap_or_default()).context("the plan as it was applied can't be read by this build")?, Inventory { records }, steps)
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
    let states: BTreeMap<&str, &str> = told.timeline.steps.iter().map(|step| (step.key.as_str(), step.state.as_str())).collect();
    let assumed: BTreeSet<&str> = told.assumed.iter().map(String::as_str).collect();
    let mut left_out = shown.left_out.iter().peekable();
    let mut rows = vec![];
    for timed in &told.steps {
        let key = timed.step.key.as_str();
        rows.extend(std::iter::from_fn(|| left_out.next_if(|left| left.before.as_deref() == Some(key))).map(|left| not_done(&left.step)));
        let state = states.get(key).copied().unwrap_or("-").to_owned();
        let took = span::took(timed.ends_ms - timed.begins_ms);
        let assumed = if assumed.contains(key) { "assumed" } else { "" };
        let critical = if timed.critical { "*" } else { "" };
        rows.push([key.to_owned(), state, format!("+{}", span::took(timed.begins_ms)), took, critical.to_owned(), assumed.to_owned(), timed.step.does.clone()]);
    }
    rows.extend(left_out.map(|left| not_done(&left.step)));
    let mut text = output::table(["STEP", "STATE", "BEGINS", "TAKES", "", "", "WHAT IT DOES"], rows, "there is nothing to do");
    text += "\n\n";
    let ends = match told.ending {
        Ending::Whole => "would end whole",
        Ending::Partly => "would end, and leave something out",
        Ending::Stopped => "would STOP",
    };
    let target = told.rto_target_ms.map_or_else(|| "none".to_owned(), |target| {
        let late = if shown.rto_ms > target { " (TOO LATE)" } else { "" };
        let some = shown.range.filter(|range| range.late > 0).map(|range| format!("; {} of {} draws take longer", range.late, range.of)).unwrap_or_default();
        format!("{}{late}{some}", span::took(target))
    });
    let mut known = vec![
        (told.work.as_str(), ends.to_owned()),
        ("RTO", rto(shown)),
        ("steps alone", format!("{} (*), if each takes what it takes in the middle; {} with what lies between them", span::took(told.critical_path_ms), span::took(told.total_ms))),
        ("target", target),
    ];
    known.extend(shown.people.iter().map(|people| ("people", people.clone())));
    text += &facts(&known);
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

/// What to expect, and how far draws are apart.
fn rto(shown: &Shown) -> String {
    let rto = span::took(shown.rto_ms);
    let machines = shown.told.machines.len();
    let less = if shown.drawn_less { format!("; a plan of {machines} machines is not drawn more often") } else { String::new() };
    match shown.range {
        Some(range) => format!("{rto} ({} to {} of {} draws){less}", span::took(range.low_ms), span::took(range.high_ms), range.of),
        None => format!("{rto} (not drawn){less}"),
    }
}

/// A step that a test leaves out.
fn not_done(step: &Step) -> [String; 7] {
    let dash = || "-".to_owned();
    [step.key.clone(), StepState::Skipped.as_str().to_owned(), dash(), dash(), String::new(), String::new(), format!("{NOT_IN_A_TEST}: {}", step.does)]
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
        [failing.step.clone(), ending.to_owned(), format!("+{}", span::took(failing.total_ms)), machines]
    });
    output::table(["IF THIS STEP FAILS", "THE PLAN", "AT", "MACHINES"], rows, "there is nothing to fail")
}
