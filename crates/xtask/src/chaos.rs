//! `cargo xtask chaos`: builds the product's programs and those that strike them, and carries a plan out.

use std::{
    os::unix::process::CommandExt,
    process::{Command, exit},
};

use anyhow::{Context, Result};

use crate::{args::Args, paths};

/// Without programs there is no verdict.
const NO_VERDICT: i32 = 3;

pub(crate) const USAGE: &str = "\
cargo xtask chaos --kills N [--seed S] [--lease-seconds L] [--json] [--keep]   workers, servers and agents are killed on a real Postgres, which is
                                                    killed, cut off and filled as well; an outsider keeps count of what was done
cargo xtask chaos --store-failovers N --sync|--async [--kills K] …   the primary is killed and its standby takes over; with --async after its last
                                                    commits were held back: then all of it must be found
cargo xtask chaos --kills N --lying                 agents that lie about what happened: this must fail, or nobody looks
A seed gives the plan of strikes, not the order in which processes run. What ends a session from outside, SIGKILL included, ends all that it has
started; its files stay. Exit codes: 0 all of it holds, 1 something does not, 2 the command line can't be read, 3 there is no verdict.";

/// Builds, then becomes the program: its exit codes, and whoever is told to stop is told directly.
pub(crate) fn command(args: Args) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["-p", "switchback-cli", "-p", "switchback-agent", "-p", "switchback-chaos"];
    let built = Command::new(cargo).args(["build", "--quiet"]).args(packages).current_dir(paths::root()).status().context("starting cargo")?;
    if !built.success() {
        eprintln!("there is no verdict: cargo build ended with {built}");
        exit(NO_VERDICT);
    }
    let ourselves = std::env::current_exe().context("finding this program")?;
    Err(Command::new(ourselves.with_file_name("switchback-chaos")).args(args.words()).exec()).context("starting what was built")
}
