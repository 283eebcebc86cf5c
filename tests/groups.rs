//! Replication groups in the simulator: a change that fails or crashes anywhere, and plans that recover members at one moment.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use engine::{
    RunState,
    sim::{Chaos, Intervention, Moment},
};
use provider::Replication;
use recovery::{Group, PointChoice, PointId, plan::Work};
use sdk::{Failure, RunId};
use serde_json::Value;
use switchback_tests::{POLLS, fleet::Fleet, for_each, item_named, now, site};
use workflows::{ChangeGroupInput, PlanOptions, UnprotectInput, item_workflow_id};

const THREE: &str = r#"version: 1
name: shop
from: a
to: b
groups:
  - name: all
    items: [{ item: db1 }, { item: db2 }, { item: web }]
"#;
/// Calls to the source for the change of a group of three.
const TELLS: u32 = 3;

fn group(members: &[&str], interval_s: u32) -> Group {
    let members = members.iter().map(|item| item_named(item)).collect();
    Group::new("shop".parse().unwrap(), members, interval_s, 4, 3600).unwrap()
}

fn change(fleet: &mut Fleet, before: Option<Group>, after: Option<Group>) -> RunId {
    let input = ChangeGroupInput { group: "shop".parse().unwrap(), before, after, gone: None };
    fleet.begin("change-group", &input, "group:shop")
}

fn changed(fleet: &mut Fleet, before: Option<Group>, after: Option<Group>) -> (RunState, Value) {
    let run = change(fleet, before, after);
    fleet.finish(run).unwrap();
    fleet.result(run)
}

/// What each item's record and each source's loop know; these were recorded although their source did not answer.
fn known(fleet: &Fleet, untold: &Value) -> BTreeMap<&'static str, Option<Group>> {
    let of = |name: &'static str| {
        let status = now(fleet.world.site(&site("a")).replication_status(&item_named(name))).unwrap();
        let told = status.and_then(|status| status.group).map(|status| status.group);
        let recorded = fleet.record(name).unwrap().group;
        // The loop tells by what name it knows the group; whether all know it alike is seen by whether they meet.
        let excused = untold.as_array().is_some_and(|untold| untold.iter().any(|told| told[0] == name));
        assert!(excused || told.as_ref() == recorded.as_ref().map(Group::name), "{name}: it was told {told:?}, recorded is {recorded:?}");
        (name, recorded)
    };
    ["db1", "db2", "web"].map(of).into()
}

/// Whether the group's next moment comes about.
fn meets(fleet: &Fleet) -> Result<(), String> {
    fleet.world.take_moment(&"shop".parse().unwrap()).moment.map(drop)
}

#[test]
fn a_change_that_one_member_can_not_take_part_in_is_put_back_wherever_it_fails() {
    let cases: Vec<(u32, Moment, bool)> = (0..TELLS)
        .flat_map(|at| [Moment::Claimed, Moment::Performed].map(|moment| (at, moment)))
        .flat_map(|(at, moment)| [false, true].map(|before| (at, moment, before)))
        .collect();
    for_each(&cases, |(at, moment, grouped)| {
        let case = format!("tell {at}, {moment:?}, in a group before: {grouped}");
        let mut fleet = Fleet::protected(3, THREE);
        let before = grouped.then(|| group(&["db1", "db2", "web"], 30));
        if grouped {
            assert_eq!(changed(&mut fleet, None, before.clone()).0, RunState::Completed);
            meets(&fleet).unwrap();
        }
        let (known_before, seen) = (known(&fleet, &Value::Null), Arc::new(AtomicU32::new(0)));
        fleet.sim.crash_switch().on_attempt(move |task, now| {
            let tells = task.task.activity == "regroup-replication" && now == moment;
            let hit = tells && seen.fetch_add(1, Ordering::SeqCst) == at;
            if hit { Intervention::Fail(Failure::fatal("broken", "it is broken")) } else { Intervention::None }
        });
        let (ended, result) = changed(&mut fleet, before, Some(group(&["db1", "db2", "web"], 10)));
        assert_eq!(ended, RunState::Failed, "{case}: {result}");
        assert!(result["message"].as_str().unwrap().contains("it is broken (after 1 attempts); all items are as before"), "{case}: {result}");
        assert_eq!(known(&fleet, &Value::Null), known_before, "{case}");
        assert_eq!(meets(&fleet).is_ok(), grouped, "{case}");
        fleet.judged(&case);
        fleet.sim.crash_switch().clear();
        let (ended, result) = changed(&mut fleet, grouped.then(|| group(&["db1", "db2", "web"], 30)), Some(group(&["db1", "db2", "web"], 10)));
        assert_eq!(ended, RunState::Completed, "{case}, once more: {result}");
        meets(&fleet).unwrap();
    });
}

