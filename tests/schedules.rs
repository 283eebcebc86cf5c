//! Ninety daily drills over a change of the clock, in virtual time, with kills: each ran once or is recorded as missed.
//!
//! `SWITCHBACK_SEED=n` repeats one seed, `SWITCHBACK_SEEDS=n` runs more.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use engine::{
    RunState,
    memory::MemoryStore,
    schedule::{
        CatchUp, CatchUpRuns, ClockChange, FireTime, FiringKind, Missing, NewSchedule, NextFire, Overlap, Recorded, Repeated, ScheduleSpec, ScheduleStore, fire_times,
    },
    sim::{Chaos, Intervention, Moment},
};
use sdk::{Failure, RunId};
use switchback_tests::{Scene, Work, drill, for_each, item, now, until_stored};
use workflows::{Drilled, drill_workflow_id};

const NAME: &str = "nightly";
const DAYS: usize = 90;
/// Polls for ninety days: some thousand for each.
const LONG: u64 = 5_000_000;
/// Days before whose drill everything goes dark, and for how many hours: past one drill's window, and past two drills.
const OUTAGES: [(usize, u64); 2] = [(30, 5), (60, 30)];
const KILLS: Chaos = Chaos { crash_per_mille: 8, pause_per_mille: 4, lose_per_mille: 15, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None };

/// A zone, a time of day that its change of the clock touches, a day before that, and for how many days. Each zone has its ninety,
/// and some over the change in the other direction.
const ZONES: [(&str, &str, &str, usize); 6] = [
    ("Europe/Berlin", "30 2 * * *", "2027-02-14T00:00:00Z", DAYS),
    ("America/New_York", "30 1 * * *", "2027-09-27T00:00:00Z", DAYS),
    ("Australia/Lord_Howe", "15 2 * * *", "2027-08-22T00:00:00Z", DAYS),
    ("Europe/Berlin", "30 2 * * *", "2027-10-25T00:00:00Z", 12),
    ("America/New_York", "30 2 * * *", "2027-03-08T00:00:00Z", 12),
    ("Australia/Lord_Howe", "45 1 * * *", "2027-03-29T00:00:00Z", 12),
];

fn spec(cron: &str, zone: &str) -> ScheduleSpec {
    ScheduleSpec {
        v: ScheduleSpec::FORM,
        cron: cron.into(),
        zone: zone.into(),
        jitter_ms: 600_000,
        overlap: Overlap::Skip,
        catch_up: CatchUp { within_ms: 3_600_000, which: CatchUpRuns::Last },
        clock_change: ClockChange { missing: Missing::RunAfter, repeated: Repeated::First },
        workflow: "drill".into(),
        workflow_id: drill_workflow_id(&item()),
        input: serde_json::to_value(drill()).unwrap(),
    }
}

/// A protected item at that time, with its schedule kept and nobody who fires it yet. Gives all fire times of ninety days.
fn scheduled(seed: u64, chaos: Chaos, spec: &ScheduleSpec, start: &str) -> (Scene, Vec<FireTime>) {
    let mut scene = Scene::at(seed, chaos, start.parse().unwrap());
    scene.carry_out(Work::Protect).unwrap();
    let times = fire_times(NAME, spec, scene.sim.store.time(), DAYS).unwrap();
    let next = NextFire { at: times[0].at, due_at: times[0].due_at };
    let new = NewSchedule { name: NAME.into(), spec: spec.clone(), by: "ada".into(), next };
    let store = scene.sim.store.clone();
    // An answer that was lost is asked for again, and then the name is taken.
    until_stored(|| store.create_schedule(&new));
    (scene, times)
}

/// Runs until some time after `at`, when drills of that time have ended.
fn until(scene: &mut Scene, at: DateTime<Utc>) {
    let then = at + TimeDelta::hours(6);
    scene.sim.run_until(LONG, |store| store.time() > then).unwrap();
}

fn recorded(store: &MemoryStore) -> BTreeMap<DateTime<Utc>, Recorded> {
    store.fired().into_iter().map(|(_, row)| (row.at, row)).collect()
}

