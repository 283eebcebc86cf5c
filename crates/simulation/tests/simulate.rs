//! What simulations of a plan tell.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use recovery::plan::{Plan, Work};
use switchback_simulation::{Durations, Ending, Failing, Impossible, Inventory, Known, Question, Range, Supposed, World, draws, simulate};
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

fn ranged(question: &Question) -> Range {
    let world = World::of(question).unwrap();
    let first = world.told(question).unwrap();
    world.range(question, &first, 20, &|_| {}).unwrap()
}

fn failing_at_each(question: &Question) -> Vec<Failing> {
    let done = AtomicUsize::new(0);
    let failing = World::of(question).unwrap().each_failing(question, &|so_far| assert!(done.fetch_max(so_far, Ordering::SeqCst) <= 8)).unwrap();
    assert_eq!(done.into_inner(), failing.len(), "it says how far it is");
    failing
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
    let failing = failing_at_each(&question(Work::Unplanned));
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
    assert!(total("data/db1=10") > plain + 100_000 && total("fence-machine=1") == plain);
    let range = ranged(&question(Work::Unplanned));
    assert_eq!((plain, range.of), (range.low_ms, 20), "what is told first is one of those of which the range is: {range:?}");
    assert!(range.low_ms < range.middle_ms && range.middle_ms < range.high_ms, "{range:?}");
    assert_eq!(range.late, 20, "all take longer than 2 minutes: {range:?}");
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

#[test]
fn a_site_that_the_plan_does_not_have_can_not_be_down() {
    let supposed = Supposed { site_down: Some("z".parse().unwrap()), ..Supposed::default() };
    let refused = simulate(&Question { supposed, ..question(Work::Test) }).unwrap_err().to_string();
    assert!(refused.starts_with("the plan has no site z; it moves machines from "), "{refused}");
}

#[test]
fn what_is_nothing_of_the_plan_can_not_be_slow() {
    let refused = |slow: &str| {
        let supposed = Supposed { slow: vec![slow.parse().unwrap()], ..Supposed::default() };
        simulate(&Question { supposed, ..question(Work::Unplanned) }).map_or_else(|refused| refused.to_string(), |_| "nothing".to_owned())
    };
    let told = refused("nosuch=9");
    assert!(told.starts_with("nothing of the plan is called nosuch, so nothing of it can be slow; there are the sites a and b; the machines db1, db2, web; the steps data/db1/prepare, "), "{told}");
    assert!(told.contains("start-machine"), "{told}");
    assert!(refused("data/db=9").starts_with("nothing of the plan"), "the first letters of a machine are no machine");
    for known in ["a", "web", "data", "data/db1", "web/before/agree", "recover-machine"] {
        assert_eq!(refused(&format!("{known}=2")), "nothing", "{known}");
    }
}

#[test]
fn people_take_as_long_as_they_took_unless_something_else_is_supposed() {
    let took = |durations| {
        let told = simulate(&Question { durations, ..question(Work::Unplanned) }).unwrap();
        let asked = told.timeline.steps.iter().find(|step| step.key == "web/before/agree").unwrap().took_ms().unwrap();
        (asked, told.assumed.contains(&"web/before/agree".to_owned()))
    };
    let known = known(&[("web/before/agree", 300_000, 300_000)]);
    assert_eq!(took(Durations::default()), (60_000, true));
    assert_eq!(took(known.clone()), (300_000, false));
    assert_eq!(took(Durations { people: Some(recovery::span::Span::seconds(5)), ..known }), (5_000, false));
}

#[test]
fn rule_25_extra_processing_is_simulated_where_a_profile_needs_it_and_is_a_step_of_its_own() {
    let mut records = simulate_records();
    for record in &mut records {
        record.state.active = recovery::Side::Primary;
        record.state.direction = recovery::Direction::Forward;
    }
    records[0].profile = recovery::Profile::Physical;
    let plain = simulate(&question(Work::Test)).unwrap();
    let asked = |durations| Question { inventory: Inventory { records: records.clone() }, durations, ..question(Work::Test) };
    let told = simulate(&asked(Durations::default())).unwrap();
    assert_eq!(told.ending, Ending::Whole, "{:?}", told.why);
    assert_eq!(told.total_ms, plain.total_ms + 600_000, "the longest time is counted in");
    let extra: Vec<_> = told.steps.iter().filter(|timed| timed.step.key.ends_with("extra-processing")).collect();
    let shown: Vec<String> = extra.iter().map(|timed| format!("{} takes {} {} {}", timed.step.key, timed.ends_ms - timed.begins_ms, timed.critical, timed.step.does)).collect();
    assert_eq!(shown, ["data/db1/extra-processing takes 600000 true extra processing, 8m to 10m: it is a physical server"]);
    assert!(told.assumed.contains(&"data/db1/extra-processing".to_owned()));
    let drawn = ranged(&asked(Durations::default()));
    assert!(drawn.low_ms >= plain.total_ms + 480_000 && drawn.high_ms > drawn.low_ms, "{drawn:?}");
    let measured = simulate(&asked(known(&[("data/db1/prepare", 700_000, 700_000)]))).unwrap();
    assert!(measured.steps.iter().all(|timed| !timed.step.key.ends_with("extra-processing")), "what was measured has it in it");
}

/// Machines in groups of a hundred.
fn large(machines: usize) -> Question {
    let mut text = "version: 1\nname: large\nfrom: a\nto: b\nparallel: 100\ngroups:\n".to_owned();
    for (group, first) in (0..machines).step_by(100).enumerate() {
        let items: Vec<String> = (first..machines.min(first + 100)).map(|item| format!("{{ item: m{item} }}")).collect();
        text += &format!("  - {{ name: g{group}, items: [{}] }}\n", items.join(", "));
    }
    Question { plan: Plan::from_yaml(&text).unwrap(), ..question(Work::Unplanned) }
}

#[test]
fn two_hundred_machines_are_all_there_in_the_end_and_what_would_take_hours_is_refused() {
    let large = large(200);
    let world = World::of(&large).unwrap();
    let told = world.told(&large).unwrap();
    assert_eq!((told.ending, told.steps.len(), told.machines.len()), (Ending::Whole, 400, 200), "{:?}", told.why);
    assert!(told.machines.iter().all(|machine| machine.state == "commit pending" && machine.runs_at.as_str() == "b"));
    assert_eq!(told.total_ms, told.critical_path_ms, "nothing but its steps takes time");
    let refused = world.each_failing(&large, &|_| {}).unwrap_err();
    assert!(matches!(refused, Impossible::TooMany { steps: 400, machines: 200 }), "{refused}");
    assert_eq!([draws(&question(Work::Test).plan, 20), draws(&large.plan, 1_000)], [20, 20]);
}
