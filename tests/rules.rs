//! The rules of recovery as the simulated product keeps them. What is a function of values is tested where it is, in `crates/recovery`; which
//! test stands for which rule is in `recovery_rules.md`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::time::Duration;

use engine::{RunState, sim::Chaos};
use provider::{PowerState, ReplicaStore};
use recovery::{
    Consistency, Fact, MainState, Operation, PointChoice, PointId, Profile, RecoveryPoint, Rest, TestFailover, allowed_operations, profile::stages,
};
use serde_json::Value;
use switchback_tests::{ITEM, POLLS, Scene, Work, item, judge, now, site};
use workflows::{
    Acceptance, ChangePointInput, CleanTestInput, Decision, FailoverInput, HoldInput, ItemChange, Part, PlannedInput, ProtectInput, ResolveInput,
    TestFailoverInput,
};

fn json(input: impl serde::Serialize) -> Value {
    serde_json::to_value(input).unwrap()
}

/// Carries `work` out to its good end.
fn done(scene: &mut Scene, work: Work) {
    let (run, _) = scene.carry_out(work).unwrap();
    let ending = scene.ending(run);
    assert_eq!((ending.run, ending.code), (RunState::Completed, None), "{work:?}: {:?}", scene.failure(run));
}

fn carried_out(scene: &mut Scene, workflow: &str, input: Value) -> sdk::RunId {
    let run = scene.start_workflow(workflow, input, &workflows::item_workflow_id(&item()));
    scene.finish(run).unwrap();
    run
}

/// Carries a workflow out to its good end.
fn completed(scene: &mut Scene, workflow: &str, input: Value) -> sdk::RunId {
    let run = carried_out(scene, workflow, input);
    assert_eq!(scene.ending(run).run, RunState::Completed, "{workflow}: {:?}", scene.failure(run));
    run
}

/// Carries a workflow out that is refused, and gives the code and the words.
fn refused(scene: &mut Scene, workflow: &str, input: Value) -> (String, String) {
    let run = carried_out(scene, workflow, input);
    assert_eq!(scene.ending(run).run, RunState::Failed, "{workflow}");
    (scene.ending(run).code.unwrap(), scene.failure(run).unwrap())
}

fn wait(scene: &mut Scene, time: Duration) {
    let until = scene.sim.store.time() + time;
    scene.sim.run_until(POLLS, |store| store.time() > until).unwrap();
}

/// So much time passes, in which nobody does anything.
fn passes(scene: &mut Scene, time: Duration) {
    scene.sim.store.advance(time);
    wait(scene, Duration::from_secs(60));
}

fn main_state(scene: &Scene) -> MainState {
    scene.record().unwrap().state.main
}

fn points(scene: &Scene, at: &str) -> Vec<PointId> {
    now(scene.world.site(&site(at)).replica(&item())).map_or_else(|_| vec![], |replica| replica.points.into_iter().map(|point| point.id).collect())
}

fn facts(scene: &Scene, run: sdk::RunId) -> Vec<Fact> {
    let recorded = scene.sim.store.history(run).unwrap().events.into_iter().filter_map(|stored| match stored.event.body {
        sdk::EventBody::Command(sdk::Command::Recorded { fact, .. }) => serde_json::from_value::<ItemChange>(fact).ok(),
        sdk::EventBody::Command(_) | sdk::EventBody::Inbound(_) => None,
    });
    recorded.map(|change| change.fact).collect()
}

fn failover(choice: PointChoice, shut_down_ms: Option<u64>) -> Value {
    json(FailoverInput { item: item(), choice, accept_unfenced: None, fence_timeout_ms: 10_000, shut_down_ms, part: Part::default() })
}

fn failback(choice: Option<PointChoice>, accept_loss: Option<Acceptance>) -> Value {
    json(PlannedInput { item: item(), shut_down_ms: 60_000, sync: recovery::Sync::BeforeFailover, choice, accept_loss, part: Part::default() })
}

fn ada(reason: &str) -> Acceptance {
    Acceptance { by: "ada".into(), reason: reason.into() }
}