#[test]
fn groups_are_made_changed_and_removed_under_crashes_as_without() {
    let seeds: Vec<u64> = (0..30).collect();
    for_each(&seeds, |seed| {
        let mut fleet = Fleet::protected(seed, THREE);
        fleet.sim.chaos(Chaos { crash_per_mille: 15, pause_per_mille: 10, lose_per_mille: 20, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None });
        let (two, three) = (group(&["db1", "db2"], 30), group(&["db1", "db2", "web"], 30));
        for (before, after) in [(None, Some(&two)), (Some(&two), Some(&three)), (Some(&three), None)] {
            let (ended, result) = changed(&mut fleet, before.cloned(), after.cloned());
            assert_eq!(ended, RunState::Completed, "seed {seed}: {result}");
            let members: BTreeSet<&str> = known(&fleet, &result["untold"]).into_iter().filter(|(_, known)| known.as_ref() == after && after.is_some()).map(|(name, _)| name).collect();
            let wanted: BTreeSet<&str> = after.iter().flat_map(|group| group.members().iter().map(|item| item.as_str())).collect();
            assert_eq!(members, wanted, "seed {seed}");
            assert!(after.is_none() || meets(&fleet).is_ok(), "seed {seed}");
            fleet.judged(&format!("seed {seed}"));
        }
    });
}

#[test]
fn an_item_that_is_unprotected_leaves_and_the_others_go_on_even_if_their_source_is_gone() {
    for source_dies in [false, true] {
        let mut fleet = Fleet::protected(5, THREE);
        let three = group(&["db1", "db2", "web"], 30);
        assert_eq!(changed(&mut fleet, None, Some(three)).0, RunState::Completed);
        if source_dies {
            fleet.source_dies();
        }
        let web = item_named("web");
        let run = fleet.begin("unprotect", &UnprotectInput { item: web.clone() }, &item_workflow_id(&web));
        fleet.finish(run).unwrap();
        let (ended, result) = fleet.result(run);
        assert_eq!((ended, &result["left_group"]["group"]), (RunState::Completed, &Value::from("shop")), "{result}");
        let told: RunId = serde_json::from_value(result["left_group"]["told_by"].clone()).unwrap();
        let (ended, result) = fleet.result(told);
        assert_eq!(ended, RunState::Completed, "{result}");
        assert_eq!(result["untold"].as_array().map_or(0, Vec::len), if source_dies { 2 } else { 0 }, "{result}");
        let group_of = |name: &str| fleet.record(name).unwrap().group.map(|group| group.members().len());
        assert_eq!([group_of("db1"), group_of("db2"), group_of("web")], [Some(2), Some(2), None]);
        assert_eq!(meets(&fleet).is_ok(), !source_dies);
        fleet.judged("unprotect");
    }
}

/// The number of the point that each machine was recovered from.
fn chosen(fleet: &Fleet) -> BTreeMap<&'static str, PointId> {
    ["db1", "db2", "web"].map(|name| (name, fleet.record(name).unwrap().chosen.unwrap().point)).into()
}

/// The moment of a point at the target.
fn moment_of(fleet: &Fleet, name: &str, point: PointId) -> Option<String> {
    let replica = now(provider::ReplicaStore::replica(&fleet.world.site(&site("b")), &item_named(name))).unwrap();
    replica.points.into_iter().find(|of| of.id == point).unwrap().group.map(|at| at.moment)
}

