//! The kill matrix: at every step of every workflow a crash before the effect, after the effect, after the record, a worker's
//! crash around the turn that records it, an attempt that is never heard of again, a failure for ever, a cancel. The end state is that of `workflows/STEPS.md`, which
//! is written from these very runs; the world's own ledger judges.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use engine::{
    RunState,
    sim::{Intervention, Moment},
};
use provider::ObjectKind;
use recovery::{MainState, Operation, Rest, TestFailover, allowed_operations};
use sdk::{Effect, Failure, RunId, Seq};
use switchback_tests::{
    Ending, Scene, ScheduledStep, Work, for_each, judge,
    strike::{Fault, cancel, gives_up, strike},
};

/// A run with one fault at one step.
struct Struck {
    scene: Scene,
    run: RunId,
    ending: Ending,
    crashes: u64,
    struck: u32,
    /// What lasts at each site, as it was before the run.
    before: BTreeMap<&'static str, Vec<(ObjectKind, String)>>,
}

#[test]
fn a_crash_at_any_step_changes_neither_the_end_nor_the_effects() {
    for_each(&only(), |work| {
        let (clean, steps) = clean(work);
        for step in steps.iter().filter(|step| somebody_is_there(work, step)) {
            for fault in Fault::passing(step.options) {
                let case = format!("{work:?} step {} {} {fault:?}", step.seq, step.activity);
                let struck = strike_at(work, step.seq, fault);
                assert_eq!(struck.ending, clean, "{case}");
                struck.scene.judged(&case);
                assert_eq!(struck.crashes > 0, fault.crashes(), "{case}: {} crashes", struck.crashes);
                assert!(struck.struck > 0, "{case}: nothing was struck");
            }
        }
    });
}

#[test]
fn a_step_that_fails_for_ever_or_is_cancelled_ends_as_the_step_table_says() {
    let sections = Mutex::new(BTreeMap::new());
    for_each(&only(), |work| {
        let (clean, steps) = clean(work);
        let mut section = String::new();
        writeln!(section, "\n## {}\n\nWithout faults: run {:?}, item {}.\n", work.title(), clean.run, clean.item).unwrap();
        writeln!(section, "| step | where | effect | probe | undone by | after cancel here | after final failure here | the same, effect in doubt | never answered |").unwrap();
        writeln!(section, "|---|---|---|---|---|---|---|---|---|").unwrap();
        for step in &steps {
            writeln!(section, "{}", row(work, step)).unwrap();
        }
        sections.lock().unwrap().insert(work, section);
    });
    let sections = sections.into_inner().unwrap();
    let table = [HEAD.to_owned(), sections.into_values().collect(), FOOT.to_owned()].concat();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../workflows/STEPS.md");
    if std::env::var_os("UPDATE_STEPS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == table, "workflows/STEPS.md is not what the workflows do; look at the difference and accept it with UPDATE_STEPS=1\n{table}");
}

/// All work, or the one that `SWITCHBACK_WORK` names.
fn only() -> Vec<Work> {
    let name = std::env::var("SWITCHBACK_WORK").unwrap_or_default();
    Work::ALL.into_iter().filter(|work| name.is_empty() || format!("{work:?}") == name).collect()
}

#[test]
fn a_source_that_dies_with_the_fence_in_its_hands_does_not_hold_the_failover() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let switch = scene.sim.crash_switch();
    let claimed = Arc::new(AtomicU32::new(0));
    let seen = claimed.clone();
    switch.on_attempt(move |task, moment| {
        if task.task.activity != "fence-machine" || moment != Moment::Claimed {
            return Intervention::None;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        Intervention::Crash
    });
    let run = scene.start(Work::FailoverUnfenced);
    let at = scene.sim.store.time();
    scene.sim.run_until(switchback_tests::POLLS, |_| claimed.load(Ordering::SeqCst) > 0).unwrap();
    scene.source_dies();
    scene.finish(run).unwrap();
    let expected = Ending { run: RunState::Completed, code: None, item: MainState::CommitPending };
    assert_eq!(scene.ending(run), expected);
    assert!(scene.sim.store.time() - at < chrono::Duration::seconds(60), "it went on soon after the agent's lease had ended");
    assert_eq!(scene.sim.store.leftovers(), 0);
}

#[test]
fn a_failover_that_failed_with_its_machine_running_is_taken_up_and_never_lets_the_source_go() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    let switch = scene.sim.crash_switch();
    switch.on_attempt(|task, moment| {
        let lost = task.task.activity == "start-machine" && moment == Moment::Performed;
        if lost { Intervention::Fail(Failure::fatal("answer-lost", "no answer")) } else { Intervention::None }
    });
    let state = |scene: &Scene| {
        let source = scene.world.machine(&switchback_tests::site("a"), switchback_tests::ITEM).unwrap();
        (source.power, scene.record().unwrap().state.main)
    };
    for _twice in 0..2 {
        let (failed, _) = scene.carry_out(Work::Failover).unwrap();
        assert_eq!(scene.ending(failed).run, RunState::Failed);
        assert!(matches!(state(&scene), (provider::PowerState::Off, MainState::Failed { before: None, .. })), "{:?}", state(&scene));
    }
    switch.clear();
    let (run, _) = scene.carry_out(Work::Failover).unwrap();
    assert_eq!(scene.ending(run), Ending { run: RunState::Completed, code: None, item: MainState::CommitPending });
    assert_eq!(state(&scene).0, provider::PowerState::Off);
    assert_eq!(scene.world.ledger().applied_more_than_once(), vec![]);
    let (commit, _) = scene.carry_out(Work::Commit).unwrap();
    assert_eq!(scene.ending(commit).item, MainState::Committed);
}

