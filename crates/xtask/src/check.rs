//! `cargo xtask test`: set-up, all tests, clippy, tidy, and ten rules of recovery whose code is broken. Runs all of them even if one fails, and ends with one line each.
//!
//! A test that lacks root or QEMU passes and prints `SKIPPED (needs …): name`; those are counted here, so that a green
//! run cannot hide that it proved little. With `SWITCHBACK_REQUIRE_KVM=1` such a test fails instead.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::setup::{self, Scope};
use crate::{paths, rules, sh, tidy};

pub(crate) const USAGE: &str = "cargo xtask test [--yes]";

const SKIPPED: &str = "SKIPPED (";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let yes = args.flag("--yes");
    args.finish()?;
    prepare(yes)?;
    let lines = [("tests", tests()), ("clippy", clippy()), ("tidy", tidy::run().map(|()| "clean".to_owned())), ("rules", rules::sample())];
    println!();
    let mut failed = false;
    for (what, outcome) in lines {
        match outcome {
            Ok(said) => println!("{what:<7} ok      {said}"),
            Err(error) => {
                failed = true;
                println!("{what:<7} FAILED  {error:#}");
            }
        }
    }
    if failed { bail!("not everything is well") } else { Ok(()) }
}

/// Without root the machines cannot be had: then the rest is tested, unless that was forbidden.
fn prepare(yes: bool) -> Result<()> {
    let required = std::env::var_os("SWITCHBACK_REQUIRE_KVM").is_some_and(|value| value == "1");
    let root = rustix::process::geteuid().is_root();
    if root || required {
        return setup::run(Scope::TestsWithMachines, yes);
    }
    for lack in setup::missing(Scope::Real)? {
        println!("not here: {lack}");
    }
    println!("without root: tests with real machines will be skipped");
    setup::run(Scope::Tests, yes)
}

/// Returns the summary of the run.
fn tests() -> Result<String> {
    cargo(&["build", "--workspace", "--bins"])?;
    if !sh::have("cargo-nextest") {
        cargo(&["test", "--workspace", "--no-fail-fast"])?;
        return Ok("by `cargo test`: skipped tests were not counted".into());
    }
    let report = paths::target().join("nextest/default/junit.xml");
    if report.exists() {
        fs::remove_file(&report)?; // an old report must not speak for this run
    }
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/nextest.toml");
    let ran = cargo(&["nextest", "run", "--workspace", "--config-file", config]);
    let summary = fs::read_to_string(&report).map(|text| summarize(&text));
    match (ran, summary) {
        (Ok(()), Ok(summary)) => Ok(summary),
        (Err(error), Ok(summary)) => Err(error).context(summary),
        (ran, Err(error)) => ran.and(Err(error).context("nextest wrote no report")),
    }
}

fn clippy() -> Result<String> {
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // What `demo --simulated` builds where there is no libvirt.
    cargo(&["clippy", "--package", "switchback-agent", "--no-default-features", "--", "-D", "warnings"])?;
    Ok("no warnings".into())
}

/// Runs cargo on our terminal. The tests are told where this program is: they build their labs with it. That it is not asked
/// for its own path has a reason: cargo may have replaced it meanwhile.
fn cargo(args: &[&str]) -> Result<()> {
    println!("\n$ cargo {}", args.join(" "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(paths::root()).env("SWITCHBACK_XTASK", paths::target().join("debug/xtask"));
    sh::show(&mut command)
}

/// One line about a JUnit report, and the names of the tests that were skipped.
fn summarize(report: &str) -> String {
    let suites = report.lines().find(|line| line.trim_start().starts_with("<testsuites")).unwrap_or_default();
    let number = |key: &str| {
        let from = suites.split_once(&format!(" {key}=\"")).map(|(_, rest)| rest);
        from.and_then(|rest| rest.split('"').next()).unwrap_or("?").to_owned()
    };
    let skipped: Vec<&str> = report.lines().filter_map(|line| line.find(SKIPPED).map(|at| line[at..].trim())).collect();
    let mut said = format!("{} run, {} failed, {} skipped", number("tests"), number("failures"), skipped.len());
    for line in skipped {
        said.push_str(&format!("\n        {}", line.trim_end_matches("</system-out>").trim_end_matches("</system-err>")));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_counted_and_named() {
        let report = "<testsuites name=\"r\" tests=\"3\" failures=\"1\" errors=\"0\">\n\
                      <system-out>\nrunning 1 test\nSKIPPED (needs root and QEMU): a_fence_is_proven\n</system-out>\n";
        let expected = "3 run, 1 failed, 1 skipped\n        SKIPPED (needs root and QEMU): a_fence_is_proven";
        assert_eq!(summarize(report), expected);
    }
}
