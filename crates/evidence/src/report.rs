//! The report: what auditors ask of a test or of a real failover, derived from histories and from nothing else.
//!
//! ```text
//!   Bundle ─▶ runs, steps ─▶ recoveries (point, RTO, RPO, fence) ─▶ proofs (checks, isolation, clean-up) ─▶ recorded, deviations ─▶ verdict
//! ```
//!
//! Invariants: 1. Equal bundles give equal reports, byte for byte. 2. What a history does not say stays empty; nothing is guessed,
//! and where a figure is measured by whose clock is said. 3. Where the world is named by others (evidence, reasons, names), their
//! words stand as they were recorded; whoever shows them makes them harmless.

mod deviations;
pub mod html;
mod proofs;
mod recorded;
pub(crate) mod recoveries;
mod steps;
mod trigger;
mod verdict;
mod words;

use chrono::{DateTime, Utc};
use sdk::{Command, EventBody, History, Inbound, Parent, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Bundle,
    bundle::started,
    file,
    signing::sha256,
};
pub use deviations::Deviation;
pub use proofs::{CheckShown, CleanUp, Isolation};
pub use recorded::Recorded;
pub use recoveries::{Against, FenceShown, ItemShown, PointShown, Recovery};
pub use steps::Step;
pub use trigger::{Approval, TriggerShown};
pub use verdict::{Conclusion, Judgement};

/// What histories show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this format.
    pub schema_version: u32,
    /// Names this report; made of the heads of its runs and of what was stated.
    pub report_id: String,
    /// `test`, `planned`, `unplanned`, or `operation` for anything else.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it comes to.
    pub conclusion: Conclusion,
    /// Who asked for it, and when.
    pub requested: Requested,
    /// Who agreed or refused while it ran.
    pub approvals: Vec<Approval>,
    /// What set it off, if that was a trigger.
    pub trigger: Option<TriggerShown>,
    /// The items that it was about.
    pub items: Vec<ItemShown>,
    /// Every recovery that was made.
    pub recoveries: Vec<Recovery>,
    /// What recovered machines were asked.
    pub checks: Vec<CheckShown>,
    /// How networks of test copies were seen to reach nothing.
    pub isolation: Vec<Isolation>,
    /// What was removed afterwards.
    pub clean_up: Vec<CleanUp>,
    /// What else was recorded of the items, in the order of the runs.
    pub recorded: Vec<Recorded>,
    /// What did not go as one would wish.
    pub deviations: Vec<Deviation>,
    /// Every step, in the order in which they were asked for.
    pub steps: Vec<Step>,
    /// The histories, with their heads: the anchor of all this.
    pub runs: Vec<RunShown>,
    /// Who wrote the histories.
    pub environment: Environment,
    /// By whose clock.
    pub time: TimeSource,
    /// SHA-256 of the file of the report before this one, if somebody named it.
    pub previous_sha256: Option<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Beside production.
    Test,
    /// Without loss, of a source that answered.
    Planned,
    /// From a point, whether or not the source answered.
    Unplanned,
    /// Something else.
    Operation,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// As the server knew them.
    pub by: String,
    /// When the run recorded it.
    pub at: DateTime<Utc>,
    /// What was asked for.
    pub workflow: String,
    /// With which input.
    pub input: Value,
    /// Why, in their words, where the input has them.
    pub note: Option<String>,
}

/// A history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunShown {
    /// Which.
    pub run: RunId,
    /// Name of its code.
    pub workflow: String,
    /// What it is about.
    pub workflow_id: String,
    /// By whom it was begun.
    pub parent: Option<Parent>,
    /// Who asked for it.
    pub requested_by: String,
    /// First event.
    pub began_at: DateTime<Utc>,
    /// Last event, if it has ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// `open`, `completed`, `failed` or `cancelled`.
    pub state: RunState,
    /// Why it failed or what a cancelled one left.
    pub failure: Option<String>,
    /// Its events.
    pub events: usize,
    /// The last link of its chain.
    pub head: String,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Open,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended on request.
    Cancelled,
}

/// Who wrote the histories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Version of the product that put this together.
    pub build: String,
    /// The lives of the database in which locks were granted.
    pub eras: Vec<i64>,
    /// The workers that wrote, with what they wrote.
    pub writers: Vec<Writer>,
    /// Where activities were carried out.
    pub queues: Vec<String>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writer {
    /// Which.
    pub worker: sdk::WorkerId,
    /// Its lease epochs.
    pub lease_epochs: Vec<i64>,
    /// Events that it wrote.
    pub events: usize,
}

/// By whose clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSource {
    /// In words.
    pub source: String,
    /// First event of all.
    pub first: DateTime<Utc>,
    /// Last event of all.
    pub last: DateTime<Utc>,
}

impl Report {
    /// The format that this build writes.
    pub const VERSION: u32 = 2;
    /// The JSON Schema of this format.
    pub const SCHEMA: &'static str = include_str!("../schema/report.schema.json");
}

