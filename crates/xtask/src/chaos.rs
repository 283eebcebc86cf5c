//! `cargo xtask chaos`: builds the product's programs and those that strike them, and carries a plan out.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{args::Args, paths};

pub(crate) const USAGE: &str = "\
cargo xtask chaos --kills N [--seed S] [--lease-seconds L] [--json] [--keep]   workers, servers and agents are killed on a real Postgres, which is
                                                    killed, cut off and filled as well; an outsider keeps count of what was done
cargo xtask chaos --store-failovers N --sync|--async [--kills K] …   the primary is killed and its standby takes over; with --async after its last
                                                    commits were held back: then all of it must be found
cargo xtask chaos --kills N --lying                 agents that lie about what happened: this must fail, or nobody looks
A seed gives the plan of strikes, not the order in which processes run.";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let mut words: Vec<String> = vec![];
    for option in ["--kills", "--seed", "--lease-seconds", "--store-failovers"] {
        if let Some(value) = args.value(option)? {
            words.extend([option.to_owned(), value]);
        }
    }
    words.extend(["--json", "--keep", "--lying", "--sync", "--async"].into_iter().filter(|flag| args.flag(flag)).map(str::to_owned));
    args.finish()?;
    cargo(&["build", "--quiet", "-p", "switchback-cli", "-p", "switchback-agent", "-p", "switchback-chaos"], &[]).context("building")?;
    cargo(&["run", "--quiet", "-p", "switchback-chaos", "--"], &words).context("it does not hold, or there is no verdict; what was found is above")
}

fn cargo(words: &[&str], more: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(words).args(more).current_dir(paths::root()).status().context("starting cargo")?;
    if status.success() { Ok(()) } else { bail!("cargo {} ended with {status}", words[0]) }
}
