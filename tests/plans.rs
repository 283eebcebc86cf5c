//! Plans on simulated sites: their order, what becomes of them when steps fail, and how they are gone on with.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use engine::{
    RunState,
    sim::{Chaos, Intervention, Moment},
};
use recovery::{
    MainState,
    plan::{StepState, Work},
};
use serde_json::{Value, json};
use switchback_tests::{fleet::Fleet, for_each};
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
    let (ended, result) = fleet.carry_out(Work::Test);
    assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{result}");
    assert!(fleet.states().values().all(|state| *state == MainState::Protected));
    let (ended, result) = fleet.carry_out(Work::CleanTest);
    assert_eq!(ended, RunState::Completed, "{result}");
    let of_tests = |fleet: &Fleet| fleet.inventories().into_values().flat_map(|site| site.objects).filter(|object| object.of_test).collect::<Vec<_>>();
    assert_eq!(of_tests(&fleet), []);
    fleet.judged("test");
}

/// Small, with everything that a plan can have.
const SMALL: &str = r#"version: 1
name: small
from: a
to: b
groups:
  - name: first
    before: [{ name: tell, on: [test, planned, unplanned, failback], http: { method: POST, url: "https://chat.example/hook", body: "{}" } }]
    items: [{ item: i1 }, { item: i2, needs: [i1] }]
  - name: second
    items: [{ item: i3, after: [{ name: promote, on: [test, planned, unplanned, failback], guest: { item: i3, program: /bin/promote } }] }]
"#;

fn small(change: impl Fn(String) -> String) -> Fleet {
    Fleet::protected(3, &change(SMALL.to_owned()))
}

/// A step of some run below a plan: what it is, where, about what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    activity: String,
    queue: String,
    about: String,
}

impl Place {
    fn of(task: &engine::TaskRow) -> Self {
        let about = task.input["item"].as_str().or(task.input["machine"].as_str()).or(task.input["context"]["step"].as_str());
        Self { activity: task.activity.clone(), queue: task.queue.to_string(), about: about.unwrap_or_default().to_owned() }
    }
}

/// Every step of this work, each once.
fn places(work: Work) -> BTreeSet<Place> {
    let mut fleet = ready_for(work);
    let seen: Arc<Mutex<BTreeSet<Place>>> = Arc::default();
    let noting = seen.clone();
    fleet.sim.crash_switch().on_attempt(move |task, _| {
        noting.lock().unwrap().insert(Place::of(&task.task));
        Intervention::None
    });
    let (ended, result) = fleet.carry_out(work);
    assert_eq!(ended, RunState::Completed, "{work}: {result}");
    seen.lock().unwrap().clone()
}

fn ready_for(work: Work) -> Fleet {
    let mut fleet = small(|plan| plan);
    let before: &[Work] = match work {
        Work::Test | Work::Planned | Work::Unplanned => &[],
        Work::CleanTest => &[Work::Test],
        Work::Commit | Work::Undo => &[Work::Planned],
        Work::Reprotect => &[Work::Planned, Work::Commit],
        Work::Failback => &[Work::Planned, Work::Commit, Work::Reprotect],
    };
    for earlier in before {
        let (ended, result) = fleet.carry_out(*earlier);
        assert_eq!(ended, RunState::Completed, "{earlier}: {result}");
    }
    fleet
}

