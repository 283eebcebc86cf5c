//! Actions of plans that are struck: an agent that dies before, in and after each, and weather of all kinds. What may be done once is
//! never called twice, and what is not known to be done is told as such.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    RunState,
    sim::{Chaos, Intervention, Moment},
};
use provider::sim::{Entry, Moment as Call, Op, Verdict};
use recovery::plan::{
    Mode,
    action::{ActionContext, Performed},
};
use sdk::{Context, Failure, Message, RunId, Workflow};
use switchback_tests::{POLLS, Scene, Work, item, site};
use workflows::{ActionOrder, carry_out, declared::ActionResult};

/// An action as the only step of a run.
struct OneAction;

impl Workflow for OneAction {
    const NAME: &'static str = "one-action";
    type Input = ActionOrder;
    type Output = ActionResult;
    async fn run(ctx: Context, order: ActionOrder) -> Result<ActionResult, Failure> {
        carry_out(&ctx, &order, Duration::from_secs(60)).await
    }
}

fn order(yaml: &str, mode: Mode) -> ActionOrder {
    // JSON is what is kept of it.
    let action: Performed = serde_json::from_str(yaml).unwrap();
    let context = ActionContext {
        plan: "shop".parse().unwrap(),
        run: "r".to_owned(),
        mode,
        group: None,
        item: Some(item()),
        step: "tell".to_owned(),
        site: site("b"),
        attempt: 1,
    };
    ActionOrder { action, context, machine: None, meant_for_tests: false }
}

const POST: &str = r#"{"http":{"method":"POST","url":"http://lb/"}}"#;
const PUT: &str = r#"{"http":{"method":"PUT","url":"http://lb/"}}"#;
const SCRIPT: &str = r#"{"ssh":{"host":"10.0.0.1","user":"root","script":"x"}}"#;
const HARMLESS_SCRIPT: &str = r#"{"ssh":{"host":"10.0.0.1","user":"root","script":"x","repeatable":true}}"#;
const PROGRAM: &str = r#"{"guest":{"item":"db9","program":"/bin/x"}}"#;
const CHECK: &str = r#"{"check":{"check":"tcp:10.0.0.1:5432","within":"30s"}}"#;

fn scene(chaos: Chaos, seed: u64) -> Scene {
    knowing(Scene::new(seed, chaos))
}

/// With workers that know the run of one action, in the place of those that do not.
fn knowing(mut scene: Scene) -> Scene {
    for place in [3, 4] {
        scene.sim.remove(place);
        scene.sim.worker(workflows::registry().with::<OneAction>());
    }
    scene
}

fn start(scene: &mut Scene, order: &ActionOrder) -> RunId {
    scene.start_workflow(OneAction::NAME, serde_json::to_value(order).unwrap(), "one-action")
}

/// How the run ended, its failure, and how often the outside was called.
fn ended(scene: &Scene, run: RunId) -> (RunState, String, Entry) {
    let counts = scene.world.actions_done().into_iter().map(|(_, entry)| entry.counts).next().unwrap_or_default();
    (scene.ending(run).run, scene.failure(run).unwrap_or_default(), counts)
}

#[test]
fn an_agent_that_dies_leaves_what_may_be_done_once_unknown_and_does_the_rest_again() {
    for moment in [Moment::Claimed, Moment::Performed, Moment::Reported] {
        for (yaml, harmless) in [(POST, false), (SCRIPT, false), (PUT, true), (HARMLESS_SCRIPT, true)] {
            let mut scene = scene(Chaos::default(), 7);
            let struck = AtomicBool::new(false);
            scene.sim.crash_switch().on_attempt(move |task, at| {
                let ours = task.task.activity.starts_with("carry-out") && at == moment;
                if ours && !struck.swap(true, Ordering::SeqCst) { Intervention::Crash } else { Intervention::None }
            });
            let run = start(&mut scene, &order(yaml, Mode::Unplanned));
            scene.finish(run).unwrap();
            let (state, failure, counts) = ended(&scene, run);
            let done = harmless || moment == Moment::Reported;
            let told = failure.contains("whether it was done is unknown: look before it is done again");
            assert_eq!((state == RunState::Completed, told), (done, !done), "{yaml} {moment:?}: {failure}");
            assert!(counts.applied <= 1 && (harmless || counts.calls <= 1), "{yaml} {moment:?}: {counts:?}");
            assert_eq!(scene.world.actions_done_twice(), []);
        }
    }
}

#[test]
fn whatever_the_weather_what_may_be_done_once_is_called_once_at_most() {
    for seed in 0..150 {
        let chaos = Chaos { crash_per_mille: 3, pause_per_mille: 3, lose_per_mille: 5, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None };
        let mut scene = scene(chaos, seed);
        let yaml = [POST, SCRIPT, PUT][usize::try_from(seed % 3).unwrap()];
        let run = start(&mut scene, &order(yaml, Mode::Unplanned));
        scene.finish(run).unwrap();
        let (state, failure, counts) = ended(&scene, run);
        assert_eq!(scene.world.actions_done_twice(), [], "seed {seed}");
        match state {
            RunState::Completed => assert!(counts.applied == 1, "seed {seed}: {counts:?}"),
            _ => assert!(!failure.is_empty(), "seed {seed}"),
        }
    }
}

