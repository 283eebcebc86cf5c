//! A copy of the checkout in which code is broken, with a target directory of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::table::Mutation;
use crate::{paths, sh};

/// The crate that holds what is broken and its tests: a function of values, and built in seconds.
const PACKAGE: &str = "switchback-recovery";

pub(super) struct Scratch {
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Copies what git knows or would know; only what differs is written, so that little is built anew.
    pub(super) fn new() -> Result<Self> {
        let base = paths::target().join("rules");
        let scratch = Self { tree: base.join("tree"), target: base.join("target") };
        let root = paths::root();
        let root_text = root.to_str().context("the checkout's path is not UTF-8")?;
        let listing = sh::output("git", &["-C", root_text, "ls-files", "--cached", "--others", "--exclude-standard"])?;
        let mut wanted = Vec::new();
        for path in listing.lines().filter(|path| root.join(path).is_file()) {
            let content = fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
            scratch.put(path, &content)?;
            wanted.push(scratch.tree.join(path));
        }
        wanted.sort_unstable();
        remove_others(&scratch.tree, &wanted)?;
        Ok(scratch)
    }

    fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let copy = self.tree.join(path);
        if fs::read(&copy).is_ok_and(|kept| kept == content) {
            return Ok(());
        }
        let parent = copy.parent().context("a file has a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&copy, content).with_context(|| format!("cannot write {}", copy.display()))
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
        let content = fs::read_to_string(self.tree.join(file)).with_context(|| format!("rule {rule}: cannot read {file}"))?;
        let broken = super::table::broken(&content, mutation)?;
        self.put(file, broken.as_bytes())?;
        let said = self.built().with_context(|| format!("rule {rule}: {file} does not build with {new:?} in the place of {old:?}"));
        let said = said.and_then(|binary| verdict(&binary, mutation));
        self.put(file, content.as_bytes())?;
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
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).env_remove("RUSTFLAGS").stderr(Stdio::null());
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

/// What the checkout has no more must not be built either.
fn remove_others(dir: &Path, wanted: &[PathBuf]) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if wanted.binary_search(&path).is_err() && path.file_name().is_none_or(|name| name != "Cargo.lock") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
