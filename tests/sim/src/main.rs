//! Carries out many cases on all processors, and tells what it saw. `cargo xtask sim` builds and calls it.
//!
//! ```text
//!   sim --seeds 20000 [--from 1] [--kind programs|walk|plans|starts|tails] [--until-wrong]   seeds from there on, each its own kind unless said; to the
//!                                                               first that is wrong, if that is enough
//!   sim --case "plans 39 faults 17"                             one, with its outcome in full; twice, to see that it is the same
//! ```
//!
//! Exit codes: 0 nothing is wrong, 1 something is, 2 the command line can't be read.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to whoever called it")]

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use switchback_sim::{Case, Kind, Outcome, carried_out, shrunk};

const USAGE: &str = "sim --seeds N [--from S] [--kind programs|walk|plans|starts|tails], or sim --case \"plans 39 faults 17\"";
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Shrinking takes as long as some dozen cases, and the first failures are those that somebody looks at.
const MOST_SHRUNK: usize = 5;

enum Wanted {
    Seeds { from: u64, count: u64, kind: Option<Kind>, until_wrong: bool },
    One(Case),
}

fn wanted() -> Result<Wanted, String> {
    let mut words = std::env::args().skip(1);
    let (mut from, mut count, mut kind, mut until_wrong) = (1, None, None, false);
    while let Some(word) = words.next() {
        if word == "--until-wrong" {
            until_wrong = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} lacks its value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--seeds" => count = Some(number()?),
            "--from" => from = number()?,
            "--kind" => kind = Some(Kind::ALL.into_iter().find(|kind| kind.word() == value).ok_or_else(|| format!("there is no kind {value}"))?),
            "--case" => return value.parse().map(Wanted::One).map_err(|error| format!("{error}")),
            other => return Err(format!("{other} is not known")),
        }
    }
    let count = count.ok_or("say how many seeds, or which case")?;
    Ok(Wanted::Seeds { from, count, kind, until_wrong })
}

fn main() -> ExitCode {
    // A case that panics is told as a failure of that case.
    std::panic::set_hook(Box::new(|_| {}));
    match wanted() {
        Ok(Wanted::Seeds { from, count, kind, until_wrong }) => seeds(from, count, kind, until_wrong),
        Ok(Wanted::One(case)) => one(&case),
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn one(case: &Case) -> ExitCode {
    let (first, second) = (carried_out(case), carried_out(case));
    match &first {
        Ok(outcome) => println!("{case}: {outcome:#?}"),
        Err(why) => println!("{case}: {why}"),
    }
    if first != second {
        println!("{case}: the second time it was another: {second:?}");
    }
    if first.is_ok() && first == second { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Failed {
    case: Case,
    why: String,
}

fn seeds(from: u64, count: u64, kind: Option<Kind>, until_wrong: bool) -> ExitCode {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let (sum, failed) = (Mutex::new(Outcome::default()), Mutex::new(Vec::<Failed>::new()));
    let began = Instant::now();
    let told = Mutex::new(began);
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::SeqCst);
            let enough = || until_wrong && !failed.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            if place >= count || enough() {
                return;
            }
            let mut case = Case::of_seed(from + place);
            case.kind = kind.unwrap_or(case.kind);
            match carried_out(&case) {
                Ok(outcome) => sum.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome),
                Err(why) => {
                    println!("FAILED {case}: {why}");
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push(Failed { case, why });
                }
            }
            let done = done.fetch_add(1, Ordering::SeqCst) + 1;
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.elapsed() >= TOLD_EVERY {
                *told = Instant::now();
                println!("{done} of {count} seeds in {:.0} s, {} failed", began.elapsed().as_secs_f64(), failed.lock().unwrap_or_else(PoisonError::into_inner).len());
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds from {from} in {:.1} s on {threads} processors: {} violations", began.elapsed().as_secs_f64(), failed.len());
    println!("{sum}");
    for Failed { case, why } in failed.iter().take(if until_wrong { 0 } else { MOST_SHRUNK }) {
        let (small, why) = shrunk(case, why);
        println!("smallest: {small}: {why}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
