//! Readiness in sentences.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::{
    Check, Consistency, Disk, Generation, GroupMoment, ItemName, ItemRecord, ItemState, MainState, PointChoice, PointId, RecoveryPoint,
    ReplicationPolicy, SiteName,
    plan::Plan,
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

fn record(name: &str) -> ItemRecord {
    ItemRecord {
        version: 1,
        name: name.parse().unwrap(),
        primary: site("a"),
        recovery: site("b"),
        machine: name.to_owned(),
        disks: vec![Disk { name: "vda".to_owned(), size_bytes: 20 << 30 }],
        policy: ReplicationPolicy::default().with_app_consistent(Some(3_600)).unwrap(),
        checks: vec!["tcp:10.0.0.9:22".parse::<Check>().unwrap()],
        state: ItemState { main: MainState::Protected, ..ItemState::new() },
        chosen: None,
        fence: None,
        withdrawn_up_to: None,
        rto_actual_ms: None,
        rpo_actual_ms: None,
        powered_on: None,
        recovered_as: None,
        running_since: None,
        test_copy: None,
        profile: crate::Profile::default(),
        requested: None,
        hold: None,
        contradiction: None,
        source_left: None,
        group: None,
        forgotten: None,
    }
}

fn point(id: u64, seconds_ago: i64, consistency: Consistency) -> RecoveryPoint {
    RecoveryPoint {
        id: PointId(id),
        consistency,
        taken_at: now() - TimeDelta::seconds(seconds_ago),
        generation: Generation { era: 1, grant_epoch: 1 },
        size_bytes: 1,
        group: None,
        pinned: false,
        withdrawn: false,
    }
}

fn agent(name: &str, at: &str) -> AgentFacts {
    let needs = BTreeMap::from([("db9".parse().unwrap(), MachineNeeds { memory_bytes: 4 << 30, vcpus: 2 }), ("web1".parse().unwrap(), MachineNeeds { memory_bytes: 2 << 30, vcpus: 1 })]);
    let capacity = Capacity {
        memory_bytes: 64 << 30,
        free_memory_bytes: 32 << 30,
        vcpus: 16,
        storage_bytes: 1 << 40,
        free_storage_bytes: 500 << 30,
        needs,
        not_isolable: None,
        networks: BTreeMap::new(),
    };
    AgentFacts {
        name: name.to_owned(),
        site: site(at),
        connected: true,
        seen_at: Some(now() - TimeDelta::seconds(2)),
        report: Some(AgentReport {
            v: 1,
            build: "0.1.0".to_owned(),
            certificate_expires_at: Some(now() + TimeDelta::days(400)),
            capacity: Some(capacity),
            actions: ActionsReport { ssh: true, secrets: BTreeSet::from(["ddns".to_owned()]), commands: BTreeSet::from(["move-address".to_owned()]), faults: vec![] },
        }),
        reported_at: Some(now() - TimeDelta::seconds(30)),
    }
}

fn facts() -> Facts {
    Facts { now: now(), build: "0.1.0".to_owned(), authority_expires_at: Some(now() + TimeDelta::days(3_000)), agents: vec![agent("agent-a", "a"), agent("agent-b", "b")], people: BTreeMap::new() }
}

fn made_with(record: &ItemRecord) -> Fingerprint {
    fingerprint(record).with("agent agent-a", "0.1.0").with("agent agent-b", "0.1.0")
}

fn item(name: &str) -> ItemFacts {
    let record = record(name);
    ItemFacts {
        points: vec![point(1, 1_800, Consistency::App), point(2, 6, Consistency::Crash)],
        replication: Some(ReplicationFacts { phase: "replicating".to_owned(), last_error: None, app_error: None }),
        alarms: vec![],
        verified: Some(Verification { run: "run-1".to_owned(), at: now() - TimeDelta::days(10), fingerprint: made_with(&record) }),
        record,
    }
}

fn lacks(capacity: &mut Capacity, item: &str, missing: &[&str], unseen: &[&str]) {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    capacity.networks.insert(item.parse().unwrap(), Networks { missing: names(missing), unseen: names(unseen) });
}

/// What is not well, a line each.
fn bad(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|f| f.severity != Severity::Ok).map(|f| format!("{} {}: {}", f.severity, f.check, f.what)).collect()
}

fn bad_item(item: &ItemFacts, facts: &Facts) -> Vec<String> {
    bad(&judge_item(item, facts))
}

#[test]
fn an_item_with_everything_in_order_is_well_and_every_check_says_so() {
    let findings = judge_item(&item("db9"), &facts());
    assert_eq!((bad(&findings), worst(&findings)), (vec![], Severity::Ok));
    let told: String = findings.iter().map(|f| format!("{:12} {:6} {}\n", f.check, f.about, f.what)).collect();
    insta::assert_snapshot!(told);
}

