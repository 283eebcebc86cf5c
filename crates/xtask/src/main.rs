//! `cargo xtask`: what a developer or a tester of this checkout runs. Knows the product only by its command line.

mod args;
mod guest;
mod lab;
mod paths;
mod setup;
mod sh;

use std::process::ExitCode;

use anyhow::{Result, bail};

use args::Args;

const USAGE: &str = "\
cargo xtask lab …";

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
    match args.subcommand().as_deref() {
        Some("setup") => setup::command(args),
        Some("lab") => lab::command::run(args),
        Some(other) => bail!("no such task: {other}\n{USAGE}"),
        None => bail!("what?\n{USAGE}"),
    }
}
