//! The judgement: every rule is looked at in a fixed order; the first that does not hold decides, all of them are told.
//!
//! ```text
//!   switched on? ─▶ firing? ─▶ enough sources? ─▶ held down? │ too many? veto? flapping? maintenance? kill switch?
//!                                                             │ item? point? other run? cool-down? ─▶ approval ─▶ act
//! ```

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AlertKey, AlertSeen, AlertState, Evidence, Mode, TriggerPolicy};
use crate::Side;

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing fires that was not answered: the end.
    Quiet,
    /// It is too early; look again then, or when something changes.
    Wait {
        /// When.
        until: DateTime<Utc>,
    },
    /// A rule forbids it while it holds.
    Blocked {
        /// Which.
        rule: String,
        /// When it ends by itself; `None`: nobody knows.
        until: Option<DateTime<Utc>>,
    },
    /// It comes and goes too often: from now on a person decides.
    Flapping,
    /// All rules hold; people are asked.
    Ask,
    /// It would have gone on from here, but only watches.
    Would,
    /// All rules hold.
    Act,
}

/// A rule and what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruled {
    /// Its name, kebab-case.
    pub rule: String,
    /// Whether it lets the failover through.
    pub holds: bool,
    /// What it saw.
    pub why: String,
}

/// What is made of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// What follows.
    pub verdict: Verdict,
    /// All rules that were looked at, in order.
    pub rules: Vec<Ruled>,
    /// The alerts that it is about.
    pub alerts: Vec<AlertKey>,
}

impl Judgement {
    /// The rule that decided: the first that does not hold.
    #[must_use]
    pub fn decided_by(&self) -> Option<&Ruled> {
        self.rules.iter().find(|ruled| !ruled.holds)
    }
}

/// For people.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet => f.write_str("nothing to do"),
            Self::Wait { until } => write!(f, "waits until {}", until.format("%H:%M:%SZ")),
            Self::Blocked { rule, until: Some(until) } => write!(f, "blocked by {rule} until {}", until.format("%Y-%m-%d %H:%M:%SZ")),
            Self::Blocked { rule, until: None } => write!(f, "blocked by {rule} until that changes"),
            Self::Flapping => f.write_str("locked: alerts came and went; from now on a person decides"),
            Self::Ask => f.write_str("all rules hold; people are asked"),
            Self::Would => f.write_str("all rules hold; the policy only watches"),
            Self::Act => f.write_str("all rules hold; the failover is started"),
        }
    }
}

/// Judges. `approved` says that people have agreed since the alerts fire.
#[must_use]
pub fn judge(policy: &TriggerPolicy, evidence: &Evidence, approved: bool) -> Judgement {
    let firing = firing(policy, evidence);
    let mut told = Told { rules: Vec::new(), first: None };
    let since = signals(policy, evidence, &firing, approved, &mut told);
    if let Some(since) = since {
        hold_down(policy, evidence, since, &mut told);
        guards(policy, evidence, &mut told);
        item(policy, evidence, &mut told);
        permission(policy, approved, &mut told);
    }
    let alerts = firing.iter().map(|alert| alert.key.clone()).collect();
    Judgement { verdict: told.first.unwrap_or(Verdict::Act), rules: told.rules, alerts }
}

/// The rules so far, and what the first that did not hold means.
struct Told {
    rules: Vec<Ruled>,
    first: Option<Verdict>,
}

impl Told {
    fn rule(&mut self, rule: &str, otherwise: Option<Verdict>, why: impl Into<String>) {
        self.rules.push(Ruled { rule: rule.to_owned(), holds: otherwise.is_none(), why: why.into() });
        if self.first.is_none() {
            self.first = otherwise;
        }
    }

    fn blocks(&mut self, rule: &str, blocked: bool, until: Option<DateTime<Utc>>, why: impl Into<String>) {
        self.rule(rule, blocked.then(|| Verdict::Blocked { rule: rule.to_owned(), until }), why);
    }
}

/// Alerts that the policy means, that go on, and that were not answered.
fn firing<'a>(policy: &TriggerPolicy, evidence: &'a Evidence) -> Vec<&'a AlertSeen> {
    let goes_on = |alert: &&AlertSeen| alert.state == AlertState::Firing && alert.answered.is_none();
    evidence.alerts.iter().filter(|alert| policy.means(alert)).filter(goes_on).collect()
}

