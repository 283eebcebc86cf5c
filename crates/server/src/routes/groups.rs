//! Replication groups: made, looked at, changed, removed.
//!
//! ```text
//!   who may ─▶ group known? ─▶ within its limits? ─▶ items protected, of the same sites, in no other group, not busy? ─▶ run
//! ```
//!
//! Invariants: 1. Nothing is written here: a run changes its members one by one, and puts them back if one of them can't. 2. What can
//! be recovered is read from the targets' points; what the source says explains it.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    Code, Problem,
    access::Role,
    agent::ReplicationStatus,
    groups::{CommonPoint, CommonView, GroupChangeRequest, GroupMemberView, GroupNumbers, GroupRequest, GroupStatusView, GroupView},
    items::{Listed, PlainRequest},
};
use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use engine::RunStore;
use recovery::{
    Consistency, Group, GroupName, GroupRefused, InvalidGroup, ItemName, ItemRecord, PointId, RecoveryPoint, ReplicationPolicy, apart, common_points, joinable,
};
use sdk::Workflow;
use store::items::{GroupRow, ItemRow, PointRow, ReplicationRow};
use workflows::{ChangeGroup, ChangeGroupInput, group_workflow_id};

use super::items::{accepted, by_item, json, of, point, record, site, start, unreadable};
use crate::{
    app::{App, Asked, parsed},
    caller::Caller,
    problem::{Answer, Refusal},
};

/// Between two moments nothing is amiss; one may fail because a member is just sending a large point.
const MISSED_INTERVALS: i32 = 3;
/// Reports of agents are a little behind.
const GRACE_S: i64 = 15;

pub(super) async fn list(_: Caller, State(app): State<App>) -> Answer<Listed<GroupView>> {
    views(&app, None).await.map(|items| Json(Listed { items }))
}

pub(super) async fn one(_: Caller, State(app): State<App>, Path(group): Path<String>) -> Answer<GroupView> {
    let name: GroupName = parsed(&group)?;
    known(&app, &name).await.map(Json)
}

pub(super) async fn create(caller: Caller, State(app): State<App>, Asked(asked): Asked<GroupRequest>) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let GroupRequest { name, items, numbers } = asked;
    if !app.store.groups(Some(name.as_str())).await?.is_empty() {
        return Err(Refusal::new(Code::NameTaken, format!("a replication group is called {name}; `switchback group describe {name}` shows it")));
    }
    let rows = app.store.items(None).await?;
    let records = records(&rows, &items)?;
    let policies = || records.iter().map(|record| &record.policy);
    let keep = numbers.keep_moments.unwrap_or_else(|| Group::moments_of(policies()));
    let window = numbers.window_s.or_else(|| policies().map(ReplicationPolicy::retention_window_s).min());
    let interval_s = numbers.interval_s.unwrap_or(Group::INTERVAL_S);
    // Nobody is known of an item that does not exist; `joinable` says so.
    let group = Group::new(name, items, interval_s, keep, window.unwrap_or_else(|| interval_s.into())).and_then(|group| numbered(group, &numbers));
    begun(&app, &caller, None, Some(group.map_err(|why| invalid(&why))?), &rows).await
}

pub(super) async fn change(
    caller: Caller,
    State(app): State<App>,
    Path(group): Path<String>,
    Asked(asked): Asked<GroupChangeRequest>,
) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let name: GroupName = parsed(&group)?;
    let before = known(&app, &name).await?.group;
    let GroupChangeRequest { add, remove, numbers } = asked;
    if let Some(stranger) = remove.iter().find(|item| !before.members().contains(*item)) {
        return Err(Refusal::new(Code::NotNow, format!("item {stranger} is not in replication group {name}")));
    }
    let members = before.members().union(&add).filter(|item| !remove.contains(*item)).cloned().collect();
    let (interval_s, keep) = (numbers.interval_s.unwrap_or(before.interval_s()), numbers.keep_moments.unwrap_or(before.keep_moments()));
    let window_s = numbers.window_s.unwrap_or(before.window_s());
    let after = Group::new(name, members, interval_s, keep, window_s)
        .and_then(|group| group.with_app_consistent(before.app_consistent_interval_s()))
        .and_then(|group| group.with_max_pause(before.max_pause_ms()))
        .and_then(|group| numbered(group, &numbers))
        .map_err(|why| invalid(&why))?;
    let rows = app.store.items(None).await?;
    begun(&app, &caller, Some(before), Some(after), &rows).await
}

