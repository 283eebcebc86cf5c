//! `cargo xtask model`: builds the models of the store protocol (whose package is always built with optimization), and has every state of them looked at.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{args::Args, paths};

pub(crate) const USAGE: &str = "\
cargo xtask model [--full]            the protocol must hold in every state, and each variant that lacks a rule must be caught; --full takes minutes and 2 GB
cargo xtask model --part PART          the same of turns, timers, children, locks, unequal or tail alone, with its large cases
cargo xtask model --trace VARIANT     the shortest way to what goes wrong without that rule
cargo xtask model --against-postgres --seeds N [--from S] | --seed S     the store in memory and Postgres are asked the same, and must answer and keep the same";

pub(crate) fn command(mut args: Args) -> Result<()> {
    let mut words: Vec<String> = vec![];
    if args.flag("--full") {
        words.push("--full".to_owned());
    }
    if args.flag("--against-postgres") {
        words.push("--against-postgres".to_owned());
    }
    for option in ["--part", "--trace", "--seeds", "--from", "--seed"] {
        if let Some(value) = args.value(option)? {
            words.extend([option.to_owned(), value]);
        }
    }
    args.finish()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["run", "--quiet", "-p", "switchback-model", "--"]).args(words).current_dir(paths::root()).status();
    match status.context("starting cargo")?.code() {
        Some(0) => Ok(()),
        _ => bail!("the protocol is violated, a variant is not caught, the stores differ, or the models could not run; what they say is above"),
    }
}
