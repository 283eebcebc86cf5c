//! The whole circle under seeded chaos: crashes, zombies and lost answers at any await of any process.
//!
//! And random walks over what is allowed, while things go wrong outside.
//!
//! `SWITCHBACK_SEEDS=n` runs more seeds, `SWITCHBACK_SEED=n` repeats one.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test panics where its sentence does not hold")]

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use engine::{
    RunState,
    sim::{Chaos, Rng},
};
use recovery::MainState;
use sdk::replay;
use switchback_tests::{
    Scene, Work, for_each, judge, site,
    trouble::{TROUBLES, Trouble, allowed, troubled},
};

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

const CHAOS: Chaos = Chaos { crash_per_mille: 8, pause_per_mille: 4, lose_per_mille: 15, late_per_mille: 10, jump_per_mille: 0, tails_per_100_000: 0, at_most: None };

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
        scene.judged("a clean circle");
        assert_eq!(scene.runs_at(), [site("a")]);
    }
}

#[test]
fn a_hundred_seeds_of_there_and_back_lose_and_double_nothing() {
    let (most, retreats) = (Mutex::new((0, 0, 0)), AtomicU32::new(0));
    for_each(&seeds(100), |seed| {
        let mut scene = Scene::new(seed, CHAOS);
        let cycle = if seed % 2 == 0 { CIRCLE } else { SECOND_THOUGHTS };
        for (work, state) in cycle {
            // Attempts can run out under chaos: then everything is put back, and the work is done again.
            let mut last = None;
            for _again in 0..20 {
                let (run, stats) = scene.carry_out(*work).unwrap_or_else(|stuck| panic!("seed {seed} {work:?}: {stuck}"));
                last = Some(run);
                let mut most = most.lock().unwrap();
                *most = (stats.crashes.max(most.0), stats.pauses.max(most.1), stats.lost_answers.max(most.2));
                drop(most);
                let ending = scene.ending(run);
                assert_ne!(ending.run, RunState::Suspended, "seed {seed} {work:?}: {ending:?}");
                let history = scene.sim.store.history(run).unwrap();
                assert_eq!(replay::verify(&workflows::registry(), &history), Ok(()), "seed {seed} {work:?}");
                if ending.run == RunState::Completed {
                    break;
                }
                retreats.fetch_add(1, Ordering::SeqCst);
                assert_eq!(ending.run, RunState::Failed, "seed {seed} {work:?}: {ending:?}");
            }
            let why = last.and_then(|run| scene.failure(run));
            assert_eq!(scene.record().unwrap().state.main, *state, "seed {seed} {work:?}: {why:?}");
            scene.ledgers_are_whole(&format!("seed {seed} {work:?}"));
        }
        scene.judged(&format!("seed {seed}"));
        assert_eq!(scene.runs_at(), [site("a")], "seed {seed}");
    });
    let (crashes, pauses, lost) = most.into_inner().unwrap();
    println!("most in a seed: {crashes} crashes, {pauses} zombies, {lost} lost answers; {retreats:?} retreats in all");
    assert!(crashes > 0 && pauses > 0 && lost > 0);
}

#[test]
fn whatever_is_allowed_is_done_in_any_order_under_any_trouble_and_there_is_a_way_out() {
    let done = Mutex::new(BTreeMap::<String, u32>::new());
    for_each(&seeds(40), |seed| {
        let mut scene = Scene::new(seed, Chaos::default());
        let mut rng = Rng::new(seed);
        let mut pick = |count: usize| usize::try_from(rng.below(count as u64).unwrap_or(0)).unwrap();
        let mut told = vec![];
        for _ in 0..9 {
            let possible = allowed(&scene);
            let others: Vec<Work> = possible.iter().copied().filter(|work| *work != Work::Unprotect).collect();
            let possible = if others.is_empty() { possible } else { others };
            let work = possible[pick(possible.len())];
            let trouble = TROUBLES[pick(TROUBLES.len())];
            // By whose record a trouble would be put right again, that is gone.
            let trouble = if work == Work::Forget { Trouble::Nothing } else { trouble };
            told.push(format!("{work:?} while {trouble:?}"));
            *done.lock().unwrap().entry(format!("{work:?}")).or_default() += 1;
            troubled(&mut scene, work, trouble, 5 + pick(115) as u64, &format!("seed {seed}, {told:?}"));
        }
        let case = format!("seed {seed}, {told:?}, then out");
        for _ in 0..6 {
            let possible = allowed(&scene);
            if scene.record().is_none_or(|record| record.state.main == MainState::Unprotected) {
                break;
            }
            let out = [Work::Unprotect, Work::Commit, Work::Release].into_iter().find(|work| possible.contains(work));
            troubled(&mut scene, out.unwrap_or(possible[0]), Trouble::Nothing, 1, &case);
        }
        assert!(scene.record().is_none_or(|record| record.state.main == MainState::Unprotected), "{case}");
        assert_eq!(scene.runs_at().len(), 1, "{case}");
        scene.nothing_is_left(&case);
    });
    let done = done.into_inner().unwrap();
    println!("{done:?}");
    assert!(std::env::var_os("SWITCHBACK_SEED").is_some() || done.len() >= 11, "some work was never tried: {done:?}");
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