#[test]
fn whatever_step_fails_for_ever_the_plan_ends_whole_or_put_back_and_is_gone_on_with() {
    let all: Vec<(Work, Place, Moment)> = Work::ALL
        .into_iter()
        .flat_map(|work| places(work).into_iter().flat_map(move |place| [Moment::Claimed, Moment::Performed].map(|moment| (work, place.clone(), moment))))
        .collect();
    assert!(all.len() > 150, "only {} cases", all.len());
    let cases: Vec<&(Work, Place, Moment)> = all.iter().collect();
    for_each(&cases, |(work, place, moment): &(Work, Place, Moment)| {
        let case = format!("{work}: {place:?} {moment:?}");
        let mut fleet = ready_for(*work);
        let (wanted, at) = (place.clone(), *moment);
        fleet.sim.crash_switch().on_attempt(move |task, moment| {
            let hit = moment == at && Place::of(&task.task) == wanted;
            if hit { Intervention::Fail(sdk::Failure::fatal("broken", "it is broken")) } else { Intervention::None }
        });
        let (_, result) = fleet.carry_out(*work);
        fleet.judged(&case);
        for (item, state) in fleet.states() {
            assert_eq!(state.busy_with(), None, "{case}: {item} is left {state}: {result}");
        }
        fleet.sim.crash_switch().clear();
        if *work == Work::Test {
            fleet.carry_out(Work::CleanTest); // copies that are there already would be left alone, and are not what was asked for
        }
        let (ended, result) = fleet.carry_out(*work);
        assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{case}, once more: {result} {:?}", fleet.states());
        fleet.judged(&case);
        let there = match work {
            Work::Test | Work::CleanTest | Work::Undo | Work::Reprotect => MainState::Protected,
            Work::Planned | Work::Unplanned | Work::Failback => MainState::CommitPending,
            Work::Commit => MainState::Committed,
        };
        assert!(fleet.states().values().all(|state| *state == there), "{case}, once more: {:?}", fleet.states());
    });
}

#[test]
fn a_plan_under_crashes_ends_as_one_without() {
    let seeds: Vec<u64> = (0..40).collect();
    for_each(&seeds, |seed| {
        // What may be done only once stops a plan whose agent dies over it, as it should; an agent that is away for a minute stops it if nobody said
        // that it is to be asked again.
        let repeatable = SMALL.replace("method: POST", "method: PUT").replace("program: /bin/promote", "program: /bin/promote, repeatable: true");
        let mut fleet = Fleet::protected(seed, &repeatable.replace("on: [", "retries: 3, on: ["));
        fleet.sim.chaos(Chaos { crash_per_mille: 15, pause_per_mille: 10, lose_per_mille: 20, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None });
        for (work, state) in [(Work::Unplanned, MainState::CommitPending), (Work::Commit, MainState::Committed)] {
            let run = fleet.start(work, PlanOptions { fence_timeout_ms: 3_600_000, ..PlanOptions::default() });
            fleet.finish(run).unwrap();
            let (ended, result) = fleet.result(run);
            assert_eq!(ended, RunState::Completed, "seed {seed} {work}: {result}");
            assert!(fleet.states().values().all(|found| *found == state), "seed {seed} {work}: {:?}", fleet.states());
            fleet.judged(&format!("seed {seed} {work}"));
        }
    });
}

#[test]
fn nobody_is_powered_on_before_all_are_prepared_and_a_plan_that_stops_there_is_put_back() {
    let mut fleet = small(|plan| plan);
    fleet.sim.crash_switch().on_attempt(|task, moment| {
        let hit = moment == Moment::Claimed && task.task.activity == "recover-machine" && task.task.input["item"] == "i3";
        if hit { Intervention::Fail(sdk::Failure::fatal("no-space", "the disk is full")) } else { Intervention::None }
    });
    let run = fleet.start(Work::Unplanned, PlanOptions::default());
    fleet.finish(run).unwrap();
    let (ended, result) = fleet.result(run);
    assert_eq!(ended, RunState::Failed);
    assert!(result["message"].as_str().unwrap().contains("second/i3/prepare: the disk is full"), "{result}");
    assert_eq!(result["ended"]["counts"], json!({ "done": 0, "failed": 1, "skipped": 0, "put_back": 2 }), "{}", timeline(&fleet, run));
    assert!(fleet.powered_on().values().all(|on| on == &["a"]), "{:?}", fleet.powered_on());
    assert_eq!(fleet.states()["i1"], MainState::Protected);
    fleet.judged("stopped");
}

