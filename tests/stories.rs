//! Failure stories of the way there and back, each told once on simulated sites.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::time::Duration;

use engine::{RunState, sim::Chaos};
use provider::{Phase, PowerState, Replication};
use recovery::{MainState, Operation, Rest, TestFailover};
use switchback_tests::{Ending, ITEM, POLLS, Scene, Work, item, judge, now, site};

/// Carries `work` out to its good end.
fn done(scene: &mut Scene, work: Work) {
    let (run, _) = scene.carry_out(work).unwrap();
    let ending = scene.ending(run);
    assert_eq!((ending.run, ending.code), (RunState::Completed, None), "{work:?}: {:?}", scene.failure(run));
    judged(scene, &format!("{work:?}"));
}

/// Carries `work` out, and says how it ended.
fn failed(scene: &mut Scene, work: Work) -> (Ending, String) {
    let (run, _) = scene.carry_out(work).unwrap();
    let ending = scene.ending(run);
    assert_eq!(ending.run, RunState::Failed, "{work:?}");
    judged(scene, &format!("{work:?}"));
    (ending, scene.failure(run).unwrap())
}

/// A partition that somebody took upon themselves may let it run twice for a moment.
fn judged(scene: &Scene, case: &str) {
    assert_eq!(scene.world.ledger().applied_more_than_once(), vec![], "{case}");
    assert_eq!(scene.sim.store.leftovers(), 0, "{case}");
    scene.ledgers_are_whole(case);
}

fn wait(scene: &mut Scene, seconds: u64) {
    let until = scene.sim.store.time() + Duration::from_secs(seconds);
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap();
}

fn phase_at(scene: &Scene, at: &str) -> Phase {
    now(scene.world.site(&site(at)).replication_status(&item())).unwrap().unwrap().phase
}

fn still_protected(of: Operation) -> MainState {
    MainState::Failed { of, before: Some(Rest::Protected) }
}

#[test]
fn a_guest_that_ignores_shutdown_stops_a_planned_failover_and_goes_on_running() {
    let mut scene = Scene::ready_for(7, Work::PlannedFailover).unwrap();
    scene.world.ignore_shut_down(&site("a"), ITEM, true);
    let (ending, told) = failed(&mut scene, Work::PlannedFailover);
    assert_eq!((ending.code.as_deref(), ending.item), (Some("still-running"), still_protected(Operation::PlannedFailover)));
    assert!(told.contains("nothing has changed"), "{told}");
    assert_eq!(scene.runs_at(), [site("a")]);
    assert!(scene.world.machine(&site("a"), ITEM).unwrap().autostart);
    assert!(scene.replicates().unwrap());
    scene.never_ran_twice("a guest that ignores shutdown");
    scene.world.ignore_shut_down(&site("a"), ITEM, false);
    done(&mut scene, Work::PlannedFailover);
    scene.never_ran_twice("a guest that ignores shutdown no more");
}

#[test]
fn a_planned_failover_that_can_not_send_the_rest_gives_the_source_back() {
    let mut scene = Scene::ready_for(7, Work::PlannedFailover).unwrap();
    scene.world.cut_line(&site("a"), &site("b"), true);
    let (ending, _) = failed(&mut scene, Work::PlannedFailover);
    assert_eq!((ending.code.as_deref(), ending.item), (Some("unreachable"), still_protected(Operation::PlannedFailover)));
    assert_eq!(scene.runs_at(), [site("a")]);
    scene.world.cut_line(&site("a"), &site("b"), false);
    assert!(scene.replicates().unwrap());
    done(&mut scene, Work::PlannedFailover);
    done(&mut scene, Work::Commit);
    scene.never_ran_twice("a planned failover without a line");
}

