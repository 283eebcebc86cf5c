//! A command that the configuration allows, beside this agent.

use std::{path::Path, process::Stdio};

use provider::{ActionError, Done, Said};
use recovery::plan::action::{ActionContext, Command};

use crate::{
    MOST_OUTPUT,
    configuration::{Allowed, Configuration, path_of},
    lacks,
    limits::{Limits, Over},
    running::{self, Event, Running},
    refused,
};

/// Where programs are found that a command runs itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) async fn carry_out(dir: &Path, command: &Command, context: &ActionContext, limits: Limits<'_>) -> Result<Done, ActionError> {
    let allowed = found(dir, command)?;
    let limits = limits.shorter(allowed.within);
    let prepared = prepared(&allowed, command, context)?;
    let running = Running::spawn(prepared);
    let running = running.map_err(|error| lacks(format!("command {} can't be started: {error}", command.name), "look at its program and its user"))?;
    followed(running, command, limits).await
}

fn found(dir: &Path, command: &Command) -> Result<Allowed, ActionError> {
    let configuration = Configuration::read(dir).map_err(|why| lacks(why.to_string(), why.advice()))?;
    let allowed = configuration.commands.into_iter().find(|allowed| allowed.name == command.name);
    let path = path_of(dir);
    let allowed = allowed.ok_or_else(|| {
        lacks(format!("command {} is not allowed at this site", command.name), format!("add it to {} there, or correct the plan", path.display()))
    })?;
    if let Some(why) = allowed.obstacle() {
        return Err(lacks(format!("command {} can't be run: {why}", command.name), format!("correct {}", path.display())));
    }
    let advice = || format!("correct the plan, or what {} allows", path.display());
    allowed.allows(&command.arguments).map_err(|why| refused(why, advice()))?;
    Ok(allowed)
}

fn prepared(allowed: &Allowed, command: &Command, context: &ActionContext) -> Result<tokio::process::Command, ActionError> {
    let user = allowed.user().map_err(|why| lacks(why, "correct the user of the command"))?;
    let mut prepared = tokio::process::Command::new(&allowed.program);
    prepared.args(&allowed.arguments).args(&command.arguments).current_dir(&allowed.directory).stdin(Stdio::null()).env_clear();
    prepared.env("PATH", PATH).env("LANG", "C.UTF-8").env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
    prepared.envs(context.environment());
    if rustix::process::geteuid().is_root() {
        prepared.uid(user.uid).gid(user.gid); // and no further groups
    }
    Ok(prepared)
}

async fn followed(mut running: Running, command: &Command, mut limits: Limits<'_>) -> Result<Done, ActionError> {
    let name = &command.name;
    let mut said = Said::within(MOST_OUTPUT);
    let status = loop {
        match running.next(&mut limits).await {
            Ok(Event::Said(words)) => said.hear(&words),
            Ok(Event::Ended(status)) => break status,
            Ok(Event::Over(over)) => {
                running.end().await;
                return Err(match over {
                    Over::Late => ActionError::Unknown { detail: format!("command {name} still ran after {} and was ended", limits.within()), said },
                    Over::Unwanted => ActionError::Stopped,
                });
            }
            Err(error) => return Err(ActionError::Unknown { detail: format!("command {name} can't be waited for: {error}"), said }),
        }
    };
    let told = format!("command {name} {}", running::ending(status));
    if status.success() {
        return Ok(Done { evidence: told, status: Some(0), said });
    }
    Err(ActionError::Failed { detail: told, status: Some(running::code(status)), said })
}