pub(super) async fn remove(
    caller: Caller,
    State(app): State<App>,
    Path(group): Path<String>,
    Asked(PlainRequest {}): Asked<PlainRequest>,
) -> Result<Response, Refusal> {
    caller.may(Role::Operator)?;
    let before = known(&app, &parsed(&group)?).await?.group;
    let rows = app.store.items(None).await?;
    begun(&app, &caller, Some(before), None, &rows).await
}

fn numbered(group: Group, numbers: &GroupNumbers) -> Result<Group, InvalidGroup> {
    let group = match numbers.app_consistent_interval_s {
        Some(0) => group.with_app_consistent(None)?,
        Some(every_s) => group.with_app_consistent(Some(every_s))?,
        None => group,
    };
    match numbers.max_pause_ms {
        Some(max_pause_ms) => group.with_max_pause(max_pause_ms),
        None => Ok(group),
    }
}

/// Starts the change, if all of its items can take part.
async fn begun(app: &App, caller: &Caller, before: Option<Group>, after: Option<Group>, rows: &[ItemRow]) -> Result<Response, Refusal> {
    let of = |group: &Option<Group>| group.as_ref().map(|group| group.members().clone()).unwrap_or_default();
    let touched: BTreeSet<ItemName> = of(&before).union(&of(&after)).cloned().collect();
    if let Some(group) = &after {
        joinable(group, &records(rows, group.members())?).map_err(|why| refused(&why))?;
    }
    let busy = rows.iter().find(|row| row.open_run.is_some() && touched.iter().any(|item| item.as_str() == row.name));
    if let Some((row, run)) = busy.and_then(|row| Some((row, row.open_run?))) {
        return Err(Problem::new(Code::RunInProgress, format!("run {run} has item {}", row.name)).naming(run).into());
    }
    let Some(group) = after.as_ref().or(before.as_ref()).map(|group| group.name().clone()) else {
        return Err(Refusal::new(Code::Internal, "a change without a group"));
    };
    let input = ChangeGroupInput { group: group.clone(), before, after, gone: None };
    let started = start(app, caller, ChangeGroup::NAME, group_workflow_id(&group), json(&input)?).await?;
    let in_progress = |run| Problem::new(Code::RunInProgress, format!("run {run} changes replication group {group}")).naming(run);
    started.map(accepted).map_err(|run| in_progress(run).into())
}

fn refused(why: &GroupRefused) -> Refusal {
    let code = match why {
        GroupRefused::Unknown { .. } => Code::UnknownItem,
        GroupRefused::NotProtected { .. } => Code::OperationNotAllowed,
        GroupRefused::InAnother { .. } | GroupRefused::OtherSites { .. } | GroupRefused::NoRoom { .. } => Code::NotNow,
    };
    Refusal::new(code, why.to_string())
}

fn invalid(why: &InvalidGroup) -> Refusal {
    Refusal::new(Code::InvalidRequest, why.to_string())
}

fn unknown(name: &GroupName) -> Refusal {
    Refusal::new(Code::UnknownGroup, format!("no replication group is called {name}"))
}

async fn known(app: &App, name: &GroupName) -> Result<GroupView, Refusal> {
    views(app, Some(name)).await?.into_iter().next().ok_or_else(|| unknown(name))
}

fn records(rows: &[ItemRow], wanted: &BTreeSet<ItemName>) -> Result<Vec<ItemRecord>, Refusal> {
    rows.iter().filter(|row| wanted.iter().any(|item| item.as_str() == row.name)).map(|row| record(&row.record)).collect()
}