#[test]
fn rule_3_and_rule_34_the_machine_at_home_is_off_while_it_is_reprotected() {
    let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
    done(&mut scene, Work::FailoverUnfenced);
    done(&mut scene, Work::Commit);
    scene.world.set_down(&site("a"), false);
    scene.comes_back(switchback_tests::Unheard);
    scene.world.power_on(&site("a"), ITEM);
    done(&mut scene, Work::Reprotect);
    assert_eq!(scene.runs_at(), [site("b")]);
    assert!(scene.world.machine(&site("a"), ITEM).is_none(), "it is the base, and nobody starts it");
}

#[test]
fn rule_7_and_rule_8_another_point_is_chosen_before_the_commit_and_none_after_it() {
    let mut scene = Scene::ready_for(7, Work::ChangePoint).unwrap();
    done(&mut scene, Work::ChangePoint);
    assert_eq!(main_state(&scene), MainState::CommitPending);
    done(&mut scene, Work::Commit);
    let input = json(ChangePointInput { item: item(), choice: PointChoice::LatestProcessed });
    assert_eq!(refused(&mut scene, "change-point", input).0, "not-allowed-in-this-state");
    assert_eq!(points(&scene, "b"), [], "rule 9");
}

#[test]
fn rule_10_another_point_is_refused_when_the_window_of_the_profile_has_closed() {
    for (profile, hours) in [(Profile::Hyperv, 24), (Profile::Kvm, 72)] {
        let mut scene = of_profile(profile);
        completed(&mut scene, "failover", failover(PointChoice::LatestProcessed, None));
        passes(&mut scene, Duration::from_secs((hours - 1) * 3_600));
        let input = json(ChangePointInput { item: item(), choice: PointChoice::LatestProcessed });
        completed(&mut scene, "change-point", input.clone());
        passes(&mut scene, Duration::from_secs(2 * 3_600));
        let (code, told) = refused(&mut scene, "change-point", input);
        assert_eq!((code.as_str(), main_state(&scene)), ("change-window-closed", MainState::CommitPending));
        assert!(told.contains(&format!("{hours} hours after its failover")), "{told}");
    }
}

/// A protected item that follows the rules of a profile.
fn of_profile(profile: Profile) -> Scene {
    let mut scene = Scene::new(7, Chaos::default());
    let input = ProtectInput {
        item: item(),
        machine: ITEM.into(),
        from: site("a"),
        to: site("b"),
        policy: recovery::ReplicationPolicy::new(3_600, 2, 86_400, None).unwrap(),
        checks: vec![],
        profile,
    };
    completed(&mut scene, "protect", json(input));
    scene
}

#[test]
fn rule_11_and_rule_38_the_commit_of_a_failback_removes_the_machine_from_the_recovery_site() {
    let mut scene = Scene::ready_for(7, Work::CommitHome).unwrap();
    assert!(scene.world.machine(&site("b"), ITEM).is_some_and(|machine| machine.power == PowerState::Off), "rule 38");
    done(&mut scene, Work::CommitHome);
    assert!(scene.world.machine(&site("b"), ITEM).is_none(), "rule 11");
    assert_eq!(scene.runs_at(), [site("a")]);
}

#[test]
fn rule_19_a_test_touches_neither_production_nor_replication() {
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    done(&mut scene, Work::TestFailover);
    assert_eq!((scene.runs_at(), main_state(&scene)), (vec![site("a")], MainState::Protected));
    assert!(scene.replicates().unwrap());
    done(&mut scene, Work::CleanTest);
    assert_eq!(scene.record().unwrap().state.test_failover, TestFailover::None);
}

#[test]
fn rule_20_a_planned_failover_does_not_run_unless_its_source_goes_down_and_under_vmware_there_is_none() {
    let mut scene = Scene::ready_for(7, Work::PlannedFailover).unwrap();
    scene.world.ignore_shut_down(&site("a"), ITEM, true);
    let (run, _) = scene.carry_out(Work::PlannedFailover).unwrap();
    assert_eq!((scene.ending(run).code.as_deref(), scene.runs_at()), (Some("still-running"), vec![site("a")]));
    let mut vmware = of_profile(Profile::Vmware);
    let input = json(PlannedInput { item: item(), shut_down_ms: 60_000, sync: recovery::Sync::BeforeFailover, choice: None, accept_loss: None, part: Part::default() });
    let (code, told) = refused(&mut vmware, "planned-failover", input);
    assert_eq!((code.as_str(), vmware.runs_at()), ("not-allowed-in-this-state", vec![site("a")]));
    assert!(told.contains("of profile vmware, which has no planned-failover there"), "{told}");
}