#[test]
fn a_machine_runs_again_at_its_source_although_its_replica_is_gone() {
    let mut scene = Scene::ready_for(7, Work::Failover).unwrap();
    scene.sim.crash_switch().on_attempt(|task, moment| {
        let gone = ["seal-replica", "reopen-replica"].contains(&task.task.activity.as_str()) && moment == Moment::Claimed;
        if gone { Intervention::Fail(Failure::fatal("no-such-replica", "no replica at this site").not_applied()) } else { Intervention::None }
    });
    let run = scene.start(Work::Failover);
    scene.finish(run).unwrap();
    let machine = scene.world.machine(&switchback_tests::site("a"), switchback_tests::ITEM).unwrap();
    assert_eq!((machine.power, machine.autostart), (provider::PowerState::Running, true));
    let ended = scene.sim.store.runs().into_iter().find(|(id, _)| *id == run).unwrap().1;
    let told = ended.failure.unwrap().message;
    assert!(told.contains("replication did not go on: no replica at this site"), "{told}");
    assert_eq!(scene.ending(run).run, RunState::Failed);
}

/// A step at a site that is gone is picked up by nobody.
fn somebody_is_there(work: Work, step: &ScheduledStep) -> bool {
    work != Work::FailoverUnfenced || step.queue.0 != "site:a"
}

#[test]
fn a_failover_that_waits_for_a_dead_source_can_be_cancelled() {
    let mut scene = Scene::ready_for(7, Work::FailoverUnfenced).unwrap();
    let run = scene.start(Work::FailoverUnfenced);
    scene.sim.run_until(switchback_tests::POLLS, |store| store.history(run).is_ok_and(|h| h.events.len() > 7)).unwrap();
    cancel(&scene.sim.store, run);
    scene.finish(run).unwrap();
    let expected = Ending { run: RunState::Cancelled, code: Some("cancelled".into()), item: MainState::Protected };
    assert_eq!(scene.ending(run), expected);
    assert_eq!(scene.sim.store.leftovers(), 0);
}