/// Since when enough sources tell of it; `None` ends the judgement.
fn signals(policy: &TriggerPolicy, evidence: &Evidence, firing: &[&AlertSeen], approved: bool, told: &mut Told) -> Option<DateTime<Utc>> {
    let off = policy.mode == Mode::Off;
    told.rule("switched-on", off.then_some(Verdict::Quiet), if off { "the policy is off" } else { "the policy is not off" });
    // Before anything is made of what was read: what was left out may be what matters.
    let why = if evidence.too_many { "more alerts that it may mean are known than are looked at" } else { "all alerts that it may mean were looked at" };
    told.blocks("evidence-complete", evidence.too_many, None, why);
    let none = firing.is_empty();
    told.rule("firing", none.then_some(Verdict::Quiet), if none { nothing_fires(policy, evidence) } else { named(firing) });
    if off || none {
        return None;
    }
    let stale_before = evidence.at - policy.freshness.delta();
    // Who has just agreed has looked: that is fresher than any alert.
    let counts = |alert: &AlertSeen| !alert.truncated && (approved || alert.last_at >= stale_before);
    let mut since: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    for alert in firing.iter().filter(|alert| counts(alert)) {
        let first = since.entry(alert.key.source.as_str()).or_insert(alert.first_at);
        *first = alert.first_at.min(*first);
    }
    let mut left_out = Vec::new();
    for alert in firing.iter().filter(|alert| !counts(alert)) {
        let why = if alert.truncated {
            "its sender left alerts out of that delivery (max_alerts), so a veto may be missing".to_owned()
        } else {
            format!("last heard of at {}, more than {} ago", clock(alert.last_at), policy.freshness)
        };
        left_out.push(format!("; not counted: {} of {}, {why}", alert.key.fingerprint, alert.key.source));
    }
    let enough = since.len() >= policy.require;
    let told_by: Vec<&str> = since.keys().copied().collect();
    let why = format!("{} of the {} sources needed tell of it ({}){}", since.len(), policy.require, told_by.join(", "), left_out.concat());
    told.blocks("sources", !enough, None, why);
    let mut times: Vec<DateTime<Utc>> = since.into_values().collect();
    times.sort_unstable();
    times.get(policy.require.saturating_sub(1)).copied()
}

fn hold_down(policy: &TriggerPolicy, evidence: &Evidence, since: DateTime<Utc>, told: &mut Told) {
    let until = since + policy.hold_down.delta();
    let early = (evidence.at < until).then_some(Verdict::Wait { until });
    let why = format!("told since {} without a break; {} are asked for, which is at {}", clock(since), policy.hold_down, clock(until));
    told.rule("hold-down", early, why);
}

fn guards(policy: &TriggerPolicy, evidence: &Evidence, told: &mut Told) {
    let vetoes = |alert: &&AlertSeen| alert.state == AlertState::Firing && policy.is_vetoed_by(alert);
    let stale_before = evidence.at - policy.freshness.delta();
    let veto = evidence.alerts.iter().filter(vetoes).find(|alert| alert.last_at >= stale_before);
    let why = veto.map_or_else(|| "nobody says that it lives".to_owned(), |alert| format!("{} of {}: {}", alert.key.fingerprint, alert.key.source, alert.summary));
    told.blocks("veto", veto.is_some(), veto.map(|alert| alert.last_at + policy.freshness.delta()), why);
    flapping(policy, evidence, told);
    let window = policy.maintenance.iter().find_map(|window| window.lasts(evidence.at).map(|until| (window, until)));
    let why = window.as_ref().map_or_else(|| "no maintenance now".to_owned(), |(w, until)| format!("maintenance until {}: {}", clock(*until), w.reason));
    told.blocks("maintenance", window.is_some(), window.map(|(_, until)| until), why);
    let switch = evidence.kill_switch(&policy.name);
    let why = switch.map_or_else(|| "no kill switch is on".to_owned(), |s| format!("{} turned the kill switch on at {}: {}", s.by, clock(s.since), s.reason));
    told.blocks("kill-switch", switch.is_some(), None, why);
}

