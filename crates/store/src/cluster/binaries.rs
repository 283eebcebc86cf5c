//! Finds the programs of Postgres: where somebody says, else the newest that the system's packages put in their usual places.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::ClusterError;

/// Oldest major version that the statements were tested on.
pub(super) const LEAST_MAJOR: u32 = 15;

/// Directories of the programs, each holding one version below it.
const HOMES: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
];

/// The programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// Those of `major` if a cluster of it exists in `cluster`, else the newest.
    pub(super) fn find(major: Option<&str>, cluster: &Path) -> Result<Self, ClusterError> {
        let candidates = candidates();
        let mut found: Vec<Self> = candidates.iter().filter_map(|dir| at(dir)).collect();
        if let Some(major) = major {
            found.retain(|binaries| binaries.major.to_string() == major);
            let missing = || ClusterError::OtherMajor { dir: cluster.to_owned(), found: major.to_owned() };
            return found.into_iter().next().ok_or_else(missing);
        }
        let looked = || candidates.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
        found.into_iter().next().ok_or_else(|| ClusterError::NoBinaries { looked: looked() })
    }
}

/// Best first: named by hand, then packages from the newest, then the search path.
fn candidates() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("SWITCHBACK_PG_BIN") {
        return vec![named.into()];
    }
    let mut packaged: Vec<(u32, PathBuf)> = HOMES.iter().flat_map(|(home, below)| versions(Path::new(home), below)).collect();
    packaged.sort_by(|a, b| b.cmp(a));
    let path = env::var_os("PATH").unwrap_or_default();
    packaged.into_iter().map(|(_, dir)| dir).chain(env::split_paths(&path)).collect()
}

/// `15`, `pgsql-15` and `postgresql@15` below `home`.
fn versions(home: &Path, below: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(home) else { return vec![] };
    let version = |name: &str| {
        let plain = home.ends_with("postgresql").then_some(name);
        let digits = name.strip_prefix("pgsql-").or_else(|| name.strip_prefix("postgresql@")).or(plain)?;
        digits.parse::<u32>().ok()
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.path());
    names.filter_map(|path| Some((version(path.file_name()?.to_str()?)?, path.join(below)))).collect()
}

/// The version in `dir`, if it has all programs and is new enough.
fn at(dir: &Path) -> Option<Binaries> {
    if !dir.join("initdb").exists() {
        return None;
    }
    let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
    let dir = fs::canonicalize(dir.join("postgres")).ok()?.parent()?.to_owned();
    (major >= LEAST_MAJOR).then_some(Binaries { dir, major })
}

/// From a text such as `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major_of(text: &str) -> Option<u32> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta2"), Some(18));
        assert_eq!(major_of("bash: postgres: not found"), None);
    }
}
