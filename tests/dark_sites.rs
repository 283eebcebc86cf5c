//! Sites that are dark while their agents are connected: the hypervisor answers nobody. What is given up ends in time, nothing stays fenced by
//! mistake, and nothing runs twice.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use chrono::TimeDelta;
use engine::{
    RunState,
    sim::{Intervention, Moment},
};
use provider::PowerState;
use recovery::{Fence, MainState, Operation, Rest, plan::Work as PlanWork};
use sdk::{Failure, Message, RunId};
use switchback_tests::{Ending, ITEM, Scene, Work, fleet::Fleet, site};
use workflows::{Acceptance, GiveBackInput, PlanOptions, item_workflow_id};

/// What a simulation of such a plan says: by then it has stopped. Lifting a fence that may be up adds no more than a second such time.
const BOUND: TimeDelta = TimeDelta::seconds(30);

const STILL_PROTECTED: MainState = MainState::Failed { of: Operation::Failover, before: Some(Rest::Protected) };
const MIDWAY: MainState = MainState::Failed { of: Operation::Failover, before: None };

/// Carries `work` out; how it ended, how long that took, and what it said.
fn carried_out(scene: &mut Scene, work: Work) -> (Ending, TimeDelta, String) {
    let began = scene.sim.store.time();
    let (run, _) = scene.carry_out(work).unwrap();
    (scene.ending(run), scene.sim.store.time() - began, scene.failure(run).unwrap_or_default())
}

fn judged(scene: &Scene, case: &str) {
    scene.never_ran_twice(case);
    assert_eq!(scene.world.ledger().applied_more_than_once(), vec![], "{case}");
    assert_eq!(scene.sim.store.leftovers(), 0, "{case}");
}

fn source(scene: &Scene) -> (PowerState, bool) {
    let machine = scene.world.machine(&site("a"), ITEM).unwrap();
    (machine.power, machine.autostart)
}

fn completed(item: MainState) -> Ending {
    Ending { run: RunState::Completed, code: None, item }
}

#[test]
fn a_fence_that_was_never_set_is_not_lifted_and_the_failover_is_repeated_unfenced() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.source_is_dark(true);
    let (ending, took, told) = carried_out(&mut scene, Work::Failover);
    assert_eq!(ending, Ending { run: RunState::Failed, code: Some("source-not-fenced".into()), item: STILL_PROTECTED });
    assert!(took < BOUND && !told.contains("left behind"), "{took}: {told}");
    assert_eq!(scene.record().unwrap().source_left, None);
    let (ending, took, told) = carried_out(&mut scene, Work::FailoverUnfenced);
    assert_eq!(ending, completed(MainState::CommitPending), "{told}");
    assert!(took < BOUND, "{took}");
    scene.source_is_dark(false);
    assert_eq!(scene.runs_at(), [site("b")], "what comes back is kept off: the item runs elsewhere");
    judged(&scene, "never set, repeated");
}

#[test]
fn a_source_that_comes_back_after_a_refused_failover_runs_and_is_replicated() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.source_is_dark(true);
    carried_out(&mut scene, Work::Failover);
    scene.source_is_dark(false);
    assert!(scene.replicates().unwrap());
    assert_eq!((scene.runs_at(), source(&scene)), (vec![site("a")], (PowerState::Running, true)));
    judged(&scene, "never set, back");
}