/// What a drill has shown, if its run has ended well.
fn drilled(store: &MemoryStore, run: RunId) -> Drilled {
    let history = store.history(run).unwrap();
    let output = history.events.iter().find_map(|stored| match &stored.event.body {
        sdk::EventBody::Command(sdk::Command::RunCompleted { output }) => Some(output.clone()),
        _ => None,
    });
    serde_json::from_value(output.unwrap_or_else(|| panic!("drill {run} has not completed"))).unwrap()
}

fn each_ran_once_or_is_recorded_as_missed(case: &str, scene: &Scene, times: &[FireTime]) -> BTreeMap<&'static str, usize> {
    let store = &scene.sim.store;
    let rows = recorded(store);
    let expected: Vec<DateTime<Utc>> = times.iter().map(|time| time.at).collect();
    let got: Vec<DateTime<Utc>> = rows.keys().copied().filter(|at| *at <= *expected.last().unwrap()).collect();
    assert_eq!(got, expected, "{case}: every fire time has one row, and there are no others");
    let runs: Vec<RunId> = store.runs().into_iter().filter(|(_, run)| run.workflow == "drill").map(|(id, _)| id).collect();
    let mut started: Vec<RunId> = rows.values().filter(|row| row.kind.started()).filter_map(|row| row.run).collect();
    started.sort_unstable();
    assert_eq!(runs, started, "{case}: every drill belongs to one fire time");
    let (mut counted, mut passed) = (BTreeMap::new(), 0);
    for time in times {
        let row = &rows[&time.at];
        *counted.entry(word(row.kind)).or_insert(0) += 1;
        if !row.kind.started() {
            assert!(!row.cause.is_empty(), "{case}: {row:?}");
            continue;
        }
        assert!(row.recorded_at >= time.due_at, "{case}: nothing starts before its time: {row:?}");
        let shown = drilled(store, row.run.unwrap());
        assert!(shown.cleaned && shown.left_behind == Some(vec![]) && shown.passed == shown.why_not.is_empty(), "{case}: {shown:?}");
        passed += usize::from(shown.passed);
        if !shown.passed {
            println!("{case}: {} did not pass: {:?}", time.local, shown.why_not);
        }
    }
    let started = rows.values().filter(|row| row.kind.started()).count();
    assert!(started - passed <= (started / 10).max(1), "{case}: {passed} of {started} passed; a kill may keep one from its targets, not many");
    scene.judged(case);
    for (site, inventory) in scene.inventories() {
        assert!(inventory.objects.iter().all(|object| !object.of_test), "{case}: a copy is left at {site}");
    }
    counted
}

fn word(kind: FiringKind) -> &'static str {
    match kind {
        FiringKind::OnTime => "on time",
        FiringKind::CaughtUp => "caught up",
        FiringKind::ByHand => "by hand",
        FiringKind::TooLate => "too late",
        FiringKind::Paused => "paused",
        FiringKind::Replaced => "replaced",
        FiringKind::Overlap => "overlap",
    }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SWITCHBACK_SEED") {
        Some(one) => vec![one],
        None => (1..=number("SWITCHBACK_SEEDS").unwrap_or(1)).collect(),
    }
}

#[test]
fn ninety_daily_drills_over_a_change_of_the_clock_with_kills_each_ran_once_or_are_recorded_as_missed() {
    for seed in seeds() {
        for_each(&ZONES, |(zone, cron, start, days)| {
            let case = format!("seed {seed} {zone} from {start}");
            let (mut scene, times) = scheduled(seed, KILLS, &spec(cron, zone), start);
            scene.sim.scheduler();
            scene.sim.scheduler();
            let times = &times[..days];
            let touched = times.iter().filter(|time| time.note().is_some()).count();
            assert_eq!(touched, 1, "{case}: the clock changes once in these days");
            let outages: Vec<(usize, u64)> = OUTAGES.into_iter().filter(|(day, _)| *day < days).collect();
            for (day, hours) in &outages {
                let (day, hours) = (*day, *hours);
                let dark = times[day].at - TimeDelta::minutes(10);
                scene.sim.run_until(LONG, |store| store.time() > dark).unwrap();
                scene.sim.store.advance(Duration::from_secs(hours * 3_600));
            }
            until(&mut scene, times[days - 1].due_at);
            let counted = each_ran_once_or_is_recorded_as_missed(&case, &scene, times);
            println!("{case}: {counted:?}");
            assert_eq!(counted.get("too late").copied().unwrap_or(0), if outages.is_empty() { 0 } else { 3 }, "{case}: {counted:?}");
        });
    }
}