#[test]
fn a_dead_site_stops_a_plan_unless_that_is_accepted() {
    let mut fleet = small(|plan| plan);
    fleet.source_dies();
    let (ended, result) = fleet.carry_out(Work::Unplanned);
    assert_eq!(ended, RunState::Failed, "{result}");
    assert!(result["message"].as_str().unwrap().contains("could prove that the machine"), "{result}");
    let accept_unfenced = Some(workflows::Acceptance { by: "ada".into(), reason: "the site burns".into() });
    let run = fleet.start(Work::Unplanned, PlanOptions { accept_unfenced, fence_timeout_ms: 5_000, ..PlanOptions::default() });
    fleet.finish(run).unwrap();
    let (ended, result) = fleet.result(run);
    assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{result}");
    assert!(fleet.states().values().all(|state| *state == MainState::CommitPending));
}

#[test]
fn a_machine_that_is_not_critical_holds_nobody() {
    let mut fleet = small(|plan| plan.replace("item: i1 }", "item: i1, critical: false }"));
    fleet.sim.crash_switch().on_attempt(|task, moment| {
        let hit = moment == Moment::Claimed && task.task.activity == "fence-machine" && task.task.input["item"] == "i1";
        if hit { Intervention::Fail(sdk::Failure::fatal("broken", "it does not stop")) } else { Intervention::None }
    });
    let (ended, result) = fleet.carry_out(Work::Unplanned);
    assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(false)), "{result}");
    assert_eq!(result["wrong"][0]["key"], "first/i1/prepare");
    let states = fleet.states();
    assert_eq!((states["i2"], states["i3"]), (MainState::CommitPending, MainState::CommitPending));
    assert_eq!(fleet.powered_on()["i1"], ["a"]);
}

#[test]
fn a_person_who_is_asked_about_a_failed_step_has_it_tried_again_left_out_or_the_plan_stopped() {
    for (choice, whole, state) in [("retry", Some(true), MainState::CommitPending), ("skip", Some(false), MainState::CommitPending), ("stop", None, MainState::Protected)] {
        let mut fleet = small(|plan| plan.replace("groups:", "on-error: ask\ngroups:"));
        fleet.sim.crash_switch().on_attempt(|task, moment| {
            let hit = moment == Moment::Claimed && task.task.activity == "recover-machine" && task.task.input["item"] == "i1";
            if hit { Intervention::Fail(sdk::Failure::fatal("no-space", "the disk is full")) } else { Intervention::None }
        });
        let run = fleet.start(Work::Unplanned, PlanOptions::default());
        fleet.until_asked(run).unwrap();
        let asked = fleet.asked(run).pop().unwrap();
        assert!(asked.question.text.contains("first/i1/prepare has failed") && asked.question.choices == ["retry", "skip", "stop"], "{asked:?}");
        fleet.sim.crash_switch().clear();
        fleet.answer(&asked, "ada", "maybe");
        fleet.answer(&asked, "ada", choice);
        fleet.finish(run).unwrap();
        let (ended, result) = fleet.result(run);
        assert_eq!((ended == RunState::Completed, result["whole"].as_bool()), (whole.is_some(), whole), "{choice}: {result}");
        assert_eq!(fleet.states()["i2"], state, "{choice}");
        fleet.judged(choice);
    }
}

