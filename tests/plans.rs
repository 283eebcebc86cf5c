//! Plans on simulated sites: their order, what becomes of them when steps fail, and how they are gone on with.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use engine::RunState;
use recovery::{MainState, plan::{StepState, Work}};
use serde_json::Value;
use switchback_tests::fleet::Fleet;
use workflows::PlanOptions;

const SHOP: &str = r#"version: 1
name: shop
from: a
to: b
rto-target: 15m
roles: { dba: [ada, bob] }
before:
  - { name: tell, http: { method: POST, url: "https://chat.example/hook", body: "{}" } }
groups:
  - name: data
    items: [{ item: db1 }, { item: db2, needs: [db1] }]
    after:
      - { name: look, check: { check: "tcp:10.0.0.1:5432", within: 2m } }
  - name: app
    items: [{ item: app1 }, { item: app2 }]
  - name: web
    items:
      - { item: web, after: [{ name: point, dns: { server: 10.0.0.53, zone: example.org, name: shop.example.org, type: A, values: [10.0.0.7], ttl: 60 } }] }
"#;

/// Each step with its state and the seconds at which it began and ended.
fn timeline(fleet: &Fleet, run: sdk::RunId) -> String {
    let steps = fleet.steps(run);
    let first = steps.iter().map(|step| step.began_at).min().unwrap();
    let at = |time: chrono::DateTime<chrono::Utc>| (time - first).num_milliseconds();
    let line = |step: &recovery::plan::StepRun| format!("{:<24} {:<8} {:>6}..{:<6} {}", step.key, step.state.as_str(), at(step.began_at), step.ended_at.map(at).unwrap_or(-1), step.said);
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plan_moves_its_machines_in_order_and_brings_them_home() {
    let mut fleet = Fleet::protected(1, SHOP);
    for (work, state, sites) in [
        (Work::Unplanned, MainState::CommitPending, "b"),
        (Work::Commit, MainState::Committed, "b"),
        (Work::Reprotect, MainState::Protected, "b"),
        (Work::Failback, MainState::CommitPending, "a"),
        (Work::Commit, MainState::Committed, "a"),
        (Work::Reprotect, MainState::Protected, "a"),
        (Work::Planned, MainState::CommitPending, "b"),
        (Work::Undo, MainState::Protected, "a"),
    ] {
        let run = fleet.start(work, PlanOptions::default());
        fleet.finish(run).unwrap();
        let (ended, result) = fleet.result(run);
        assert_eq!(ended, RunState::Completed, "{work}: {result}\n{}", timeline(&fleet, run));
        assert_eq!(result["whole"], true, "{work}: {result}");
        assert!(fleet.states().values().all(|found| *found == state), "{work}: {:?}", fleet.states());
        assert!(fleet.powered_on().values().all(|on| *on == [sites]), "{work}: {:?}", fleet.powered_on());
        assert!(fleet.steps(run).iter().all(|step| step.state == StepState::Done), "{work}: {}", timeline(&fleet, run));
        fleet.judged(&work.to_string());
    }
}

#[test]
fn a_test_of_a_plan_leaves_production_alone_and_nothing_behind() {
    let mut fleet = Fleet::protected(2, SHOP);
    let before = fleet.inventories();
    let (ended, result) = fleet.carry_out(Work::Test);
    assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{result}");
    assert!(fleet.states().values().all(|state| *state == MainState::Protected));
    let (ended, result) = fleet.carry_out(Work::CleanTest);
    assert_eq!(ended, RunState::Completed, "{result}");
    let objects = |inventories: &std::collections::BTreeMap<String, provider::Inventory>| format!("{inventories:?}").matches("test").count();
    assert_eq!(objects(&fleet.inventories()), objects(&before));
    fleet.judged("test");
}
