//! The kill matrix of what is done with several items at once, one line for each: plans in all their works, and changes of
//! replication groups. At every step of every run below it: the faults that pass, a cancel, an attempt that nobody answers for.
//! Failures for ever have their own in `plans.rs` and `groups.rs`, since what is put back differs; single items have `faults.rs`,
//! evaluations of alerts `triggers.rs`.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use engine::{
    RunState,
    sim::{Intervention, Moment},
};
use recovery::{Group, MainState, plan::Work};
use sdk::{ActivityOptions, RunId, Seq, TaskQueue};
use serde_json::Value;
use switchback_tests::{
    POLLS, Work as ItemWork,
    fleet::Fleet,
    for_each, item_named,
    strike::{Fault, gives_up, strike},
};
use workflows::{ChangeGroupInput, PlanOptions, UnprotectInput, item_workflow_id};

/// With everything that a plan can have; what is done outside may be done again.
const SMALL: &str = r#"version: 1
name: small
from: a
to: b
groups:
  - name: first
    before: [{ name: tell, retries: 3, on: [test, planned, unplanned, failback], http: { method: PUT, url: "https://chat.example/hook", body: "{}" } }]
    items: [{ item: i1 }, { item: i2, needs: [i1] }]
  - name: second
    items: [{ item: i3, after: [{ name: promote, retries: 3, on: [test, planned, unplanned, failback], guest: { item: i3, program: /bin/promote, repeatable: true } }] }]
"#;

/// What is done with several items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Plan(Work),
    MakeGroup,
    ChangeGroup,
    RemoveGroup,
    /// An item that is unprotected leaves its group, and the others are told.
    LeaveGroup,
}

/// One line for each.
const ALL: [What; 12] = [
    What::Plan(Work::Test),
    What::Plan(Work::CleanTest),
    What::Plan(Work::Planned),
    What::Plan(Work::Unplanned),
    What::Plan(Work::Failback),
    What::Plan(Work::Commit),
    What::Plan(Work::Undo),
    What::Plan(Work::Reprotect),
    What::MakeGroup,
    What::ChangeGroup,
    What::RemoveGroup,
    What::LeaveGroup,
];

/// A step of some run.
#[derive(Clone, Debug)]
struct Step {
    run: RunId,
    seq: Seq,
    activity: String,
    queue: TaskQueue,
    options: ActivityOptions,
    /// How many were before it that do the same for others.
    alike: usize,
}

impl Step {
    /// Of these faults, those that strike here.
    fn strikes(&self, all: impl Iterator<Item = Fault>) -> Vec<Fault> {
        let all: Vec<Fault> = all.collect();
        let one = self.alike.checked_sub(1).and_then(|place| all.get(place % all.len().max(1)).copied());
        one.map_or(all, |fault| vec![fault])
    }
}

/// How it ended, without its times.
#[derive(Clone, Debug, PartialEq)]
struct End {
    run: RunState,
    whole: Value,
    states: BTreeMap<String, MainState>,
    powered_on: BTreeMap<String, Vec<String>>,
    groups: BTreeMap<String, Option<Group>>,
}

impl What {
    fn ready(self) -> Fleet {
        let mut fleet = Fleet::protected(3, SMALL);
        let before: &[What] = match self {
            What::Plan(Work::Test | Work::Planned | Work::Unplanned) | What::MakeGroup => &[],
            What::Plan(Work::CleanTest) => &[What::Plan(Work::Test)],
            What::Plan(Work::Commit | Work::Undo) => &[What::Plan(Work::Planned)],
            What::Plan(Work::Reprotect) => &[What::Plan(Work::Planned), What::Plan(Work::Commit)],
            What::Plan(Work::Failback) => &[What::Plan(Work::Planned), What::Plan(Work::Commit), What::Plan(Work::Reprotect)],
            What::ChangeGroup | What::RemoveGroup | What::LeaveGroup => &[What::MakeGroup],
        };
        for earlier in before {
            let end = earlier.carry_out(&mut fleet);
            assert_eq!(end.run, RunState::Completed, "{earlier:?} before {self:?}");
        }
        fleet
    }

    fn start(self, fleet: &mut Fleet) -> RunId {
        let group = |fleet: &mut Fleet, after: Option<Group>| {
            let before = groups(fleet).into_values().flatten().next();
            fleet.begin("change-group", &ChangeGroupInput { group: "shop".parse().unwrap(), before, after, gone: None }, "group:shop")
        };
        match self {
            What::Plan(work) => fleet.start(work, PlanOptions::default()),
            What::MakeGroup => group(fleet, Some(shop(&["i1", "i2", "i3"], 30))),
            What::ChangeGroup => group(fleet, Some(shop(&["i1", "i2", "i3"], 10))),
            What::RemoveGroup => group(fleet, None),
            What::LeaveGroup => fleet.begin("unprotect", &UnprotectInput { item: item_named("i3") }, &item_workflow_id(&item_named("i3"))),
        }
    }

    fn carry_out(self, fleet: &mut Fleet) -> End {
        let run = self.start(fleet);
        self.finish(fleet, run)
    }

    fn finish(self, fleet: &mut Fleet, run: RunId) -> End {
        fleet.finish(run).unwrap_or_else(|stuck| panic!("{self:?}: {stuck}"));
        // An agent may hear that its report counts only after the run has ended.
        let until = fleet.time() + Duration::from_secs(20);
        fleet.sim.run_until(POLLS, |store| store.time() > until).unwrap();
        let (state, result) = fleet.result(run);
        End { run: state, whole: result["whole"].clone(), states: fleet.states(), powered_on: fleet.powered_on(), groups: groups(fleet) }
    }