#[test]
fn rule_21_a_source_that_shuts_down_first_loses_nothing_and_one_that_does_not_stops_nobody() {
    for stays in [false, true] {
        let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
        scene.world.ignore_shut_down(&site("a"), ITEM, stays);
        let before = scene.ledgers().remove(&site("a")).unwrap();
        let run = completed(&mut scene, "failover", failover(PointChoice::Latest, Some(60_000)));
        assert_eq!((scene.runs_at(), main_state(&scene)), (vec![site("b")], MainState::CommitPending));
        let sent = facts(&scene, run).into_iter().find_map(|fact| if let Fact::SourceAsked { sent, .. } = fact { Some(sent) } else { None });
        assert_eq!(sent.unwrap().is_some(), !stays);
        if !stays {
            judge::goes_on(&before, &scene.ledgers()[&site("b")]).unwrap();
        }
        scene.never_ran_twice("a shutdown before a failover");
    }
}

#[test]
fn rule_22_a_dead_source_holds_a_failover_that_wished_its_shutdown_for_a_bounded_time() {
    let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
    let asked = scene.sim.store.time();
    let accept_unfenced = Some(ada("the site burns"));
    let input =
        FailoverInput { item: item(), choice: PointChoice::Latest, accept_unfenced, fence_timeout_ms: 10_000, shut_down_ms: Some(60_000), part: Part::default() };
    completed(&mut scene, "failover", json(input));
    assert_eq!(scene.runs_at(), [site("b")]);
    assert!(scene.sim.store.time() - asked < chrono::Duration::seconds(60));
}

#[test]
fn rule_26_latest_holds_what_was_written_until_the_source_was_asked() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let before = scene.ledgers().remove(&site("a")).unwrap();
    let run = completed(&mut scene, "failover", failover(PointChoice::Latest, None));
    judge::goes_on(&before, &scene.ledgers()[&site("b")]).unwrap();
    assert!(facts(&scene, run).iter().any(|fact| matches!(fact, Fact::SourceAsked { sent: Some(_), .. })));
}

#[test]
fn decision_c_what_was_asked_for_what_is_looked_for_and_what_was_taken_are_three_facts() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.world.ignore_shut_down(&site("a"), ITEM, true);
    let run = completed(&mut scene, "failover", failover(PointChoice::Latest, Some(60_000)));
    let told: Vec<String> = facts(&scene, run)
        .into_iter()
        .filter_map(|fact| match fact {
            Fact::PointRequested { requested } => Some(format!("requested {}, shutdown {}", requested.choice, requested.shut_down)),
            Fact::PointSettled { looked_for, why } => Some(format!("looked for {looked_for}: {why}")),
            Fact::PointChosen { chosen } => Some(format!("chosen for {}", chosen.requested)),
            _ => None,
        })
        .collect();
    let expected = [
        "requested latest, shutdown true",
        "looked for latest-processed: the last point that was received; the source could not be shut down and send the rest",
        "chosen for latest",
    ];
    assert_eq!(told, expected);
}

#[test]
fn rule_28_and_rule_31_a_point_that_is_not_there_is_refused_and_nothing_has_changed() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    for choice in [PointChoice::LatestAppConsistent, PointChoice::Exact(PointId(4_711)), PointChoice::LatestMultiVmProcessed] {
        let (code, _) = refused(&mut scene, "failover", failover(choice, None));
        let kept = MainState::Failed { of: Operation::Failover, before: Some(Rest::Protected) };
        assert_eq!((code.as_str(), main_state(&scene), scene.runs_at()), ("no-recovery-point", kept, vec![site("a")]), "{choice}");
    }
}

#[test]
fn rule_32_points_stay_at_the_site_that_received_them() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let input = ProtectInput {
        item: item(),
        machine: ITEM.into(),
        from: site("a"),
        to: site("c"),
        policy: recovery::ReplicationPolicy::default(),
        checks: vec![],
        profile: Profile::Kvm,
    };
    let (code, _) = refused(&mut scene, "protect", json(input));
    assert_eq!((code.as_str(), scene.record().unwrap().target_site().clone()), ("not-allowed-in-this-state", site("b")));
}

