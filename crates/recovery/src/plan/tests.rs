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
        (StepKind::Prepare | StepKind::Operate | StepKind::Action | StepKind::Extra, _) => 0,
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

#[test]
fn a_work_has_one_word_in_paths_and_one_in_records_and_both_are_read_back() {
    let words: Vec<(&str, &str)> = Work::ALL.iter().map(|work| (work.as_str(), work.recorded())).collect();
    let serde: Vec<String> = Work::ALL.iter().map(|work| serde_json::to_value(work).unwrap().as_str().unwrap().to_owned()).collect();
    assert_eq!(words.iter().map(|(_, recorded)| *recorded).collect::<Vec<_>>(), serde, "histories have the word that serde writes");
    assert_eq!(
        words,
        [
            ("test-failover", "test"),
            ("planned-failover", "planned"),
            ("failover", "unplanned"),
            ("failback", "failback"),
            ("clean-test-failover", "clean-test"),
            ("commit", "commit"),
            ("undo", "undo"),
            ("reprotect", "reprotect"),
        ]
    );
    for work in Work::ALL {
        assert_eq!((work.as_str().parse(), work.recorded().parse(), Work::of_recorded(work.recorded())), (Ok(work), Ok(work), Some(work)));
    }
    let unknown = "destroy".parse::<Work>().unwrap_err().to_string();
    assert!(unknown.starts_with("\"destroy\" is nothing that is done with a plan; there are test-failover, planned"), "{unknown}");
}

#[test]
fn what_can_not_be_read_is_said_to_people_and_not_to_programmers() {
    let plan = "version: 1\nname: shop\nfrom: a\nto: b\ngroups: [{ name: web, items: [{ item: web }] }]\n";
    let said = |from: &str, to: &str| Plan::from_yaml(&plan.replace(from, to)).unwrap_err().to_string();
    let told = [
        said("name: shop", "name: null"),
        said("version: 1", "version: one"),
        said("to: b", "to: [b]"),
        said("[{ item: web }]", "web"),
        said("groups: [", "parallel: -1\ngroups: ["),
        said("version: 1", "- version: 1"),
        Plan::from_yaml(&format!("{plan}---\n{plan}")).unwrap_err().to_string(),
    ];
    assert_eq!(
        told,
        [
            "the plan can't be read: line 2 column 7: nothing stands here, and a text is needed",
            "the plan can't be read: line 1 column 10: a whole number is needed here",
            "the plan can't be read: line 4 column 5: a text is needed here",
            "the plan can't be read: line 5 column 30: a list is needed here",
            "the plan can't be read: line 5 column 11: a whole number is needed here",
            "the plan can't be read: line 1 column 1: keys with values are needed here",
            "the plan can't be read: line 7 column 1: another document begins here; a plan is one",
        ]
    );
}

#[test]
fn a_plan_that_can_not_be_read_says_where_and_a_tab_is_where_it_stands() {
    let plan = "version: 1\nname: shop\nfrom: a\nto: b\ngroups:\n  - name: web\n    items:\n      - item: web\n";
    let said = |from: &str, to: &str| Plan::from_yaml(&plan.replace(from, to)).unwrap_err().to_string();
    let tab = "a tab stands here; lines are indented by spaces";
    let told = [
        (said("version: 1", "\tversion: 1"), format!("line 1 column 1: {tab}")),
        (said("to: b", "\tto: b"), format!("line 4 column 1: {tab}")),
        (said("    items", "\titems"), format!("line 7 column 1: {tab}")),
        (said("      - item: web", "      - item: web\n    \t  budget: 3m"), format!("line 9 column 5: {tab}")),
        (said("version", "verson"), "line 1 column 1: unknown field `verson`".to_owned()),
        (said("      - item: web", "      - item: web\n        buget: 3m"), "line 9 column 9: unknown field `buget`".to_owned()),
        (said("version: 1", "version: one"), "line 1 column 10: a whole number is needed here".to_owned()),
        (said("      - item: web\n", "      - item: web\nparallel: many"), "line 9 column 11: a whole number is needed here".to_owned()),
    ];
    for (told, expected) in told {
        assert!(told.starts_with(&format!("the plan can't be read: {expected}")), "{told}");
    }
    let script = plan.replace("- item: web", "- item: web\n        before:\n          - name: x\n            manual:\n              instructions: |\n                \tlook\n");
    assert!(Plan::from_yaml(&script).is_ok(), "a tab in a text is none in an indentation: {script}");
}

