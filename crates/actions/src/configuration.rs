//! `actions.yaml`: which commands plans may name, and how strange SSH servers are met.
//!
//! ```yaml
//! version: 1
//! ssh:
//!   unknown-hosts: refuse            # learn: the key that is seen first is kept in known_hosts
//! commands:
//!   - name: move-address
//!     program: /usr/local/sbin/move-address
//!     arguments: [--from-plan]       # first, always
//!     allowed: ['[0-9.]+', 'up|down']   # one pattern for each further argument; it must match the whole of it
//!     directory: /var/lib/move-address
//!     user: netops
//!     within: 2m
//! ```
//!
//! Invariants: 1. An unknown key is refused. 2. A command's program is an absolute path to a file that nobody but root and this agent's
//! user can write. 3. An agent that runs as root runs a command as the user that it names.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use recovery::{CommandName, span::Span};
use regex_lite::Regex;
use serde::Deserialize;

use crate::owned::{self, NotOwned};

/// The only format that there is.
const VERSION: u32 = 1;
/// Most commands, and most patterns of one.
const MOST_COMMANDS: usize = 200;
const MOST_PATTERNS: usize = 64;

/// What an agent allows.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Configuration {
    version: u32,
    #[serde(default)]
    pub(crate) ssh: SshSettings,
    #[serde(default)]
    pub(crate) commands: Vec<Allowed>,
}

/// How SSH servers are met.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SshSettings {
    #[serde(default)]
    pub(crate) unknown_hosts: UnknownHosts,
}

/// What becomes of a server whose key is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnknownHosts {
    /// Nothing is sent to it.
    #[default]
    Refuse,
    /// Its key is kept, and from then on no other one is taken.
    Learn,
}

/// A command that plans may name.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Allowed {
    pub(crate) name: CommandName,
    pub(crate) program: PathBuf,
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    #[serde(default)]
    pub(crate) allowed: Vec<String>,
    #[serde(default = "root_directory")]
    pub(crate) directory: PathBuf,
    pub(crate) user: Option<String>,
    #[serde(default = "five_minutes")]
    pub(crate) within: Span,
}

fn root_directory() -> PathBuf {
    PathBuf::from("/")
}

fn five_minutes() -> Span {
    Span::seconds(300)
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
}

/// Why the configuration is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotUsable {
    #[error(transparent)]
    File(#[from] NotOwned),
    #[error("{} can't be read: {why}", path.display())]
    Form { path: PathBuf, why: String },
    #[error("{} is of format {found}, this build reads {VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("{} has {count} commands, {MOST_COMMANDS} are read", path.display())]
    TooMany { path: PathBuf, count: usize },
    #[error("command {0} stands there twice")]
    Twice(CommandName),
}

impl NotUsable {
    pub(crate) fn advice(&self) -> String {
        match self {
            Self::File(why) => why.advice(),
            Self::Form { .. } | Self::Version { .. } | Self::TooMany { .. } | Self::Twice(_) => {
                "correct it, then look with `switchback-agent actions check`".to_owned()
            }
        }
    }
}

/// Where it is.
pub(crate) fn path_of(dir: &Path) -> PathBuf {
    dir.join("actions.yaml")
}

impl Configuration {
    /// Reads it; without one nothing is allowed.
    pub(crate) fn read(dir: &Path) -> Result<Self, NotUsable> {
        let path = path_of(dir);
        let text = match owned::configuration(&path) {
            Ok(text) => text,
            Err(NotOwned::Missing(_)) => return Ok(Self { version: VERSION, ssh: SshSettings::default(), commands: vec![] }),
            Err(why) => return Err(why.into()),
        };
        let read: Self = serde_saphyr::from_str(&text).map_err(|error| NotUsable::Form { path: path.clone(), why: error.to_string() })?;
        if read.version != VERSION {
            return Err(NotUsable::Version { path, found: read.version });
        }
        if read.commands.len() > MOST_COMMANDS {
            return Err(NotUsable::TooMany { path, count: read.commands.len() });
        }
        let mut seen = BTreeSet::new();
        match read.commands.iter().find(|command| !seen.insert(&command.name)) {
            Some(twice) => Err(NotUsable::Twice(twice.name.clone())),
            None => Ok(read),
        }
    }
}