/// For /metrics: how old the last common moment of each group is, and which groups need somebody's eye.
pub(super) async fn gauges(app: &App) -> Result<String, Refusal> {
    let (groups, now) = (views(app, None).await?, app.store.now().await?);
    let mut text = String::new();
    for view in &groups {
        let (name, alarmed) = (view.group.name(), u8::from(!view.alarms.is_empty()));
        text += &format!("switchback_group_without_common_moment{{group=\"{name}\"}} {alarmed}\n");
        if let Some(last) = &view.last {
            let age_s = (now - last.taken_at).as_seconds_f64().max(0.0);
            text += &format!("switchback_group_common_moment_age_seconds{{group=\"{name}\"}} {age_s}\n");
        }
    }
    Ok(text)
}

async fn views(app: &App, name: Option<&GroupName>) -> Result<Vec<GroupView>, Refusal> {
    let rows = app.store.groups(name.map(GroupName::as_str)).await?;
    if rows.is_empty() {
        return Ok(vec![]);
    }
    let members: Vec<&str> = rows.iter().map(|row| row.item.as_str()).collect();
    let items = by_item(app.store.items_named(&members).await?, |row| &row.name);
    let points = by_item(app.store.points_named(&members).await?, |row| &row.item);
    let replication = by_item(app.store.replication(None).await?, |row| &row.item);
    let known = Known { items: &items, points: &points, replication: &replication, now: app.store.now().await? };
    let mut views = vec![];
    for of_group in rows.chunk_by(|a, b| a.group == b.group) {
        views.push(view(of_group, &known)?);
    }
    Ok(views)
}

/// What is known of the members of groups.
struct Known<'a> {
    items: &'a BTreeMap<String, Vec<ItemRow>>,
    points: &'a BTreeMap<String, Vec<PointRow>>,
    replication: &'a BTreeMap<String, Vec<ReplicationRow>>,
    now: DateTime<Utc>,
}

fn view(rows: &[GroupRow], known: &Known<'_>) -> Result<GroupView, Refusal> {
    let defined = |row: &GroupRow| serde_json::from_value::<Group>(row.definition.clone()).map_err(unreadable);
    let newest = rows.iter().max_by_key(|row| row.updated_at).ok_or_else(|| Refusal::new(Code::Internal, "a group without members"))?;
    let group = defined(newest)?;
    let there = rows.iter().map(|row| row.item.parse().map_err(unreadable)).collect::<Result<BTreeSet<ItemName>, Refusal>>()?;
    let same = rows.iter().map(|row| Ok(defined(row)? == group)).collect::<Result<Vec<bool>, Refusal>>()?;
    let divided = there != *group.members() || same.contains(&false);
    let rows_of = there.iter().flat_map(|item| of(known.items, item.as_str()));
    let records = rows_of.map(|row| record(&row.record)).collect::<Result<Vec<ItemRecord>, Refusal>>()?;
    let (mut members, mut points, mut statuses) = (vec![], vec![], vec![]);
    for record in &records {
        let offered = offered(record, of(known.points, record.name.as_str()))?;
        let from = record.source_site().as_str();
        let reported = of(known.replication, record.name.as_str()).iter().find(|row| row.site == from);
        let status = reported.map(|row| serde_json::from_value::<ReplicationStatus>(row.status.clone()).map_err(unreadable)).transpose()?;
        statuses.extend(reported.zip(status.as_ref().and_then(|status| status.group.clone())).filter(|(_, status)| status.group == *group.name()));
        members.push(member(record, status.as_ref(), &offered, &group));
        points.push((record.name.clone(), offered));
    }
    statuses.sort_by_key(|(row, _)| row.reported_at);
    let status = match statuses.pop() {
        Some((row, status)) => Some(GroupStatusView { site: site(&row.site)?, status, reported_at: row.reported_at }),
        None => None,
    };
    let last = shared(&group, &points, Consistency::Crash);
    let why_none = divided.then(|| "its members know different definitions of it; change it once more, or wait for the run that does".to_owned());
    let apart = apart(&group, &records);
    // A failover that is not ended says itself what is to be done.
    let expected = !divided && apart.as_ref().is_some_and(|apart| !apart.amiss);
    let why_none = why_none.or(apart.map(|apart| apart.why)).or_else(|| status.as_ref().and_then(|view| view.status.why_none.clone()));
    let alarms = if expected { vec![] } else { alarms(&group, last.as_ref(), newest.updated_at, why_none.as_deref(), known.now) };
    Ok(GroupView {
        divided,
        open_run: newest.open_run,
        members,
        last_app: shared(&group, &points, Consistency::App),
        last,
        status,
        why_none,
        alarms,
        updated_at: newest.updated_at,
        group,
    })
}

