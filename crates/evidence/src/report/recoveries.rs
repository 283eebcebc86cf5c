//! What was recovered: from which point, how long it took, what it cost, and why the target was allowed to start.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use recovery::{ChosenPoint, Consistency, Fact, ItemName, ItemRecord, PointId, RecoveryPoint, SiteName};
use sdk::{Command, EventBody, History, Inbound, Outcome, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use workflows::{Drill, ITEM_PROJECTION, ItemChange};

use super::{Kind, steps::between_ms, words};
use crate::{Bundle, bundle::started, file};

/// An item, as the histories leave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemShown {
    /// Its name.
    pub name: ItemName,
    /// Its machine on the platform.
    pub machine: String,
    /// Where it ran when it was first protected.
    pub primary: SiteName,
    /// The other site.
    pub recovery: SiteName,
    /// How often points were taken.
    pub interval_s: u32,
    /// Its state before the first fact of these histories, where they say it.
    pub state_before: Option<String>,
    /// Its state after the last.
    pub state_after: String,
    /// Where it runs after the last.
    pub runs_at: SiteName,
}

/// A machine that was brought up, or was meant to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// By which run.
    pub run: RunId,
    /// Of which item.
    pub item: ItemName,
    /// What was done.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Where from, where to.
    pub from: SiteName,
    /// Where to.
    pub to: SiteName,
    /// From which point.
    pub point: PointShown,
    /// Why the target was allowed to start; nothing for a copy beside production.
    pub fence: Option<FenceShown>,
    /// Since when the machine ran, by its site's clock.
    pub running_since: Option<DateTime<Utc>>,
    /// Whether it served in time; nothing if it was not asked.
    pub serves: Option<bool>,
    /// From the request until it served.
    pub rto: Against,
    /// From the point until the request; what was written in it is not in the machine.
    pub rpo: Against,
    /// What was lost, in words.
    pub data_loss: String,
}

/// A point as asked for and as used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointShown {
    /// What was asked for.
    pub requested: Option<String>,
    /// What was used.
    pub used: Option<PointId>,
    /// What it promises.
    pub consistency: Option<Consistency>,
    /// When it was taken, by the source's clock.
    pub taken_at: Option<DateTime<Utc>>,
    /// How old it was at the request.
    pub age_ms: Option<u64>,
}

/// A figure and what it should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Against {
    /// What was wanted, if anybody said.
    pub target_ms: Option<u64>,
    /// What it was, if it came that far.
    pub actual_ms: Option<u64>,
    /// Whether it was kept; nothing where one of them is missing.
    pub kept: Option<bool>,
}

/// Why a target was allowed to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceShown {
    /// Whether the source was shown to be unable to write.
    pub proven: bool,
    /// What was seen, or why somebody went on without.
    pub words: String,
    /// Who went on without.
    pub accepted_by: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Against {
    fn new(target_ms: Option<u64>, actual_ms: Option<u64>) -> Self {
        Self { target_ms, actual_ms, kept: target_ms.zip(actual_ms).map(|(target, actual)| actual <= target) }
    }
}

/// Changes of items in a history, in order.
pub(crate) fn changes(history: &History) -> Vec<ItemChange> {
    let recorded = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::Recorded { projection, fact }) if projection == ITEM_PROJECTION => serde_json::from_value(fact.clone()).ok(),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    recorded.collect()
}

/// Answers of the activities of that name, in order.
pub(crate) fn answers<'a>(history: &'a History, name: &str) -> Vec<&'a Value> {
    let asked = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::ActivityScheduled { activity, .. }) if activity == name => Some(stored.event.seq),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let asked: Vec<_> = asked.collect();
    let answered = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Inbound(Inbound::ActivityFinished { of, outcome: Outcome::Completed { output } }) if asked.contains(of) => Some(output),
        EventBody::Inbound(_) | EventBody::Command(_) => None,
    });
    answered.collect()
}

/// What a run gave, if it ended well.
pub(super) fn output(history: &History) -> Option<&Value> {
    match history.events.last().map(|last| &last.event.body) {
        Some(EventBody::Command(Command::RunCompleted { output })) => Some(output),
        Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => None,
    }
}

