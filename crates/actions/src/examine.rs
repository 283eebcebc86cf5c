//! A look at what this agent can do of the actions of plans, and at what is wrong with its configuration. Changes nothing.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use recovery::SecretName;
use serde::{Deserialize, Serialize};

use crate::{
    configuration::{Configuration, UnknownHosts, path_of},
    owned,
};

/// What an agent can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Examined {
    /// Where it was looked.
    pub directory: String,
    /// What the SSH client says of itself; none: there is none.
    pub ssh: Option<String>,
    /// Servers whose keys are known.
    pub known_hosts: usize,
    /// The key of a strange server is kept instead of refused.
    pub learns_hosts: bool,
    /// Secrets that can be used, by name.
    pub secrets: BTreeSet<String>,
    /// Commands that plans may name.
    pub commands: Vec<CommandSeen>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// A command that plans may name and that can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CommandSeen {
    /// Its name.
    pub name: String,
    /// What is run, with its fixed arguments.
    pub program: String,
    /// One pattern for each argument that a plan gives.
    pub allowed: Vec<String>,
    /// As whom.
    pub user: String,
}

/// Something that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// Looks at a directory.
#[must_use]
pub fn examine(dir: &Path) -> Examined {
    let mut seen = Examined { directory: dir.display().to_string(), ssh: client(), ..Examined::default() };
    seen.known_hosts = known_hosts(&dir.join("known_hosts"));
    match Configuration::read(dir) {
        Ok(configuration) => {
            seen.learns_hosts = configuration.ssh.unknown_hosts == UnknownHosts::Learn;
            commands(&configuration, dir, &mut seen);
        }
        Err(why) => seen.faults.push(Fault { what: why.to_string(), advice: why.advice() }),
    }
    secrets(dir, &mut seen);
    if let Err(why) = crate::http::authorities(dir) {
        seen.faults.push(Fault { what: why, advice: "put certificates in PEM there, or remove the file".to_owned() });
    }
    seen
}

fn client() -> Option<String> {
    let said = Command::new("ssh").arg("-V").output().ok()?;
    let version = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    said.status.success().then_some(version)
}

fn known_hosts(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

fn commands(configuration: &Configuration, dir: &Path, seen: &mut Examined) {
    for command in &configuration.commands {
        match (command.obstacle(), command.user()) {
            (None, Ok(user)) => seen.commands.push(CommandSeen {
                name: command.name.to_string(),
                program: [vec![command.program.display().to_string()], command.arguments.clone()].concat().join(" "),
                allowed: command.allowed.clone(),
                user: user.name,
            }),
            (Some(why), _) | (None, Err(why)) => {
                let advice = format!("correct {}", path_of(dir).display());
                seen.faults.push(Fault { what: format!("command {} can't be run: {why}", command.name), advice });
            }
        }
    }
}

fn secrets(dir: &Path, seen: &mut Examined) {
    let dir_of = dir.join("secrets");
    let listed = match fs::read_dir(&dir_of) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            seen.faults.push(Fault { what: format!("{} can't be listed: {error}", dir_of.display()), advice: "correct its owner and mode".to_owned() });
            return;
        }
    };
    let mut names: Vec<String> = listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let Ok(named) = name.parse::<SecretName>() else {
            let what = format!("{} has no name that plans can use", dir_of.join(&name).display());
            seen.faults.push(Fault { what, advice: "rename or remove it".to_owned() });
            continue;
        };
        match owned::secret(dir, &named) {
            Ok(_) => drop(seen.secrets.insert(name)),
            Err(why) => seen.faults.push(Fault { what: why.to_string(), advice: why.advice() }),
        }
    }
}