#[test]
fn what_certainly_did_nothing_is_tried_again_and_what_may_have_is_not() {
    for (yaml, moment, done, calls) in [(POST, Call::Before, true, 1), (POST, Call::After, false, 1), (PUT, Call::After, true, 2)] {
        let mut scene = scene(Chaos::default(), 7);
        let lost = || provider::ProviderError::Unreachable { site: "b".to_owned(), detail: "a cable".to_owned() };
        scene.world.plan_fault(&site("b"), Op::CarryOut, moment, Verdict::Fail(lost()), Some(1));
        let run = start(&mut scene, &order(yaml, Mode::Unplanned));
        scene.finish(run).unwrap();
        let (state, failure, counts) = ended(&scene, run);
        assert_eq!((state == RunState::Completed, counts.calls), (done, calls), "{yaml} {moment:?}: {failure}");
        assert_eq!(failure.contains("is unknown"), !done, "{failure}");
    }
}

#[test]
fn a_failure_is_told_with_the_step_and_is_not_repeated() {
    let mut scene = scene(Chaos::default(), 7);
    scene.world.fail_step("tell", None);
    let run = start(&mut scene, &order(PUT, Mode::Unplanned));
    scene.finish(run).unwrap();
    let (_, failure, counts) = ended(&scene, run);
    assert_eq!(failure, "action-failed: action tell (http: PUT http://lb/): PUT http://lb/: it is told to fail; look at what it was to do; then let the plan try it again, skip it, or stop");
    assert_eq!((counts.calls, counts.refused), (1, 1));
}

#[test]
fn a_site_that_is_away_is_told_as_such_and_nothing_was_done() {
    let mut scene = scene(Chaos::default(), 7);
    scene.sim.remove(1); // the agent of site b
    for yaml in [POST, CHECK] {
        let run = start(&mut scene, &order(yaml, Mode::Unplanned));
        scene.finish(run).unwrap();
        let (_, failure, counts) = ended(&scene, run);
        assert!(failure.contains("the agent of site b did not pick it up in time") && !failure.contains("unknown"), "{failure}");
        assert_eq!(counts, Entry::default());
    }
}

#[test]
fn in_a_test_what_stays_in_the_copy_is_done_there_and_the_rest_is_refused_unless_it_is_meant() {
    let mut scene = knowing(Scene::ready_for(7, Work::CleanTest).unwrap());
    let generation = scene.record().unwrap().test_copy.map(|copy| copy.generation);
    let mut told = vec![];
    for (yaml, machine, meant_for_tests) in
        [(POST, None, false), (POST, None, true), (SCRIPT, None, false), (SCRIPT, generation, false), (PROGRAM, generation, false), (CHECK, generation, false)]
    {
        let order = ActionOrder { machine, meant_for_tests, ..order(yaml, Mode::Test) };
        let run = start(&mut scene, &order);
        scene.finish(run).unwrap();
        told.push(scene.ending(run).code.unwrap_or_else(|| "done".to_owned()));
    }
    assert_eq!(told, ["not-confined", "done", "no-machine", "done", "done", "done"]);
    let kinds: Vec<String> = scene.world.actions_done().into_iter().map(|(key, _)| key.kind).collect();
    assert_eq!(kinds, ["guest", "http", "ssh"]);
}

#[test]
fn a_check_is_asked_until_it_holds_or_its_time_is_up() {
    let mut scene = knowing(Scene::ready_for(7, Work::Commit).unwrap());
    let generation = scene.record().unwrap().powered_on;
    scene.world.refuse_service(&site("b"), "db9", true);
    let in_guest = r#"{"check":{"check":"guest:true","within":"30s"}}"#;
    let waiting = ActionOrder { machine: generation, ..order(in_guest, Mode::Unplanned) };
    let run = start(&mut scene, &waiting);
    scene.finish(run).unwrap();
    assert_eq!(scene.failure(run).unwrap(), "timed-out: action tell (check: guest:true): it did not hold within 30s");
    let run = start(&mut scene, &waiting);
    let (world, until) = (scene.world.clone(), scene.sim.store.time() + Duration::from_secs(10));
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap();
    world.refuse_service(&site("b"), "db9", false);
    scene.finish(run).unwrap();
    assert_eq!(scene.ending(run).run, RunState::Completed);
}

#[test]
fn cancelling_awaits_what_was_begun() {
    let mut scene = scene(Chaos::default(), 7);
    let begun = Arc::new(AtomicBool::new(false));
    let seen = begun.clone();
    scene.sim.crash_switch().on_attempt(move |task, at| {
        if task.task.activity == "carry-out-once" && at == Moment::Claimed {
            seen.store(true, Ordering::SeqCst);
        }
        Intervention::None
    });
    let run = start(&mut scene, &order(POST, Mode::Unplanned));
    scene.sim.run_until(POLLS, |_| begun.load(Ordering::SeqCst)).unwrap();
    scene.send(run, &Message::Cancel { by: "ada".into(), reason: "a mistake".into() });
    scene.finish(run).unwrap();
    let (_, _, counts) = ended(&scene, run);
    assert_eq!(counts.calls, 1);
}