/// The recovery that a run made, if its code makes one. A drill's targets, and its request, stand in the run that began it.
pub(super) fn of(bundle: &Bundle, history: &History) -> Option<Recovery> {
    let stated = bundle.stated();
    let Some(Inbound::RunStarted { workflow, input, .. }) = started(history) else { return None };
    let kind = match workflow.as_str() {
        "test-failover" => Kind::Test,
        "planned-failover" | "failback" => Kind::Planned,
        "failover" | "change-point" => Kind::Unplanned,
        _ => return None,
    };
    let changes = changes(history);
    let record = changes.first().map(|change| &change.record)?;
    let drill = file::parent(history).and_then(|parent| bundle.run(parent.run)).filter(|parent| is_drill(parent));
    let requested_at = drill.unwrap_or(history).events.first()?.event.at;
    let asked = |name: &str| target(input, name).or_else(|| drill.and_then(input_of).and_then(|input| target(input, name)));
    let point = point(history, &changes, input, requested_at);
    let seen = Seen::of(history, &changes);
    let rto = Against::new(asked("rto_target_ms").or(stated.rto_target_ms), seen.rto_ms);
    let loses = kind != Kind::Planned || seen.accepted_loss.is_some();
    let lost_ms = if loses { seen.rpo_ms.or(point.age_ms) } else { seen.rpo_ms.map(|_| 0) };
    let rpo = Against::new(asked("rpo_target_ms").or(stated.rpo_target_ms), lost_ms.filter(|_| point.used.is_some()));
    let data_loss = match &seen.accepted_loss {
        Some((by, statement)) if seen.running_since.is_some() => format!("Agreed to by {by}: {statement}."),
        Some(_) | None => words::data_loss(kind, &record.name, &point, seen.running_since.is_some()),
    };
    Some(Recovery {
        run: history.run,
        item: record.name.clone(),
        kind,
        from: record.source_site().clone(),
        to: record.target_site().clone(),
        fence: seen.fence.filter(|_| kind != Kind::Test),
        running_since: seen.running_since,
        serves: seen.serves,
        point,
        rto,
        rpo,
        data_loss,
    })
}

/// Whether a run is a drill.
pub(super) fn is_drill(history: &History) -> bool {
    matches!(started(history), Some(Inbound::RunStarted { workflow, .. }) if workflow == <Drill as sdk::Workflow>::NAME)
}

fn input_of(history: &History) -> Option<&Value> {
    if let Some(Inbound::RunStarted { input, .. }) = started(history) { Some(input) } else { None }
}

fn target(input: &Value, name: &str) -> Option<u64> {
    input.get(name).and_then(Value::as_u64)
}

/// What the facts and the result of a run say about a recovery.
#[derive(Default)]
struct Seen {
    fence: Option<FenceShown>,
    running_since: Option<DateTime<Utc>>,
    serves: Option<bool>,
    rto_ms: Option<u64>,
    rpo_ms: Option<u64>,
    accepted_loss: Option<(String, String)>,
}

impl Seen {
    fn of(history: &History, changes: &[ItemChange]) -> Self {
        let mut seen = Self::default();
        for change in changes {
            match &change.fact {
                Fact::FenceProven { evidence, at } => {
                    seen.fence = Some(FenceShown { proven: true, words: evidence.clone(), accepted_by: None, at: *at });
                }
                Fact::UnfencedAccepted { by, reason, at } => {
                    seen.fence = Some(FenceShown { proven: false, words: reason.clone(), accepted_by: Some(by.clone()), at: *at });
                }
                Fact::LossAccepted { by, statement } => seen.accepted_loss = Some((by.clone(), statement.clone())),
                Fact::MachineRunning { at, .. } => seen.running_since = Some(*at),
                Fact::Measured { rto_actual_ms, rpo_actual_ms } => {
                    (seen.rto_ms, seen.rpo_ms) = (Some(*rto_actual_ms), Some(*rpo_actual_ms));
                }
                Fact::TestFailoverIs { copy: Some(copy), .. } => seen.running_since = seen.running_since.or(copy.since),
                Fact::ItemRegistered { .. }
                | Fact::DisksFound { .. }
                | Fact::Moved { .. }
                | Fact::Granted { .. }
                | Fact::PointChosen { .. }
                | Fact::TakenUp { .. }
                | Fact::PointsWithdrawn { .. }
                | Fact::OldMachineIs { .. }
                | Fact::TestFailoverIs { copy: None, .. }
                | Fact::WritesDiscarded { .. }
                | Fact::ResyncIs { .. }
                | Fact::PointRequested { .. }
                | Fact::SourceAsked { .. }
                | Fact::PointSettled { .. }
                | Fact::PolicyChanged { .. }
                | Fact::Held { .. }
                | Fact::Released { .. }
                | Fact::Contradicted { .. }
                | Fact::Resolved { .. }
                | Fact::SourceNotGivenBack { .. }
                | Fact::SourceGivenBack
                | Fact::Grouped { .. }
                | Fact::Forgotten { .. } => {}
            }
        }
        let gave = |name: &str| output(history).and_then(|output| output.get(name));
        seen.serves = gave("serves").and_then(Value::as_bool);
        seen.rto_ms = seen.rto_ms.or_else(|| gave("rto_actual_ms").and_then(Value::as_u64));
        // What was chosen before an earlier run's fence still holds.
        seen.fence = seen.fence.or_else(|| changes.iter().rev().find_map(|change| change.record.fence.as_ref()).map(fence));
        seen
    }
}

