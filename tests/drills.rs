//! Drills that are struck: a kill, a cancel or a failure for good at each step of a drill and of the runs that it starts. Whatever
//! happens, the copy goes, and a drill that passed has shown all that it claims.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use engine::{
    RunState,
    sim::{Intervention, Moment},
};
use recovery::TestFailover;
use sdk::{Failure, Message, RunId, Seq};
use switchback_tests::{POLLS, Scene, Work, for_each, site, until_stored};
use workflows::Drilled;

/// A step of a drill: its activity, and which one of that name.
type Step = (String, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash(Moment),
    Cancel,
    FailsForEver,
    FailsForEverAfterEffect,
}

const KILLS: [Fault; 3] = [Fault::Crash(Moment::Claimed), Fault::Crash(Moment::Performed), Fault::Crash(Moment::Reported)];

fn protected() -> Scene {
    Scene::ready_for(7, Work::Drill).unwrap()
}

/// What the drill has shown, if it has completed.
fn shown(scene: &Scene, run: RunId) -> Option<Drilled> {
    let history = scene.sim.store.history(run).unwrap();
    history.events.iter().find_map(|stored| match &stored.event.body {
        sdk::EventBody::Command(sdk::Command::RunCompleted { output }) => Some(serde_json::from_value(output.clone()).unwrap()),
        _ => None,
    })
}

fn drilled(scene: &mut Scene) -> Drilled {
    let (run, _) = scene.carry_out(Work::Drill).unwrap();
    shown(scene, run).unwrap_or_else(|| panic!("{:?}", scene.failure(run)))
}

fn copies(scene: &Scene) -> Vec<String> {
    let all = scene.inventories().into_values().flat_map(|inventory| inventory.objects);
    all.filter(|object| object.of_test).map(|object| object.name).collect()
}

/// Names each task by its activity and its turn among those of that name.
#[derive(Default)]
struct Steps(Mutex<Vec<(RunId, Seq, Step)>>);

impl Steps {
    fn name(&self, task: &engine::ClaimedTask) -> Step {
        let mut known = self.0.lock().unwrap();
        if let Some((_, _, step)) = known.iter().find(|(run, seq, _)| (*run, *seq) == (task.run, task.task.seq)) {
            return step.clone();
        }
        let before = known.iter().filter(|(_, _, (name, _))| *name == task.task.activity).count();
        known.push((task.run, task.task.seq, (task.task.activity.clone(), before)));
        (task.task.activity.clone(), before)
    }
}

/// All steps of a drill without faults.
fn steps() -> Vec<Step> {
    let mut scene = protected();
    let steps = Arc::new(Steps::default());
    let seen = steps.clone();
    scene.sim.crash_switch().on_attempt(move |task, _| {
        seen.name(task);
        Intervention::None
    });
    assert!(drilled(&mut scene).passed);
    let known = steps.0.lock().unwrap();
    known.iter().map(|(_, _, step)| step.clone()).collect()
}

fn struck(at: &Step, fault: Fault) -> (Scene, RunId) {
    let mut scene = protected();
    let run = scene.start(Work::Drill);
    let (steps, at, hit) = (Steps::default(), at.clone(), Arc::new(AtomicBool::new(false)));
    let (store, was_hit) = (scene.sim.store.clone(), hit.clone());
    scene.sim.crash_switch().on_attempt(move |task, moment| {
        if steps.name(task) != at {
            return Intervention::None;
        }
        let first = |hit: &AtomicBool| !hit.swap(true, Ordering::SeqCst);
        match (fault, moment) {
            (Fault::Crash(then), moment) if then == moment && first(&hit) => Intervention::Crash,
            (Fault::Cancel, Moment::Claimed) if first(&hit) => {
                let cancel = Message::Cancel { by: "ada".into(), reason: "changed my mind".into() };
                until_stored(|| engine::RunStore::send(&store, run, cancel.clone()));
                Intervention::None
            }
            (Fault::FailsForEver, Moment::Claimed) => {
                hit.store(true, Ordering::SeqCst);
                Intervention::Fail(Failure::fatal("broken", "it is broken").not_applied())
            }
            (Fault::FailsForEverAfterEffect, Moment::Performed) => {
                hit.store(true, Ordering::SeqCst);
                Intervention::Fail(Failure::fatal("broken", "it is broken"))
            }
            _ => Intervention::None,
        }
    });
    scene.finish(run).unwrap();
    assert!(was_hit.load(Ordering::SeqCst), "nothing was struck");
    let until = scene.sim.store.time() + std::time::Duration::from_secs(20);
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap();
    (scene, run)
}

