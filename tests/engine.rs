//! The engine's promises to a workflow's author, one program each, in virtual time.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use engine::{
    RunState, RunStore, StartRun,
    memory::MemoryRun,
    sim::{Chaos, Intervention, Moment, Simulation},
};
use sdk::{Command, EventBody, Message, RunId, Seq};
use serde_json::{Value, json};
use switchback_tests::{
    now, until_stored,
    programs::{World, stage},
};
use uuid::Uuid;

fn calm() -> (Simulation, World) {
    stage(3, Chaos::default())
}

fn start(sim: &Simulation, program: &str, number: u64) -> RunId {
    let run = RunId(Uuid::from_u64_pair(0x0190_0000_0000_7000 + number, 1));
    let start = Message::Start {
        workflow: program.into(),
        input: Value::Null,
        workflow_id: format!("{program}-{number}"),
        requested_by: "ada".into(),
        trace: None,
        parent: None,
    };
    until_stored(|| sim.store.start_run(StartRun { run, start: start.clone() }));
    run
}

fn run_of(sim: &Simulation, run: RunId) -> MemoryRun {
    sim.store.runs().into_iter().find(|(id, _)| *id == run).unwrap().1
}

fn finish(sim: &mut Simulation, run: RunId) -> MemoryRun {
    sim.run_until(500_000, |store| store.runs().iter().any(|(id, r)| *id == run && r.state != RunState::Open)).unwrap();
    run_of(sim, run)
}

fn output(sim: &Simulation, run: RunId) -> Value {
    match &sim.store.history(run).unwrap().events.last().unwrap().event.body {
        EventBody::Command(Command::RunCompleted { output }) => output.clone(),
        other => panic!("the run did not complete: {other:?}"),
    }
}

fn signal(key: &str, body: u32) -> Message {
    Message::Signal { name: "go".into(), key: key.into(), body: json!(body), by: "ada".into() }
}

fn commands(sim: &Simulation, run: RunId) -> Vec<Command> {
    let history = sim.store.history(run).unwrap();
    history.events.into_iter().filter_map(|e| if let EventBody::Command(c) = e.event.body { Some(c) } else { None }).collect()
}

/// Runs a program whose agent crashes at `moment` of its first attempt.
fn crashed_at(program: &str, moment: Moment) -> (Simulation, World, RunId) {
    let (mut sim, world) = calm();
    let first = std::sync::atomic::AtomicBool::new(true);
    sim.crash_switch().on_attempt(move |_, at| {
        if at == moment && first.swap(false, std::sync::atomic::Ordering::SeqCst) { Intervention::Crash } else { Intervention::None }
    });
    let run = start(&sim, program, 1);
    finish(&mut sim, run);
    (sim, world, run)
}

#[test]
fn an_at_most_once_effect_is_called_at_most_once_and_doubt_is_reported() {
    for moment in [Moment::Claimed, Moment::Performed] {
        let (sim, world, run) = crashed_at("one-ring", moment);
        let ended = run_of(&sim, run);
        assert_eq!((ended.state, ended.failure.unwrap().code.as_str()), (RunState::Failed, "outcome-unknown"), "{moment:?}");
        assert_eq!(world.calls().len(), usize::from(moment == Moment::Performed));
    }
    let (sim, world, run) = crashed_at("one-ring", Moment::Reported);
    assert_eq!((output(&sim, run), world.calls()), (json!("bell"), vec!["ring bell".to_owned()]));
}

#[test]
fn a_probeable_effect_in_doubt_is_adopted_or_done_as_the_world_says() {
    let (sim, world, run) = crashed_at("one-make", Moment::Claimed);
    assert_eq!((output(&sim, run), world.calls()), (json!("made disk"), vec!["make disk".to_owned()]));
    let (sim, world, run) = crashed_at("one-make", Moment::Performed);
    assert_eq!((output(&sim, run), world.calls()), (json!("found disk"), vec!["make disk".to_owned()]));
}

#[test]
fn a_fatal_error_is_not_retried_and_others_are_until_attempts_run_out() {
    let (mut sim, world) = calm();
    let run = start(&sim, "typed-errors", 1);
    finish(&mut sim, run);
    assert_eq!(output(&sim, run), json!(["app: it is broken", "exhausted after 4: broken", "exhausted after 4: panicked", "WELL"]));
    let counts: Vec<(String, usize)> = world.counts().into_iter().collect();
    let expected = [("set fatal", 1), ("set flaky", 4), ("set panics", 4), ("set well", 1)];
    assert_eq!(counts, expected.map(|(name, n)| (name.to_owned(), n)));
}