/// Each thing that can be wrong with an item, and what is said then.
#[test]
fn whatever_is_wrong_with_an_item_is_found_with_what_it_means_and_what_to_do() {
    type Break = fn(&mut ItemFacts, &mut Facts);
    fn told(facts: &mut Facts, at: usize, change: fn(&mut AgentReport)) {
        change(facts.agents[at].report.as_mut().unwrap());
    }
    fn host(facts: &mut Facts, at: usize, change: fn(&mut Capacity)) {
        change(facts.agents[at].report.as_mut().unwrap().capacity.as_mut().unwrap());
    }
    let cases: Vec<(&str, Break)> = vec![
        ("no point", |i, _| i.points.clear()),
        ("all withdrawn", |i, _| i.points.iter_mut().for_each(|p| p.withdrawn = true)),
        ("late", |i, _| i.points[1] = point(2, 60, Consistency::Crash)),
        ("above its threshold", |i, _| {
            i.record.policy = i.record.policy.clone().with_rpo_threshold(Some(60)).unwrap();
            i.points[1] = point(2, 61, Consistency::Crash);
        }),
        ("lost", |i, _| i.points[1] = point(2, 7_200, Consistency::Crash)),
        ("no app", |i, _| { i.points.remove(0); i.replication.as_mut().unwrap().app_error = Some("no agent".to_owned()) }),
        ("old app", |i, _| i.points[0] = point(1, 9_000, Consistency::App)),
        ("broken", |i, _| i.replication = Some(ReplicationFacts { phase: "broken".to_owned(), last_error: Some("the bitmap is gone".to_owned()), app_error: None })),
        ("paused", |i, _| i.replication.as_mut().unwrap().phase = "paused".to_owned()),
        ("silent", |i, _| i.replication = None),
        ("failing", |i, _| i.replication.as_mut().unwrap().last_error = Some("no route".to_owned())),
        ("unprotected", |i, _| i.record.state.main = MainState::Unprotected),
        ("commit pending", |i, _| i.record.state.main = MainState::CommitPending),
        ("reconcile", |i, _| i.record.state.main = MainState::Reconcile),
        ("alarm", |i, _| i.alarms.push("it runs twice".to_owned())),
        ("left copy", |i, _| i.record.state.test_failover = crate::TestFailover::Failed),
        ("target away", |_, f| f.agents[1].connected = false),
        ("source away", |_, f| f.agents[0].connected = false),
        ("no target agent", |_, f| drop(f.agents.remove(1))),
        ("old report", |_, f| f.agents[1].reported_at = Some(now() - TimeDelta::hours(3))),
        ("mute hypervisor", |_, f| f.agents[1].report.as_mut().unwrap().capacity = None),
        ("little memory", |_, f| host(f, 1, |c| c.free_memory_bytes = 1 << 30)),
        ("few processors", |_, f| host(f, 1, |c| c.vcpus = 1)),
        ("little storage", |_, f| host(f, 1, |c| c.free_storage_bytes = 1_500 << 20)),
        ("no storage", |_, f| host(f, 1, |c| c.free_storage_bytes = 100 << 20)),
        ("no way back", |_, f| host(f, 0, |c| c.free_storage_bytes = 100 << 20)),
        ("unknown needs", |_, f| { host(f, 0, |c| c.needs.clear()); host(f, 1, |c| c.needs.clear()) }),
        ("no isolation", |_, f| host(f, 1, |c| c.not_isolable = Some("there is no `ip`".to_owned()))),
        ("no network", |_, f| host(f, 1, |c| lacks(c, "db9", &["bridge prod", "network storage"], &[]))),
        ("network unseen", |_, f| host(f, 1, |c| lacks(c, "db9", &[], &["bridge prod"]))),
        ("other version", |i, f| { f.build = "0.2.0".to_owned(); i.verified.as_mut().unwrap().at = now() }),
        ("certificate soon", |_, f| told(f, 0, |r| r.certificate_expires_at = Some(now() + TimeDelta::days(20)))),
        ("certificate now", |_, f| told(f, 1, |r| r.certificate_expires_at = Some(now() + TimeDelta::days(3)))),
        ("certificate over", |_, f| told(f, 1, |r| r.certificate_expires_at = Some(now() - TimeDelta::days(3)))),
        ("authority", |_, f| f.authority_expires_at = Some(now() + TimeDelta::days(29))),
        ("never drilled", |i, _| i.verified = None),
        ("old drill", |i, _| i.verified.as_mut().unwrap().at = now() - TimeDelta::days(190)),
        ("new policy", |i, _| i.record.policy = ReplicationPolicy::default()),
        ("new disk", |i, _| i.record.disks.push(Disk { name: "vdb".to_owned(), size_bytes: 1 << 30 })),
        ("turned round", |i, _| i.record.state.direction = crate::Direction::Reverse),
        ("agent upgraded", |_, f| { f.build = "0.2.0".to_owned(); told(f, 0, |r| r.build = "0.2.0".to_owned()); told(f, 1, |r| r.build = "0.2.0".to_owned()) }),
    ];
    let mut text = String::new();
    for (name, change) in cases {
        let (mut item, mut facts) = (item("db9"), facts());
        change(&mut item, &mut facts);
        let findings = judge_item(&item, &facts);
        let found = bad(&findings);
        assert!(!found.is_empty(), "{name} is not found");
        assert!(findings.iter().all(|f| f.severity == Severity::Ok || (!f.means.is_empty() && !f.next.is_empty())), "{name}");
        text += &format!("{name}\n    {}\n", found.join("\n    "));
    }
    insta::assert_snapshot!(text);
}