#[test]
fn a_kill_at_any_step_changes_nothing_of_the_verdict() {
    let cases: Vec<(Step, Fault)> = steps().into_iter().flat_map(|step| KILLS.map(|fault| (step.clone(), fault))).collect();
    let names: BTreeSet<&str> = cases.iter().map(|((name, _), _)| name.as_str()).collect();
    let expected = ["check-test", "clean-test", "list-points", "load-item", "pin-point", "recover-test", "start-test", "take-inventory", "unpin-point"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    let cases: Vec<&(Step, Fault)> = cases.iter().collect();
    for_each(&cases, |(step, fault)| {
        let case = format!("{step:?} {fault:?}");
        let (scene, run) = struck(step, *fault);
        let shown = shown(&scene, run).unwrap_or_else(|| panic!("{case}: {:?}", scene.failure(run)));
        assert!(shown.passed, "{case}: {:?}", shown.why_not);
        assert_eq!(copies(&scene), Vec::<String>::new(), "{case}");
        scene.judged(&case);
    });
}

#[test]
fn a_drill_that_is_cancelled_at_any_step_leaves_no_copy() {
    let steps = steps();
    let steps: Vec<&Step> = steps.iter().collect();
    for_each(&steps, |step| {
        let (scene, run) = struck(step, Fault::Cancel);
        let ending = scene.ending(run);
        assert_eq!((ending.run, ending.code.as_deref()), (RunState::Cancelled, Some("cancelled")), "{step:?}");
        assert_eq!(copies(&scene), Vec::<String>::new(), "{step:?}");
        assert_eq!(scene.record().unwrap().state.test_failover, TestFailover::None, "{step:?}");
        scene.judged(&format!("{step:?}"));
    });
}

#[test]
fn a_drill_that_fails_at_any_step_has_not_passed_and_says_what_it_leaves() {
    let cases: Vec<(Step, Fault)> = steps().into_iter().flat_map(|step| [Fault::FailsForEver, Fault::FailsForEverAfterEffect].map(|fault| (step.clone(), fault))).collect();
    let cases: Vec<&(Step, Fault)> = cases.iter().collect();
    for_each(&cases, |(step, fault)| {
        let case = format!("{step:?} {fault:?}");
        let (scene, run) = struck(step, *fault);
        scene.judged(&case);
        let Some(shown) = shown(&scene, run) else {
            assert_eq!((step, copies(&scene)), (&("load-item".to_owned(), 0), vec![]), "{case}: only what comes before the drill has no verdict");
            return;
        };
        let left = copies(&scene);
        let mended = shown.passed && shown.clean_runs.len() > 1;
        assert!(!shown.passed || mended, "{case}: {shown:?}");
        assert_eq!(shown.passed, shown.why_not.is_empty(), "{case}");
        let told: Vec<String> = shown.left_behind.iter().flatten().map(|object| object.name.clone()).collect();
        if shown.left_behind.is_some() {
            assert_eq!(told, left, "{case}: what is left is what it says");
        }
        if !shown.cleaned {
            assert!(shown.why_not.iter().any(|why| why.contains("clean-up did not succeed")), "{case}: {:?}", shown.why_not);
        }
    });
}

#[test]
fn a_drill_says_what_it_saw() {
    let mut scene = protected();
    let shown = drilled(&mut scene);
    let tested = shown.tested.clone().unwrap();
    assert!(shown.passed && shown.cleaned && tested.serves, "{shown:?}");
    assert_eq!(shown.why_not, Vec::<String>::new());
    assert_eq!((shown.left_behind.clone(), shown.point), (Some(vec![]), Some(tested.point)));
    assert_eq!(tested.isolation, format!("network test-db9-{}: no uplink, no address, no port but the copy's own", generation(&tested.isolation)));
    let stages: Vec<&str> = shown.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["inventory before", "test failover", "clean-up", "inventory after"]);
    let stages: Vec<&str> = tested.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["choose the point", "make the copy", "prove the isolation and start", "check"]);
    assert!(shown.rto_actual_ms.is_some() && shown.rpo_actual_ms.is_some());
    assert_eq!(shown.note.as_deref(), Some("a rehearsal"));
}

