//! A copy of the checkout in which code can be broken, with a target directory of its own.
//!
//! Invariant: the checkout is never written. What differs is brought up to date before each use, and nothing else is written, so that little
//! is built anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{paths, sh};

/// The copy.
pub(crate) struct CheckoutCopy {
    pub(crate) tree: PathBuf,
    pub(crate) target: PathBuf,
}

impl CheckoutCopy {
    /// Copies what git knows or would know.
    pub(crate) fn up_to_date(name: &str) -> Result<Self> {
        let base = paths::target().join(name);
        let copy = Self { tree: base.join("tree"), target: base.join("target") };
        let root = paths::root();
        let root_text = root.to_str().context("the checkout's path is not UTF-8")?;
        let listing = sh::output("git", &["-C", root_text, "ls-files", "--cached", "--others", "--exclude-standard"])?;
        let mut wanted = Vec::new();
        for path in listing.lines().filter(|path| root.join(path).is_file()) {
            let content = fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
            copy.put(path, &content)?;
            wanted.push(copy.tree.join(path));
        }
        wanted.sort_unstable();
        remove_others(&copy.tree, &wanted)?;
        Ok(copy)
    }

    /// A file of it.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.tree.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// Writes a file of it, if that changes anything.
    pub(crate) fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let copy = self.tree.join(path);
        if fs::read(&copy).is_ok_and(|kept| kept == content) {
            return Ok(());
        }
        let parent = copy.parent().context("a file has a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&copy, content).with_context(|| format!("cannot write {}", copy.display()))
    }
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