#[test]
fn a_signal_counts_once_for_its_key_and_a_wait_ends_with_its_time() {
    let (mut sim, _) = calm();
    let run = start(&sim, "waits-for-signals", 1);
    for message in [signal("1", 10), signal("1", 10), signal("2", 20)] {
        now(sim.store.send(run, message)).unwrap();
    }
    let at = sim.store.time();
    finish(&mut sim, run);
    assert_eq!(output(&sim, run), json!([10, 20, null]));
    assert!(sim.store.time() - at >= chrono::Duration::hours(1));
    assert_eq!(sim.store.leftovers(), 0);
}

#[test]
fn a_signal_sent_again_after_it_was_recorded_counts_no_second_time() {
    let (mut sim, _) = calm();
    let run = start(&sim, "waits-for-signals", 1);
    now(sim.store.send(run, signal("1", 10))).unwrap();
    sim.run_until(10_000, |store| store.history(run).is_ok_and(|h| h.events.len() > 2)).unwrap();
    now(sim.store.send(run, signal("1", 10))).unwrap();
    now(sim.store.send(run, signal("2", 20))).unwrap();
    finish(&mut sim, run);
    assert_eq!(output(&sim, run), json!([10, 20, null]));
}

#[test]
fn a_cancel_that_finds_a_wait_whose_time_is_up_ends_the_run() {
    let (mut sim, _) = calm();
    let run = start(&sim, "holds-a-signal", 1);
    sim.run_until(10_000, |store| store.history(run).is_ok_and(|h| h.events.len() == 6)).unwrap();
    now(sim.store.send(run, Message::Cancel { by: "ada".into(), reason: "enough".into() })).unwrap();
    assert_eq!(finish(&mut sim, run).state, RunState::Cancelled);
    assert_eq!(sim.store.leftovers(), 0);
}

#[test]
fn a_run_sleeps_for_thirty_days() {
    let (mut sim, _) = calm();
    let run = start(&sim, "sleeps", 1);
    finish(&mut sim, run);
    assert_eq!(output(&sim, run), json!(30));
}

#[test]
fn steps_are_undone_last_first_and_what_could_not_be_undone_is_said() {
    let (mut sim, world) = calm();
    let run = start(&sim, "undone-last-first", 1);
    let ended = finish(&mut sim, run);
    let calls = ["set a", "set sticky", "set b", "set fatal", "unset fatal", "unset b", "unset sticky", "unset a"];
    assert_eq!(world.calls(), calls);
    let failure = ended.failure.unwrap();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("broken", "it is broken; left behind: unset failed (it is broken)"));
    assert_eq!(failure.detail["left_behind"][0]["undo"], json!("unset"));
}

#[test]
fn a_cancelled_run_undoes_what_it_did() {
    let (mut sim, world) = calm();
    let run = start(&sim, "cancelled-in-the-middle", 1);
    sim.run_until(10_000, |store| store.history(run).is_ok_and(|h| h.events.len() > 3)).unwrap();
    now(sim.store.send(run, Message::Cancel { by: "ada".into(), reason: "enough".into() })).unwrap();
    assert_eq!(finish(&mut sim, run).state, RunState::Cancelled);
    assert_eq!(world.calls(), ["set a", "unset a"]);
    assert_eq!(sim.store.leftovers(), 0);
}

#[test]
fn a_cancel_after_the_point_of_no_return_is_refused_with_its_reason() {
    let (mut sim, _) = calm();
    let run = start(&sim, "past-the-line", 1);
    sim.run_until(10_000, |store| store.history(run).is_ok_and(|h| h.events.len() > 2)).unwrap();
    now(sim.store.send(run, Message::Cancel { by: "ada".into(), reason: "enough".into() })).unwrap();
    assert_eq!(finish(&mut sim, run).state, RunState::Completed);
    assert!(commands(&sim, run).contains(&Command::CancelRefused { reason: "the bell rings".into() }));
}

#[test]
fn results_of_a_join_stand_in_input_order() {
    let (mut sim, _) = calm();
    let run = start(&sim, "all-at-once", 1);
    finish(&mut sim, run);
    assert_eq!(output(&sim, run), json!(["C", "A", "B"]));
}

