//! `cargo xtask tidy`: the limits of `crates/STYLE.md` and the arrows of `crates/ARCHITECTURE.md` that a program can check.

mod arrows;
mod rust;
mod source;
mod sql;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::{paths, sh};

/// Something that must be changed, and where.
pub(crate) struct Finding {
    path: String,
    line: usize,
    said: String,
}

/// The file under examination, relative to the root.
pub(crate) struct Place<'a> {
    path: &'a str,
}

impl Place<'_> {
    fn at(&self, line: usize, said: &str) -> Finding {
        Finding { path: self.path.to_owned(), line, said: said.to_owned() }
    }

    fn stem(&self) -> &str {
        Path::new(self.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Files that hold nothing but tests, by where they are. What suites share (`tests/src`) is code like any other, and so are benches.
    fn is_test(&self) -> bool {
        let code = ["tests/src/", "tests/benches/", "tests/chaos/src/"].iter().any(|start| self.path.starts_with(start));
        !code && self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.said)
    }
}

pub(crate) fn command(args: Args) -> Result<()> {
    args.finish()?;
    run()
}

/// Checks the whole tree and prints what it finds. Fails when it finds something.
pub(crate) fn run() -> Result<()> {
    let (files, found) = examine(paths::root())?;
    for finding in &found {
        println!("{finding}");
    }
    if !found.is_empty() {
        bail!("tidy: {} findings in {files} files", found.len());
    }
    println!("tidy: {files} files, nothing to find");
    Ok(())
}

fn examine(root: &Path) -> Result<(usize, Vec<Finding>)> {
    let root_text = root.to_str().context("the checkout's path is not UTF-8")?;
    let listing = sh::output("git", &["-C", root_text, "ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut found = Vec::new();
    let mut files = 0;
    for path in listing.lines() {
        let file = root.join(path);
        let end = file.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let manifest = path.ends_with("Cargo.toml");
        if !file.is_file() || !(manifest || matches!(end, "rs" | "sql")) {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        let place = Place { path };
        files += 1;
        match end {
            "rs" => {
                rust::check(&place, &text, &mut found);
                sql::check_literals(&place, &text, &mut found);
            }
            "sql" => sql::check_file(&place, &text, &mut found),
            _ => arrows::check(&place, &text, &mut found),
        }
    }
    Ok((files, found))
}