/// Points that a member's target offers.
fn offered(record: &ItemRecord, points: &[PointRow]) -> Result<Vec<RecoveryPoint>, Refusal> {
    points.iter().filter(|row| row.site == record.target_site().as_str() && !row.withdrawn).map(point).collect()
}

fn member(record: &ItemRecord, status: Option<&ReplicationStatus>, offered: &[RecoveryPoint], group: &Group) -> GroupMemberView {
    let of_group = offered.iter().filter(|point| point.group.as_ref().is_some_and(|at| at.group == *group.name()));
    GroupMemberView {
        item: record.name.clone(),
        state: record.state.main.to_string(),
        source: record.source_site().clone(),
        target: record.target_site().clone(),
        phase: status.map(|status| status.phase.clone()),
        last_point_taken_at: status.and_then(|status| status.last_point_taken_at),
        moments: of_group.count() as u64,
    }
}

fn shared(group: &Group, members: &[(ItemName, Vec<RecoveryPoint>)], consistency: Consistency) -> Option<CommonView> {
    let points: Vec<(ItemName, PointId)> = common_points(group.name(), members, consistency).ok()?;
    let (item, id) = points.first()?;
    let first = members.iter().find(|(member, _)| member == item)?.1.iter().find(|point| point.id == *id)?;
    Some(CommonView {
        moment: first.group.as_ref()?.moment.clone(),
        taken_at: first.taken_at,
        consistency: first.consistency,
        points: points.into_iter().map(|(item, point)| CommonPoint { item, point }).collect(),
    })
}

/// A group whose last common moment is some intervals old protects its members from nothing that their own points do not.
fn alarms(group: &Group, last: Option<&CommonView>, since: DateTime<Utc>, why: Option<&str>, now: DateTime<Utc>) -> Vec<String> {
    let allowed = TimeDelta::seconds(group.interval_s().into()) * MISSED_INTERVALS + TimeDelta::seconds(GRACE_S);
    let from = last.map_or(since, |last| last.taken_at);
    if now - from <= allowed {
        return vec![];
    }
    let why = why.unwrap_or("its agent has not said why; look whether it is connected");
    let age_s = (now - from).num_seconds().max(0);
    vec![match last {
        Some(_) => format!("replication group {} has had no common moment for {age_s} s: {why}", group.name()),
        None => format!("replication group {} has no common moment: {why}", group.name()),
    }]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_alarming_after_some_intervals_without_a_common_moment() {
        let members = ["a", "b"].iter().map(|item| item.parse().unwrap()).collect();
        let group = Group::new("shop".parse().unwrap(), members, 30, 2, 60).unwrap();
        let at = |s| DateTime::UNIX_EPOCH + TimeDelta::seconds(s);
        let last = CommonView { moment: "m".to_owned(), taken_at: at(100), consistency: Consistency::Crash, points: vec![] };
        assert_eq!(alarms(&group, Some(&last), at(0), Some("b is off"), at(205)), [""; 0]);
        assert_eq!(alarms(&group, Some(&last), at(0), Some("b is off"), at(206)), ["replication group shop has had no common moment for 106 s: b is off"]);
        assert_eq!(alarms(&group, None, at(0), Some("b is off"), at(206)), ["replication group shop has no common moment: b is off"]);
    }
}