    /// Whom a cancel is for: who was started by a person, except where that one has ended when the step begins.
    fn root(self, started: RunId) -> Option<RunId> {
        (self != What::LeaveGroup).then_some(started)
    }
}

fn shop(members: &[&str], interval_s: u32) -> Group {
    Group::new("shop".parse().unwrap(), members.iter().map(|item| item_named(item)).collect(), interval_s, 4, 3600).unwrap()
}

/// The group of each item, as its record has it.
fn groups(fleet: &Fleet) -> BTreeMap<String, Option<Group>> {
    ["i1", "i2", "i3"].map(|name| (name.to_owned(), fleet.record(name).and_then(|record| record.group))).into()
}

/// The end without faults, and every step of every run on the way.
fn clean(what: What) -> (End, Vec<Step>) {
    let mut fleet = what.ready();
    let seen: Arc<Mutex<BTreeMap<(RunId, Seq), Step>>> = Arc::default();
    let noting = seen.clone();
    fleet.sim.crash_switch().on_attempt(move |task, moment| {
        if moment == Moment::Claimed {
            let step = Step { run: task.run, seq: task.task.seq, activity: task.task.activity.clone(), queue: task.task.queue.clone(), options: task.task.options, alike: 0 };
            noting.lock().unwrap().insert((task.run, task.task.seq), step);
        }
        Intervention::None
    });
    let end = what.carry_out(&mut fleet);
    assert_eq!(end.run, RunState::Completed, "{what:?} without faults: {end:?}");
    fleet.judged(&format!("{what:?} without faults"));
    let mut alike: BTreeMap<(String, TaskQueue), usize> = BTreeMap::new();
    let number = |step: &Step| {
        let before = alike.entry((step.activity.clone(), step.queue.clone())).or_default();
        *before += 1;
        Step { alike: *before - 1, ..step.clone() }
    };
    let steps = seen.lock().unwrap().values().map(number).collect();
    (end, steps)
}

/// The fleet afterwards, and how it ended.
fn struck(what: What, step: &Step, fault: Fault) -> (Fleet, End) {
    let mut fleet = what.ready();
    let run = what.start(&mut fleet);
    let (of, seq) = (step.run, step.seq);
    let hits = strike(&fleet.sim.crash_switch(), &fleet.sim.store, what.root(run), fault, move |task| task.run == of && task.task.seq == seq);
    let end = what.finish(&mut fleet, run);
    fleet.sim.crash_switch().clear();
    assert!(hits.load(Ordering::SeqCst) > 0, "{what:?} {step:?} {fault:?}: nothing was struck");
    (fleet, end)
}

/// Every step of all lines.
fn cases() -> Vec<(What, End, Step)> {
    let cleaned = Mutex::new(vec![]);
    for_each(&ALL, |what| {
        let (end, steps) = clean(what);
        cleaned.lock().unwrap().extend(steps.into_iter().map(|step| (what, end.clone(), step)));
    });
    cleaned.into_inner().unwrap()
}

#[test]
fn a_fault_that_passes_at_any_step_of_what_is_done_with_several_items_changes_nothing() {
    let cases = cases();
    assert!(cases.len() > 200, "only {} steps", cases.len());
    for_each(&cases.iter().collect::<Vec<_>>(), |(what, clean, step)| {
        for fault in step.strikes(Fault::passing(step.options)) {
            let case = format!("{what:?}: {} {fault:?}", step.activity);
            let (fleet, end) = struck(*what, step, fault);
            assert_eq!(end, *clean, "{case}");
            fleet.judged(&case);
        }
    });
}

#[test]
fn what_is_done_with_several_items_can_be_cancelled_or_fall_silent_at_any_step_and_is_done_once_more() {
    let cases = cases();
    for_each(&cases.iter().collect::<Vec<_>>(), |(what, clean, step)| {
        let for_good = [Fault::CancelHere, Fault::TimesOutForEver].into_iter().filter(|fault| *fault == Fault::CancelHere || gives_up(&step.options));
        for fault in step.strikes(for_good) {
            let case = format!("{what:?}: {} {fault:?}", step.activity);
            let (mut fleet, end) = struck(*what, step, fault);
            fleet.judged(&case);
            for (item, state) in &end.states {
                assert_eq!(state.busy_with(), None, "{case}: {item} is left {state}");
            }
            let known: BTreeSet<_> = end.groups.values().flatten().map(|group| group.interval_s()).collect();
            assert!(known.len() < 2, "{case}: some know the group as before and some as after: {:?}", end.groups);
            if end.run == RunState::Completed {
                continue;
            }
            if *what == What::Plan(Work::Test) {
                What::Plan(Work::CleanTest).carry_out(&mut fleet); // copies that are there already would be left alone
            }
            let again = what.carry_out(&mut fleet);
            assert_eq!((&again.run, &again.states, &again.powered_on, &again.groups), (&RunState::Completed, &clean.states, &clean.powered_on, &clean.groups), "{case}, once more");
            fleet.judged(&format!("{case}, once more"));
        }
    });
}

#[test]
fn no_workflow_is_without_a_matrix() {
    let single = ItemWork::ALL.into_iter().map(|work| work.workflow());
    let beside = ["plan", "plan-group", "change-group", "regroup", "trigger"];
    let covered: BTreeSet<&str> = single.chain(beside).collect();
    let registered: BTreeSet<&str> = workflows::registry().names().collect();
    assert_eq!(registered, covered, "a workflow without a line in a matrix, or a line without a workflow");
}