/// Two that share moments and one that stands in another group of the plan; since the last moment each has had points of its own.
fn apart(policy: &str) -> (Fleet, String) {
    let plan = THREE.replace(", { item: web }]", "]\n  - name: front\n    items: [{ item: web }]").replace("groups:", &format!("{policy}\ngroups:"));
    let mut fleet = Fleet::protected(9, &plan);
    assert_eq!(changed(&mut fleet, None, Some(group(&["db1", "db2"], 10))).0, RunState::Completed);
    let until = fleet.time() + std::time::Duration::from_secs(60);
    fleet.sim.run_until(POLLS, |store| store.time() > until).unwrap();
    fleet.world.tear_next_append(&item_named("db2"));
    let torn = fleet.world.take_moment(&"shop".parse().unwrap()).moment.unwrap().moment;
    (fleet, torn)
}

fn at_one_moment() -> PlanOptions {
    PlanOptions { point: Some(PointChoice::LatestMultiVmProcessed), ..PlanOptions::default() }
}

/// Both databases come from one moment that is whole, the third machine from a point of its own.
fn judge_moment(fleet: &Fleet, torn: &str, case: &str) {
    let chosen = chosen(fleet);
    let (one, other) = (moment_of(fleet, "db1", chosen["db1"]), moment_of(fleet, "db2", chosen["db2"]));
    assert!(one.is_some() && one == other && one.as_deref() != Some(torn), "{case}: {one:?} {other:?}, torn {torn}");
    assert_eq!(moment_of(fleet, "web", chosen["web"]), None, "{case}");
    fleet.judged(case);
}

#[test]
fn a_plan_recovers_members_at_one_moment_and_others_at_their_own_last_point() {
    let mut fleet = Fleet::protected(9, THREE);
    assert_eq!(changed(&mut fleet, None, Some(group(&["db1", "db2"], 10))).0, RunState::Completed);
    let until = fleet.time() + std::time::Duration::from_secs(60);
    fleet.sim.run_until(POLLS, |store| store.time() > until).unwrap();
    // One of them has newer points of its own, and the last try at a moment reached one target alone.
    fleet.world.tear_next_append(&item_named("db2"));
    let torn = fleet.world.take_moment(&"shop".parse().unwrap()).moment.unwrap().moment;
    let run = fleet.start(Work::Unplanned, at_one_moment());
    fleet.finish(run).unwrap();
    let (ended, result) = fleet.result(run);
    assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{result}");
    judge_moment(&fleet, &torn, "plan");
}

#[test]
fn a_step_that_is_tried_again_leaves_the_machines_of_a_replication_group_at_one_moment() {
    for activity in ["seal-replica", "recover-machine", "start-machine"] {
        let (mut fleet, torn) = apart("on-error: ask");
        let failures = Arc::new(AtomicU32::new(0));
        let counted = failures.clone();
        fleet.sim.crash_switch().on_attempt(move |task, moment| {
            let hit = moment == Moment::Claimed && task.task.activity == activity && task.task.input["item"] == "db2";
            if hit && counted.fetch_add(1, Ordering::Relaxed) == 0 { Intervention::Fail(Failure::fatal("no-space", "the disk is full")) } else { Intervention::None }
        });
        let run = fleet.start(Work::Unplanned, at_one_moment());
        fleet.until_asked(run).unwrap();
        let asked = fleet.asked(run).pop().unwrap();
        assert!(asked.question.text.contains("the disk is full"), "{activity}: {asked:?}");
        fleet.answer(&asked, "ada", "retry");
        fleet.finish(run).unwrap();
        let (ended, result) = fleet.result(run);
        assert_eq!((ended, &result["whole"]), (RunState::Completed, &Value::from(true)), "{activity}: {result}");
        judge_moment(&fleet, &torn, activity);
    }
}

#[test]
fn a_machine_that_left_its_replication_group_is_recovered_from_its_own_last_point() {
    let (mut fleet, _) = apart("");
    let (before, after) = (group(&["db1", "db2"], 10), group(&["db1", "web"], 3600));
    assert_eq!(changed(&mut fleet, Some(before), Some(after)).0, RunState::Completed);
    fleet.world.take_moment(&"shop".parse().unwrap());
    let last = now(provider::ReplicaStore::replica(&fleet.world.site(&site("b")), &item_named("db2"))).unwrap().points.last().unwrap().id;
    let run = fleet.start(Work::Unplanned, at_one_moment());
    fleet.finish(run).unwrap();
    let (ended, result) = fleet.result(run);
    assert_eq!(ended, RunState::Completed, "{result}");
    assert_eq!(chosen(&fleet)["db2"], last);
    fleet.judged("left");
}