fn generation(isolation: &str) -> String {
    isolation.trim_start_matches("network test-db9-").split(':').next().unwrap().to_owned()
}

#[test]
fn a_copy_that_does_not_serve_has_not_passed_and_goes_as_well() {
    let mut scene = protected();
    scene.world.refuse_service(&site("b"), "db9-test", true);
    let shown = drilled(&mut scene);
    assert_eq!((shown.passed, shown.cleaned, shown.left_behind.as_deref()), (false, true, Some([].as_slice())));
    assert!(shown.why_not.iter().any(|why| why.starts_with("the copy did not serve: ")), "{:?}", shown.why_not);
    assert_eq!(copies(&scene), Vec::<String>::new());
}

#[test]
fn a_network_that_reaches_something_ends_the_drill_before_the_copy_runs() {
    let mut scene = protected();
    scene.world.join_test_network(&site("b"), &switchback_tests::item(), true);
    let shown = drilled(&mut scene);
    assert!(!shown.passed && shown.tested.is_none(), "{shown:?}");
    assert!(shown.why_not[0].starts_with("the test failover failed: "), "{:?}", shown.why_not);
    assert_eq!(copies(&scene), Vec::<String>::new());
}

#[test]
fn a_copy_that_somebody_else_made_is_left_alone() {
    let mut scene = protected();
    scene.carry_out(Work::TestFailover).unwrap();
    let theirs = copies(&scene);
    assert!(!theirs.is_empty());
    let shown = drilled(&mut scene);
    assert!(!shown.passed && shown.clean_runs.is_empty(), "{shown:?}");
    assert!(shown.why_not[0].starts_with("the test failover failed: item db9 is protected and its test failover Ready"), "{:?}", shown.why_not);
    assert_eq!(copies(&scene), theirs);
}

#[test]
fn targets_that_are_missed_are_named() {
    let mut scene = protected();
    let mut input = switchback_tests::drill();
    (input.rto_target_ms, input.rpo_target_ms) = (Some(0), Some(0));
    let until = scene.sim.store.time() + std::time::Duration::from_secs(3);
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap();
    scene.sim.store.advance(std::time::Duration::from_secs(2));
    let run = scene.start_workflow("drill", serde_json::to_value(input).unwrap(), "drill:db9");
    scene.sim.crash_switch().on_attempt(|task, moment| {
        let slow = task.task.activity == "start-test" && moment == Moment::Claimed && task.token.attempt == 1;
        if slow { Intervention::Fail(Failure::retryable("slow", "not yet").not_applied()) } else { Intervention::None }
    });
    scene.finish(run).unwrap();
    let shown = shown(&scene, run).unwrap();
    assert!(!shown.passed && shown.cleaned, "{shown:?}");
    assert!(shown.why_not[0].contains("until it served; 0.0 s were allowed"), "{:?}", shown.why_not);
}

#[test]
fn an_item_that_nobody_protects_has_no_drill() {
    let mut scene = Scene::new(7, engine::sim::Chaos::default());
    let (run, _) = scene.carry_out(Work::Drill).unwrap();
    let ending = scene.ending(run);
    assert_eq!((ending.run, ending.code.as_deref()), (RunState::Failed, Some("no-such-item")));
}