const PLAN: &str = "
version: 1
name: shop
from: a
to: b
rpo-target: 5m
groups:
  - name: data
    items: [{ item: db9 }]
    after:
      - name: dns
        on: [planned, unplanned, failback]
        dns: { server: ns, zone: e.org, name: x.e.org, type: A, values: [10.0.0.1], ttl: 60, key: ddns }
  - name: web
    items: [{ item: web1 }]
    before:
      - { name: drain, at: source, on: [planned], command: { name: move-address } }
";

fn plan(yaml: &str) -> PlanFacts {
    PlanFacts::of(&Plan::from_yaml(yaml).unwrap(), "abc", None)
}

fn tested(plan: PlanFacts, items: &[ItemFacts]) -> PlanFacts {
    let fingerprint = plan.fingerprint(items.iter().map(|item| &item.record), &facts());
    PlanFacts { verified: Some(Verification { run: "run-2".to_owned(), at: now() - TimeDelta::days(3), fingerprint }), ..plan }
}

#[test]
fn a_plan_is_well_if_all_its_machines_fit_together_and_its_sites_have_what_its_actions_take() {
    let items = [item("db9"), item("web1"), item("other")];
    let plan = tested(plan(PLAN), &items);
    let findings = judge_plan(&plan, &items, &facts());
    assert_eq!(bad(&findings), [""; 0]);
    let told: String = findings.iter().map(|f| format!("{:13} {:14} {}\n", f.check, f.about, f.what)).collect();
    insta::assert_snapshot!(told);
}

#[test]
fn machines_that_fit_alone_and_not_together_are_found() {
    let items = [item("db9"), item("web1")];
    let mut facts = facts();
    facts.agents[1].report.as_mut().unwrap().capacity.as_mut().unwrap().free_memory_bytes = 5 << 30;
    assert_eq!(bad_item(&items[0], &facts), [""; 0]);
    assert_eq!(bad(&judge_plan(&tested(plan(PLAN), &items), &items, &facts)), ["critical memory: 2 machines take 6.0 GiB of memory at b, where 5.0 GiB are free"]);
}

#[test]
fn what_an_action_lacks_and_what_it_needs_of_a_dead_site_is_found() {
    let items = [item("db9"), item("web1")];
    let mut facts = facts();
    facts.agents[1].report.as_mut().unwrap().actions = ActionsReport::default();
    let yaml = PLAN.replace("on: [planned], command", "command");
    let plan = tested(plan(&yaml), &items);
    assert_eq!(
        bad(&judge_plan(&plan, &items, &facts)),
        [
            "critical action: site b lacks secret ddns for data/dns (x.e.org A at ns)",
            "warning needs-source: web/drain (command move-address) is carried out at a, also when that site is lost",
            "critical action: site b lacks command move-address for web/drain (command move-address)",
        ]
    );
    facts.agents[1].reported_at = None;
    let found = bad(&judge_plan(&plan, &items, &facts));
    assert!(found.contains(&"unknown action: whether site b has what data/dns (x.e.org A at ns) takes is not known".to_owned()), "{found:?}");
}

#[test]
fn a_plan_is_not_verified_any_more_when_its_text_a_machine_or_an_agent_has_changed() {
    let items = [item("db9"), item("web1")];
    let plan = tested(plan(PLAN), &items);
    let changed = PlanFacts { sha256: "def".to_owned(), ..plan.clone() };
    assert_eq!(bad(&judge_plan(&changed, &items, &facts())), ["warning verified: since the last test of plan shop, 3 days ago, something has changed: plan was abc, is def"]);
    let mut other = items.clone();
    other[1].record.checks.clear();
    assert_eq!(
        bad(&judge_plan(&plan, &other, &facts())),
        ["warning verified: since the last test of plan shop, 3 days ago, something has changed: web1: checks was tcp:10.0.0.9:22, is none"]
    );
    assert_eq!(bad(&judge_plan(&PlanFacts { verified: None, ..plan }, &items, &facts())), ["warning verified: no test of plan shop has passed"]);
}

