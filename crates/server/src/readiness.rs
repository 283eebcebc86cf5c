//! Readiness: gathers what is known, lets it be judged, keeps what was found.
//!
//! ```text
//!   every minute, and when somebody asks: drills that have passed ─▶ recovery.verified
//!                                         records, points, reports ─▶ judge ─▶ recovery.readiness ─▶ /metrics
//! ```
//!
//! Invariants: 1. Nothing is decided here: [`recovery::readiness`] judges. 2. Every server does it, as often as it likes: what is found
//! is the same, and times of change are written where something has changed. 3. A drill is noted with the record that stands in its
//! history, not with the one of now.

use std::{collections::{BTreeMap, BTreeSet}, time::Duration};

use api::{Code, access::Role, agent::ReplicationStatus, readiness::ReadinessView};
use chrono::{DateTime, Utc};
use engine::RunStore;
use recovery::{
    ItemName, ItemRecord, PlanName, alarms,
    readiness::{
        Access, AgentFacts, Facts, Finding, Fingerprint, ItemFacts, PlanFacts, ReplicationFacts, Severity, Verification, fingerprint, judge_item, judge_plan, worst,
    },
};
use sdk::{Activity, Command, EventBody, History, Inbound, Outcome, RunId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::{
    items::{PointRow, ReplicationRow},
    plans::PlanRow,
    readiness::{Judged, ReadinessRow, VerifiedRow},
};
use workflows::declared::LoadItem;

use crate::{
    app::App,
    caller::users_of_this_host,
    listen::stopped,
    problem::Refusal,
    routes::{by_item, of, plan_of, point, record, seen},
};

/// How often everything is judged: how late monitoring hears of it.
const EVERY: Duration = Duration::from_secs(60);
/// Most runs of a plan's test that are looked into: three for each machine of the largest plan.
const MOST_RUNS: i64 = 40_000;

/// Judges everything until told to stop.
pub(crate) async fn keep_judging(app: App) {
    let mut stop = app.stop.clone();
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = due.tick() => {}
        }
        if let Err(Refusal(problem)) = judge_items(&app).await {
            tracing::warn!(detail = problem.detail, "how items stand is not known for now");
        }
        if let Err(Refusal(problem)) = judge_plans(&app).await {
            tracing::warn!(detail = problem.detail, "how plans stand is not known for now");
        }
    }
}

async fn judge_items(app: &App) -> Result<(), Refusal> {
    note_drills(app).await?;
    let facts = facts(app).await?;
    let judged = items(app, None).await?.iter().map(|item| kept(subject_of(&item.record.name), &judge_item(item, &facts))).collect::<Result<Vec<_>, _>>()?;
    keep_all(app, "item:", &judged).await
}

/// Keeps how all subjects of a kind stand, and forgets those that are none any more.
async fn keep_all(app: &App, kind: &str, judged: &[Judged]) -> Result<(), Refusal> {
    app.store.put_readiness(judged).await?;
    let subjects: Vec<String> = judged.iter().map(|judged| judged.subject.clone()).collect();
    Ok(app.store.forget_readiness(kind, &subjects).await?)
}

fn subject_of(item: &ItemName) -> String {
    format!("item:{item}")
}

/// Judges an item now; nothing if there is none of that name.
pub(crate) async fn item_now(app: &App, name: &ItemName) -> Result<Option<ReadinessView>, Refusal> {
    note_drills(app).await?;
    let Some(item) = items(app, Some(name)).await?.pop() else { return Ok(None) };
    let findings = judge_item(&item, &facts(app).await?);
    app.store.put_readiness(&[kept(subject_of(name), &findings)?]).await?;
    stands(app, Some(&subject_of(name))).await.map(|mut all| all.pop())
}

/// Judges a plan now; nothing if there is none of that name.
pub(crate) async fn plan_now(app: &App, name: &PlanName) -> Result<Option<ReadinessView>, Refusal> {
    note_plan_tests(app).await?;
    let Some(row) = app.store.plans(Some(name.as_str())).await?.pop() else { return Ok(None) };
    let subject = subject_of_plan(&row.name);
    let verified = app.store.verified(Some(&subject)).await?.remove(&subject);
    let facts = with_people(facts(app).await?, std::slice::from_ref(&row)).await;
    app.store.put_readiness(&[kept(subject.clone(), &judged(&row, verified, &items(app, None).await?, &facts)?)?]).await?;
    stands(app, Some(&subject)).await.map(|mut all| all.pop())
}

async fn judge_plans(app: &App) -> Result<(), Refusal> {
    note_plan_tests(app).await?;
    let (rows, items) = (app.store.plans(None).await?, items(app, None).await?);
    let facts = with_people(facts(app).await?, &rows).await;
    let mut verified = app.store.verified(None).await?;
    let mut all = vec![];
    for row in &rows {
        let subject = subject_of_plan(&row.name);
        let last = verified.remove(&subject);
        all.push(kept(subject, &judged(row, last, &items, &facts)?)?);
    }
    keep_all(app, "plan:", &all).await
}

