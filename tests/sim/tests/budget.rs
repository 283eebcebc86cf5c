//! What of the simulator each run of the tests does: some hundred seeds, every case that ever failed, and whether a case is itself.
//!
//! `cargo xtask sim --seeds 20000` does the rest.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::sync::Mutex;

use switchback_sim::{Case, Kind, Outcome, carried_out};
use switchback_tests::for_each;

const SEEDS: u64 = 240;
/// Cases that failed once, one a line; what follows `#` says why.
const KEPT: &str = include_str!("../seeds.txt");

fn all_hold(cases: &[Case]) -> Outcome {
    let sum = Mutex::new(Outcome::default());
    for_each(cases, |case| {
        let outcome = carried_out(&case).unwrap_or_else(|why| panic!("{case}: {why}"));
        sum.lock().unwrap().add(&outcome);
    });
    sum.into_inner().unwrap()
}

#[test]
fn some_hundred_seeds_lose_and_double_nothing() {
    let cases: Vec<Case> = (1..=SEEDS).map(Case::of_seed).collect();
    let sum = all_hold(&cases);
    println!("{SEEDS} seeds: {sum}");
    let stats = sum.stats;
    let seen = [stats.crashes, stats.pauses, stats.lost_answers, stats.late, stats.jumps, stats.doubles, stats.takeovers, sum.late_refused];
    assert!(seen.iter().all(|count| *count > 0), "something never went wrong: {seen:?}");
}

#[test]
fn every_case_that_failed_once_holds() {
    let lines = KEPT.lines().map(|line| line.split('#').next().unwrap().trim()).filter(|line| !line.is_empty());
    let cases: Vec<Case> = lines.map(|line| line.parse().unwrap()).collect();
    all_hold(&cases);
}

#[test]
fn the_same_case_is_the_same_to_the_digest_of_every_step() {
    for kind in Kind::ALL {
        for seed in [27, 40] {
            let case = Case { kind, seed, faults: None };
            let (first, second) = (carried_out(&case), carried_out(&case));
            assert!(first.as_ref().is_ok_and(|outcome| outcome.faults > 0 && outcome.stats.digest != 0), "{case}: {first:?}");
            assert_eq!(first, second, "{case}");
        }
    }
}
