//! Plans of thousands of machines: what they take beside what their steps take, and how much memory. Ratios are of one run.
//!
//!   cargo bench -p switchback-tests --bench scale -- postgres 1000
//!   cargo bench -p switchback-tests --bench scale -- postgres 10000 10     everybody ten times as quick: to see it through
//!   cargo bench -p switchback-tests --bench scale -- memory 10000
//!
//! `postgres`: a real database, worker processes, simulated agents that take their time: wall time against the critical path.
//! `memory`: simulated sites, the store in memory, virtual time: how long it takes to tell.

mod database;

use std::{fs, time::Instant};

use recovery::plan::{Plan, Work};
use simulation::{Durations, Inventory, Question, Supposed, simulate};
use workflows::PlanOptions;

/// Machines of a group: as many as a group may have.
const OF_GROUP: usize = 100;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let items: usize = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(1_000);
    match words.first().map(String::as_str) {
        Some("memory") => memory(items),
        Some("postgres") => database::run(&plan(items), words.get(2).and_then(|word| word.parse().ok()).unwrap_or(1)),
        Some("worker") => database::worker(&words[1], &words[2]),
        _ => println!("cargo bench -p switchback-tests --bench scale -- memory|postgres [ITEMS [TIMES AS QUICK]]"),
    }
}

/// Groups of a hundred machines, from `a` to `b`.
fn plan(items: usize) -> String {
    let mut text = "version: 1\nname: large\nfrom: a\nto: b\nparallel: 100\ngroups:\n".to_owned();
    for (number, first) in (0..items).step_by(OF_GROUP).enumerate() {
        let members: Vec<String> = (first..items.min(first + OF_GROUP)).map(|item| format!("{{ item: m{item:05} }}")).collect();
        text += &format!("  - name: g{number:03}\n    items: [{}]\n", members.join(", "));
    }
    text
}

fn memory(items: usize) {
    let plan = Plan::from_yaml(&plan(items)).unwrap_or_else(|error| panic!("{error}"));
    let question = Question {
        plan,
        work: Work::Unplanned,
        options: PlanOptions::default(),
        inventory: Inventory::default(),
        durations: Durations::default(),
        supposed: Supposed::default(),
        seed: 0,
    };
    let began = Instant::now();
    let told = simulate(&question).unwrap_or_else(|error| panic!("{error}"));
    let took = began.elapsed();
    println!(
        "{items} machines: {:?}, {} steps, {} ms of virtual time, {} ms of steps alone (ratio {:.4}); told in {:.1} s, peak memory {} MiB",
        told.ending,
        told.steps.len(),
        told.total_ms,
        told.critical_path_ms,
        told.total_ms as f64 / told.critical_path_ms as f64,
        took.as_secs_f64(),
        peak_kib() / 1024
    );
}

/// The most memory that this process ever had resident.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
