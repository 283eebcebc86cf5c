//! What of the chaos each run of the tests does: a few kills, one of them Postgres', and that somebody looks.
//!
//! Sixty seconds of two processors at most: it runs beside everything else. `cargo xtask chaos --kills 200` does the rest.
#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn chaos(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback-chaos"));
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn ten_kills_and_a_restart_of_the_database_lose_and_double_nothing() {
    let output = chaos(&["--kills", "10", "--seed", "953", "--json"]);
    let said = text(&output);
    let summary = said.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("there is no verdict: {said}"));
    let summary: Value = serde_json::from_str(summary).unwrap();
    // Times of takeover are for a machine that does nothing else.
    let nothing = ["lost", "doubled", "stale_accepted", "differs", "wrong"].into_iter().all(|kind| summary[kind].as_array().unwrap().is_empty());
    assert!(nothing, "{said}");
    let struck = |strike: &str| summary["strikes"].as_array().unwrap().iter().any(|one| one["strike"].as_str().unwrap().starts_with(strike));
    assert!(["Kill(Worker)", "Kill(Server)", "Kill(Agent)", "KillPostgres"].into_iter().all(struck), "{said}");
    assert!(summary["kills"].as_u64().unwrap() >= 8 && summary["effects"].as_u64().unwrap() > 100, "{said}");
}

#[test]
fn a_command_line_that_can_not_be_read_starts_nothing() {
    for words in [vec!["--kills"], vec!["--kills", "1", "--store-failovers", "1"], vec!["--kills", "1", "--lease-seconds", "1"], vec!["--bells", "1"]] {
        let output = chaos(&words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output));
    }
}
