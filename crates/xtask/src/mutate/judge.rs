//! Who has to notice a planted defect.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::checkout_copy::CheckoutCopy;

/// Seeds of the simulator for each defect: most are caught within the first dozen.
const SEEDS: &str = "400";

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judge {
    /// The simulator.
    Simulator,
    /// The contract suite on Postgres.
    Contract,
    /// The races that Postgres decides.
    Races,
    /// Clusters that come back without their last commits.
    Tail,
}

/// What it says.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Something is wrong, in its words.
    Caught(String),
    /// Nothing is.
    Escaped,
}

impl Judge {
    const ALL: [Self; 4] = [Self::Simulator, Self::Contract, Self::Races, Self::Tail];

    /// For people, and in patches.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Simulator => "simulator",
            Self::Contract => "contract",
            Self::Races => "races",
            Self::Tail => "tail",
        }
    }

    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|judge| judge.word() == word)
    }

    pub(super) fn words() -> String {
        Self::ALL.map(Self::word).join(", ")
    }

    /// Builds the copy, and asks.
    pub(super) fn of(self, copy: &CheckoutCopy) -> Result<Verdict> {
        let (package, kind): (&str, &[&str]) = match self {
            Self::Simulator => ("switchback-sim", &[]),
            Self::Contract => ("switchback-store", &["--test", "contract"]),
            Self::Races => ("switchback-store", &["--test", "races"]),
            Self::Tail => ("switchback-store", &["--test", "lost_tail"]),
        };
        let (build, run) = match self {
            Self::Simulator => (vec!["build", "--release", "-p", package], vec!["run", "--release", "-q", "-p", package, "--", "--until-wrong", "--seeds", SEEDS]),
            Self::Contract | Self::Races | Self::Tail => ([&["test", "-p", package, "--no-run"], kind].concat(), [&["test", "-q", "-p", package], kind].concat()),
        };
        let built = cargo(copy, &build)?;
        if !built.status.success() {
            bail!("it does not build:\n{}", String::from_utf8_lossy(&built.stderr));
        }
        let ran = cargo(copy, &run)?;
        if ran.status.success() {
            return Ok(Verdict::Escaped);
        }
        let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let telling = said.lines().find(|line| line.starts_with("FAILED ") || line.contains("panicked at") || line.contains("has not ended after"));
        let telling = telling.map(|line| line.trim().chars().take(200).collect()).with_context(|| format!("it failed without saying why:\n{said}"))?;
        Ok(Verdict::Caught(telling))
    }
}

fn cargo(copy: &CheckoutCopy, words: &[&str]) -> Result<std::process::Output> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).current_dir(&copy.tree).env("CARGO_TARGET_DIR", &copy.target).env_remove("RUSTFLAGS").stdin(Stdio::null());
    // Built often and run briefly.
    command.envs([("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"), ("CARGO_PROFILE_RELEASE_INCREMENTAL", "true"), ("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_DEBUG", "0")]);
    command.output().context("cannot start cargo")
}