#[test]
fn a_source_that_lives_on_unseen_is_quarantined_and_becomes_the_base() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let agent = scene.source_is_not_heard();
    done(&mut scene, Work::FailoverUnfenced);
    wait(&mut scene, 60);
    assert_eq!(phase_at(&scene, "a"), Phase::Quarantined);
    assert_eq!(scene.runs_at(), [site("b")]);
    let old = scene.world.machine(&site("a"), ITEM).unwrap();
    assert_eq!((old.power, old.autostart), (PowerState::Off, false));
    done(&mut scene, Work::Commit);
    scene.comes_back(agent);
    done(&mut scene, Work::Reprotect);
    let away = scene.ledgers();
    done(&mut scene, Work::Failback);
    judge::goes_on(&away[&site("b")], &scene.ledgers()[&site("a")]).unwrap();
    assert_eq!(scene.runs_at(), [site("a")]);
}

#[test]
fn a_site_that_comes_back_after_its_failover_starts_nothing() {
    let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
    done(&mut scene, Work::FailoverUnfenced);
    scene.world.set_down(&site("a"), false);
    wait(&mut scene, 60);
    assert_eq!((phase_at(&scene, "a"), scene.runs_at()), (Phase::Quarantined, vec![site("b")]));
    assert!(!scene.world.machine(&site("b"), ITEM).unwrap().autostart, "what is not accepted does not start with its host");
    done(&mut scene, Work::Commit);
    assert!(scene.world.machine(&site("b"), ITEM).unwrap().autostart, "what is accepted does, as its source did");
    scene.never_ran_twice("a site that comes back");
}

#[test]
fn an_undo_starts_a_source_that_was_quarantined_or_had_lost_its_power() {
    for comes_back_at_once in [true, false] {
        let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
        done(&mut scene, Work::FailoverUnfenced);
        scene.world.set_down(&site("a"), false);
        scene.comes_back(switchback_tests::Unheard);
        if comes_back_at_once {
            wait(&mut scene, 60);
            assert_eq!(phase_at(&scene, "a"), Phase::Quarantined);
        }
        done(&mut scene, Work::Undo);
        assert_eq!(scene.runs_at(), [site("a")], "heard of before the undo: {comes_back_at_once}");
        assert!(scene.replicates().unwrap());
    }
}

#[test]
fn a_site_that_comes_back_in_the_middle_of_a_failover_waits_for_its_end() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let source = item();
    let newer = recovery::Generation { era: 9, grant_epoch: 9 };
    let token = recovery::EffectToken { era: 9, grant_epoch: 9, seq: 1, run_epoch: 1, attempt: 1 };
    scene.world.set_down(&site("a"), true);
    let target = scene.world.site(&site("b"));
    let call = provider::Call::new(token, "a failover that has only sealed");
    now(provider::ReplicaStore::seal(&target, &call, &source, newer)).unwrap();
    scene.world.set_down(&site("a"), false);
    wait(&mut scene, 1_000);
    assert_eq!((phase_at(&scene, "a"), scene.runs_at()), (Phase::Superseded, vec![]));
}

#[test]
fn a_site_that_is_cut_off_after_a_power_failure_starts_its_machine_in_the_end() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.world.cut_line(&site("a"), &site("b"), true);
    scene.world.set_down(&site("a"), true);
    scene.world.set_down(&site("a"), false);
    wait(&mut scene, 60);
    assert_eq!(scene.runs_at(), [], "the target may know better");
    wait(&mut scene, provider::AUTOSTART_PATIENCE.as_secs());
    assert_eq!(scene.runs_at(), [site("a")]);
    scene.world.cut_line(&site("a"), &site("b"), false);
    assert!(scene.replicates().unwrap());
    judged(&scene, "a site that is cut off");
}

#[test]
fn an_item_that_failed_back_into_a_new_machine_goes_round_again() {
    let mut scene = Scene::ready_for(7, Work::ReprotectElsewhere).unwrap();
    let circle = [
        Work::ReprotectElsewhere,
        Work::Failback,
        Work::CommitHome,
        Work::ReprotectAgain,
        Work::PlannedFailover,
        Work::Commit,
        Work::Reprotect,
        Work::FailoverHome,
        Work::CommitHome,
        Work::Unprotect,
    ];
    for work in circle {
        done(&mut scene, work);
    }
    assert_eq!(scene.runs_at(), [site("a")]);
    scene.never_ran_twice("round again");
}

