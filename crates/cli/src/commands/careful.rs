//! What is done to an item beside moving it: points that are held, another policy, record and reality, and the rules of its platform.

use std::process::ExitCode;

use anyhow::{Context, Result};
use api::{
    Client,
    items::{ChangePolicyRequest, ForgetRequest, HoldRequest, ReleaseRequest, ResolveRequest},
};
use recovery::{
    ItemName, Profile, Rest,
    plan::Mode,
    profile::{
        connect::{Access, When, checklist},
        deletes, extra::Os, failback, guide, shutdown,
    },
};
use serde_json::{Value, json};

use super::items::{asked, begin};
use crate::{
    arguments::{ChangePolicy, ForgetItem, HoldPoint, Holds, Output, ReleasePoint, ResolveItem},
    output,
    wait::{self, Ended},
};

pub(super) async fn hold(client: &Client, output: Output, arguments: HoldPoint) -> Result<ExitCode> {
    let request = HoldRequest { point: arguments.point, reason: arguments.reason };
    begin(client, output, &arguments.item, "hold", &request, arguments.waiting).await
}

pub(super) async fn forget(client: &Client, output: Output, arguments: ForgetItem) -> Result<ExitCode> {
    let ForgetItem { item, leave_behind, waiting } = arguments;
    let request = ForgetRequest { leave_behind };
    if !waiting.wait {
        return begin(client, output, &item, "forget", &request, waiting).await;
    }
    let run = asked(client, &format!("/v1/items/{item}/forget"), &request).await?.run;
    wait::for_verdict(client, output, run, waiting, |ended| (gone(&item, ended), ended.exit_code())).await
}

/// What is gone, and who still counts on it.
fn gone(item: &ItemName, ended: &Ended) -> String {
    let Some(output) = ended.output.as_ref().filter(|_| ended.exit_code() == 0) else {
        return wait::sentence(&format!("forget of {item}"), ended);
    };
    let list = |name: &str| output[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let mut text = format!("item {item} is forgotten, with what sites and drills have said of it; its histories stay");
    let (left, named) = (list("left_behind"), list("named_by"));
    if !left.is_empty() {
        text += &format!("\nwhat is left of it at {left} stays there");
    }
    if !named.is_empty() {
        text += &format!("\nit is still named by {named}: change that, or protect {item} again");
    }
    text
}

pub(super) async fn release(client: &Client, output: Output, arguments: ReleasePoint) -> Result<ExitCode> {
    begin(client, output, &arguments.item, "release", &ReleaseRequest { reason: arguments.reason }, arguments.waiting).await
}

pub(super) async fn change_policy(client: &Client, output: Output, arguments: ChangePolicy) -> Result<ExitCode> {
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).context("that time is too long");
    let request = ChangePolicyRequest {
        interval_s: arguments.interval.map(seconds).transpose()?,
        retention_points: arguments.retention_points,
        retention_window_s: arguments.retention_window.map(|window| window.as_secs()),
        bandwidth_bytes_per_s: arguments.bandwidth,
        app_consistent_interval_s: arguments.app_consistent_every.map(seconds).transpose()?,
        rpo_threshold_s: arguments.rpo_threshold.map(seconds).transpose()?,
        change_window_s: arguments.change_window.map(|window| window.as_secs()),
    };
    begin(client, output, &arguments.item, "change-policy", &request, arguments.waiting).await
}

pub(super) async fn resolve(client: &Client, output: Output, arguments: ResolveItem) -> Result<ExitCode> {
    let rest = arguments.r#as.map(|holds| match holds {
        Holds::Unprotected => Rest::Unprotected,
        Holds::Protected => Rest::Protected,
        Holds::CommitPending => Rest::CommitPending,
        Holds::Committed => Rest::Committed,
    });
    let request = ResolveRequest { rest, site: arguments.at, reason: arguments.reason };
    begin(client, output, &arguments.item, "resolve", &request, arguments.waiting).await
}

/// Needs no server: the rules are part of the program.
pub(super) fn profile(output: Output, profile: Profile) -> Result<ExitCode> {
    output::answer(output, &rules(profile), |_| told(profile))?;
    Ok(ExitCode::SUCCESS)
}

fn rules(profile: Profile) -> Value {
    let steps = |mode| guide::steps(profile, mode).into_iter().map(|(_, says)| says).collect::<Vec<_>>();
    let modes = Mode::ALL.map(|mode| (mode.as_str().to_owned(), json!({ "source": source(mode), "steps": steps(mode), "commit_deletes": deletes(mode) })));
    json!({
        "profile": profile,
        "operated": profile.operated(),
        "change_window_hours": profile.change_window().num_hours(),
        "modes": serde_json::Map::from_iter(modes),
        "failback_needs": failback::needs(profile, false).into_iter().map(failback::Needs::says).collect::<Vec<_>>(),
        "connect": connect(),
    })
}

fn source(mode: Mode) -> &'static str {
    match shutdown::source(mode) {
        shutdown::Source::Untouched => "not touched",
        shutdown::Source::MustShutDown => "must shut down and send the rest, or nothing is done",
        shutdown::Source::MayBeAsked => "is asked to shut down if you say so; goes on whatever comes of it",
    }
}

fn deletes(mode: Mode) -> Vec<&'static str> {
    let deleted = deletes::by_commit(mode);
    let points = deleted.filter(|deleted| deleted.points).map(|_| "all recovery points");
    let machine = deleted.filter(|deleted| deleted.machine_at_recovery).map(|_| "the machine at the recovery site");
    points.into_iter().chain(machine).collect()
}

fn connect() -> Value {
    let mut lists = serde_json::Map::new();
    for (os, os_word) in [(Os::Windows, "windows"), (Os::Linux, "linux")] {
        for (access, access_word) in [(Access::Internet, "internet"), (Access::Vpn, "vpn")] {
            for (when, when_word) in [(When::Before, "before"), (When::After, "after")] {
                let list: Vec<&str> = checklist(os, access, when).into_iter().map(|fact| fact.says()).collect();
                lists.insert(format!("{os_word}, {access_word}, {when_word}"), json!(list));
            }
        }
    }
    Value::Object(lists)
}

fn told(profile: Profile) -> String {
    let operated = if profile.operated() { "operated by this version" } else { "modelled: simulated sites and simulations of plans know it, no adapter does" };
    let hours = profile.change_window().num_hours();
    let mut text = format!("profile {profile}, {operated}\nanother point may be chosen for {hours} hours after a failover, before the commit\n");
    for mode in Mode::ALL {
        let steps = guide::steps(profile, mode);
        if steps.is_empty() {
            text += &format!("\n{mode}: this platform does not have it\n");
            continue;
        }
        text += &format!("\n{mode}; the source {}\n", source(mode));
        text.extend(steps.iter().map(|(number, says)| format!("  {number}. {says}\n")));
        let deleted = deletes(mode);
        if !deleted.is_empty() {
            text += &format!("  the commit deletes {}\n", deleted.join(" and "));
        }
    }
    text += "\nthe way home needs\n";
    text.extend(failback::needs(profile, false).into_iter().map(|need| format!("  {}\n", need.says())));
    text += "\nto connect to a machine\n";
    if let Value::Object(lists) = connect() {
        for (name, list) in lists {
            text += &format!("  {name}\n");
            text.extend(list.as_array().into_iter().flatten().filter_map(Value::as_str).map(|says| format!("    {says}\n")));
        }
    }
    text.trim_end().to_owned()
}
