//! `cargo xtask sim`: builds the simulator with optimization, and has it carry out many seeds.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{args::Args, paths};

pub(crate) const USAGE: &str = "\
cargo xtask sim --seeds N [--from S] [--kind programs|walk|plans|starts] [--until-wrong]   many worlds from seeds, in which things go wrong; nothing may be lost or doubled
cargo xtask sim --case \"plans 39 faults 17\"                         one of them, twice: its outcome in full";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let mut words: Vec<String> = vec![];
    for option in ["--seeds", "--from", "--kind", "--case"] {
        if let Some(value) = args.value(option)? {
            words.extend([option.to_owned(), value]);
        }
    }
    if args.flag("--until-wrong") {
        words.push("--until-wrong".to_owned());
    }
    args.finish()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["run", "--release", "--quiet", "-p", "switchback-sim", "--"]).args(words).current_dir(paths::root()).status();
    match status.context("starting cargo")?.code() {
        Some(0) => Ok(()),
        _ => bail!("the simulator found something, or could not run; what it says is above"),
    }
}