#[test]
fn a_third_turn_builds_on_the_disks_of_the_second() {
    let mut scene = Scene::new(7, Chaos::default());
    done(&mut scene, Work::Protect);
    for _ in 0..3 {
        for work in [Work::PlannedFailover, Work::Commit, Work::Reprotect, Work::Failback, Work::CommitHome, Work::ReprotectAgain] {
            let before = scene.ledgers();
            let from = scene.runs_at();
            done(&mut scene, work);
            if work.loses_nothing() {
                judge::goes_on(&before[&from[0]], &scene.ledgers()[&scene.runs_at()[0]]).unwrap();
            }
        }
    }
    scene.never_ran_twice("three turns");
}

#[test]
fn a_copy_on_a_network_that_is_not_isolated_is_never_started_and_leaves_nothing() {
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    let before = scene.lasting("b");
    scene.world.join_test_network(&site("b"), &item(), true);
    let (ending, told) = failed(&mut scene, Work::TestFailover);
    assert_eq!((ending.code.as_deref(), ending.item), (Some("not-isolated"), MainState::Protected), "{told}");
    assert_eq!(scene.record().unwrap().state.test_failover, TestFailover::None);
    assert_eq!(scene.lasting("b"), before);
    let of_copies = scene.world.network_log().into_iter().flat_map(|then| then.machines).any(|on| !on.production);
    assert!(!of_copies, "it was powered on");
    scene.world.join_test_network(&site("b"), &item(), false);
    done(&mut scene, Work::TestFailover);
}

#[test]
fn a_copy_that_does_not_serve_stays_to_be_looked_at_and_is_cleaned() {
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    let before = scene.lasting("b");
    scene.world.refuse_service(&site("b"), &format!("{ITEM}-test"), true);
    done(&mut scene, Work::TestFailover);
    let record = scene.record().unwrap();
    let copy = record.test_copy.unwrap();
    assert_eq!(record.state.test_failover, TestFailover::Ready);
    assert!(copy.evidence.iter().any(|line| line.contains("nothing answers")), "{copy:?}");
    assert_ne!(scene.lasting("b"), before);
    done(&mut scene, Work::CleanTest);
    assert_eq!(scene.lasting("b"), before);
    assert!(scene.replicates().unwrap());
}

#[test]
fn a_disaster_in_the_middle_of_a_test_is_failed_over_beside_the_copy() {
    let mut scene = Scene::ready_for(7, Work::CleanTest).unwrap();
    scene.source_dies();
    done(&mut scene, Work::FailoverUnfenced);
    done(&mut scene, Work::Commit);
    assert!(scene.lasting("b").iter().all(|(kind, _)| *kind != provider::ObjectKind::Network));
    scene.never_ran_twice("a disaster in a test");
}

#[test]
fn what_the_source_never_heard_of_is_not_lost_on_the_way_home() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.world.lose_next_acknowledgement(&item());
    assert!(scene.replicates().unwrap());
    scene.world.lose_next_acknowledgement(&item());
    for work in [Work::Failover, Work::Commit, Work::Reprotect, Work::Failback, Work::CommitHome] {
        done(&mut scene, work);
    }
    scene.never_ran_twice("a lost acknowledgement");
}

#[test]
fn a_machine_that_lost_power_before_its_commit_goes_home_all_the_same() {
    let mut scene = Scene::ready_for(7, Work::Commit).unwrap();
    scene.world.power_failure(&site("b"), ITEM);
    scene.world.power_on(&site("b"), ITEM);
    for work in [Work::Commit, Work::Reprotect, Work::Failback, Work::CommitHome, Work::ReprotectAgain] {
        done(&mut scene, work);
    }
    assert_eq!(scene.runs_at(), [site("a")]);
}