fn flapping(policy: &TriggerPolicy, evidence: &Evidence, told: &mut Told) {
    let after = evidence.at - policy.flap.within.delta();
    let after = evidence.forgiven_at.map_or(after, |at| after.max(at));
    let mut changes: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for alert in evidence.alerts.iter().filter(|alert| policy.means(alert)) {
        let ended = matches!(alert.state, AlertState::Resolved { at } if at >= after);
        let changed = u32::from(alert.first_at >= after) + u32::from(ended);
        *changes.entry((&alert.key.source, &alert.key.fingerprint)).or_default() += changed;
    }
    let most = changes.into_values().max().unwrap_or(0);
    if let Some(since) = evidence.flap_locked_at {
        let why = format!("locked since {} because alerts came and went; `switchback trigger unlock {}`", clock(since), policy.name);
        return told.blocks("flap", true, None, why);
    }
    let why = format!("{most} changes of one alert within {}; {} lock the policy", policy.flap.within, policy.flap.changes);
    told.rule("flap", (most >= policy.flap.changes).then_some(Verdict::Flapping), why);
}

fn item(policy: &TriggerPolicy, evidence: &Evidence, told: &mut Told) {
    let Some(item) = &evidence.item else {
        return told.blocks("item", true, None, format!("nobody protects an item called {}", policy.item));
    };
    told.blocks("direction", item.active != Side::Primary, None, format!("it runs at site {}; alerts start no failback", item.site));
    let busy = item.open_run.as_ref();
    let why = busy.map_or_else(|| "no other run has the item".to_owned(), |(run, workflow)| format!("run {run} ({workflow}) has the item"));
    told.blocks("one-at-a-time", busy.is_some(), None, why);
    told.blocks("state", !item.failover_allowed, None, format!("the item is {}", item.main));
    let age_ms = item.newest_point_at.map(|at| (evidence.at - at).num_milliseconds().max(0));
    let limit = policy.failover.max_rpo;
    let point = age_ms.is_some_and(|age| limit.is_none_or(|limit| u64::try_from(age).unwrap_or(0) <= limit.ms()));
    let why = match (age_ms, limit) {
        (None, _) => "there is no recovery point".to_owned(),
        (Some(age), None) => format!("the newest point is {} s old", age / 1_000),
        (Some(age), Some(limit)) => format!("the newest point is {} s old, at most {limit} is asked for", age / 1_000),
    };
    told.blocks("point", !point, None, why);
    let cool = item.last_failover.as_ref().map(|last| (last, last.ended_at + policy.cool_down.delta()));
    let why = cool.as_ref().map_or_else(
        || "there was no failover before".to_owned(),
        |(last, until)| format!("run {} ended at {}; none by alerts until {}", last.run, clock(last.ended_at), clock(*until)),
    );
    let cool = cool.map(|(_, until)| until).filter(|until| evidence.at < *until);
    told.blocks("cool-down", cool.is_some(), cool, why);
}

fn permission(policy: &TriggerPolicy, approved: bool, told: &mut Told) {
    let shadow = policy.mode == Mode::Shadow;
    let why = if shadow { "the policy only watches; it would have gone on from here" } else { "the policy is armed" };
    told.rule("armed", shadow.then_some(Verdict::Would), why);
    let need = policy.approval.need;
    let why = match (need, approved) {
        (0, _) => "nobody is asked".to_owned(),
        (_, true) => "people have agreed".to_owned(),
        (need, false) => format!("{need} must agree within {}", policy.approval.within),
    };
    told.rule("approval", (need > 0 && !approved).then_some(Verdict::Ask), why);
}

fn named(firing: &[&AlertSeen]) -> String {
    let one = |alert: &&AlertSeen| format!("{} of {} since {} ({})", alert.key.fingerprint, alert.key.source, clock(alert.first_at), alert.summary);
    firing.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Why nothing fires: what was heard of last says it best.
fn nothing_fires(policy: &TriggerPolicy, evidence: &Evidence) -> String {
    let last = evidence.alerts.iter().filter(|alert| policy.means(alert)).max_by_key(|alert| match alert.state {
        AlertState::Firing => alert.last_at,
        AlertState::Resolved { at } => at,
    });
    match last {
        None => "no alert that this policy means was heard of".to_owned(),
        Some(AlertSeen { answered: Some(answer), key, .. }) => format!("{} of {} was answered: {answer}", key.fingerprint, key.source),
        Some(AlertSeen { state: AlertState::Resolved { at }, key, first_at, .. }) => {
            let lasted = (*at - *first_at).num_seconds().max(0);
            format!("{} of {} was resolved at {}, {lasted} s after it was first heard of", key.fingerprint, key.source, clock(*at))
        }
        Some(AlertSeen { key, .. }) => format!("{} of {} is not meant by its matchers", key.fingerprint, key.source),
    }
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
