//! Rules of the judgement, one by one, around a case in which all of them hold.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::collections::BTreeMap;

use super::*;
use crate::{
    MainState,
    trigger::{ItemSeen, KillSwitch, LastFailover, SwitchScope},
};

const POLICY: &str = "
version: 1
name: db9-site-loss
item: db9
mode: armed
sources: [prometheus-a, prometheus-b]
match: [alertname = DatabaseNodeDown]
require: 2
hold-down: 60s
freshness: 5m
veto: [{ source: probe, match: [alertname = StillAlive] }]
flap: { changes: 4, within: 30m }
maintenance: [{ from: 2027-01-15T10:00:00Z, until: 2027-01-15T11:00:00Z, reason: new switches }]
cool-down: 1h
failover: { max-rpo: 1m }
";

fn policy() -> TriggerPolicy {
    TriggerPolicy::from_yaml(POLICY).unwrap()
}

/// Seconds after the first alert.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn alert(source: &str, name: &str, first: i64, last: i64) -> AlertSeen {
    AlertSeen {
        key: AlertKey { id: first, source: source.into(), fingerprint: format!("f-{name}"), starts_at: Some(at(first)) },
        state: AlertState::Firing,
        first_at: at(first),
        last_at: at(last),
        labels: BTreeMap::from([("alertname".to_owned(), name.to_owned())]),
        summary: format!("{name} says {source}"),
        truncated: false,
        answered: None,
        body_sha256: "00".repeat(32),
    }
}

/// Both sources tell of it, and nothing speaks against it.
fn clear(seconds: i64) -> Evidence {
    Evidence {
        at: at(seconds),
        alerts: vec![alert("prometheus-a", "DatabaseNodeDown", 0, seconds), alert("prometheus-b", "DatabaseNodeDown", 5, seconds)],
        too_many: false,
        item: Some(ItemSeen {
            main: MainState::Protected,
            active: Side::Primary,
            site: "a".parse().unwrap(),
            failover_allowed: true,
            newest_point_at: Some(at(seconds - 10)),
            open_run: None,
            last_failover: None,
        }),
        switches: vec![],
        flap_locked_at: None,
        forgiven_at: None,
    }
}

fn text(judgement: &Judgement) -> String {
    let rule = |ruled: &Ruled| format!("{} {:<18} {}\n", if ruled.holds { "✓" } else { "✗" }, ruled.rule, ruled.why);
    format!("{}{:?}\n", judgement.rules.iter().map(rule).collect::<String>(), judgement.verdict)
}

fn verdict(change: impl FnOnce(&mut Evidence)) -> Verdict {
    let mut evidence = clear(70);
    change(&mut evidence);
    judge(&policy(), &evidence, false).verdict
}

fn blocked(by: &str, change: impl FnOnce(&mut Evidence)) {
    let verdict = verdict(change);
    assert!(matches!(&verdict, Verdict::Blocked { rule, .. } if rule == by), "{by}: {verdict:?}");
}

#[test]
fn everything_that_a_clear_case_is_told() {
    insta::assert_snapshot!(text(&judge(&policy(), &clear(70), false)));
}

#[test]
fn people_are_asked_and_then_it_acts() {
    assert_eq!(judge(&policy(), &clear(65), false).verdict, Verdict::Ask);
    assert_eq!(judge(&policy(), &clear(65), true).verdict, Verdict::Act);
    let automatic = TriggerPolicy::from_yaml(&format!("{POLICY}approval: {{ need: 0 }}")).unwrap();
    assert_eq!(judge(&automatic, &clear(65), false).verdict, Verdict::Act);
}

#[test]
fn hold_down_counts_from_the_source_that_completes_the_number() {
    assert_eq!(judge(&policy(), &clear(64), false).verdict, Verdict::Wait { until: at(65) });
}

#[test]
fn one_source_alone_however_loud_is_not_enough() {
    blocked("sources", |e| drop(e.alerts.remove(1)));
    blocked("sources", |e| e.alerts[1].key.source = "prometheus-a".into());
    blocked("sources", |e| e.alerts[1].truncated = true);
}

#[test]
fn stale_evidence_counts_only_once_people_have_agreed() {
    let mut evidence = clear(70);
    (evidence.at, evidence.item.as_mut().unwrap().newest_point_at) = (at(70 + 301), Some(at(370)));
    assert!(matches!(judge(&policy(), &evidence, false).verdict, Verdict::Blocked { rule, .. } if rule == "sources"));
    assert_eq!(judge(&policy(), &evidence, true).verdict, Verdict::Act);
}