#[test]
fn enough_people_of_a_role_must_agree_and_others_are_not_heard() {
    let with = |on_silence: &str| small(|plan| plan.replace(
        "groups:",
        &format!("roles: {{ dba: [ada, bob], boss: [eve] }}\nbefore: [{{ name: agree, approval: {{ need: 2, of: [dba], within: 15m, on-silence: {on_silence} }} }}]\ngroups:"),
    ));
    for (votes, completed) in [
        (vec![("ada", "approve"), ("bob", "approve")], true),
        (vec![("eve", "approve"), ("ada", "approve"), ("ada", "approve")], false),
        (vec![("eve", "deny"), ("bob", "approve"), ("ada", "approve")], true),
        (vec![("ada", "deny")], false),
    ] {
        let mut fleet = with("fail");
        let run = fleet.start(Work::Unplanned, PlanOptions::default());
        fleet.until_asked(run).unwrap();
        let asked = fleet.asked(run).pop().unwrap();
        votes.iter().for_each(|(by, choice)| fleet.answer(&asked, by, choice));
        fleet.finish(run).unwrap();
        assert_eq!(fleet.result(run).0 == RunState::Completed, completed, "{votes:?}: {}", timeline(&fleet, run));
    }
    let mut fleet = with("go-on");
    let began = fleet.time();
    let (ended, result) = fleet.carry_out(Work::Unplanned);
    assert_eq!(ended, RunState::Completed, "{result}");
    assert!(fleet.time() - began >= chrono::TimeDelta::minutes(15));
}

#[test]
fn copies_of_a_plan_are_cleaned_although_their_machines_were_failed_over_since() {
    let mut fleet = small(|plan| plan);
    for work in [Work::Test, Work::Unplanned, Work::CleanTest] {
        let (ended, result) = fleet.carry_out(work);
        assert_eq!((ended, &result["counts"]["skipped"]), (RunState::Completed, &json!(0)), "{work}: {result}");
    }
    let of_tests: Vec<_> = fleet.inventories().into_values().flat_map(|site| site.objects).filter(|object| object.of_test).collect();
    assert_eq!(of_tests, []);
    assert!(fleet.states().values().all(|state| *state == MainState::CommitPending), "{:?}", fleet.states());
    assert!(fleet.powered_on().values().all(|on| on == &["b"]), "{:?}", fleet.powered_on());
    fleet.judged("cleaned after a failover");
}

#[test]
fn a_plan_that_stopped_says_what_is_true_of_its_machines() {
    for (work, activity, expected) in [
        (Work::Unplanned, "recover-machine", "what had not been powered on was put back"),
        (Work::Test, "recover-test", "production was not touched"),
        (Work::CleanTest, "clean-test", "it removes what is left"),
        (Work::Commit, "flatten-machine", "machines that were committed stay so"),
        (Work::Undo, "discard-machine", "machines that were undone run where they ran before"),
        (Work::Reprotect, "prepare-replica", "it reprotects the others"),
    ] {
        let mut fleet = ready_for(work);
        fleet.sim.crash_switch().on_attempt(move |task, moment| {
            let hit = moment == Moment::Claimed && task.task.activity == activity && task.task.input["item"] == "i1";
            if hit { Intervention::Fail(sdk::Failure::fatal("broken", "it is broken").not_applied()) } else { Intervention::None }
        });
        let (ended, result) = fleet.carry_out(work);
        let told = result["message"].as_str().unwrap();
        assert!(ended == RunState::Failed && told.contains(expected), "{work}: {told}");
        assert_eq!(told.contains("powered on was put back"), work == Work::Unplanned, "{work}: {told}");
    }
}

#[test]
fn what_begins_by_itself_judges_the_failover_that_it_was_set_for_and_no_later_one() {
    let mut fleet = ready_for(Work::Undo);
    let earlier = ["i1", "i2", "i3"].map(|item| fleet.record(item).unwrap().requested.unwrap().at).into_iter().min().unwrap() - chrono::TimeDelta::milliseconds(1);
    let judged = |fleet: &mut Fleet, until| {
        let run = fleet.start(Work::Undo, PlanOptions { failed_over_until: Some(until), ..PlanOptions::default() });
        fleet.finish(run).unwrap();
        let (ended, result) = fleet.result(run);
        assert_eq!(ended, RunState::Completed, "{result}");
        (result["counts"]["done"].as_u64(), result["counts"]["skipped"].as_u64(), fleet.states()["i1"])
    };
    assert_eq!(judged(&mut fleet, earlier), (Some(0), Some(3), MainState::CommitPending));
    let now = fleet.time();
    assert_eq!(judged(&mut fleet, now), (Some(3), Some(0), MainState::Protected));
    fleet.judged("by itself");
}