/// Derives the report.
pub(crate) fn of(bundle: &Bundle) -> Report {
    let runs: Vec<RunShown> = bundle.runs().iter().map(run).collect();
    let steps: Vec<Step> = bundle.runs().iter().flat_map(steps::of).collect();
    let recoveries: Vec<Recovery> = bundle.runs().iter().filter_map(|history| recoveries::of(bundle, history)).collect();
    let clean_up: Vec<CleanUp> = bundle.runs().iter().filter_map(|history| proofs::clean_up(bundle, history, &steps)).collect();
    let deviations = deviations::of(bundle, &steps, &recoveries);
    let root = bundle.runs().first();
    let kind = kind(&recoveries);
    let conclusion = verdict::of(bundle, &runs, &recoveries, &clean_up, &deviations);
    Report {
        schema_version: Report::VERSION,
        report_id: id(bundle, &runs),
        kind,
        conclusion,
        requested: requested(root),
        approvals: bundle.runs().iter().flat_map(trigger::approvals).collect(),
        trigger: bundle.runs().iter().find_map(trigger::of),
        items: recoveries::items(bundle),
        checks: bundle.runs().iter().flat_map(proofs::checks).collect(),
        isolation: bundle.runs().iter().flat_map(proofs::isolation).collect(),
        recoveries,
        clean_up,
        recorded: bundle.runs().iter().flat_map(recorded::of).collect(),
        deviations,
        steps,
        runs,
        environment: environment(bundle),
        time: time(bundle),
        previous_sha256: bundle.stated().previous_sha256.clone(),
    }
}

/// The gravest of what was done.
fn kind(recoveries: &[Recovery]) -> Kind {
    let kinds = || recoveries.iter().map(|recovery| recovery.kind);
    let gravest = [Kind::Unplanned, Kind::Planned, Kind::Test].into_iter().find(|kind| kinds().any(|found| found == *kind));
    gravest.unwrap_or(Kind::Operation)
}

fn id(bundle: &Bundle, runs: &[RunShown]) -> String {
    let stated = serde_json::to_string(bundle.stated()).unwrap_or_default();
    let named = runs.iter().fold(stated, |named, run| format!("{named}\n{} {}", run.run, run.head));
    sha256(named.as_bytes()).chars().take(16).collect()
}

fn run(history: &History) -> RunShown {
    let said = file::run_line(history);
    let (state, failure) = ending(history);
    let at = |place: Option<&sdk::StoredEvent>| place.map_or(DateTime::UNIX_EPOCH, |stored| stored.event.at);
    RunShown {
        run: said.run,
        workflow: said.workflow,
        workflow_id: said.workflow_id,
        parent: said.parent,
        requested_by: match started(history) {
            Some(Inbound::RunStarted { requested_by, .. }) => requested_by.clone(),
            Some(_) | None => String::new(),
        },
        began_at: at(history.events.first()),
        ended_at: (state != RunState::Open).then(|| at(history.events.last())),
        state,
        failure,
        events: said.events,
        head: said.head,
    }
}

pub(crate) fn ending(history: &History) -> (RunState, Option<String>) {
    match history.events.last().map(|last| &last.event.body) {
        Some(EventBody::Command(Command::RunCompleted { .. })) => (RunState::Completed, None),
        Some(EventBody::Command(Command::RunFailed { failure })) => (RunState::Failed, Some(failure.to_string())),
        Some(EventBody::Command(Command::RunCancelled { failure })) => (RunState::Cancelled, Some(failure.to_string())),
        Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => (RunState::Open, None),
    }
}

fn requested(root: Option<&History>) -> Requested {
    let at = root.and_then(|history| history.events.first()).map_or(DateTime::UNIX_EPOCH, |first| first.event.at);
    match root.and_then(started) {
        Some(Inbound::RunStarted { workflow, input, requested_by, .. }) => {
            let note = input.get("note").and_then(Value::as_str).map(str::to_owned);
            Requested { by: requested_by.clone(), at, workflow: workflow.clone(), input: input.clone(), note }
        }
        Some(_) | None => Requested { by: String::new(), at, workflow: String::new(), input: Value::Null, note: None },
    }
}

fn environment(bundle: &Bundle) -> Environment {
    let mut writers: Vec<Writer> = Vec::new();
    let (mut eras, mut queues) = (Vec::new(), Vec::new());
    for stored in bundle.runs().iter().flat_map(|history| &history.events) {
        let event = &stored.event;
        let known = writers.iter().position(|writer| writer.worker == event.worker);
        let place = known.unwrap_or_else(|| {
            writers.push(Writer { worker: event.worker, lease_epochs: vec![], events: 0 });
            writers.len() - 1
        });
        if let Some(writer) = writers.get_mut(place) {
            writer.events += 1;
            writer.lease_epochs.push(event.lease_epoch);
        }
        match &event.body {
            EventBody::Inbound(Inbound::LocksGranted { grants, .. }) => eras.extend(grants.iter().map(|grant| grant.era)),
            EventBody::Command(Command::ActivityScheduled { queue, .. }) => queues.push(queue.to_string()),
            EventBody::Inbound(_) | EventBody::Command(_) => {}
        }
    }
    for writer in &mut writers {
        sorted_once(&mut writer.lease_epochs);
    }
    writers.sort_by_key(|writer| writer.worker);
    sorted_once(&mut eras);
    sorted_once(&mut queues);
    Environment { build: bundle.build().to_owned(), eras, writers, queues }
}

fn sorted_once<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable();
    values.dedup();
}

fn time(bundle: &Bundle) -> TimeSource {
    let times = || bundle.runs().iter().flat_map(|history| &history.events).map(|stored| stored.event.at);
    TimeSource {
        source: "Events: the clock of the installation's database. Points: the clock of the source's site. Starts of machines and fences: \
                 the clock of the site where they happened. Clocks of different sites may differ; order is given by positions, not by clocks."
            .into(),
        first: times().min().unwrap_or(DateTime::UNIX_EPOCH),
        last: times().max().unwrap_or(DateTime::UNIX_EPOCH),
    }
}