#[test]
fn what_was_resolved_in_time_or_answered_before_is_quiet() {
    let mut evidence = clear(43);
    for alert in &mut evidence.alerts {
        alert.state = AlertState::Resolved { at: at(43) };
    }
    insta::assert_snapshot!(text(&judge(&policy(), &evidence, false)));
    assert_eq!(verdict(|e| e.alerts.iter_mut().for_each(|alert| alert.answered = Some("run 7".into()))), Verdict::Quiet);
    assert_eq!(verdict(|e| e.alerts.iter_mut().for_each(|alert| alert.labels.clear())), Verdict::Quiet);
}

#[test]
fn each_guard_blocks_by_its_name() {
    blocked("evidence-complete", |e| e.too_many = true);
    blocked("veto", |e| e.alerts.push(alert("probe", "StillAlive", 60, 70)));
    blocked("flap", |e| e.flap_locked_at = Some(at(0)));
    blocked("kill-switch", |e| {
        e.switches.push(KillSwitch { scope: SwitchScope::All, by: "ada".into(), reason: "storm".into(), since: at(1) });
    });
    blocked("item", |e| e.item = None);
    blocked("direction", |e| e.item.as_mut().unwrap().active = Side::Recovery);
    blocked("one-at-a-time", |e| e.item.as_mut().unwrap().open_run = Some(("7".into(), "drill".into())));
    blocked("state", |e| e.item.as_mut().unwrap().failover_allowed = false);
    blocked("point", |e| e.item.as_mut().unwrap().newest_point_at = None);
    blocked("point", |e| e.item.as_mut().unwrap().newest_point_at = Some(at(0)));
    blocked("cool-down", |e| e.item.as_mut().unwrap().last_failover = Some(LastFailover { run: "7".into(), ended_at: at(-3_500) }));
    blocked("maintenance", |e| {
        e.at = "2027-01-15T10:30:00Z".parse().unwrap();
        e.alerts.iter_mut().for_each(|alert| alert.last_at = e.at);
    });
}

#[test]
fn a_switch_for_another_site_or_policy_does_not_reach_it() {
    for scope in [SwitchScope::Site("b".parse().unwrap()), SwitchScope::Policy("other".into())] {
        let switch = KillSwitch { scope, by: "ada".into(), reason: "storm".into(), since: at(1) };
        assert_eq!(verdict(|e| e.switches.push(switch.clone())), Verdict::Ask);
    }
    let here = KillSwitch { scope: SwitchScope::Site("a".parse().unwrap()), by: "ada".into(), reason: "storm".into(), since: at(1) };
    blocked("kill-switch", |e| e.switches.push(here));
}

#[test]
fn a_veto_that_is_stale_or_of_a_stranger_does_not_block() {
    assert_eq!(verdict(|e| e.alerts.push(alert("probe", "StillAlive", -900, -800))), Verdict::Ask);
    assert_eq!(verdict(|e| e.alerts.push(alert("prometheus-a", "StillAlive", 60, 70))), Verdict::Ask);
}

#[test]
fn an_alert_that_comes_and_goes_locks_the_policy() {
    let came_and_went = |first: i64| AlertSeen { state: AlertState::Resolved { at: at(first + 20) }, ..alert("prometheus-a", "DatabaseNodeDown", first, first) };
    assert_eq!(verdict(|e| e.alerts.push(came_and_went(-60))), Verdict::Ask);
    assert_eq!(verdict(|e| e.alerts.extend([came_and_went(-60), came_and_went(-120)])), Verdict::Flapping);
    assert_eq!(verdict(|e| e.alerts.extend([came_and_went(-60), came_and_went(-7_200)])), Verdict::Ask);
    let forgiven = |e: &mut Evidence| {
        e.alerts.extend([came_and_went(-60), came_and_went(-120)]);
        e.forgiven_at = Some(at(-10));
    };
    assert_eq!(verdict(forgiven), Verdict::Ask, "what was unlocked is forgiven");
}

#[test]
fn a_policy_that_only_watches_asks_nobody() {
    let shadow = TriggerPolicy::from_yaml(&POLICY.replace("mode: armed", "mode: shadow")).unwrap();
    assert_eq!(judge(&shadow, &clear(70), false).verdict, Verdict::Would);
    let off = TriggerPolicy::from_yaml(&POLICY.replace("mode: armed", "mode: off")).unwrap();
    assert_eq!(judge(&off, &clear(70), true).verdict, Verdict::Quiet);
}