#[test]
fn a_lock_serves_runs_one_after_another_with_growing_epochs() {
    let (mut sim, _) = calm();
    let runs = [1, 2, 3].map(|number| start(&sim, "one-at-a-time", number));
    for run in runs {
        finish(&mut sim, run);
    }
    let mut epochs = runs.map(|run| output(&sim, run).as_i64().unwrap());
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3]);
}

#[test]
fn code_that_gives_other_commands_at_a_second_replay_is_set_aside_before_it_is_stored() {
    let (mut sim, world) = calm();
    let run = start(&sim, "rolls-dice", 1);
    let ended = finish(&mut sim, run);
    assert_eq!((ended.state, ended.failure.unwrap().code.as_str()), (RunState::Suspended, "not-deterministic"));
    assert_eq!(world.calls(), Vec::<String>::new());
    assert_eq!(sim.store.history(run).unwrap().events.len(), 0);
}

#[test]
fn code_that_reaches_for_a_runtime_is_set_aside() {
    let (mut sim, _) = calm();
    let run = start(&sim, "reaches-for-tokio", 1);
    let ended = finish(&mut sim, run);
    let failure = ended.failure.unwrap();
    assert_eq!((ended.state, failure.code.as_str()), (RunState::Suspended, "replay-differs"));
    assert!(failure.message.contains("panicked"), "{}", failure.message);
}

#[test]
fn an_unknown_workflow_and_a_tampered_history_are_set_aside_and_others_go_on() {
    let (mut sim, _) = calm();
    let unknown = start(&sim, "never-written", 1);
    assert_eq!(finish(&mut sim, unknown).failure.unwrap().message, "no workflow is called never-written");
    let tampered = start(&sim, "waits-for-signals", 2);
    sim.run_until(10_000, |store| store.history(tampered).is_ok_and(|h| h.events.len() > 1)).unwrap();
    sim.store.tamper(tampered, Seq(0));
    sim.everybody_restarts();
    let well = start(&sim, "all-at-once", 3);
    finish(&mut sim, well);
    now(sim.store.send(tampered, signal("1", 1))).unwrap();
    let ended = finish(&mut sim, tampered);
    assert_eq!((ended.state, ended.failure.unwrap().code.as_str()), (RunState::Suspended, "unreadable-history"));
}

#[test]
fn a_task_that_nobody_picks_up_times_out_in_its_queue() {
    let (mut sim, world) = calm();
    let run = start(&sim, "calls-nobody", 1);
    let ended = finish(&mut sim, run);
    assert_eq!(ended.failure.unwrap().message, "no result in time (Queue limit)");
    assert_eq!(world.calls(), Vec::<String>::new());
}

#[test]
fn random_chaos_changes_no_programs_outcome() {
    let programs = ["one-make", "waits-for-signals", "sleeps", "undone-last-first", "all-at-once"];
    let chaos = Chaos { crash_per_mille: 3, pause_per_mille: 2, lose_per_mille: 10, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None };
    for program in programs {
        let outcome = |seed, chaos| {
            let (mut sim, _) = stage(seed, chaos);
            let run = start(&sim, program, 1);
            let ended = finish(&mut sim, run);
            (ended.state, ended.failure.map(|f| f.code), sim.store.leftovers())
        };
        let calm = outcome(0, Chaos::default());
        for seed in 1..=40 {
            assert_eq!(outcome(seed, chaos), calm, "{program} seed {seed}");
        }
    }
}

/// The runs of a family, by what they are about.
fn states(sim: &Simulation) -> Vec<(String, RunState)> {
    let mut states: Vec<_> = sim.store.runs().into_iter().map(|(_, run)| (run.workflow_id, run.state)).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    states
}

fn child_of(sim: &Simulation, about: &str) -> RunId {
    sim.store.runs().into_iter().find(|(_, run)| run.workflow_id == about).unwrap().0
}

#[test]
fn a_child_is_carried_out_once_and_its_result_arrives_through_a_hundred_seeds_of_crashes() {
    switchback_tests::for_each(&(1..=100).collect::<Vec<u64>>(), |seed| {
        let (mut sim, world) = stage(seed, Chaos { crash_per_mille: 20, pause_per_mille: 5, lose_per_mille: 20, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None });
        let run = start(&sim, "one-child", 1);
        let ended = finish(&mut sim, run);
        assert_eq!(ended.state, RunState::Completed, "seed {seed}: {:?}", ended.failure);
        assert_eq!(output(&sim, run), json!(["C", "A", "B"]), "seed {seed}");
        assert_eq!(sim.store.runs().len(), 2, "seed {seed}");
        assert!(world.counts().len() == 3, "seed {seed}");
        assert_eq!(sim.store.leftovers(), 0, "seed {seed}");
    });
}