#[test]
fn rule_33_an_item_is_not_protected_from_its_failover_until_it_is_replicated_again() {
    let mut scene = Scene::new(7, Chaos::default());
    let mut seen = vec![];
    for work in [Work::Protect, Work::Failover, Work::Commit, Work::Reprotect] {
        done(&mut scene, work);
        seen.push(stages::is_protected(&scene.record().unwrap().state));
    }
    assert_eq!(seen, [true, false, false, true]);
}

#[test]
fn rule_35_a_failback_without_a_point_is_refused_before_anything_is_touched() {
    let mut scene = Scene::ready_for(7, Work::Failback).unwrap();
    let gone = provider::Call::new(recovery::EffectToken { era: 9, grant_epoch: 9, seq: 1, run_epoch: 1, attempt: 1 }, "somebody has withdrawn them");
    now(scene.world.site(&site("a")).withdraw_points(&gone, &item())).unwrap();
    let (code, told) = refused(&mut scene, "failback", failback(None, None));
    assert_eq!((code.as_str(), scene.runs_at()), ("no-recovery-point", vec![site("b")]), "{told}");
    assert!(told.contains("nothing has changed"), "{told}");
}

#[test]
fn rule_36_a_failback_from_the_latest_point_loses_nothing() {
    let mut scene = Scene::ready_for(7, Work::Failback).unwrap();
    let before = scene.ledgers().remove(&site("b")).unwrap();
    completed(&mut scene, "failback", failback(Some(PointChoice::Latest), None));
    judge::goes_on(&before, &scene.ledgers()[&site("a")]).unwrap();
}

#[test]
fn rule_37_an_older_point_goes_home_only_if_somebody_agrees_to_the_loss_which_can_be_taken_back() {
    let mut scene = Scene::ready_for(7, Work::Failback).unwrap();
    assert!(scene.replicates().unwrap());
    let oldest = PointChoice::Exact(points(&scene, "a")[0]);
    let (code, told) = refused(&mut scene, "failback", failback(Some(oldest), None));
    assert_eq!((code.as_str(), scene.runs_at()), ("loss-not-accepted", vec![site("b")]));
    assert!(told.contains("newer points and after them, would not be in it; nothing has changed"), "{told}");
    let before = scene.ledgers().remove(&site("b")).unwrap();
    let run = completed(&mut scene, "failback", failback(Some(oldest), Some(ada("it was clean then"))));
    assert!(facts(&scene, run).iter().any(|fact| matches!(fact, Fact::LossAccepted { by, .. } if by == "ada")));
    assert!(judge::goes_on(&before, &scene.ledgers()[&site("a")]).is_err(), "it is as it was");
    let last = json(ChangePointInput { item: item(), choice: PointChoice::LatestProcessed });
    completed(&mut scene, "change-point", last);
    judge::goes_on(&before, &scene.ledgers()[&site("a")]).unwrap();
}

#[test]
fn decision_a_a_copy_that_nobody_removes_goes_when_its_time_is_over() {
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    let input = TestFailoverInput { item: item(), choice: PointChoice::LatestProcessed, checks: vec![], ttl_ms: Some(3_600_000), part: Part::default() };
    completed(&mut scene, "test-failover", json(input));
    let expired = |scene: &Scene| scene.record().unwrap().copy_has_expired(scene.sim.store.time());
    wait(&mut scene, Duration::from_secs(3_000));
    assert!(!expired(&scene));
    wait(&mut scene, Duration::from_secs(1_000));
    assert!(expired(&scene));
    completed(&mut scene, "clean-test-failover", json(CleanTestInput { item: item() }));
    assert!(!expired(&scene) && scene.record().unwrap().test_copy.is_none());
}