#[test]
fn what_a_plan_would_lose_and_what_it_does_not_know_is_found() {
    let mut items = [item("db9"), item("web1")];
    let plan = tested(plan(PLAN), &items);
    items[0].points[1] = point(2, 400, Consistency::Crash);
    let found = bad(&judge_plan(&plan, &items, &facts()));
    assert!(found.contains(&"critical rpo-target: the point of db9 that this plan takes is 6 min old; at most 5m may be lost".to_owned()), "{found:?}");
    let found = bad(&judge_plan(&plan, &items[..1], &facts()));
    assert!(found.contains(&"critical items: item web1 is not known".to_owned()), "{found:?}");
    items[1].record.recovery = site("c");
    let found = bad(&judge_plan(&plan, &items, &facts()));
    assert!(found.contains(&"critical sites: item web1 is replicated between a and c".to_owned()), "{found:?}");
}

#[test]
fn people_whom_a_plan_asks_and_who_can_not_answer_are_found() {
    let items = [item("db9"), item("web1")];
    let yaml = PLAN.replace("name: shop", "name: shop\nroles: { dba: [ada, bob, eve], boss: [cleo] }").replace(
        "    after:",
        "    before:\n      - { name: agree, approval: { need: 2, of: [dba], within: 5m } }\n      - { name: look, manual: { instructions: look, of: [boss], on-silence: go-on } }\n      - { name: any, manual: { instructions: look } }\n    after:",
    );
    let plan = tested(plan(&yaml), &items);
    let found = |people: &[(&str, Access)]| {
        let facts = Facts { people: people.iter().map(|(name, access)| ((*name).to_owned(), *access)).collect(), ..facts() };
        let findings = judge_plan(&plan, &items, &facts);
        assert!(findings.iter().all(|f| f.severity == Severity::Ok || (!f.means.is_empty() && !f.next.is_empty())));
        bad(&findings)
    };
    assert_eq!(found(&[("ada", Access::Operates), ("bob", Access::Host), ("eve", Access::Operates), ("cleo", Access::Operates)]), [""; 0]);
    assert_eq!(
        found(&[("ada", Access::Operates), ("bob", Access::Looks), ("eve", Access::Operates)]),
        [
            "warning people: data/agree asks 2 of dba, and 2 of 3 people can answer: the token of bob only lets look",
            "critical people: data/look asks 1 of boss, and 0 of 1 people can answer: cleo has no token",
        ]
    );
    assert_eq!(
        found(&[("ada", Access::Operates), ("cleo", Access::Host)]),
        ["critical people: data/agree asks 2 of dba, and 1 of 3 people can answer: bob has no token; eve has no token"]
    );
}

#[test]
fn points_in_common_are_asked_for_where_the_plan_takes_them() {
    let items = [item("db9"), item("web1")];
    let plan = PlanFacts { point: PointChoice::LatestMultiVmProcessed, ..tested(plan(PLAN), &items) };
    let common = |items: &[ItemFacts]| judge_plan(&plan, items, &facts()).into_iter().find(|f| f.check == "common-points").map(|f| (f.severity, f.what)).unwrap();
    assert_eq!(common(&items), (Severity::Warning, "no machine of this plan is in a replication group".to_owned()));
    let grouped = |moments: [&str; 2]| {
        let mut grouped = items.clone();
        for (item, moment) in grouped.iter_mut().zip(moments) {
            item.points[1].group = Some(GroupMoment { group: "shop".parse().unwrap(), moment: moment.to_owned() });
        }
        common(&grouped)
    };
    assert_eq!(grouped(["m1", "m1"]), (Severity::Ok, "all 1 replication groups have points in common".to_owned()));
    assert_eq!(grouped(["m1", "m2"]).0, Severity::Critical);
}

#[test]
fn a_fingerprint_names_what_has_come_gone_and_changed() {
    let of = |parts: &[(&str, &str)]| Fingerprint(parts.iter().map(|(part, value)| ((*part).to_owned(), (*value).to_owned())).collect());
    let changes = changes_since(&of(&[("a", "1"), ("b", "1"), ("c", "1")]), &of(&[("a", "1"), ("b", "2"), ("d", "1")]));
    assert_eq!(changes, ["b was 1, is 2", "c was 1 and is gone", "d is 1 now and was not there"]);
    let name: ItemName = "db9".parse().unwrap();
    assert_eq!(record(name.as_str()).name, name);
}