#[test]
fn a_fence_that_may_be_up_where_nobody_answers_is_left_in_time_and_lifted_when_the_site_answers() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let began = scene.sim.store.time();
    let run = scene.left_fenced().unwrap();
    let took = scene.sim.store.time() - began;
    assert_eq!(scene.ending(run), Ending { run: RunState::Failed, code: Some("source-not-fenced".into()), item: MIDWAY });
    let told = scene.failure(run).unwrap();
    assert!(took < BOUND * 2 && told.contains("left behind: put-source-back failed (it is not known whether machine db9 runs at site:a"), "{took}: {told}");
    let left = scene.record().unwrap().source_left.unwrap();
    assert_eq!(left.site, site("a"));

    let (ending, took, told) = carried_out(&mut scene, Work::GiveBack);
    assert_eq!((ending.run, ending.code.as_deref(), ending.item), (RunState::Failed, Some("site-not-reached"), MIDWAY));
    assert!(took < BOUND && told.contains("nothing has changed"), "{took}: {told}");

    scene.source_is_dark(false);
    assert_eq!((scene.runs_at(), source(&scene)), (vec![], (PowerState::Off, false)), "it is fenced, and the host does not start it");
    let (ending, _, told) = carried_out(&mut scene, Work::GiveBack);
    assert_eq!(ending, completed(MainState::Protected), "{told}");
    assert_eq!((scene.runs_at(), source(&scene)), (vec![site("a")], (PowerState::Running, true)));
    assert_eq!(scene.record().unwrap().source_left, None);
    assert!(scene.replicates().unwrap());
    let (ending, ..) = carried_out(&mut scene, Work::GiveBack);
    assert_eq!(ending.code.as_deref(), Some("not-allowed-in-this-state"));
    let (ending, ..) = carried_out(&mut scene, Work::Failover);
    assert_eq!(ending, completed(MainState::CommitPending));
    judged(&scene, "left and given back");
}

#[test]
fn a_failover_takes_over_a_fence_that_was_left_and_nobody_lifts_it_any_more() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.left_fenced().unwrap();
    let (ending, took, told) = carried_out(&mut scene, Work::Failover);
    assert_eq!((ending.run, ending.item), (RunState::Failed, MIDWAY), "refused once more, and the fence is still left: {told}");
    assert!(took < BOUND * 2 && scene.record().unwrap().source_left.is_some(), "{took}");
    let (ending, _, told) = carried_out(&mut scene, Work::FailoverUnfenced);
    assert_eq!(ending, completed(MainState::CommitPending), "{told}");
    assert_eq!(scene.record().unwrap().source_left, None);
    scene.source_is_dark(false);
    let (ending, ..) = carried_out(&mut scene, Work::GiveBack);
    assert_eq!(ending.code.as_deref(), Some("not-allowed-in-this-state"));
    assert_eq!(scene.runs_at(), [site("b")]);
    let (ending, _, told) = carried_out(&mut scene, Work::Commit);
    assert_eq!(ending, completed(MainState::Committed), "{told}");
    judged(&scene, "left and taken over");
}

#[test]
fn a_failover_over_a_left_fence_that_is_given_up_lifts_it_once_the_site_answers() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.left_fenced().unwrap();
    scene.source_is_dark(false);
    scene.sim.crash_switch().on_attempt(|task, moment| {
        let hit = moment == Moment::Claimed && task.task.activity == "recover-machine";
        if hit { Intervention::Fail(Failure::fatal("no-space", "the disk is full").not_applied()) } else { Intervention::None }
    });
    let (ending, ..) = carried_out(&mut scene, Work::FailoverUnfenced);
    assert_eq!((ending.run, ending.item), (RunState::Failed, STILL_PROTECTED));
    assert_eq!((scene.runs_at(), source(&scene)), (vec![site("a")], (PowerState::Running, true)));
    assert_eq!(scene.record().unwrap().source_left, None);
    assert!(scene.replicates().unwrap());
    judged(&scene, "left and lifted by the next");
}

#[test]
fn a_failover_that_was_accepted_unfenced_and_given_up_in_the_dark_lets_the_source_go_on_when_its_site_answers() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.source_is_dark(true);
    scene.sim.crash_switch().on_attempt(|task, moment| {
        let hit = moment == Moment::Claimed && task.task.activity == "recover-machine";
        if hit { Intervention::Fail(Failure::fatal("no-space", "the disk is full").not_applied()) } else { Intervention::None }
    });
    let (ending, took, told) = carried_out(&mut scene, Work::FailoverUnfenced);
    scene.sim.crash_switch().clear();
    assert_eq!((ending.run, ending.item), (RunState::Failed, MIDWAY));
    assert!(took < BOUND * 2 && told.contains("replication did not go on"), "{took}: {told}");
    scene.source_is_dark(false);
    scene.world.replicate_all();
    let (ending, _, told) = carried_out(&mut scene, Work::GiveBack);
    assert_eq!(ending, completed(MainState::Protected), "{told}");
    assert!(scene.replicates().unwrap());
    assert_eq!((scene.runs_at(), source(&scene)), (vec![site("a")], (PowerState::Running, true)));
    judged(&scene, "accepted, given up");
}

