//! The whole cycle under seeded chaos: crashes, zombies and lost answers at any await of any process.
//!
//! `SWITCHBACK_SEEDS=n` runs more seeds, `SWITCHBACK_SEED=n` repeats one.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use engine::{RunState, sim::Chaos};
use recovery::MainState;
use sdk::replay;
use switchback_tests::{Scene, Work};

const CYCLE: [(Work, MainState); 3] =
    [(Work::Protect, MainState::Protected), (Work::Failover, MainState::CommitPending), (Work::Commit, MainState::Committed)];

const CHAOS: Chaos = Chaos { crash_per_mille: 8, pause_per_mille: 4, lose_per_mille: 15 };

fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SWITCHBACK_SEED") {
        Some(one) => vec![one],
        None => (1..=number("SWITCHBACK_SEEDS").unwrap_or(count)).collect(),
    }
}

#[test]
fn a_clean_cycle_ends_committed() {
    let mut scene = Scene::new(1, Chaos::default());
    for (work, state) in CYCLE {
        let (run, _) = scene.carry_out(work).unwrap();
        let ending = scene.ending(run);
        assert_eq!((ending.run, ending.item, ending.code), (RunState::Completed, state, None));
    }
    assert_eq!(scene.world.ledger().applied_more_than_once(), vec![]);
    assert_eq!(scene.sim.store.leftovers(), 0);
}

#[test]
fn a_hundred_seeds_of_failover_lose_and_double_nothing() {
    let (mut crashes, mut pauses, mut lost, mut retreats) = (0, 0, 0, 0);
    for seed in seeds(100) {
        let mut scene = Scene::new(seed, CHAOS);
        for (work, state) in CYCLE {
            // Attempts can run out under chaos: then everything is put back, and the work is done again.
            for _again in 0..20 {
                let (run, stats) = scene.carry_out(work).unwrap_or_else(|stuck| panic!("seed {seed} {work:?}: {stuck}"));
                (crashes, pauses, lost) = (stats.crashes.max(crashes), stats.pauses.max(pauses), stats.lost_answers.max(lost));
                let ending = scene.ending(run);
                assert_ne!(ending.run, RunState::Suspended, "seed {seed} {work:?}: {ending:?}");
                let history = scene.sim.store.history(run).unwrap();
                assert_eq!(replay::verify(&workflows::registry(), &history), Ok(()), "seed {seed} {work:?}");
                if ending.item == state {
                    break;
                }
                retreats += 1;
                assert_eq!(ending.run, RunState::Failed, "seed {seed} {work:?}: {ending:?}");
            }
            assert_eq!(scene.record().unwrap().state.main, state, "seed {seed} {work:?}");
        }
        assert_eq!(scene.world.ledger().applied_more_than_once(), vec![], "seed {seed}");
        assert_eq!(scene.sim.store.leftovers(), 0, "seed {seed}");
    }
    println!("most in a seed: {crashes} crashes, {pauses} zombies, {lost} lost answers; {retreats} retreats in all");
    assert!(crashes > 0 && pauses > 0 && lost > 0);
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