fn row(work: Work, step: &ScheduledStep) -> String {
    if !somebody_is_there(work, step) {
        return format!("| {} | {} (gone) | {} | nobody there | – | Cancelled (cancelled): protected | – | – | – |", step.activity, step.queue, effect(step.effect));
    }
    let mut cancelled = strike_at(work, step.seq, Fault::CancelHere);
    let mut failed = strike_at(work, step.seq, Fault::FailsForEver);
    let mut doubtful = strike_at(work, step.seq, Fault::FailsForEverAfterEffect);
    let undone: Vec<String> = undos(&doubtful);
    let mut silent = gives_up(&step.options).then(|| strike_at(work, step.seq, Fault::TimesOutForEver));
    let endings = [Some(&cancelled), Some(&failed), Some(&doubtful), silent.as_ref()].map(|struck| struck.map_or_else(|| "it waits on".to_owned(), |struck| shown(&struck.ending)));
    let all = [(Some(&mut cancelled), "cancel"), (Some(&mut failed), "failure"), (Some(&mut doubtful), "failure in doubt"), (silent.as_mut(), "silence")];
    let all = all.into_iter().filter_map(|(struck, fault)| Some((struck?, fault)));
    for (turn, (struck, fault)) in all.enumerate() {
        let case = format!("{work:?} step {} {} {fault}", step.seq, step.activity);
        assert!(struck.struck > 0, "{case}: nothing was struck");
        assert_ne!(struck.ending.run, RunState::Suspended, "{case}");
        struck.scene.judged(&case);
        put_back(work, struck, &case);
        what_is_allowed_works(work, struck, usize::try_from(step.seq.0).unwrap() + turn, &case);
    }
    let probe = match step.effect {
        Effect::Probeable => "asks the site",
        Effect::Idempotent => "not needed",
        Effect::AtMostOnce => "a person",
    };
    let [cancelled, failed, doubtful, silent] = endings;
    let undone = if undone.is_empty() { "–".to_owned() } else { undone.join(", ") };
    format!("| {} | {} | {} | {probe} | {undone} | {cancelled} | {failed} | {doubtful} | {silent} |", step.activity, step.queue, effect(step.effect))
}

/// Where the item is said to be as before, it is.
fn put_back(work: Work, struck: &mut Struck, case: &str) {
    let Some(record) = struck.scene.record() else { return };
    assert_eq!(record.state.main.busy_with(), None, "{case}: nobody is at work on it any more");
    let beside = [TestFailover::Running, TestFailover::Cleaning];
    assert!(!beside.contains(&record.state.test_failover), "{case}: nobody is at work on its copy any more");
    let gone = work == Work::FailoverUnfenced;
    let rest = match struck.ending.item {
        MainState::Failed { before, .. } => before,
        MainState::Unprotected => Some(Rest::Unprotected),
        MainState::Protected => Some(Rest::Protected),
        MainState::CommitPending => Some(Rest::CommitPending),
        MainState::Committed => Some(Rest::Committed),
        _ => None,
    };
    let Some(rest) = rest else { return };
    if !gone {
        assert_eq!(struck.scene.runs_at(), [record.active_site().clone()], "{case}: where it runs");
    }
    match rest {
        // What a source that fell silent keeps of an earlier turn is told; it is never taken from under a loop that may still run.
        Rest::Unprotected if struck.scene.output(struck.run)["source_stopped"] == false => {}
        Rest::Unprotected => struck.scene.nothing_is_left(case),
        Rest::Protected if !gone => {
            assert!(struck.scene.replicates().unwrap(), "{case}: no further point arrives");
            struck.scene.ledgers_are_whole(case);
        }
        Rest::Protected | Rest::CommitPending | Rest::Committed => {}
    }
    let no_copy = record.state.test_failover == TestFailover::None;
    let as_before = matches!(work, Work::Protect | Work::Reprotect | Work::ReprotectElsewhere | Work::ReprotectAgain | Work::TestFailover | Work::Drill | Work::FullFailback)
        && struck.ending.run != RunState::Completed
        && no_copy;
    if as_before {
        // A base that a recovery had made stays one, for the next try.
        let sites = struck.before.iter().filter(|(site, _)| (work, **site) != (Work::ReprotectAgain, "b"));
        for (site, before) in sites {
            assert_eq!(struck.scene.lasting(site), *before, "{case}: at site {site}");
        }
    }
}