#[test]
fn an_undo_starts_a_source_that_was_left_and_says_so_while_nobody_answers() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.left_fenced().unwrap();
    let (ending, took, told) = carried_out(&mut scene, Work::Undo);
    assert_eq!((ending.code.as_deref(), ending.item), (Some("source-not-reached"), MIDWAY));
    assert!(took < BOUND && told.contains("nothing has changed"), "{took}: {told}");
    scene.source_is_dark(false);
    let (ending, _, told) = carried_out(&mut scene, Work::Undo);
    assert_eq!(ending, completed(MainState::Protected), "{told}");
    assert_eq!((scene.runs_at(), scene.record().unwrap().source_left), (vec![site("a")], None));
    judged(&scene, "left and undone");
}

#[test]
fn an_item_that_is_not_protected_any_more_does_not_keep_the_fence() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.left_fenced().unwrap();
    let (ending, _, told) = carried_out(&mut scene, Work::Unprotect);
    assert_eq!(ending, completed(MainState::Unprotected), "{told}");
    assert!(scene.record().unwrap().source_left.is_some());
    scene.source_is_dark(false);
    let (ending, _, told) = carried_out(&mut scene, Work::GiveBack);
    assert_eq!(ending, completed(MainState::Unprotected), "{told}");
    assert_eq!((scene.runs_at(), source(&scene)), (vec![site("a")], (PowerState::Running, true)));
    judged(&scene, "left and unprotected");
}