fn fence(fence: &recovery::Fence) -> FenceShown {
    match fence {
        recovery::Fence::Proven { evidence, at } => FenceShown { proven: true, words: evidence.clone(), accepted_by: None, at: *at },
        recovery::Fence::Unfenced { by, reason, at } => {
            FenceShown { proven: false, words: reason.clone(), accepted_by: Some(by.clone()), at: *at }
        }
    }
}

fn point(history: &History, changes: &[ItemChange], input: &Value, requested_at: DateTime<Utc>) -> PointShown {
    let chosen = changes.iter().rev().find_map(|change| if let Fact::PointChosen { chosen } | Fact::TakenUp { chosen, .. } = &change.fact { Some(chosen.clone()) } else { None });
    let chosen = chosen.or_else(|| copied(history, changes, input));
    let requested = input.get("choice").and_then(Value::as_str).map(str::to_owned);
    let asked = || chosen.as_ref().map(|chosen| chosen.requested.to_string());
    PointShown {
        requested: requested.or_else(asked),
        used: chosen.as_ref().map(|chosen| chosen.point),
        consistency: chosen.as_ref().map(|chosen| chosen.consistency),
        taken_at: chosen.as_ref().map(|chosen| chosen.taken_at),
        age_ms: chosen.as_ref().map(|chosen| between_ms(chosen.taken_at, requested_at)),
    }
}

/// A test copy's point, with what the list from which it was chosen says of it.
fn copied(history: &History, changes: &[ItemChange], input: &Value) -> Option<ChosenPoint> {
    let used = changes.iter().rev().find_map(|change| {
        if let Fact::TestFailoverIs { copy: Some(copy), .. } = &change.fact { Some(copy.point) } else { None }
    })?;
    let listed = answers(history, "list-points").into_iter().find_map(|answer| {
        let points: Vec<RecoveryPoint> = serde_json::from_value(answer.get("points")?.clone()).ok()?;
        points.into_iter().find(|point| point.id == used)
    })?;
    let requested = serde_json::from_value(input.get("choice")?.clone()).ok()?;
    Some(ChosenPoint { requested, point: used, consistency: listed.consistency, taken_at: listed.taken_at })
}

/// The items that the histories change, as they leave them.
pub(super) fn items(bundle: &Bundle) -> Vec<ItemShown> {
    let mut found: BTreeMap<ItemName, (Option<String>, ItemRecord)> = BTreeMap::new();
    for history in bundle.runs() {
        let loaded = answers(history, "load-item").into_iter().find_map(|answer| serde_json::from_value::<ItemRecord>(answer.clone()).ok());
        for change in changes(history) {
            let before = loaded.as_ref().filter(|record| record.name == change.item).map(|record| record.state.main.to_string());
            let entry = found.entry(change.item).or_insert_with(|| (before, change.record.clone()));
            entry.1 = change.record;
        }
    }
    let shown = found.into_iter().map(|(name, (state_before, record))| ItemShown {
        name,
        machine: record.machine.clone(),
        primary: record.primary.clone(),
        recovery: record.recovery.clone(),
        interval_s: record.policy_in_force().interval_s(),
        state_before,
        state_after: record.state.main.to_string(),
        runs_at: record.active_site().clone(),
    });
    shown.collect()
}