#[test]
fn a_real_failover_ends_a_drill_that_has_one_of_its_machines() {
    let mut fleet = small(|plan| plan);
    let drill = workflows::DrillInput {
        item: switchback_tests::item_named("i1"),
        choice: recovery::PointChoice::LatestProcessed,
        checks: vec![],
        rto_target_ms: None,
        rpo_target_ms: None,
        note: None,
    };
    let about = workflows::drill_workflow_id(&drill.item);
    let begun = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = begun.clone();
    fleet.sim.crash_switch().on_attempt(move |task, _| {
        if task.task.activity == "check-test" {
            seen.store(true, std::sync::atomic::Ordering::SeqCst);
            return Intervention::Fail(sdk::Failure { retryable: true, ..sdk::Failure::fatal("not-yet", "it boots") }.not_applied());
        }
        Intervention::None
    });
    let drill = fleet.begin("drill", &drill, &about);
    fleet.until(|_| begun.load(std::sync::atomic::Ordering::SeqCst)).unwrap();
    let began = fleet.time();
    let run = fleet.start(Work::Unplanned, PlanOptions::default());
    fleet.finish(run).unwrap();
    let (ended, result) = fleet.result(run);
    assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{result}");
    assert!(result["rto_actual_ms"].as_u64().unwrap() < 60_000, "the drill held it for {}", fleet.time() - began);
    assert_eq!(fleet.result(drill).1["passed"], false);
    fleet.judged("pre-empted");
}

#[test]
fn a_run_of_a_plan_takes_little_more_than_its_own_steps() {
    let mut fleet = Fleet::protected(5, SHOP);
    let (ended, result) = fleet.carry_out(Work::Unplanned);
    assert_eq!(ended, RunState::Completed, "{result}");
    let (actual, path) = (result["rto_actual_ms"].as_u64().unwrap(), result["critical_path_ms"].as_u64().unwrap());
    assert!(path > 0 && actual >= path && actual * 10 <= path * 11 + 1_000, "{actual} ms, {path} ms of steps: {result}");
}

#[test]
fn each_machine_has_a_run_of_its_own_and_its_group_has_one_between() {
    let group = |name: &str, first: usize| {
        let items: Vec<String> = (first..first + 30).map(|item| format!("{{ item: m{item:02} }}")).collect();
        format!("  - {{ name: {name}, items: [{}] }}\n", items.join(", "))
    };
    let text = format!("version: 1\nname: large\nfrom: a\nto: b\nparallel: 100\ngroups:\n{}{}", group("first", 0), group("second", 30));
    let mut fleet = Fleet::protected(1, &text);
    let root = fleet.start(Work::Unplanned, PlanOptions::default());
    fleet.finish(root).unwrap();
    let (state, ended) = fleet.result(root);
    assert_eq!((state, &ended["whole"], &ended["counts"]["done"]), (RunState::Completed, &json!(true), &json!(120)), "{ended}");
    assert!(fleet.states().values().all(|state| *state == MainState::CommitPending));
    let runs: BTreeMap<_, _> = fleet.sim.store.runs().into_iter().collect();
    let mut children: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
    for run in runs.values().filter(|run| run.workflow != "protect") {
        let parent = run.parent.and_then(|(parent, _)| runs.get(&parent.run)).map(|parent| parent.workflow_id.clone());
        *children.entry((run.workflow.clone(), parent)).or_default() += 1;
    }
    let of = |workflow: &str, parent: Option<&str>, count| ((workflow.to_owned(), parent.map(str::to_owned)), count);
    let expected = [
        of("failover", Some("plan:large/first"), 30),
        of("failover", Some("plan:large/second"), 30),
        of("plan", None, 1),
        of("plan-group", Some("plan:large"), 2),
    ];
    assert_eq!(children, BTreeMap::from(expected));
    fleet.judged("large");
}
