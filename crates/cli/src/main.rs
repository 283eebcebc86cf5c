//! `switchback`: runs an installation (`up`, `server`, `worker`), and asks one over its API (everything else).
//!
//! ```text
//!   arguments ─▶ command ─▶ client ─▶ answer ─▶ table | json
//!                              └────▶ problem ─▶ what happened, what it means for the data, what to do ─▶ exit code
//! ```
//!
//! Invariants: 1. Standard output carries answers only; progress, logs and refusals go to standard error. 2. The exit code says
//! what kind of end it was; see [`exit`].

mod arguments;
mod commands;
mod connect;
mod event;
mod exit;
mod new_file;
mod output;
mod span;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments.global.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::told(&anyhow::Error::new(error).context("no runtime could be started"), output),
    };
    let done = runtime.block_on(commands::carry_out(arguments));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match done {
        Ok(code) => code,
        Err(error) => exit::told(&error, output),
    }
}