fn subject_of_plan(plan: &str) -> String {
    format!("plan:{plan}")
}

fn judged(row: &PlanRow, verified: Option<VerifiedRow>, items: &[ItemFacts], facts: &Facts) -> Result<Vec<Finding>, Refusal> {
    // One that can't be read keeps nobody from judging the others.
    let plan = match plan_of(row) {
        Ok(plan) => PlanFacts::of(&plan, &row.sha256, verified.map(verification).transpose()?),
        Err(Refusal(problem)) => return Ok(vec![Finding::unreadable_plan(&row.name, &problem.detail)]),
    };
    Ok(judge_plan(&plan, items, facts))
}

/// With those among the people of these plans who are users of this host: they need no token.
async fn with_people(mut facts: Facts, rows: &[PlanRow]) -> Facts {
    let plans = rows.iter().filter_map(|row| plan_of(row).ok());
    let names: BTreeSet<String> = plans.flat_map(|plan| plan.roles.into_values().flatten()).filter(|name| !facts.people.contains_key(name)).collect();
    if !names.is_empty() {
        // Asks other programs.
        let found = tokio::task::spawn_blocking(move || users_of_this_host(&names)).await.unwrap_or_default();
        facts.people.extend(found.into_iter().map(|name| (name, Access::Host)));
    }
    facts
}

/// Notes tests of plans that have passed since the last look, with the machines as they were found then.
async fn note_plan_tests(app: &App) -> Result<(), Refusal> {
    for test in app.store.passed_plan_tests().await? {
        let Some(row) = app.store.plans(Some(&test.plan)).await?.pop() else { continue };
        let mut records = BTreeMap::new();
        for run in app.store.run_family(test.root, MOST_RUNS).await? {
            if let Some(record) = rehearsed(&app.store.load_history(run).await?) {
                records.entry(record.name.clone()).or_insert(record);
            }
        }
        let plan = PlanFacts::of(&plan_of(&row)?, &test.sha256, None);
        let fingerprint = plan.fingerprint(records.values(), &facts(app).await?);
        passed(app, subject_of_plan(&test.plan), test.root, test.cleaned_at, &fingerprint).await?;
    }
    Ok(())
}

/// How subjects stand, as judged last.
pub(crate) async fn stands(app: &App, subject: Option<&str>) -> Result<Vec<ReadinessView>, Refusal> {
    app.store.readiness(subject).await?.into_iter().map(view).collect()
}

fn view(row: ReadinessRow) -> Result<ReadinessView, Refusal> {
    let findings: Vec<Finding> = read(row.findings)?;
    let verified = findings.iter().any(|finding| finding.check == "verified" && finding.severity == Severity::Ok);
    Ok(ReadinessView {
        subject: row.subject,
        severity: read(Value::String(row.severity))?,
        verified,
        counts: read(row.counts)?,
        findings,
        since: row.since,
        changed_at: row.changed_at,
        judged_at: row.judged_at,
    })
}

fn kept(subject: String, findings: &[Finding]) -> Result<Judged, Refusal> {
    let mut counts: BTreeMap<Severity, u64> = Severity::ALL.into_iter().map(|severity| (severity, 0)).collect();
    for finding in findings {
        *counts.entry(finding.severity).or_default() += 1;
    }
    let bad = findings.iter().filter(|finding| finding.severity != Severity::Ok);
    let mut marks: Vec<String> = bad.map(|finding| format!("{} {} {}", finding.severity, finding.check, finding.about)).collect();
    marks.sort();
    Ok(Judged { subject, severity: worst(findings).as_str(), counts: written(&counts)?, marks, findings: written(&findings)? })
}

async fn facts(app: &App) -> Result<Facts, Refusal> {
    let agents = app.store.agent_reports().await?.into_iter().map(|row| {
        Ok(AgentFacts {
            site: row.site.parse().map_err(unreadable)?,
            name: row.name,
            connected: row.connected,
            seen_at: row.seen_at,
            // One that this build can't read has not reported.
            report: row.report.and_then(|report| serde_json::from_value(report).ok()),
            reported_at: row.reported_at,
        })
    });
    let tokens = app.store.token_holders().await?.into_iter().map(|holder| {
        let operates = holder.role.parse().is_ok_and(|role: Role| role >= Role::Operator);
        (holder.name, if operates { Access::Operates } else { Access::Looks })
    });
    Ok(Facts {
        people: tokens.collect(),
        agents: agents.collect::<Result<_, Refusal>>()?,
        now: app.store.now().await?,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        authority_expires_at: app.authority.expires_at(),
    })
}