#[test]
fn who_cancels_a_parent_cancels_the_child_which_puts_everything_back_first() {
    let (mut sim, world) = calm();
    let run = start(&sim, "parent-of-a-stopped", 1);
    sim.run_until(100_000, |_| world.counts().contains_key("set a")).unwrap();
    until_stored(|| sim.store.send(run, Message::Cancel { by: "ada".into(), reason: "enough".into() }));
    assert_eq!(finish(&mut sim, run).state, RunState::Cancelled);
    assert_eq!(states(&sim), [("parent-of-a-stopped-1".to_owned(), RunState::Cancelled), ("the-child".to_owned(), RunState::Cancelled)]);
    assert_eq!(world.calls(), ["set a", "unset a"]);
}

#[test]
fn a_parent_may_stop_its_child_and_hears_how_it_ended() {
    let (mut sim, world) = calm();
    let run = start(&sim, "parent-that-stops", 1);
    assert_eq!(finish(&mut sim, run).state, RunState::Completed);
    assert_eq!((output(&sim, run), world.calls()), (json!("cancelled"), vec!["set a".to_owned(), "unset a".to_owned()]));
}

#[test]
fn the_close_policy_decides_which_children_end_with_their_parent() {
    let (mut sim, world) = calm();
    let run = start(&sim, "parent-that-ends", 1);
    finish(&mut sim, run);
    let (stopped, left) = (child_of(&sim, "stopped"), child_of(&sim, "left"));
    assert_eq!(finish(&mut sim, stopped).state, RunState::Cancelled);
    assert_eq!(finish(&mut sim, left).state, RunState::Completed);
    assert_eq!(output(&sim, run), json!([stopped, left]));
    assert!(world.calls().is_empty() || world.calls() == ["set a", "unset a"]);
    assert_eq!(sim.store.leftovers(), 0);
}

#[test]
fn a_second_child_about_the_same_is_refused_and_the_first_is_named() {
    let (mut sim, _) = calm();
    let run = start(&sim, "twins", 1);
    finish(&mut sim, run);
    assert_eq!(output(&sim, run), json!(true));
}

#[test]
fn a_quorum_counts_each_sender_once_and_one_that_is_against_ends_it() {
    let vote = |by: &str, key: &str, body: u32| Message::Signal { name: "go".into(), key: key.into(), body: json!(body), by: by.into() };
    let cases: [(&[Message], &str, usize); 4] = [
        (&[vote("ada", "1", 1), vote("ada", "2", 1), vote("bob", "3", 7), vote("bob", "4", 1)], "reached", 2),
        (&[vote("ada", "1", 1), vote("bob", "2", 0), vote("eve", "3", 1)], "refused", 2),
        (&[vote("ada", "1", 1), vote("ada", "2", 1)], "timed_out", 1),
        (&[], "timed_out", 0),
    ];
    for (number, (votes, decided, counted)) in (1..).zip(cases) {
        let (mut sim, _) = calm();
        let run = start(&sim, "asks-for-two", number);
        for vote in votes {
            until_stored(|| sim.store.send(run, vote.clone()));
        }
        finish(&mut sim, run);
        let quorum = output(&sim, run);
        assert_eq!((&quorum["decided"], quorum["votes"].as_array().unwrap().len()), (&json!(decided), counted), "{votes:?}");
        assert_eq!(sim.store.leftovers(), 0);
    }
}

#[test]
fn a_run_that_hands_over_is_followed_by_one_about_the_same() {
    let (mut sim, _) = calm();
    let first = start(&sim, "hands-over", 1);
    sim.run_until(100_000, |store| store.runs().iter().filter(|(_, run)| run.state == RunState::Completed).count() == 2).unwrap();
    let second = sim.store.runs().into_iter().find(|(id, _)| *id != first).unwrap();
    assert_eq!(second.1.workflow_id, "hands-over-1");
    assert_eq!((output(&sim, first), output(&sim, second.0)), (json!(false), json!(true)));
    assert_eq!(sim.store.leftovers(), 0);
}