#[test]
fn a_test_leaves_out_what_asks_people_and_what_touches_production_and_says_before_which_steps() {
    let left = |work: Work| {
        let one = |left: LeftOut| format!("{} before {}", left.step.key, left.before.unwrap_or_else(|| "nothing".to_owned()));
        shop().left_out(work).into_iter().map(one).collect::<Vec<_>>()
    };
    let expected = ["before/tell before data/db1/prepare", "data/after/look before app/app1/start", "app/before/agree before app/app1/start", "web/web/after/ask before nothing"];
    assert_eq!(left(Work::Test), expected);
    assert_eq!(left(Work::Unplanned), [""; 0]);
}

#[test]
fn a_plan_in_short_names_its_groups_its_machines_and_what_waits_for_people() {
    let outline = shop().outline();
    let groups: Vec<String> = outline.groups.iter().map(|group| format!("{} | {} | {} | {}", group.before.join(", "), group.name, group.items.join(", "), group.after.join(", "))).collect();
    let expected = [" | data | db1, db2 after db1 | look (check)", "agree (approval) | app | app1, app2 | ", " | web | web with ask (manual) | "];
    assert_eq!(groups, expected);
    assert_eq!((outline.before, outline.steps, outline.asks.as_deref()), (vec!["tell (http)".to_owned()], 14, Some("1 approval and 1 manual step")));
}

#[test]
fn rule_25_extra_processing_is_a_step_of_a_forecast_with_its_own_duration() {
    let plan = shop();
    let profiles = std::collections::BTreeMap::from([("db1".parse().unwrap(), crate::Profile::Physical), ("db2".parse().unwrap(), crate::Profile::Vmware)]);
    let extra = Extra::of(&plan, Work::Test, &profiles);
    let stages = |ended: &str| extra.put_into(plan.stages(Work::Test), |key| key == ended);
    let laid = forecast(&stages(""), |step| extra.longest_ms(step).unwrap_or(1_000));
    let shown: Vec<String> =
        laid.steps.iter().filter(|timed| timed.step.kind == StepKind::Extra).map(|timed| format!("{} {}-{} {}", timed.step.key, timed.begins_ms, timed.ends_ms, timed.step.does)).collect();
    let expected = [
        "data/db1/extra-processing 1000-601000 extra processing, 8m to 10m: it is a physical server",
        "data/db2/extra-processing 1000-601000 extra processing, up to 10m: nobody knows the version of the mobility service, nobody knows the operating system, \
         nobody knows whether DHCP is enabled, nobody knows the boot drivers",
    ];
    assert_eq!(shown, expected);
    let ran = |prepare: &str| if prepare == "data/db1/prepare" { 240_000 } else { 700_000 };
    let left: Vec<Option<u64>> = laid.steps.iter().filter(|timed| timed.step.kind == StepKind::Extra).map(|timed| extra.left_ms(&timed.step, ran)).collect();
    assert_eq!(left, [Some(360_000), Some(0)], "a preparation that runs has some of it behind it");
    let without = forecast(&plan.stages(Work::Test), |_| 1_000).total_ms;
    assert_eq!(laid.total_ms, without + 600_000, "both at the same time, and everybody waits for them");
    assert_eq!(keys(&stages("data/db1/prepare"))[0], "data/db1/prepare | data/db2/prepare > data/db2/extra-processing || app/app1/prepare | app/app2/prepare || web/web/prepare");
    assert_eq!(extra.told()[0], "db1: extra processing, 8m to 10m: it is a physical server");
    assert_eq!(Extra::of(&plan, Work::Failback, &profiles), Extra::default(), "at home it boots as it did");
    assert_eq!(Extra::of(&plan, Work::Commit, &profiles), Extra::default());
}
