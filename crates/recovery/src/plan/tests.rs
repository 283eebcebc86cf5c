//! What plans are read from, refused for, consist of, and would take.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use super::*;

/// Two databases, two of the application, one in front.
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
    items:
      - { item: db1, checks: ["tcp:10.0.0.1:5432"] }
      - { item: db2, needs: [db1] }
    after:
      - { name: look, at: target, check: { check: "tcp:10.0.0.1:5432", within: 2m } }
  - name: app
    parallel: 1
    before:
      - { name: agree, approval: { need: 2, of: [dba], within: 15m } }
    items: [{ item: app1 }, { item: app2, critical: false }]
  - name: web
    items:
      - item: web
        after: [{ name: ask, manual: { instructions: "look at the page", of: [dba] } }]
failback: { order: [web, app, data] }
"#;

fn shop() -> Plan {
    Plan::from_yaml(SHOP).unwrap()
}

fn keys(stages: &[Stage]) -> Vec<String> {
    let of_unit = |unit: &Unit| unit.steps.iter().map(|step| step.key.clone()).collect::<Vec<_>>().join(" > ");
    let of_lane = |lane: &Lane| lane.units.iter().map(of_unit).collect::<Vec<_>>().join(" | ");
    stages.iter().map(|stage| stage.lanes.iter().map(of_lane).collect::<Vec<_>>().join(" || ")).collect()
}

#[test]
fn a_plan_reads_back_from_json_and_says_what_is_left_out() {
    let plan = shop();
    insta::assert_json_snapshot!(plan);
    assert_eq!(serde_json::from_value::<Plan>(serde_json::to_value(&plan).unwrap()).unwrap(), plan);
}

#[test]
fn a_plan_that_does_not_hold_together_is_refused_with_what_is_wrong() {
    let cases = [
        ("item: db1,", "item: db1, needs: [db2],", "items of group data wait for each other in a circle: db1 needs db2 needs db1"),
        ("[{ item: app1 }", "[{ item: db1 }", "item db1 is there twice (group data and group app)"),
        ("needs: [db1]", "needs: [web]", "item db2 of group data needs web, which is not in that group"),
        ("needs: [db1]", "need: [db1]", "line 13 column 22: unknown field `need`, expected one of item, needs"),
        ("needs: [db1]", "need: [db1]", "did you mean `needs`?"),
        ("to: b", "to: a", "from site a to itself"),
        ("rto-target: 15m", "point: '7'", "point 7 is one of one machine"),
        ("rto-target: 15m", "rto-target: 0s", "rto-target is 0s"),
        ("rto-target: 15m", "on-error: stopp", "did you mean `stop`?"),
        ("name: app\n", "name: data\n", "group data is there twice"),
        ("order: [web, app, data]", "order: [web, app]", "failback.order must name each group once: data is missing"),
        ("order: [web, app, data]", "order: [web, app, data, db]", "db is no group"),
        ("need: 2", "need: 3", "app/before/agree needs 3 people, but its roles have 2"),
        ("of: [dba], within", "of: [ops], within", "asks role ops, which is not among the plan's roles (dba)"),
        ("parallel: 1", "parallel: 0", "machines of group app started at once: 0"),
        ("name: ask, manual", "name: ask, command: { name: x }, manual", "action web/web/after/ask has 2 kinds"),
        ("{ name: agree, approval: { need: 2, of: [dba], within: 15m } }", "{ name: agree }", "action app/before/agree has 0 kinds"),
        ("items: [{ item: app1 }, { item: app2, critical: false }]", "items: []", "items of group app: 0; there may be 1 to 100"),
        ("version: 1", "version: 2", "format 2"),
    ];
    for (from, to, expected) in cases {
        let text = SHOP.replacen(from, to, 1);
        let refused = Plan::from_yaml(&text).map_or_else(|refused| refused.to_string(), |_| "nothing".to_owned());
        assert!(refused.contains(expected), "{to}: {refused}");
    }
}

#[test]
fn the_stages_of_each_work() {
    let plan = shop();
    let table: String = Work::ALL.iter().map(|work| format!("{work}\n  {}\n", keys(&plan.stages(*work)).join("\n  "))).collect();
    insta::assert_snapshot!(table);
}

#[test]
fn only_what_holds_everybody_up_is_critical() {
    let plan = shop();
    let slow = |step: &Step| match step.key.as_str() {
        "data/db2/prepare" => 40,
        "app/before/agree" => 5,
        key if key.ends_with("/start") => 10,
        key if key.ends_with("/prepare") => 20,
        _ => 1,
    };
    let forecast = forecast(&plan.stages(Work::Unplanned), slow);
    let critical: Vec<String> = forecast.steps.iter().filter(|timed| timed.critical).map(|timed| format!("{} {}-{}", timed.step.key, timed.begins_ms, timed.ends_ms)).collect();
    let expected = [
        "before/tell 0-1",
        "data/db2/prepare 1-41",
        "data/db1/start 41-51",
        "data/db2/start 51-61",
        "data/after/look 61-62",
        "app/before/agree 62-67",
        "app/app1/start 67-77",
        "app/app2/start 77-87",
        "web/web/start 87-97",
        "web/web/after/ask 97-98",
    ];
    assert_eq!(critical, expected);
    assert_eq!(forecast.total_ms, 98);
}

#[test]
fn a_machine_waits_for_room_and_for_those_it_needs() {
    let text = "version: 1\nname: x\nfrom: a\nto: b\ngroups: [{ name: g, parallel: 2, items: [{ item: i1 }, { item: i2 }, { item: i3, needs: [i1] }, { item: i4 }] }]\n";
    let plan = Plan::from_yaml(text).unwrap();
    let forecast = forecast(&plan.stages(Work::Test), |step| match (step.kind, step.key.contains("i2")) {
        (StepKind::Start, true) => 5,
        (StepKind::Start, false) => 10,
        (StepKind::Prepare | StepKind::Operate | StepKind::Action, _) => 0,
    });
    let laid: Vec<String> = forecast.steps.iter().filter(|timed| timed.step.kind == StepKind::Start).map(|timed| format!("{} {}-{}", timed.step.item.as_ref().unwrap(), timed.begins_ms, timed.ends_ms)).collect();
    assert_eq!(laid, ["i1 0-10", "i2 0-5", "i4 5-15", "i3 10-20"], "who needs nobody comes first");
}

#[test]
fn two_versions_differ_in_the_words_of_the_plan() {
    let before = shop();
    let after = Plan::from_yaml(&SHOP.replace(", needs: [db1]", "").replace("item: app2, critical: false", "item: app3").replace("15m\nroles", "20m\nroles")).unwrap();
    let said: Vec<String> = changes(&before, &after).into_iter().map(|change| {
        let word = |value: Option<serde_json::Value>| value.map_or_else(|| "-".to_owned(), |value| value.get("item").cloned().unwrap_or(value).to_string());
        format!("{}: {} -> {}", change.path, word(change.before), word(change.after))
    }).collect();
    let expected = [
        "groups.data.items.db2.needs: [\"db1\"] -> -",
        "groups.app.items.app2: \"app2\" -> -",
        "groups.app.items.app3: - -> \"app3\"",
        "rto-target: \"15m\" -> \"20m\"",
    ];
    assert_eq!(said, expected);
    assert_eq!(changes(&before, &before), []);
    let moved = Plan { groups: before.groups.iter().rev().cloned().collect(), ..before.clone() };
    assert_eq!(changes(&before, &moved).iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["groups.order"]);
}

#[test]
fn the_published_schema_of_plans() {
    insta::assert_json_snapshot!(schema());
}