#[test]
fn decision_a_a_copy_is_cleaned_whatever_has_become_of_its_item_since_and_nothing_else_goes_with_it() {
    let of_tests = |scene: &Scene| scene.inventories().into_values().flat_map(|site| site.objects).filter(|object| object.of_test).count();
    let after: &[(&[Work], MainState)] = &[
        (&[], MainState::Protected),
        (&[Work::Failover], MainState::CommitPending),
        (&[Work::Failover, Work::ChangePoint], MainState::CommitPending),
        (&[Work::Failover, Work::Undo], MainState::Protected),
        (&[Work::PlannedFailover], MainState::CommitPending),
    ];
    for (works, state) in after {
        let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
        assert!(scene.replicates().unwrap());
        done(&mut scene, Work::TestFailover);
        works.iter().for_each(|work| done(&mut scene, *work));
        let (runs_at, before) = (scene.runs_at(), scene.record().unwrap());
        assert!(of_tests(&scene) > 0 && before.test_copy.is_some());
        done(&mut scene, Work::CleanTest);
        let record = scene.record().unwrap();
        assert_eq!((of_tests(&scene), scene.runs_at(), record.state.main), (0, runs_at, *state), "{works:?}");
        assert_eq!((record.test_copy, record.chosen, record.powered_on), (None, before.chosen, before.powered_on), "{works:?}");
        scene.never_ran_twice("clean-up");
        if *state == MainState::CommitPending {
            done(&mut scene, Work::Commit);
        }
    }
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    done(&mut scene, Work::TestFailover);
    scene.left_fenced().unwrap();
    done(&mut scene, Work::CleanTest);
    let record = scene.record().unwrap();
    assert_eq!((record.state.main, of_tests(&scene)), (MainState::Failed { of: Operation::Failover, before: None }, 0));
    assert!(record.source_left.is_some());
}

#[test]
fn decision_a_a_copy_stays_two_weeks_if_nothing_else_is_said() {
    let mut scene = Scene::ready_for(7, Work::TestFailover).unwrap();
    let asked = scene.sim.store.time();
    done(&mut scene, Work::TestFailover);
    let expires_at = scene.record().unwrap().test_copy.unwrap().expires_at.unwrap();
    assert_eq!((expires_at - asked).num_days(), 14);
}

#[test]
fn decision_e_a_held_point_keeps_the_commit_until_it_is_released() {
    let mut scene = Scene::ready_for(7, Work::Commit).unwrap();
    let held = points(&scene, "b")[0];
    let hold = HoldInput { item: item(), point: held, by: "ada".into(), reason: "a court asks for it".into() };
    completed(&mut scene, "hold", json(hold));
    for workflow in ["commit", "unprotect"] {
        let (code, told) = refused(&mut scene, workflow, json(CleanTestInput { item: item() }));
        assert_eq!((code.as_str(), main_state(&scene)), ("not-allowed-in-this-state", MainState::CommitPending));
        assert!(told.contains("is held by ada") && told.contains("a court asks for it"), "{told}");
    }
    done(&mut scene, Work::Release);
    done(&mut scene, Work::Commit);
    assert_eq!(points(&scene, "b"), []);
}

#[test]
fn decision_e_a_held_point_outlives_the_retention() {
    let mut scene = Scene::ready_for(7, Work::Hold).unwrap();
    done(&mut scene, Work::Hold);
    let held = scene.record().unwrap().hold.unwrap().point;
    wait(&mut scene, Duration::from_secs(3_600));
    let kept = points(&scene, "b");
    assert!(kept.contains(&held) && kept.len() > 1, "{kept:?}");
}

#[test]
fn a_comparison_mends_what_nobody_had_noticed() {
    let mut scene = Scene::ready_for(7, Work::Resync).unwrap();
    let spoilt = ("vda".to_owned(), 60);
    scene.world.spoil_newest_point(&site("b"), &item(), "vda", 60, 4_711);
    assert!(scene.replicates().unwrap());
    assert_eq!(scene.world.newest_point(&site("b"), &item()).unwrap().get(&spoilt), Some(&4_711), "changes alone don't mend it");
    done(&mut scene, Work::Resync);
    assert_eq!(scene.world.newest_point(&site("b"), &item()).unwrap().get(&spoilt), None);
    assert_eq!(scene.record().unwrap().state.resync, recovery::Resync::None);
}

