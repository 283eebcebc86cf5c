//! A defect: a patch whose first line says who has to notice it, and what is wrong then.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};

use super::{
    in_force,
    judge::{Judge, Verdict},
};
use crate::{checkout_copy::CheckoutCopy, paths};

/// Where they are kept, one a file.
const FOLDER: &str = "tests/defects";

/// One that can be planted.
#[derive(Debug)]
pub(super) struct Defect {
    /// What is wrong then.
    pub(super) says: String,
    /// Who has to notice.
    pub(super) judge: Judge,
    /// Its file's name.
    name: String,
    /// Files that it changes.
    files: Vec<String>,
}

/// All, by judge and name.
pub(super) fn all() -> Result<Vec<Defect>> {
    let folder = paths::root().join(FOLDER);
    let mut found = vec![];
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no name in UTF-8", path.display()))?.to_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        in_force::check(&paths::root().join("migrations"), &text).with_context(|| format!("{FOLDER}/{name} plants nothing"))?;
        found.push(read(&name, &text)?);
    }
    found.sort_by(|a, b| (a.judge, &a.name).cmp(&(b.judge, &b.name)));
    Ok(found)
}

fn read(name: &str, text: &str) -> Result<Defect> {
    let head = text.lines().next().and_then(|line| line.split_once(": "));
    let (judge, says) = head.with_context(|| format!("{FOLDER}/{name}: the first line has to be `judge: what is wrong`"))?;
    let Some(judge) = Judge::named(judge) else { bail!("{FOLDER}/{name}: there is no judge {judge:?}; there are {}", Judge::words()) };
    let files: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned).collect();
    if files.is_empty() {
        bail!("{FOLDER}/{name}: it changes nothing");
    }
    Ok(Defect { says: says.to_owned(), judge, name: name.to_owned(), files })
}

impl Defect {
    /// What its judge says with it planted. The copy is mended afterwards, whatever came of it.
    pub(super) fn planted_in(&self, copy: &CheckoutCopy) -> Result<Verdict> {
        let before: Vec<String> = self.files.iter().map(|file| copy.read(file)).collect::<Result<_>>()?;
        self.plant(copy)?;
        let said = self.judge.of(copy).with_context(|| format!("{}: {}", self.name, self.says));
        for (file, content) in self.files.iter().zip(&before) {
            copy.put(file, content.as_bytes())?;
        }
        said
    }

    fn plant(&self, copy: &CheckoutCopy) -> Result<()> {
        let patch = paths::root().join(FOLDER).join(&self.name);
        let mut git = Command::new("git");
        // The copy is no part of the repository around it.
        git.arg("apply").arg(&patch).current_dir(&copy.tree).env("GIT_CEILING_DIRECTORIES", copy.tree.parent().unwrap_or(&copy.tree));
        let out = git.output().context("cannot start git")?;
        if !out.status.success() {
            bail!("{FOLDER}/{} does not apply any more; bring it up to date:\n{}", self.name, String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

    use super::*;

    #[test]
    fn every_defect_names_its_judge_and_applies_to_the_code_as_it_is() {
        let defects = all().unwrap();
        assert!(defects.len() >= 20, "{}", defects.len());
        for defect in defects {
            let patch = paths::root().join(FOLDER).join(&defect.name);
            let out = Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(paths::root()).output().unwrap();
            assert!(out.status.success(), "{}: {}", defect.name, String::from_utf8_lossy(&out.stderr));
        }
    }
}
