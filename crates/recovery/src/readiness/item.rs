//! One item.

use chrono::TimeDelta;

use super::{
    Facts, Finding, ItemFacts, Severity, ago, changes_since, fingerprint,
    sites::{self, Load},
};
use crate::{Consistency, MainState, Rest, TestFailover};

/// Points that are missing in a row until somebody is told: one may be slow.
const MISSED_POINTS: i64 = 3;
/// Beside that: what sending and reporting one takes.
const SLACK_S: i64 = 30;
/// Points that are missing in a row until it is a failure and no delay.
const LOST_POINTS: i64 = 20;
/// A drill is good for half a year: what auditors and common sense ask for.
const DRILL_DAYS: i64 = 183;

/// What there is to say of an item.
#[must_use]
pub fn judge_item(item: &ItemFacts, facts: &Facts) -> Vec<Finding> {
    let record = &item.record;
    let mut found = vec![state(item)];
    found.extend(alarms(item));
    // What has no replica has neither points nor a way, and can't be rehearsed.
    if record.state.main.rest() != Some(Rest::Unprotected) {
        found.extend(points(item, facts));
        found.push(replication(item));
        let load = Load::of([record], record.target_site(), facts);
        found.extend(sites::target(record.target_site(), &load, facts));
        found.extend(sites::way_back(record.source_site(), [record], facts));
        found.extend(sites::versions([record.source_site(), record.target_site()], facts));
        found.extend(sites::certificates([record.source_site(), record.target_site()], facts));
        found.push(verified(item, facts));
    }
    found
}

fn state(item: &ItemFacts) -> Finding {
    let record = &item.record;
    let (name, main) = (&record.name, record.state.main);
    let bad = |severity, means: &str, next: &str| {
        Finding::bad(severity, "state", name, [format!("item {name} is {main}"), means.to_owned(), next.to_owned()])
    };
    match main {
        MainState::Protected => Finding::ok("state", name, format!("item {name} is protected")),
        MainState::Unprotected | MainState::Failed { before: Some(Rest::Unprotected), .. } => {
            let next = format!("Protect it; or, if that is not wanted any more: switchback forget {name}");
            bad(Severity::Critical, "It is not replicated: it can't be recovered.", &next)
        }
        MainState::Seeding => bad(Severity::Critical, "Its first copy is not complete: it can't be recovered yet.", "Wait for the first point."),
        MainState::CommitPending => {
            bad(Severity::Warning, "It runs at its other site and is not replicated from there.", "Commit, then reprotect; or undo.")
        }
        MainState::Committed => bad(Severity::Critical, "It is not replicated: it can't be recovered.", "Reprotect it."),
        MainState::Failed { .. } | MainState::Reconcile => {
            bad(Severity::Critical, "Nobody has settled what an operation left.", "Look with `switchback describe item`, and do what is allowed there.")
        }
        MainState::FailingOver { .. }
        | MainState::ChangingPoint
        | MainState::Committing
        | MainState::Reprotecting
        | MainState::Undoing
        | MainState::Unprotecting => bad(Severity::Unknown, "An operation is under way.", "Look again when it has ended."),
    }
}

fn alarms(item: &ItemFacts) -> Vec<Finding> {
    let name = &item.record.name;
    let mut found: Vec<Finding> = vec![];
    for alarm in &item.alarms {
        let means = "What is written at the wrong place is lost.".to_owned();
        found.push(Finding::bad(Severity::Critical, "alarm", name, [alarm.clone(), means, "Do what it says at once.".to_owned()]));
    }
    if item.record.state.test_failover == TestFailover::Failed {
        let what = format!("the test failover of {name} has left something behind");
        let means = "It takes space, and no other test can begin.".to_owned();
        found.push(Finding::bad(Severity::Warning, "test-copy", name, [what, means, format!("switchback clean-test-failover {name}")]));
    }
    found
}

fn points(item: &ItemFacts, facts: &Facts) -> Vec<Finding> {
    let (record, name) = (&item.record, &item.record.name);
    let offered: Vec<_> = item.points.iter().filter(|point| !point.withdrawn).collect();
    let Some(newest) = offered.iter().max_by_key(|point| point.id) else {
        let means = "It can't be recovered.".to_owned();
        let next = "Look how replication goes: `switchback describe item`.".to_owned();
        return vec![Finding::bad(Severity::Critical, "points", name, [format!("item {name} has no recovery point"), means, next])];
    };
    let mut found = vec![Finding::ok("points", name, format!("{} recovery points of {name}", offered.len()))];
    let age = facts.now - newest.taken_at;
    let policy = record.policy_in_force();
    let interval = TimeDelta::seconds(policy.interval_s().into());
    let worst = |times: i64| interval * i32::try_from(times).unwrap_or(i32::MAX) + TimeDelta::seconds(SLACK_S);
    let threshold = policy.rpo_threshold_s().map(|seconds| TimeDelta::seconds(seconds.into()));
    let lost = threshold.unwrap_or_else(|| worst(LOST_POINTS));
    found.push(if age <= worst(MISSED_POINTS).min(lost) {
        Finding::ok("rpo", name, format!("the newest point of {name} is {} old", ago(age)))
    } else {
        let severity = if age > lost { Severity::Critical } else { Severity::Warning };
        let above = threshold.filter(|_| age > lost).map_or_else(String::new, |threshold| format!(", above its RPO threshold of {}", ago(threshold)));
        let what = format!("the newest point of {name} is {} old{above}; one is taken every {} s", ago(age), policy.interval_s());
        let means = format!("A failover now would lose the last {}.", ago(age));
        Finding::bad(severity, "rpo", name, [what, means, "Look how replication goes, and at the line between the sites.".to_owned()])
    });
    found.extend(app_points(item, facts));
    found
}

