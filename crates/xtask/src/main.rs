//! `cargo xtask`: what a developer or a tester of this checkout runs. Knows the product only by its command line.

mod args;
mod chaos;
mod check;
mod checkout_copy;
mod demo;
mod dist;
mod guest;
mod lab;
mod model;
mod mutate;
mod paths;
mod rules;
mod setup;
mod sh;
mod sim;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

use args::Args;

const USAGE: &str = "\
cargo xtask demo      a real machine fails over while its orchestrator is being killed
cargo xtask test      set-up, all tests, clippy, tidy
cargo xtask setup     installs what demo and test need, after consent
cargo xtask rules     breaks the code behind rules of recovery; their tests must notice
cargo xtask sim       many simulated worlds in which things go wrong; nothing may be lost or doubled
cargo xtask mutate    breaks the engine and its SQL; simulator, contract suite, races or lost tails must notice
cargo xtask chaos     real processes on a real Postgres, killed; nothing may be lost or doubled
cargo xtask model     every state that small models of the store protocol can come to, with all rules and without each
cargo xtask tidy      checks the limits of crates/STYLE.md
cargo xtask dist      a tarball and a Debian package, proven to hold what they should
cargo xtask lab       two libvirt sites on this machine, for trying things out
`cargo xtask TASK --help` says more.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = Args::new(std::env::args_os().skip(1))?;
    let task = args.subcommand();
    if args.flag("--help") {
        println!("{}", usage(task.as_deref()));
        return Ok(());
    }
    match task.as_deref() {
        Some("demo") => demo::command(args),
        Some("setup") => setup::command(args),
        Some("test") => check::command(args),
        Some("rules") => rules::command(args),
        Some("mutate") => mutate::command(args),
        Some("sim") => sim::command(args),
        Some("chaos") => chaos::command(args),
        Some("model") => model::command(args),
        Some("tidy") => tidy::command(args),
        Some("dist") => dist::command(args),
        Some("lab") => lab::command::run(args),
        Some(other) => bail!("no such task: {other}\n{USAGE}"),
        None => bail!("which task?\n{USAGE}"),
    }
}

fn usage(task: Option<&str>) -> &'static str {
    match task {
        Some("demo") => demo::USAGE,
        Some("setup") => setup::USAGE,
        Some("test") => check::USAGE,
        Some("rules") => rules::USAGE,
        Some("mutate") => mutate::USAGE,
        Some("sim") => sim::USAGE,
        Some("chaos") => chaos::USAGE,
        Some("model") => model::USAGE,
        Some("dist") => dist::USAGE,
        Some("lab") => lab::command::USAGE,
        _ => USAGE,
    }
}
