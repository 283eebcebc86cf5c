//! Rules' lines, broken in a copy of the checkout, and what their tests say then.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::table::Mutation;
use crate::checkout_copy::CheckoutCopy;

/// The crate that holds what is broken and its tests: a function of values, and built in seconds.
const PACKAGE: &str = "switchback-recovery";

pub(super) struct Scratch(CheckoutCopy);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        CheckoutCopy::up_to_date("rules").map(Self)
    }

    /// Fails unless each of these tests exists and passes as the code is.
    pub(super) fn passes_unbroken(&self, chosen: &[&Mutation]) -> Result<()> {
        let binary = self.built()?;
        for mutation in chosen {
            let said = verdict(&binary, mutation)?;
            if said != Verdict::Passed {
                bail!("rule {}: {} should pass as the code is, but: {said:?}", mutation.rule, mutation.test);
            }
        }
        Ok(())
    }

    /// Whether the rule's test fails when its line is broken. The copy is mended afterwards, whatever came of it.
    pub(super) fn notices(&self, mutation: &Mutation) -> Result<bool> {
        let Mutation { rule, file, old, new, .. } = mutation;
        let content = self.0.read(file).with_context(|| format!("rule {rule}"))?;
        let broken = super::table::broken(&content, mutation)?;
        self.0.put(file, broken.as_bytes())?;
        let said = self.built().with_context(|| format!("rule {rule}: {file} does not build with {new:?} in the place of {old:?}"));
        let said = said.and_then(|binary| verdict(&binary, mutation));
        self.0.put(file, content.as_bytes())?;
        match said? {
            Verdict::Failed => Ok(true),
            Verdict::Passed => Ok(false),
            Verdict::NotThere => bail!("rule {rule}: there is no test {}", mutation.test),
        }
    }

    /// Builds the crate's tests and returns their program.
    fn built(&self) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["test", "--quiet", "--lib", "--no-run", "--message-format=json", "--package", PACKAGE]);
        command.current_dir(&self.0.tree).env("CARGO_TARGET_DIR", &self.0.target).env_remove("RUSTFLAGS").stderr(Stdio::null());
        let out = command.stdin(Stdio::null()).output().context("cannot start cargo")?;
        let told = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            bail!("cargo could not build {PACKAGE}: {}", errors(&told));
        }
        let programs = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let program = programs.filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from)).next_back();
        program.context("cargo named no test program")
    }
}

/// What a test came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    NotThere,
}

fn verdict(binary: &Path, mutation: &Mutation) -> Result<Verdict> {
    let test = mutation.test.split_once("::").map_or(mutation.test, |(_, path)| path);
    // Snapshots of an unbroken tree must not be taken for new ones here.
    let mut command = Command::new(binary);
    command.args(["--exact", test]).env("INSTA_UPDATE", "no").env_remove("UPDATE_STATES");
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", binary.display()))?;
    let said = String::from_utf8_lossy(&out.stdout);
    let line = said.lines().find(|line| line.starts_with(&format!("test {test} ... ")));
    Ok(match line {
        None => Verdict::NotThere,
        Some(line) if line.ends_with(" ok") => Verdict::Passed,
        Some(_) => Verdict::Failed,
    })
}

fn errors(told: &str) -> String {
    let messages = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let rendered = messages.filter_map(|message| message.get("message")?.get("rendered")?.as_str().map(str::to_owned));
    rendered.filter(|text| text.starts_with("error")).take(3).collect::<Vec<_>>().join("")
}