fn app_points(item: &ItemFacts, facts: &Facts) -> Option<Finding> {
    let name = &item.record.name;
    let every = TimeDelta::seconds(item.record.policy_in_force().app_consistent_interval_s()?.into());
    let newest = item.points.iter().filter(|point| !point.withdrawn && point.consistency == Consistency::App).map(|point| point.taken_at).max();
    let why = item.replication.as_ref().and_then(|replication| replication.app_error.clone());
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let means = "A recovery from `latest-app-consistent` finds none, or an older one than you mean.".to_owned();
    let next = "Look at the agent in the guest (package qemu-guest-agent).".to_owned();
    Some(match newest.map(|at| facts.now - at) {
        None => Finding::bad(Severity::Warning, "app-points", name, [format!("item {name} has no app-consistent point{why}"), means, next]),
        Some(age) if age > every * 2 + TimeDelta::seconds(SLACK_S) => {
            Finding::bad(Severity::Warning, "app-points", name, [format!("the newest app-consistent point of {name} is {} old{why}", ago(age)), means, next])
        }
        Some(age) => Finding::ok("app-points", name, format!("the newest app-consistent point of {name} is {} old", ago(age))),
    })
}

fn replication(item: &ItemFacts) -> Finding {
    let name = &item.record.name;
    let bad = |severity, what: String, means: &str, next: &str| Finding::bad(severity, "replication", name, [what, means.to_owned(), next.to_owned()]);
    let Some(replication) = &item.replication else {
        return bad(Severity::Unknown, format!("nobody has told how replication of {name} goes"), "It may have stopped.", "See that the agent of its source is connected.");
    };
    let why = replication.last_error.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let what = format!("replication of {name} is {}{why}", replication.phase);
    match (replication.phase.as_str(), &replication.last_error) {
        ("replicating", None) => Finding::ok("replication", name, what),
        ("replicating", Some(_)) => bad(Severity::Warning, what, "The last point did not come.", "Look at what is said; it is tried again."),
        ("seeding" | "resyncing", _) => bad(Severity::Warning, what, "Points are old until it has ended.", "Wait for its end."),
        ("paused", _) => bad(Severity::Warning, what, "No points are taken.", "See that the machine runs and the other site is reached."),
        _ => bad(Severity::Critical, what, "No points are taken, and none will be by itself.", "Look with `switchback describe item`."),
    }
}

fn verified(item: &ItemFacts, facts: &Facts) -> Finding {
    let name = &item.record.name;
    let next = format!("switchback drill {name}");
    let Some(verified) = &item.verified else {
        let means = "Nobody has seen it being recovered.".to_owned();
        return Finding::bad(Severity::Warning, "verified", name, [format!("no drill of {name} has passed"), means, next]);
    };
    let age = facts.now - verified.at;
    let builds = builds([item.record.source_site(), item.record.target_site()], facts);
    let now = builds.into_iter().fold(fingerprint(&item.record), |now, (part, build)| now.with(&part, build));
    let changes = changes_since(&verified.fingerprint, &now);
    if !changes.is_empty() {
        let what = format!("since the last drill of {name}, {} ago, something has changed: {}", ago(age), changes.join("; "));
        return Finding::bad(Severity::Warning, "verified", name, [what, "What was rehearsed is not what would be recovered.".to_owned(), next]);
    }
    if age > TimeDelta::days(DRILL_DAYS) {
        let what = format!("the last drill of {name} that passed was {} ago; a test is recommended", ago(age));
        return Finding::bad(Severity::Warning, "verified", name, [what, "What worked then may not work now.".to_owned(), next]);
    }
    Finding::ok("verified", name, format!("a drill of {name} has passed {} ago, and nothing has changed since", ago(age)))
}

/// The versions of the agents of these sites, as parts of a fingerprint. Agents that have not reported are left out.
pub(super) fn builds<'a>(sites: impl IntoIterator<Item = &'a crate::SiteName>, facts: &Facts) -> Vec<(String, String)> {
    let sites: Vec<_> = sites.into_iter().collect();
    let ours = facts.agents.iter().filter(|agent| sites.contains(&&agent.site));
    ours.filter_map(|agent| Some((format!("agent {}", agent.name), agent.report.as_ref()?.build.clone()))).collect()
}