/// One of the operations that are allowed now is carried out, another one at each step and fault, and comes to its end.
fn what_is_allowed_works(work: Work, struck: &mut Struck, turn: usize, case: &str) {
    let Some(record) = struck.scene.record() else { return };
    let gone = work == Work::FailoverUnfenced;
    let here = [Operation::Failover, Operation::Commit, Operation::ChangePoint];
    let allowed = allowed_operations(&record.state, record.profile).into_iter().filter(|operation| !gone || here.contains(operation));
    let works: Vec<Work> = allowed.filter_map(|operation| Work::of(operation, &record)).collect();
    let Some(next) = works.get(turn % works.len().max(1)).copied() else { return };
    let next = if gone && next == Work::Failover { Work::FailoverUnfenced } else { next };
    let case = format!("{case}, then {next:?} of {works:?}");
    let (run, _) = struck.scene.carry_out(next).unwrap_or_else(|stuck| panic!("{case}: {stuck}"));
    let ending = struck.scene.ending(run);
    let why = struck.scene.failure(run);
    assert_eq!((&ending.run, ending.code.as_deref()), (&RunState::Completed, None), "{case}: {ending:?} {why:?}");
    struck.scene.judged(&case);
    if next == Work::Unprotect {
        struck.scene.nothing_is_left(&case);
    }
    // A look changes nothing, and what has failed where it runs is still so.
    if !gone && next != Work::Resolve {
        // One that was forgotten runs where it ran.
        let active = struck.scene.record().unwrap_or(record).active_site().clone();
        assert_eq!(struck.scene.runs_at(), [active], "{case}: where it runs");
    }
}

fn undos(struck: &Struck) -> Vec<String> {
    struck.scene.steps(struck.run).into_iter().filter(|step| step.compensation).map(|step| step.activity).collect()
}

fn clean(work: Work) -> (Ending, Vec<ScheduledStep>) {
    let case = format!("{work:?} without faults");
    let mut scene = Scene::ready_for(7, work).unwrap();
    let from = scene.runs_at();
    let (run, _) = scene.carry_out(work).unwrap();
    let ending = scene.ending(run);
    assert_eq!(ending.run, RunState::Completed, "{case}: {ending:?} {:?}", scene.failure(run));
    scene.judged(&case);
    if work == Work::Forget {
        assert_eq!((scene.record(), scene.runs_at()), (None, from), "{case}");
        scene.nothing_is_left(&case);
        return (ending, scene.steps(run));
    }
    let record = scene.record().unwrap();
    if work.loses_nothing() {
        let ledgers = [&from[0], record.active_site()].map(|site| scene.world.contents(site, switchback_tests::ITEM).unwrap());
        judge::goes_on(&ledgers[0], &ledgers[1]).unwrap_or_else(|why| panic!("{case}: {why}"));
    }
    assert_eq!(scene.runs_at(), [record.active_site().clone()], "{case}");
    if ending.item == MainState::Unprotected {
        scene.nothing_is_left(&case);
    }
    (ending, scene.steps(run))
}

fn strike_at(work: Work, at: Seq, fault: Fault) -> Struck {
    let mut scene = Scene::ready_for(7, work).unwrap();
    let before = ["a", "b"].into_iter().map(|site| (site, scene.lasting(site))).collect();
    let run = scene.start(work);
    let struck = strike(&scene.sim.crash_switch(), &scene.sim.store, Some(run), fault, move |task| task.run == run && task.task.seq == at);
    scene.finish(run).unwrap_or_else(|stuck| panic!("{work:?} at {at} {fault:?}: {stuck}"));
    // An agent may hear that its report counts only after the run has ended.
    let until = scene.sim.store.time() + std::time::Duration::from_secs(20);
    let stats = scene.sim.run_until(switchback_tests::POLLS, |store| store.time() > until).unwrap();
    scene.sim.crash_switch().clear();
    let (ending, struck) = (scene.ending(run), struck.load(Ordering::SeqCst));
    Struck { scene, run, ending, crashes: stats.crashes, struck, before }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Idempotent => "idempotent",
        Effect::Probeable => "probeable",
        Effect::AtMostOnce => "at most once",
    }
}

fn shown(ending: &Ending) -> String {
    let code = ending.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{:?}{code}: {}", ending.run, ending.item)
}

const HEAD: &str = "# Steps of every workflow

Written by the kill matrix (`tests/faults.rs`) from what the workflows did in the simulator; never by hand. For each step it says
what the run and the item end as when the step is cancelled or fails for good there. A crash of agent or worker at any step
changes nothing of the first line of each section. What is done with several items at once has matrices of its own: plans in
`tests/plans.rs`, changes of replication groups in `tests/groups.rs`.
";

const FOOT: &str = "
*after cancel here*: the request arrives while the step is carried out; the step still ends, then what was done is undone, unless
the point of no return is passed: then the cancel is refused and the run goes on. *undone by*: what runs when the step fails in
doubt, in this order. *never answered*: each attempt does all and is never heard of again, until its time limits give it up.
";
