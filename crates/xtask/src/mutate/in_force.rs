//! Whether a defect breaks what is in force: a function of a migration may be replaced by a later one, and nobody notices what is wrong with it then.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

const BEFORE_ITS_NAME: [&str; 2] = ["create function ", "create or replace function "];

/// Fails if a patch changes a function that a later migration replaces or drops.
pub(super) fn check(migrations: &Path, patch: &str) -> Result<()> {
    let mut file = None;
    let mut lines = patch.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("--- a/migrations/") {
            file = Some(name);
        } else if line.starts_with("--- ") {
            file = None;
        }
        let (Some(file), Some(hunk)) = (file, line.strip_prefix("@@ -")) else { continue };
        let first: usize = hunk.split([',', ' ']).next().and_then(|number| number.parse().ok()).with_context(|| format!("{line:?} is no hunk"))?;
        let text = fs::read_to_string(migrations.join(file)).with_context(|| format!("cannot read {file}"))?;
        let unchanged = lines.clone().take_while(|line| line.starts_with(' ') || line.is_empty()).count();
        let Some(function) = text.lines().take(first + unchanged).filter_map(begun).last() else { continue };
        if let Some(later) = replaced_by(migrations, file, function)? {
            bail!("it changes {function} in {file}, which {later} replaces; plant it there");
        }
    }
    Ok(())
}

/// The name of the function that this line begins.
fn begun(line: &str) -> Option<&str> {
    BEFORE_ITS_NAME.iter().find_map(|words| line.strip_prefix(words))?.split('(').next()
}

fn replaced_by(migrations: &Path, file: &str, function: &str) -> Result<Option<String>> {
    let ours = version(file)?;
    for entry in fs::read_dir(migrations).with_context(|| format!("cannot list {}", migrations.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".sql") || version(&name)? <= ours {
            continue;
        }
        let text = fs::read_to_string(migrations.join(&name)).with_context(|| format!("cannot read {name}"))?;
        let dropped = format!("drop function {function}(");
        if text.lines().any(|line| begun(line) == Some(function) || line.starts_with(&dropped)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn version(file: &str) -> Result<u32> {
    let digits = file.strip_prefix('V').and_then(|rest| rest.split_once("__")).map(|(digits, _)| digits);
    digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("{file} is not named like a migration"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

    use super::*;

    #[test]
    fn a_defect_of_a_function_that_is_replaced_later_is_told_with_the_place_where_it_counts() {
        let folder = std::env::temp_dir().join(format!("in-force-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("V1__a.sql"), "create function engine.f(a int)\nbody of f;\ncreate function engine.g()\nbody of g;\n").unwrap();
        fs::write(folder.join("V12__b.sql"), "create or replace function engine.f(a int)\nanother;\n").unwrap();
        let of = |file: &str, line: u32| format!("--- a/migrations/{file}\n+++ b/migrations/{file}\n@@ -{line},1 +{line},1 @@\n");
        let told = check(&folder, &of("V1__a.sql", 2)).unwrap_err().to_string();
        assert_eq!(told, "it changes engine.f in V1__a.sql, which V12__b.sql replaces; plant it there");
        for (file, line) in [("V1__a.sql", 4), ("V12__b.sql", 2)] {
            check(&folder, &of(file, line)).unwrap();
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