#[test]
fn an_item_whose_old_site_is_lost_for_good_is_unprotected_and_protected_anew() {
    let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
    done(&mut scene, Work::FailoverUnfenced);
    done(&mut scene, Work::Commit);
    let asked = scene.sim.store.time();
    done(&mut scene, Work::Unprotect);
    assert!(scene.sim.store.time() - asked < chrono::Duration::seconds(120), "nothing there is worth waiting for");
    assert_eq!(scene.record().unwrap().state.main, MainState::Unprotected);
    assert_eq!(scene.runs_at(), [site("b")]);
    let left: Vec<_> = scene.lasting("b").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(left, [provider::ObjectKind::MachineDisk, provider::ObjectKind::Machine]);
}

#[test]
fn a_target_that_is_away_for_a_while_is_waited_for_when_its_points_are_dropped() {
    let mut scene = Scene::ready_for(7, Work::Unprotect).unwrap();
    scene.world.set_down(&site("b"), true);
    let run = scene.start(Work::Unprotect);
    wait(&mut scene, 300);
    scene.world.set_down(&site("b"), false);
    scene.finish(run).unwrap();
    assert_eq!(scene.ending(run).item, MainState::Unprotected);
    assert_eq!(scene.lasting("b"), []);
}

/// Runs until a step of that name was scheduled.
fn until_step(scene: &mut Scene, run: sdk::RunId, step: &str) {
    for _ in 0..POLLS {
        if scene.steps(run).iter().any(|scheduled| scheduled.activity == step) {
            return;
        }
        let mut polls = 0;
        scene
            .sim
            .run_until(POLLS, |_| {
                polls += 1;
                polls > 1
            })
            .unwrap();
    }
    panic!("no step {step}");
}

fn cancel(scene: &Scene, run: sdk::RunId) {
    scene.send(run, &sdk::Message::Cancel { by: "ada".into(), reason: "enough".into() });
}

#[test]
fn a_full_failback_whose_target_was_lost_while_it_was_given_up_is_not_taken_up_beside_the_source() {
    for after in [Work::FullFailback, Work::Unprotect] {
        let mut scene = Scene::ready_for(7, Work::FullFailback).unwrap();
        let run = scene.start(Work::FullFailback);
        until_step(&mut scene, run, "recover-machine");
        cancel(&scene, run);
        until_step(&mut scene, run, "discard-machine");
        scene.source_dies();
        wait(&mut scene, 3 * 3_700);
        let still_committed = MainState::Failed { of: Operation::Failback, before: Some(Rest::Committed) };
        assert_eq!((scene.ending(run).item, scene.runs_at()), (still_committed, vec![site("b")]));
        scene.world.set_down(&site("a"), false);
        scene.comes_back(switchback_tests::Unheard);
        done(&mut scene, after);
        let runs_at = if after == Work::Unprotect { site("b") } else { site("a") };
        assert_eq!(scene.runs_at(), [runs_at]);
        scene.never_ran_twice("a full failback that was given up");
    }
}

#[test]
fn an_unprotect_lets_a_source_go_that_a_failover_could_not_give_back() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let run = scene.start(Work::Failover);
    until_step(&mut scene, run, "seal-replica");
    let agent = scene.source_is_not_heard();
    cancel(&scene, run);
    scene.finish(run).unwrap();
    assert_eq!(scene.ending(run).item, MainState::Failed { of: Operation::Failover, before: None });
    scene.comes_back(agent);
    assert_eq!(scene.runs_at(), []);
    done(&mut scene, Work::Unprotect);
    assert_eq!(scene.runs_at(), [site("a")]);
    assert!(scene.world.machine(&site("a"), ITEM).unwrap().autostart);
}

#[test]
fn a_site_that_is_lost_in_the_middle_of_a_reprotect_keeps_nobody_from_unprotecting() {
    let mut scene = Scene::ready_for(7, Work::Reprotect).unwrap();
    let run = scene.start(Work::Reprotect);
    until_step(&mut scene, run, "start-replication");
    scene.source_dies();
    cancel(&scene, run);
    wait(&mut scene, 3 * 3_700);
    assert_eq!(scene.ending(run).item, MainState::Failed { of: Operation::Reprotect, before: None });
    done(&mut scene, Work::Unprotect);
    assert_eq!((scene.ending(run).item, scene.runs_at()), (MainState::Unprotected, vec![site("b")]));
}
