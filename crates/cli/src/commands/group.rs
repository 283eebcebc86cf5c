//! Replication groups.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use api::{
    Client,
    groups::{CommonView, GroupChangeRequest, GroupMemberView, GroupRequest, GroupView},
    items::{Accepted, Listed, PlainRequest},
};
use chrono::{DateTime, Utc};
use recovery::{Group, GroupName, ItemName};
use serde::Serialize;

use super::items::asked;
use crate::{
    arguments::{GroupCommand, GroupNumbers, Output, Waiting},
    exit,
    output::{self, facts, or_dash, table},
    span, wait,
};

pub(super) async fn carry_out(client: &Client, output: Output, command: GroupCommand) -> Result<ExitCode> {
    match command {
        GroupCommand::Create { name, items, numbers, waiting } => {
            let what = format!("replication group {name}");
            let request = GroupRequest { name, items: set(items), numbers: asked_numbers(numbers)? };
            begin(client, output, "/v1/groups", &request, waiting, &what).await
        }
        GroupCommand::List => list(client, output).await,
        GroupCommand::Describe { name } => describe(client, output, &name).await,
        GroupCommand::Change { name, add, remove, no_app_consistent, numbers, waiting } => {
            let mut numbers = asked_numbers(numbers)?;
            if no_app_consistent {
                numbers.app_consistent_interval_s = Some(0);
            }
            let request = GroupChangeRequest { add: set(add), remove: set(remove), numbers };
            if request == GroupChangeRequest::default() {
                eprintln!("switchback: nothing is to be changed; name items with --add or --remove, or one of the numbers");
                return Ok(2.into());
            }
            begin(client, output, &format!("/v1/groups/{name}/change"), &request, waiting, &format!("the change of replication group {name}")).await
        }
        GroupCommand::Remove { name, waiting } => {
            begin(client, output, &format!("/v1/groups/{name}/remove"), &PlainRequest {}, waiting, &format!("the removal of replication group {name}")).await
        }
    }
}

fn set(items: Vec<ItemName>) -> BTreeSet<ItemName> {
    items.into_iter().collect()
}

fn asked_numbers(numbers: GroupNumbers) -> Result<api::groups::GroupNumbers> {
    let seconds = |time: Option<Duration>| time.map(|time| u32::try_from(time.as_secs())).transpose().context("a time is too long");
    let ms = |time: Option<Duration>| time.map(|time| u32::try_from(time.as_millis())).transpose().context("the longest pause is too long");
    Ok(api::groups::GroupNumbers {
        interval_s: seconds(numbers.interval)?,
        app_consistent_interval_s: seconds(numbers.app_consistent_every)?,
        max_pause_ms: ms(numbers.max_pause)?,
        keep_moments: numbers.keep_moments,
        window_s: numbers.window.map(|window| window.as_secs()),
    })
}

async fn begin(client: &Client, output: Output, path: &str, request: &impl Serialize, waiting: Waiting, what: &str) -> Result<ExitCode> {
    let accepted = asked(client, path, request).await?;
    if !waiting.wait {
        output::answer(output, &accepted, |Accepted { run }| format!("run {run} was begun; see `switchback why {run}`"))?;
        return Ok(ExitCode::SUCCESS);
    }
    wait::for_end(client, output, accepted.run, waiting, what).await
}

/// A list is what it is: alarms stand in it, and `describe` of one group ends by them.
pub(super) async fn list(client: &Client, output: Output) -> Result<ExitCode> {
    let groups: Listed<GroupView> = client.get("/v1/groups").await?;
    output::answer(output, &groups, |groups| {
        let rows = groups.items.iter().map(|view| {
            let last = view.last.as_ref().map(|last| utc(last.taken_at));
            let app = view.last_app.as_ref().map(|last| utc(last.taken_at));
            [view.group.name().to_string(), names(view.group.members()), every(&view.group), or_dash(last), or_dash(app), or_dash(pause(view))]
        });
        let shown = table(
            ["GROUP", "ITEMS", "EVERY", "LAST COMMON MOMENT (UTC)", "LAST APP-CONSISTENT (UTC)", "PAUSE"],
            rows,
            "there are no replication groups",
        );
        groups.items.iter().flat_map(told).fold(shown, |shown, line| format!("{shown}\n{}", output::visible(&line)))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Degraded if the group has no common moments: then its members are recovered at different times.
pub(super) async fn describe(client: &Client, output: Output, name: &GroupName) -> Result<ExitCode> {
    let view: GroupView = client.get(&format!("/v1/groups/{name}")).await?;
    output::answer(output, &view, described)?;
    Ok(if view.alarms.is_empty() { ExitCode::SUCCESS } else { exit::DEGRADED.into() })
}

/// What is alarming; otherwise why there is no common moment now.
fn told(view: &GroupView) -> Vec<String> {
    if view.alarms.is_empty() {
        return view.why_none.iter().map(|why| format!("{} has no common moment now: {why}", view.group.name())).collect();
    }
    view.alarms.iter().map(|alarm| format!("ALARM {alarm}")).collect()
}

fn described(view: &GroupView) -> String {
    let group = &view.group;
    let app = group.app_consistent_interval_s().map_or_else(|| "never".to_owned(), |s| format!("every {}", span::seconds(s.into())));
    let mut known = vec![
        ("group", group.name().to_string()),
        ("common moments", format!("every {}, {} kept over {}", every(group), group.keep_moments(), span::seconds(group.window_s()))),
        ("app-consistent", app),
        ("longest pause", format!("{} ms allowed", group.max_pause_ms())),
        ("last", or_dash(view.last.as_ref().map(moment))),
        ("last app-consistent", or_dash(view.last_app.as_ref().map(moment))),
    ];
    if let Some(seen) = &view.status {
        let status = &seen.status;
        known.push(("taken", format!("{} by the agent of {}, as of {}", status.moments, seen.site, utc(seen.reported_at))));
        known.extend(pause(view).map(|pause| ("machines stood still", pause)));
        known.extend(status.app_error.iter().map(|why| ("no app-consistent moment", why.clone())));
    }
    known.extend(view.why_none.iter().map(|why| ("no common moment", why.clone())));
    known.push(("run", or_dash(view.open_run)));
    known.extend(view.alarms.iter().map(|alarm| ("ALARM", alarm.clone())));
    let rows = view.members.iter().map(|member| {
        let GroupMemberView { item, state, source, target, phase, last_point_taken_at, moments } = member;
        let newest = or_dash(last_point_taken_at.map(utc));
        [item.to_string(), state.clone(), format!("{source} → {target}"), or_dash(phase.as_ref()), newest, moments.to_string()]
    });
    format!("{}\n{}", facts(&known), table(["ITEM", "STATE", "REPLICATED", "PHASE", "NEWEST POINT (UTC)", "MOMENTS"], rows, "nobody is in it"))
}

/// How long machines stood still for the last moment, and at most.
fn pause(view: &GroupView) -> Option<String> {
    let status = &view.status.as_ref()?.status;
    Some(format!("{} ms, at most {} ms", status.last.as_ref()?.pause_ms, status.longest_pause_ms?))
}

fn moment(view: &CommonView) -> String {
    let points: Vec<String> = view.points.iter().map(|of| format!("{} {}", of.item, of.point)).collect();
    format!("{} UTC, {}, points {} ({})", utc(view.taken_at), view.consistency, points.join(", "), view.moment)
}

fn every(group: &Group) -> String {
    span::seconds(group.interval_s().into())
}

fn names(items: &BTreeSet<ItemName>) -> String {
    items.iter().map(ItemName::as_str).collect::<Vec<_>>().join(", ")
}

fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
