//! Looks at all cases and variants, and tells what it found. `cargo xtask model` builds and calls it.
//!
//! ```text
//!   model [--full]            every case of the usual size, and every variant; with --full the large ones as well
//!   model --part PART         the same of one model, the large cases as well
//!   model --trace VARIANT     the shortest way to what goes wrong without that rule
//!   model --against-postgres --seeds N [--from S]      the store in memory and Postgres are asked the same, and must answer the same
//!   model --against-postgres --seed S                  one of these worlds, with all that is asked
//! ```
//!
//! Exit codes: 0 the protocol holds and every variant is caught, 1 not so, 2 the command line can't be read.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to whoever called it")]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use switchback_model::{Compared, Found, Protocol, STUCK, Size, Variant, Verdict, compare_all, protocols, twin, variants};

const USAGE: &str = "model [--full], model --part PART, model --trace VARIANT, or model --against-postgres --seeds N [--from S] | --seed S";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => all(Size::Usual, None),
        ["--full"] => all(Size::Full, None),
        ["--part", part] if protocols().iter().any(|case| case.part == *part) => all(Size::Full, Some(part)),
        ["--trace", name] => trace(name),
        ["--against-postgres", "--seeds", count] => number(count).map_or_else(misread, |count| against(1, count)),
        ["--against-postgres", "--seeds", count, "--from", from] => number(count).and_then(|count| Ok((number(from)?, count))).map_or_else(misread, |(from, count)| against(from, count)),
        ["--against-postgres", "--seed", seed] => number(seed).map_or_else(misread, told),
        _ => misread(format!("not understood: {}", words.join(" "))),
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it ends results whose error is the reason")]
fn misread(why: String) -> ExitCode {
    eprintln!("{why}\n{USAGE}");
    ExitCode::from(2)
}

fn against(from: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    match compare_all(from..from + count, |difference| println!("DIFFERENT {difference}")) {
        Ok(Compared { answers, differences }) => {
            let asked: u64 = answers.values().sum();
            let kinds: Vec<String> = answers.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            println!("{}", kinds.join(", "));
            println!("{count} seeds from {from}, {asked} questions in {:.1} s: {} differences", began.elapsed().as_secs_f64(), differences.len());
            if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn told(seed: u64) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return misread(error.to_string()),
    };
    let compared = runtime.block_on(async { twin::compare(&store::testing::StillDatabase::new().await, seed, |asked| println!("{asked}")).await });
    match compared {
        Ok(answers) => {
            println!("no difference in {} questions", answers.values().sum::<u64>());
            ExitCode::SUCCESS
        }
        Err(difference) => {
            println!("DIFFERENT {difference}");
            ExitCode::FAILURE
        }
    }
}

/// Work on all processors; the order of what is said is that of who is done.
fn each<T: Sync>(items: &[T], look: impl Fn(&T) -> bool + Sync) -> usize {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) {
            failed.fetch_add(usize::from(!look(item)), Ordering::SeqCst);
        }
    };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner()
}

fn all(size: Size, part: Option<&str>) -> ExitCode {
    let began = Instant::now();
    let wanted = |of: &str| part.is_none_or(|part| part == of);
    let (mut cases, mut variants) = (protocols(), variants());
    cases.retain(|case| case.size <= size && wanted(case.part));
    variants.retain(|variant| wanted(variant.part));
    let violated = each(&cases, holds);
    let missed = each(&variants, caught);
    let seconds = began.elapsed().as_secs_f64();
    println!("{} cases of the protocol, {violated} violated; {} variants, {missed} not as expected; {seconds:.1} s", cases.len(), variants.len());
    if violated + missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn holds(case: &Protocol) -> bool {
    let verdict = (case.look)();
    let holds = verdict.found == Found::Holds;
    let said = if holds { "holds".to_owned() } else { said(&verdict) };
    println!("{:<8} {:<96} {:>10} states {:>7.1} s  {said}", case.part, case.name, verdict.states, verdict.took.as_secs_f64());
    if holds && verdict.states != case.states {
        println!("{:<8} {}: {} states were counted before: the model has changed", case.part, case.name, case.states);
    }
    holds && verdict.states == case.states
}

fn caught(variant: &Variant) -> bool {
    let Some(verdict) = variant.caught() else { return false };
    let caught = verdict.found != Found::Holds;
    let said = match (caught, variant.second_line) {
        (true, _) => said(&verdict),
        (false, true) => "nothing, as expected: a second line of defence".to_owned(),
        (false, false) => "NOTHING GOES WRONG: the model says nothing about this rule".to_owned(),
    };
    println!("{:<8} variant {:<88} {:>10} states {:>7.1} s  {said}", variant.part, variant.name, verdict.states, verdict.took.as_secs_f64());
    caught != variant.second_line
}

fn said(verdict: &Verdict) -> String {
    match &verdict.found {
        Found::Holds => "holds".to_owned(),
        Found::Wrong { broken, way } => format!("not any more: {} ({} steps)", broken.join("; "), way.len()),
        Found::Stuck { states, way } => format!("not any more: {STUCK} ({states} states, the nearest after {} steps)", way.len()),
        Found::TooMany => "too many states to tell".to_owned(),
    }
}

fn trace(name: &str) -> ExitCode {
    let Some(variant) = variants().into_iter().find(|variant| variant.name == name) else {
        let names: Vec<&str> = variants().iter().map(|variant| variant.name).collect();
        eprintln!("there is no variant {name}; there are {}", names.join(", "));
        return ExitCode::from(2);
    };
    let Some(verdict) = variant.caught() else { return ExitCode::FAILURE };
    println!("{name}: {}", said(&verdict));
    match &verdict.found {
        Found::Wrong { way, .. } | Found::Stuck { way, .. } => way.iter().enumerate().for_each(|(at, step)| println!("{:>4}  {step}", at + 1)),
        Found::Holds | Found::TooMany => {}
    }
    ExitCode::SUCCESS
}