#[test]
fn another_policy_is_in_force_without_a_new_first_copy() {
    let mut scene = Scene::ready_for(7, Work::ChangePolicy).unwrap();
    let (before, generation) = (points(&scene, "b"), scene.record().unwrap().state.generation);
    done(&mut scene, Work::ChangePolicy);
    let record = scene.record().unwrap();
    let replica = now(scene.world.site(&site("b")).replica(&item())).unwrap();
    assert_eq!((record.policy.interval_s(), replica.policy.interval_s(), replica.generation), (7, 7, generation));
    assert!(scene.replicates().unwrap());
    assert!(before.iter().all(|point| points(&scene, "b").contains(point)), "points stay");
}

#[test]
fn what_runs_twice_is_settled_by_a_person_and_never_against_what_is_seen() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    done(&mut scene, Work::Failover);
    let fence = provider::Call::new(recovery::EffectToken { era: 9, grant_epoch: 9, seq: 1, run_epoch: 1, attempt: 1 }, "somebody lifts the fence");
    now(provider::Fence::start_source(&scene.world.site(&site("a")), &fence, &item(), ITEM)).unwrap();
    done(&mut scene, Work::Resolve);
    let record = scene.record().unwrap();
    assert_eq!((record.state.main, allowed_operations(&record.state, record.profile)), (MainState::Reconcile, vec![Operation::Resolve]));
    assert_eq!(record.contradiction.unwrap().why, ["machine db9 runs at both sites; the item is recorded to run at b alone"]);
    let decision = |rest| Some(Decision { rest, site: None, by: "ada".into(), reason: "b has the orders".into() });
    let (code, told) = refused(&mut scene, "resolve", json(ResolveInput { item: item(), decision: decision(Rest::CommitPending) }));
    assert_eq!((code.as_str(), main_state(&scene)), ("against-what-is-seen", MainState::Reconcile));
    assert!(told.contains("shut the machine at a down"), "{told}");
    scene.world.shut_down_from_within(&site("a"), ITEM);
    completed(&mut scene, "resolve", json(ResolveInput { item: item(), decision: decision(Rest::CommitPending) }));
    assert_eq!((main_state(&scene), scene.record().unwrap().contradiction), (MainState::CommitPending, None));
}

#[test]
fn a_contradiction_that_has_passed_is_settled_by_the_sites_themselves() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    done(&mut scene, Work::Failover);
    let fence = provider::Call::new(recovery::EffectToken { era: 9, grant_epoch: 9, seq: 1, run_epoch: 1, attempt: 1 }, "somebody lifts the fence");
    now(provider::Fence::start_source(&scene.world.site(&site("a")), &fence, &item(), ITEM)).unwrap();
    done(&mut scene, Work::Resolve);
    assert_eq!(main_state(&scene), MainState::Reconcile);
    scene.world.shut_down_from_within(&site("a"), ITEM);
    done(&mut scene, Work::Resolve);
    assert_eq!(main_state(&scene), MainState::CommitPending);
}

#[test]
fn a_site_that_does_not_answer_settles_nothing() {
    let mut scene = Scene::ready_for(7, Work::Resolve).unwrap();
    scene.source_dies();
    done(&mut scene, Work::Resolve);
    assert_eq!(main_state(&scene), MainState::Protected, "silence contradicts nothing");
}

/// Points are told apart by what they promise.
#[test]
fn rule_6_a_failover_brings_the_machine_up_from_the_chosen_point_and_waits_for_its_commit() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let offered: Vec<RecoveryPoint> = now(scene.world.site(&site("b")).replica(&item()))
        .unwrap()
        .points
        .into_iter()
        .map(|p| RecoveryPoint {
            id: p.id,
            consistency: p.consistency,
            taken_at: p.taken_at,
            generation: p.generation,
            size_bytes: p.bytes,
            group: None,
            pinned: false,
            withdrawn: false,
        })
        .collect();
    assert!(offered.iter().all(|point| point.consistency == Consistency::Crash));
    let first = offered[0].id;
    completed(&mut scene, "failover", failover(PointChoice::Exact(first), None));
    let record = scene.record().unwrap();
    assert_eq!((record.chosen.unwrap().point, record.state.main), (first, MainState::CommitPending));
    done(&mut scene, Work::Commit);
    assert_eq!(main_state(&scene), MainState::Committed);
}