impl Allowed {
    /// What stands in the way of running it, whatever the plan says.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let program = self.program.display();
        if !self.program.is_absolute() {
            return Some(format!("program {program} is no absolute path"));
        }
        let metadata = match fs::metadata(&self.program) {
            Ok(metadata) => metadata,
            Err(error) => return Some(format!("program {program}: {error}")),
        };
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            return Some(format!("program {program} is no executable file"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Some(format!("program {program} can be written by others than its owner: `chmod go-w {program}`"));
        }
        if let Err(why) = owned::owner(&self.program, &metadata) {
            return Some(why.to_string());
        }
        if !self.directory.is_dir() {
            return Some(format!("{} is no directory", self.directory.display()));
        }
        if self.allowed.len() > MOST_PATTERNS {
            return Some(format!("it has {} patterns, {MOST_PATTERNS} are read", self.allowed.len()));
        }
        if let Some(why) = self.allowed.iter().find_map(|text| pattern(text).err()) {
            return Some(why);
        }
        self.user().err()
    }

    /// As whom it is run.
    pub(crate) fn user(&self) -> Result<User, String> {
        let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd can't be read: {error}"))?;
        let ours = rustix::process::geteuid();
        let Some(name) = &self.user else {
            if ours.is_root() {
                return Err("this agent runs as root and the command names no user: say `user: NAME`, or `user: root` if it is meant".to_owned());
            }
            let own = users(&passwd).find(|user| user.uid == ours.as_raw());
            return own.ok_or_else(|| format!("user {} of this agent is not in /etc/passwd", ours.as_raw()));
        };
        let user = users(&passwd).find(|user| user.name == *name).ok_or_else(|| format!("there is no user {name} in /etc/passwd"))?;
        if user.uid != ours.as_raw() && !ours.is_root() {
            return Err(format!("only an agent that runs as root can run it as {name}"));
        }
        Ok(user)
    }

    /// Whether a plan may give these arguments.
    pub(crate) fn allows(&self, arguments: &[String]) -> Result<(), String> {
        if arguments.len() != self.allowed.len() {
            return Err(format!("command {} takes {} arguments from plans, not {}", self.name, self.allowed.len(), arguments.len()));
        }
        for (at, (argument, text)) in arguments.iter().zip(&self.allowed).enumerate() {
            if !pattern(text)?.is_match(argument) {
                return Err(format!("argument {} of command {} is {argument:?}, which {text:?} does not match", at + 1, self.name));
            }
        }
        Ok(())
    }
}

/// It matches the whole or nothing.
fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(&format!("\\A(?:{text})\\z")).map_err(|error| format!("{text:?} is no pattern: {error}"))
}

fn users(passwd: &str) -> impl Iterator<Item = User> + '_ {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        Some(User { name: (*name).to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: (*home).to_owned() })
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    fn command(yaml: &str) -> Allowed {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn an_argument_is_matched_as_a_whole() {
        let allowed = command("{ name: x, program: /bin/true, allowed: ['[0-9.]+', 'up|down'] }");
        let asked = |arguments: &[&str]| allowed.allows(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(asked(&["10.0.0.1", "up"]), Ok(()));
        for wrong in [&["10.0.0.1"][..], &["10.0.0.1", "upward"], &["10.0.0.1\n", "up"], &["x10", "up"], &["10", "up", "--force"], &["10", "-down"]] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
        assert!(command("{ name: x, program: /bin/true, allowed: ['('] }").obstacle().unwrap().contains("no pattern"));
        assert!(command("{ name: x, program: true }").obstacle().unwrap().contains("absolute"));
        assert!(command("{ name: x, program: /bin/none }").obstacle().unwrap().contains("No such file"));
        assert!(command("{ name: x, program: /bin/true, directory: /none, user: root }").obstacle().unwrap().contains("no directory"));
        assert!(command("{ name: x, program: /bin/true, user: nobody-here }").obstacle().unwrap().contains("nobody-here"));
    }
}