#[test]
fn a_cancel_ends_the_wait_for_a_site_that_does_not_answer_and_says_what_was_left() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let world = scene.world.clone();
    let waits = Arc::new(AtomicU32::new(0));
    let seen = waits.clone();
    scene.sim.crash_switch().on_attempt(move |task, moment| {
        match (task.task.activity.as_str(), moment) {
            ("fence-machine", Moment::Performed) => {
                world.set_down(&site("a"), true);
                return Intervention::Fail(Failure::retryable("answer-lost", "the line was cut"));
            }
            ("start-replication", Moment::Claimed) => drop(seen.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        Intervention::None
    });
    let run = scene.start(Work::Failover);
    scene.sim.run_until(switchback_tests::POLLS, |_| waits.load(Ordering::SeqCst) > 1).unwrap();
    let asked = scene.sim.store.time();
    scene.send(run, &Message::Cancel { by: "ada".into(), reason: "it takes too long".into() });
    scene.finish(run).unwrap();
    let (took, told) = (scene.sim.store.time() - asked, scene.failure(run).unwrap());
    assert!(took < TimeDelta::seconds(10), "{took}");
    assert!(told.contains("before the run was cancelled, and was not tried any longer"), "{told}");
    assert_eq!((scene.ending(run).item, scene.record().unwrap().source_left.is_some()), (MIDWAY, true));
    judged(&scene, "cancelled");
}

#[test]
fn a_planned_failover_from_a_dark_site_leaves_everything_as_it_was() {
    let mut scene = Scene::ready_for(7, Work::PlannedFailover).unwrap();
    scene.source_is_dark(true);
    let (ending, took, told) = carried_out(&mut scene, Work::PlannedFailover);
    let still = MainState::Failed { of: Operation::PlannedFailover, before: Some(Rest::Protected) };
    assert_eq!((ending.run, ending.code.as_deref(), ending.item), (RunState::Failed, Some("source-not-reached"), still));
    assert!(took < BOUND && told.contains("nothing has changed"), "{took}: {told}");
    scene.source_is_dark(false);
    assert!(scene.replicates().unwrap());
    judged(&scene, "planned");
}

const SHOP: &str = r#"version: 1
name: shop
from: a
to: b
groups:
  - name: data
    items: [{ item: db1 }, { item: db2, needs: [db1] }]
  - name: web
    items: [{ item: web }]
"#;

fn plan(fleet: &mut Fleet, accept: bool) -> (RunState, TimeDelta, serde_json::Value) {
    let accept_unfenced = accept.then(|| Acceptance { by: "ada".into(), reason: "the site burns".into() });
    let began = fleet.time();
    let run = fleet.start(PlanWork::Unplanned, PlanOptions { accept_unfenced, ..PlanOptions::default() });
    fleet.finish(run).unwrap();
    let (state, result) = fleet.result(run);
    (state, fleet.time() - began, result)
}

fn dark(fleet: &Fleet, dark: bool) {
    fleet.world.set_down(&site("a"), dark);
}

fn given_back(fleet: &mut Fleet, item: &str) -> RunState {
    let input = GiveBackInput { item: switchback_tests::item_named(item) };
    let run: RunId = fleet.begin("give-back", &input, &item_workflow_id(&input.item));
    fleet.finish(run).unwrap();
    fleet.result(run).0
}

#[test]
fn a_plan_from_a_dark_site_stops_as_its_simulation_says_and_is_repeated_unfenced() {
    let mut fleet = Fleet::protected(7, SHOP);
    dark(&fleet, true);
    let (state, took, result) = plan(&mut fleet, false);
    assert_eq!(state, RunState::Failed);
    assert!(took < BOUND && result["message"].as_str().unwrap().contains("could prove that the machine"), "{took}: {result}");
    assert!(fleet.states().values().all(|state| *state == STILL_PROTECTED || *state == MainState::Protected), "{:?}", fleet.states());
    let (state, took, result) = plan(&mut fleet, true);
    assert_eq!((state, &result["whole"]), (RunState::Completed, &true.into()), "{result}");
    assert!(took < BOUND, "{took}");
    dark(&fleet, false);
    assert!(fleet.powered_on().values().all(|on| on == &["b"]), "{:?}", fleet.powered_on());
    fleet.judged("a dark site");
}

#[test]
fn machines_of_a_plan_that_were_left_fenced_run_again_when_the_site_answers_or_are_taken_over() {
    for taken_over in [false, true] {
        let mut fleet = Fleet::protected(7, SHOP);
        let world = fleet.world.clone();
        let fenced = Arc::new(AtomicU32::new(0));
        fleet.sim.crash_switch().on_attempt(move |task, moment| {
            if task.task.activity != "fence-machine" || moment != Moment::Performed {
                return Intervention::None;
            }
            if fenced.fetch_add(1, Ordering::SeqCst) == 1 {
                world.set_down(&site("a"), true);
            }
            Intervention::Fail(Failure::retryable("answer-lost", "the line was cut"))
        });
        let (state, took, result) = plan(&mut fleet, false);
        fleet.sim.crash_switch().clear();
        assert_eq!(state, RunState::Failed);
        assert!(took < BOUND * 2, "{took}: {result}");
        let left: Vec<&str> = ["db1", "db2", "web"].into_iter().filter(|item| fleet.record(item).unwrap().source_left.is_some()).collect();
        assert!(left.len() >= 2 && fleet.states().values().all(|state| state.busy_with().is_none()), "{:?}", fleet.states());
        if taken_over {
            let (state, _, result) = plan(&mut fleet, true);
            assert_eq!((state, &result["whole"]), (RunState::Completed, &true.into()), "{result}");
            dark(&fleet, false);
            assert!(fleet.powered_on().values().all(|on| on == &["b"]), "{:?}", fleet.powered_on());
            assert!(fleet.states().keys().all(|item| matches!(fleet.record(item).unwrap().fence, Some(Fence::Unfenced { .. }))));
        } else {
            dark(&fleet, false);
            for item in left {
                assert_eq!(given_back(&mut fleet, item), RunState::Completed);
                assert_eq!((fleet.states()[item], fleet.record(item).unwrap().source_left), (MainState::Protected, None), "{item}");
            }
            fleet.world.replicate_all(); // whoever was never fenced starts with its host
            assert_eq!(fleet.powered_on().len(), 3);
            assert!(fleet.powered_on().values().all(|on| on == &["a"]), "{:?}", fleet.powered_on());
        }
        fleet.judged("left by a plan");
    }
}