async fn items(app: &App, name: Option<&ItemName>) -> Result<Vec<ItemFacts>, Refusal> {
    let wanted = name.map(ItemName::as_str);
    let points = by_item(app.store.points(wanted).await?, |row| &row.item);
    let replication = by_item(app.store.replication(wanted).await?, |row| &row.item);
    let machines = by_item(app.store.machines(wanted).await?, |row| &row.item);
    let mut verified = app.store.verified(None).await?;
    let rows = app.store.items(wanted).await?;
    rows.into_iter().map(|row| {
        let record = record(&row.record)?;
        let verified = verified.remove(&subject_of(&record.name)).map(verification).transpose()?;
        Ok(ItemFacts {
            points: points_of(&record, of(&points, &row.name))?,
            replication: replication_of(&record, of(&replication, &row.name))?,
            alarms: alarms(&record, row.running_since, &seen(of(&machines, &row.name))?),
            verified,
            record,
        })
    })
    .collect()
}

fn points_of(record: &ItemRecord, points: &[PointRow]) -> Result<Vec<recovery::RecoveryPoint>, Refusal> {
    let ours = points.iter().filter(|row| row.site == record.target_site().as_str());
    ours.map(point).collect()
}

fn replication_of(record: &ItemRecord, rows: &[ReplicationRow]) -> Result<Option<ReplicationFacts>, Refusal> {
    let ours = rows.iter().find(|row| row.site == record.source_site().as_str());
    let told = ours.map(|row| read::<ReplicationStatus>(row.status.clone())).transpose()?;
    Ok(told.map(|told| ReplicationFacts { phase: told.phase, last_error: told.last_error, app_error: told.app_error }))
}

/// Notes drills of items that have passed since the last look.
async fn note_drills(app: &App) -> Result<(), Refusal> {
    let drills = app.store.passed_drills().await?;
    if drills.is_empty() {
        return Ok(());
    }
    let facts = facts(app).await?;
    for drill in drills {
        let history = app.store.load_history(drill.run).await?;
        let Some(record) = rehearsed(&history) else {
            tracing::warn!(run = %drill.run, "a drill has passed whose history does not say of what");
            continue;
        };
        let sites = [record.source_site(), record.target_site()];
        let agents = facts.agents.iter().filter(|agent| sites.contains(&&agent.site)).filter_map(|agent| Some((&agent.name, agent.report.as_ref()?)));
        let with = agents.fold(fingerprint(&record), |all, (name, report)| all.with(&format!("agent {name}"), report.build.clone()));
        passed(app, subject_of(&record.name), drill.run, drill.closed_at, &with).await?;
    }
    Ok(())
}

async fn passed(app: &App, subject: String, run: RunId, at: DateTime<Utc>, fingerprint: &Fingerprint) -> Result<(), Refusal> {
    Ok(app.store.put_verified(&VerifiedRow { subject, run, at, fingerprint: written(fingerprint)? }).await?)
}

/// The item as the drill found it.
fn rehearsed(history: &History) -> Option<ItemRecord> {
    let loads = history.events.iter().filter_map(|stored| match &stored.event.body {
        EventBody::Command(Command::ActivityScheduled { activity, .. }) if activity == LoadItem::NAME => Some(stored.event.seq),
        EventBody::Command(_) | EventBody::Inbound(_) => None,
    });
    let loads: Vec<_> = loads.collect();
    history.events.iter().find_map(|stored| match &stored.event.body {
        EventBody::Inbound(Inbound::ActivityFinished { of, outcome: Outcome::Completed { output } }) if loads.contains(of) => {
            serde_json::from_value::<Option<ItemRecord>>(output.clone()).ok()?
        }
        EventBody::Inbound(_) | EventBody::Command(_) => None,
    })
}

fn verification(row: VerifiedRow) -> Result<Verification, Refusal> {
    Ok(Verification { run: row.run.to_string(), at: row.at, fingerprint: read(row.fingerprint)? })
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(unreadable)
}

fn written(value: &impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("a stored value can't be read: {error}"))
}

/// For monitoring: how much of each severity is found of each item and plan.
pub(crate) async fn gauges(app: &App) -> Result<String, Refusal> {
    let mut text = String::new();
    for row in stands(app, None).await? {
        let Some((kind, name)) = row.subject.split_once(':') else { continue };
        for severity in [Severity::Unknown, Severity::Warning, Severity::Critical] {
            let count = row.counts.get(&severity).copied().unwrap_or_default();
            text += &format!("switchback_readiness_findings{{kind=\"{kind}\",name=\"{name}\",severity=\"{severity}\"}} {count}\n");
        }
        text += &format!("switchback_verified{{kind=\"{kind}\",name=\"{name}\"}} {}\n", u8::from(row.verified));
        text += &format!("switchback_readiness_judged_timestamp_seconds{{kind=\"{kind}\",name=\"{name}\"}} {}\n", row.judged_at.timestamp());
    }
    Ok(text)
}
