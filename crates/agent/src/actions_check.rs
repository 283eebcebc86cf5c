//! `switchback-agent actions check`: what this agent can do for plans beside its machines, and what is wrong with it. Read-only.
//!
//! Exit codes: 0 all is well, 6 something is wrong.

use std::process::ExitCode;

use actions::{CommandSeen, Examined, Fault};

use crate::arguments::{ActionsCheck, Output};

/// Something is wrong; the rest works.
const DEGRADED: u8 = 6;

pub(crate) fn check(arguments: &ActionsCheck) -> ExitCode {
    let seen = actions::examine(&arguments.actions);
    match arguments.output {
        Output::Json => match serde_json::to_string_pretty(&seen) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("switchback-agent: {error}");
                return ExitCode::FAILURE;
            }
        },
        Output::Table => print!("{}", told(&seen)),
    }
    if seen.faults.is_empty() { ExitCode::SUCCESS } else { DEGRADED.into() }
}

fn told(seen: &Examined) -> String {
    let Examined { directory, ssh, known_hosts, learns_hosts, secrets, commands, faults } = seen;
    let strange = if *learns_hosts { "strange servers are learnt" } else { "strange servers are refused" };
    let mut text = format!("actions of plans, with {directory}\n");
    text += &format!("  http, dns   can be done\n  ssh         {}\n", ssh.as_deref().unwrap_or("can't be done: there is no client (package openssh-client)"));
    text += &format!("              {known_hosts} known hosts; {strange}\n");
    text += &format!("  secrets     {}\n", if secrets.is_empty() { "none".to_owned() } else { secrets.iter().cloned().collect::<Vec<_>>().join(", ") });
    text += if commands.is_empty() { "  commands    none\n" } else { "" };
    for CommandSeen { name, program, allowed, user } in commands {
        let takes = if allowed.is_empty() { "takes no arguments".to_owned() } else { format!("takes {}", allowed.join(" ")) };
        text += &format!("  command     {name}: {program} as {user}; {takes}\n");
    }
    for Fault { what, advice } in faults {
        text += &format!("  wrong       {what}\n              → {advice}\n");
    }
    text
}