#[test]
fn an_outage_longer_than_the_window_is_recorded_and_one_within_it_is_made_up_for() {
    let spec = spec("30 2 * * *", "Europe/Berlin");
    let (mut scene, times) = scheduled(1, Chaos::default(), &spec, "2027-03-20T00:00:00Z");
    let outage = times[5].due_at + TimeDelta::minutes(40);
    scene.sim.store.advance((outage - scene.sim.store.time()).to_std().unwrap());
    scene.sim.scheduler();
    scene.sim.scheduler();
    until(&mut scene, times[6].due_at);
    let counted = each_ran_once_or_is_recorded_as_missed("an outage", &scene, &times[..7]);
    assert_eq!(counted, BTreeMap::from([("too late", 5), ("caught up", 1), ("on time", 1)]));
    let rows = recorded(&scene.sim.store);
    let cause = &rows[&times[0].at].cause;
    assert!(cause.starts_with("nobody was there to start it within 1h; found at 2027-03-25"), "{cause}");
    assert!(rows[&times[5].at].cause.contains("late: nobody was there at its time"), "{:?}", rows[&times[5].at]);
}

#[test]
fn a_pause_is_the_cause_of_what_it_keeps_from_starting() {
    let spec = spec("30 2 * * *", "Europe/Berlin");
    let (mut scene, times) = scheduled(1, Chaos::default(), &spec, "2027-03-20T00:00:00Z");
    scene.sim.scheduler();
    let store = scene.sim.store.clone();
    assert!(now(store.pause_schedule(NAME, "ada", "the storage is being moved")).unwrap());
    until(&mut scene, times[2].due_at);
    assert!(now(store.resume_schedule(NAME)).unwrap());
    until(&mut scene, times[3].due_at);
    let counted = each_ran_once_or_is_recorded_as_missed("a pause", &scene, &times[..4]);
    assert_eq!(counted, BTreeMap::from([("paused", 3), ("on time", 1)]));
    assert!(recorded(&store)[&times[1].at].cause.ends_with(": the storage is being moved"));
}

#[test]
fn drills_that_wait_for_the_one_before_run_one_after_the_other() {
    let mut each = spec("*/10 * * * *", "UTC");
    each.overlap = Overlap::Wait;
    each.jitter_ms = 0;
    each.catch_up = CatchUp { within_ms: 3_600_000, which: CatchUpRuns::All };
    let (mut scene, times) = scheduled(3, Chaos::default(), &each, "2027-03-20T00:00:00Z");
    let somebody = scene.start_workflow("drill", each.input.clone(), &each.workflow_id);
    scene.sim.crash_switch().on_attempt(move |task, moment| {
        let held = task.run == somebody && task.task.activity == "load-item" && moment == Moment::Claimed;
        if held { Intervention::Fail(Failure::retryable("held", "not yet").not_applied()) } else { Intervention::None }
    });
    let busy = times[4].at + TimeDelta::minutes(1);
    scene.sim.scheduler();
    scene.sim.run_until(LONG, |store| store.time() > busy).unwrap();
    assert_eq!(recorded(&scene.sim.store).len(), 0, "a drill by hand is open");
    scene.sim.crash_switch().clear();
    scene.finish(somebody).unwrap();
    let open = |scene: &Scene| scene.sim.store.runs().into_iter().filter(|(_, run)| run.workflow == "drill" && run.state == RunState::Open).count();
    let last = scene.sim.store.time() + Duration::from_secs(1_200);
    scene.sim.run_until(LONG, |store| store.time() > last).unwrap();
    assert!(open(&scene) <= 1, "one at a time");
    let rows = recorded(&scene.sim.store);
    assert!(times[..4].iter().all(|time| rows.get(&time.at).is_some_and(|row| row.kind.started())), "{rows:?}");
}
