//! What simulations of a plan tell.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::collections::BTreeMap;

use recovery::plan::{Plan, Work};
use switchback_simulation::{Durations, Ending, Impossible, Inventory, Known, Question, Supposed, each_failing, range, simulate};
use workflows::{Acceptance, PlanOptions};

const SHOP: &str = r#"version: 1
name: shop
from: a
to: b
rto-target: 2m
roles: { dba: [ada] }
groups:
  - name: data
    items: [{ item: db1 }, { item: db2, needs: [db1] }]
  - name: web
    before: [{ name: agree, approval: { need: 1, of: [dba], within: 15m } }]
    items:
      - { item: web, after: [{ name: point, dns: { server: 10.0.0.53, zone: example.org, name: shop.example.org, type: A, values: [10.0.0.7], ttl: 60 } }] }
"#;

fn question(work: Work) -> Question {
    Question {
        plan: Plan::from_yaml(SHOP).unwrap(),
        work,
        options: PlanOptions::default(),
        inventory: Inventory::default(),
        durations: Durations::default(),
        supposed: Supposed::default(),
        seed: 0,
    }
}

fn known(steps: &[(&str, u64, u64)]) -> Durations {
    let steps: BTreeMap<String, Known> = steps.iter().map(|(key, middle_ms, longest_ms)| ((*key).to_owned(), Known { middle_ms: *middle_ms, longest_ms: *longest_ms })).collect();
    Durations { steps, people: None }
}

#[test]
fn a_failover_takes_what_its_critical_path_takes_and_the_same_question_gets_the_same_answer() {
    let told = simulate(&question(Work::Unplanned)).unwrap();
    assert_eq!(told.ending, Ending::Whole, "{:?}", told.why);
    assert!(told.machines.iter().all(|machine| machine.state == "commit pending" && machine.runs_at.as_str() == "b"), "{:?}", told.machines);
    assert!(told.total_ms >= told.critical_path_ms && told.total_ms * 100 <= told.critical_path_ms * 105, "{} {}", told.total_ms, told.critical_path_ms);
    assert_eq!(told.assumed.len(), told.steps.len(), "nothing is known of any step");
    assert_eq!(simulate(&question(Work::Unplanned)).unwrap(), told);
}

#[test]
fn steps_take_what_they_took() {
    let durations = known(&[("data/db1/prepare", 30_000, 30_000), ("data/db1/start", 100_000, 100_000), ("web/web/after/point", 7_000, 7_000)]);
    let told = simulate(&Question { durations, ..question(Work::Unplanned) }).unwrap();
    let took = |key: &str| told.timeline.steps.iter().find(|step| step.key == key).and_then(recovery::plan::StepRun::took_ms).unwrap();
    for (key, expected) in [("data/db1/prepare", 30_000), ("data/db1/start", 100_000), ("web/web/after/point", 7_000), ("web/before/agree", 60_000)] {
        let took = took(key);
        assert!(took.abs_diff(expected) <= 500, "{key} took {took}");
    }
    assert!(told.total_ms > told.rto_target_ms.unwrap(), "it says that the target will be missed: {}", told.total_ms);
    assert!(!told.assumed.contains(&"data/db1/start".to_owned()));
}

#[test]
fn a_dead_site_stops_it_unless_that_is_accepted() {
    let supposed = Supposed { site_down: Some("a".parse().unwrap()), ..Supposed::default() };
    let dark = Question { supposed, ..question(Work::Unplanned) };
    let told = simulate(&dark).unwrap();
    assert_eq!(told.ending, Ending::Stopped);
    assert!(told.why.as_ref().unwrap().contains("could prove that the machine"), "{:?}", told.why);
    let accept_unfenced = Some(Acceptance { by: "ada".into(), reason: "it burns".into() });
    let told = simulate(&Question { options: PlanOptions { accept_unfenced, ..PlanOptions::default() }, ..dark }).unwrap();
    assert_eq!(told.ending, Ending::Whole, "{:?}", told.why);
}

#[test]
fn what_each_failing_step_comes_to() {
    let failing = each_failing(&question(Work::Unplanned)).unwrap();
    assert_eq!(failing.len(), 8);
    for failing in failing {
        assert_eq!(failing.ending, Ending::Stopped, "{}", failing.step);
        let away = failing.machines.iter().filter(|machine| machine.runs_at.as_str() == "b").count();
        let expected = match failing.step.as_str() {
            step if step.ends_with("prepare") => 0,
            "data/db1/start" => 0,
            "data/db2/start" => 1,
            "web/before/agree" | "web/web/start" => 2,
            _ => 3,
        };
        assert_eq!(away, expected, "{}: {:?}", failing.step, failing.machines);
    }
}

#[test]
fn slow_things_are_slow_and_draws_have_a_range() {
    let total = |slow: &str| {
        let supposed = Supposed { slow: vec![slow.parse().unwrap()], ..Supposed::default() };
        simulate(&Question { supposed, ..question(Work::Unplanned) }).unwrap().total_ms
    };
    let plain = simulate(&question(Work::Unplanned)).unwrap().total_ms;
    assert!(total("db1=10") > plain + 100_000 && total("web/web/start=2") > plain && total("b=2") > plain);
    assert_eq!(total("nobody=10"), plain);
    let range = range(&question(Work::Unplanned), 20).unwrap();
    assert!(plain <= range.low_ms && range.low_ms < range.high_ms && range.of == 20, "{range:?}");
}

#[test]
fn the_way_home_and_back_is_simulated_from_where_machines_stand() {
    let mut record = simulate_records();
    let told = simulate(&Question { inventory: Inventory { records: record.clone() }, ..question(Work::Failback) }).unwrap();
    assert_eq!(told.ending, Ending::Whole, "{:?}", told.why);
    assert!(told.machines.iter().all(|machine| machine.runs_at.as_str() == "a"));
    record.clear();
    let told = simulate(&Question { inventory: Inventory { records: record }, ..question(Work::Failback) }).unwrap();
    assert!(told.steps.iter().all(|timed| !timed.step.key.ends_with("start")), "machines that are at home stay: {:?}", told.timeline);
}

/// Machines that run at `b` and are replicated back.
fn simulate_records() -> Vec<recovery::ItemRecord> {
    let facts = |name: &str| {
        let operation = recovery::Operation::Protect;
        let fact = recovery::Fact::ItemRegistered {
            name: name.parse().unwrap(),
            primary: "a".parse().unwrap(),
            recovery: "b".parse().unwrap(),
            machine: name.to_owned(),
            policy: recovery::ReplicationPolicy::default(),
            checks: vec![],
            profile: recovery::Profile::Kvm,
        };
        let mut record = recovery::fold(&[fact, recovery::Fact::Moved { step: recovery::Step::Begin { operation } }, recovery::Fact::Moved { step: recovery::Step::Finish { operation } }])
            .unwrap()
            .unwrap();
        record.state.active = recovery::Side::Recovery;
        record.state.direction = recovery::Direction::Reverse;
        record
    };
    ["db1", "db2", "web"].map(facts).to_vec()
}

#[test]
fn a_step_that_the_plan_does_not_have_is_refused_with_those_that_it_has() {
    let supposed = Supposed { fail_at: Some("data/db9/start".into()), ..Supposed::default() };
    let refused = simulate(&Question { supposed, ..question(Work::Test) }).unwrap_err();
    assert!(matches!(refused, Impossible::NoSuchStep { .. }) && refused.to_string().contains("data/db1/start"), "{refused}");
}
