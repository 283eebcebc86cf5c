//! `cargo xtask rules`: breaks the line of code behind a rule of recovery, and expects that the rule's test notices.
//!
//! ```text
//!   table ─▶ sample ─▶ copy of the checkout under target/rules ─▶ each: break, build, test must fail, mend
//! ```
//!
//! Invariants: 1. The checkout is never written: what is broken is a copy, brought up to date before each use, so that nothing is left however
//! this ends. 2. A line that is not found, or not once, is a failure; so is a change that does not build, and a test that fails unbroken.
//! 3. The sample follows from its seed, which is printed.

mod scratch;
mod table;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};

use crate::args::Args;
use scratch::Scratch;
use table::{MUTATIONS, Mutation};

pub(crate) const USAGE: &str = "\
cargo xtask rules [--all | --sample N] [--seed S]   breaks the code behind rules of recovery; their tests must notice
cargo xtask rules --table                           writes tests/recovery_rules.md, which says which test and code stand for which rule";

/// So many are broken where nothing else is said: a run stays below five minutes on two processors.
const SAMPLE: usize = 10;

pub(crate) fn command(mut args: Args) -> Result<()> {
    let (all, table) = (args.flag("--all"), args.flag("--table"));
    let sample = args.value("--sample")?.map(|text| text.parse()).transpose()?.unwrap_or(SAMPLE);
    let seed = args.value("--seed")?.map(|text| text.parse()).transpose()?;
    args.finish()?;
    if table {
        return table::write();
    }
    let seed = seed.unwrap_or_else(by_clock);
    let chosen = if all { MUTATIONS.iter().collect() } else { chosen(sample, seed) };
    println!("{}", broken_one_by_one(&chosen, seed)?);
    Ok(())
}

/// Breaks so many rules, chosen by the clock. Returns what to say about it.
pub(crate) fn sample() -> Result<String> {
    let seed = by_clock();
    broken_one_by_one(&chosen(SAMPLE, seed), seed)
}

fn by_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn broken_one_by_one(chosen: &[&Mutation], seed: u64) -> Result<String> {
    println!("\nbreaking {} lines of code behind rules of recovery, seed {seed}", chosen.len());
    let scratch = Scratch::new()?;
    scratch.passes_unbroken(chosen)?;
    let mut unnoticed = vec![];
    for mutation in chosen {
        let noticed = scratch.notices(mutation)?;
        println!("{:<9} {:<2} {}", if noticed { "noticed" } else { "UNNOTICED" }, mutation.rule, mutation.test);
        if !noticed {
            unnoticed.push(mutation.rule);
        }
    }
    if !unnoticed.is_empty() {
        bail!("seed {seed}: nobody noticed that the code behind {} was broken", unnoticed.join(", "));
    }
    Ok(format!("{} lines broken, all noticed; seed {seed}", chosen.len()))
}

/// A line of each of so many rules, in the table's order.
fn chosen(sample: usize, seed: u64) -> Vec<&'static Mutation> {
    let mut state = seed;
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, mutation) in MUTATIONS.iter().enumerate() {
        lines.entry(mutation.rule).or_default().push(at);
    }
    let mut ranked: Vec<(u64, usize)> = vec![];
    for places in lines.values() {
        let one = usize::try_from(split_mix(&mut state) % places.len() as u64).unwrap_or(0);
        ranked.push((split_mix(&mut state), places[one]));
    }
    ranked.sort_unstable();
    ranked.truncate(sample);
    let mut places: Vec<usize> = ranked.into_iter().map(|(_, at)| at).collect();
    places.sort_unstable();
    places.into_iter().map(|at| &MUTATIONS[at]).collect()
}

/// Vigna's `SplitMix64`: every seed gives another, even sequence.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_follows_from_its_seed_and_repeats_nothing() {
        let rules = |seed| chosen(10, seed).iter().map(|mutation| mutation.test).collect::<Vec<_>>();
        assert_eq!(rules(7), rules(7));
        assert_ne!(rules(7), rules(8));
        let all: std::collections::BTreeSet<&str> = chosen(1_000, 7).into_iter().map(|mutation| mutation.rule).collect();
        assert_eq!((all.len(), chosen(1_000, 7).len()), (60, 60), "each rule once");
    }
}
