//! The whole circle under seeded chaos: crashes, zombies and lost answers at any await of any process.
//!
//! `SWITCHBACK_SEEDS=n` runs more seeds, `SWITCHBACK_SEED=n` repeats one.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use engine::{RunState, sim::Chaos};
use recovery::MainState;
use sdk::replay;
use switchback_tests::{Scene, Work, judge, site};

/// There and back, through a disaster, and protected again.
const CIRCLE: &[(Work, MainState)] = &[
    (Work::Protect, MainState::Protected),
    (Work::Failover, MainState::CommitPending),
    (Work::Commit, MainState::Committed),
    (Work::Reprotect, MainState::Protected),
    (Work::Failback, MainState::CommitPending),
    (Work::CommitHome, MainState::Committed),
    (Work::ReprotectAgain, MainState::Protected),
];

/// Tests, second thoughts, and the way home without replication.
const SECOND_THOUGHTS: &[(Work, MainState)] = &[
    (Work::Protect, MainState::Protected),
    (Work::TestFailover, MainState::Protected),
    (Work::CleanTest, MainState::Protected),
    (Work::PlannedFailover, MainState::CommitPending),
    (Work::ChangePoint, MainState::CommitPending),
    (Work::Undo, MainState::Protected),
    (Work::PlannedFailover, MainState::CommitPending),
    (Work::Commit, MainState::Committed),
    (Work::FullFailback, MainState::CommitPending),
    (Work::CommitHome, MainState::Committed),
    (Work::Unprotect, MainState::Unprotected),
];

const CHAOS: Chaos = Chaos { crash_per_mille: 8, pause_per_mille: 4, lose_per_mille: 15 };

fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SWITCHBACK_SEED") {
        Some(one) => vec![one],
        None => (1..=number("SWITCHBACK_SEEDS").unwrap_or(count)).collect(),
    }
}

#[test]
fn a_clean_circle_ends_where_it_began() {
    for cycle in [CIRCLE, SECOND_THOUGHTS] {
        let mut scene = Scene::new(1, Chaos::default());
        for (work, state) in cycle {
            let case = format!("{work:?}");
            let (from, before) = (scene.runs_at(), scene.ledgers());
            let (run, _) = scene.carry_out(*work).unwrap();
            let ending = scene.ending(run);
            assert_eq!((ending.run, ending.item, ending.code), (RunState::Completed, *state, None), "{case}: {:?}", scene.failure(run));
            if work.loses_nothing() {
                let (old, new) = (&scene.ledgers()[&from[0]], &scene.ledgers()[&scene.runs_at()[0]]);
                judge::goes_on(&before[&from[0]], old).unwrap_or_else(|why| panic!("{case}: {why}"));
                judge::goes_on(old, new).unwrap_or_else(|why| panic!("{case}: {why}"));
            }
        }
        judged(&scene, "a clean circle");
        assert_eq!(scene.runs_at(), [site("a")]);
    }
}

#[test]
fn a_hundred_seeds_of_there_and_back_lose_and_double_nothing() {
    let (mut crashes, mut pauses, mut lost, mut retreats) = (0, 0, 0, 0);
    for seed in seeds(100) {
        let mut scene = Scene::new(seed, CHAOS);
        let cycle = if seed % 2 == 0 { CIRCLE } else { SECOND_THOUGHTS };
        for (work, state) in cycle {
            // Attempts can run out under chaos: then everything is put back, and the work is done again.
            for _again in 0..20 {
                let (run, stats) = scene.carry_out(*work).unwrap_or_else(|stuck| panic!("seed {seed} {work:?}: {stuck}"));
                (crashes, pauses, lost) = (stats.crashes.max(crashes), stats.pauses.max(pauses), stats.lost_answers.max(lost));
                let ending = scene.ending(run);
                assert_ne!(ending.run, RunState::Suspended, "seed {seed} {work:?}: {ending:?}");
                let history = scene.sim.store.history(run).unwrap();
                assert_eq!(replay::verify(&workflows::registry(), &history), Ok(()), "seed {seed} {work:?}");
                if ending.run == RunState::Completed {
                    break;
                }
                retreats += 1;
                assert_eq!(ending.run, RunState::Failed, "seed {seed} {work:?}: {ending:?}");
            }
            assert_eq!(scene.record().unwrap().state.main, *state, "seed {seed} {work:?}");
            scene.ledgers_are_whole(&format!("seed {seed} {work:?}"));
        }
        judged(&scene, &format!("seed {seed}"));
        assert_eq!(scene.runs_at(), [site("a")], "seed {seed}");
    }
    println!("most in a seed: {crashes} crashes, {pauses} zombies, {lost} lost answers; {retreats} retreats in all");
    assert!(crashes > 0 && pauses > 0 && lost > 0);
}

fn judged(scene: &Scene, case: &str) {
    assert_eq!(scene.world.ledger().applied_more_than_once(), vec![], "{case}");
    assert_eq!(scene.sim.store.leftovers(), 0, "{case}");
    scene.never_ran_twice(case);
    scene.ledgers_are_whole(case);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let histories = || {
        let mut scene = Scene::new(11, CHAOS);
        let (run, stats) = scene.carry_out(Work::Protect).unwrap();
        (scene.sim.store.history(run).unwrap(), stats)
    };
    assert_eq!(histories(), histories());
}
