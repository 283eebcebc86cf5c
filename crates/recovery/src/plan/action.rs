//! What a plan does beside its machines: the kinds of actions that a site carries out.
//!
//! ```yaml
//! - http:    { method: POST, url: https://lb.example/pools/web, body: '{"site":"b"}', secret-header: { name: authorization, secret: lb } }
//! - ssh:     { host: 10.1.0.19, user: root, script: systemctl start app, key: ops }
//! - guest:   { item: db9, program: /usr/bin/pg_ctl, arguments: [promote] }
//! - command: { name: move-address, arguments: [10.1.0.19] }
//! - dns:     { server: 10.0.0.53, zone: example.org, name: app.example.org, type: A, values: [10.2.0.7], ttl: 60, key: ddns }
//! - check:   { check: tcp:10.1.0.19:5432, within: 2m }
//! ```
//!
//! Invariants: 1. No secret stands in an action: it is named, and lives with the agent. 2. An unknown key is refused. 3. What may be
//! done a second time is known from the action alone: the rest is done at most once, and its outcome may be unknown.

mod command;
mod context;
mod dns;
mod guest;
mod http;
mod invalid;
mod scope;
mod ssh;
mod wait;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use command::Command;
pub use context::{ActionContext, InvalidContext};
pub use dns::{Dns, RecordType};
pub use guest::Guest;
pub use http::{Http, InvalidStatuses, Method, SecretHeader, Statuses};
pub use invalid::InvalidAction;
pub use scope::{ActionWarning, Reach, may_run, reach, warnings};
pub use ssh::Ssh;
pub use wait::WaitFor;

use crate::{CommandName, SecretName, span::Span};

/// Longest that one action may take: whoever waits longer waits for a person.
pub const LONGEST: Span = Span::seconds(86_400);
/// Longest script, body or input: it stands in the plan, in the history and in every export of the run.
pub const MOST_TEXT: usize = 65_536;

/// An action of one of the six kinds; its key is the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Performed {
    /// A request to a web service.
    Http(Http),
    /// A script on a machine that the agent reaches by SSH.
    Ssh(Ssh),
    /// A program in a recovered machine, by its guest's agent.
    Guest(Guest),
    /// A program beside the agent that its configuration allows by name.
    Command(Command),
    /// A record set in a zone, replaced.
    Dns(Dns),
    /// Waiting until a check holds.
    Check(WaitFor),
}

/// What doing it again means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Nothing more: it is done again until it is known to be done.
    Harmless,
    /// Nobody knows: it is done at most once, and whether it happened may stay unknown.
    Never,
}

/// What an agent must have to carry an action out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Secrets by name.
    pub secrets: Vec<SecretName>,
    /// A command by name.
    pub command: Option<CommandName>,
    /// A client of OpenSSH.
    pub ssh: bool,
}

impl Performed {
    /// The key in plans.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Performed::Http(_) => "http",
            Performed::Ssh(_) => "ssh",
            Performed::Guest(_) => "guest",
            Performed::Command(_) => "command",
            Performed::Dns(_) => "dns",
            Performed::Check(_) => "check",
        }
    }

    /// What doing it again means.
    #[must_use]
    pub fn repeats(&self) -> Repeats {
        let harmless = match self {
            Performed::Http(http) => http.repeatable || http.method.is_idempotent(),
            Performed::Ssh(ssh) => ssh.repeatable,
            Performed::Guest(guest) => guest.repeatable,
            Performed::Command(command) => command.repeatable,
            Performed::Dns(_) | Performed::Check(_) => true,
        };
        if harmless { Repeats::Harmless } else { Repeats::Never }
    }

    /// How long one attempt may take; a check is asked again and again for so long.
    #[must_use]
    pub fn within(&self) -> Span {
        match self {
            Performed::Http(http) => http.within,
            Performed::Ssh(ssh) => ssh.within,
            Performed::Guest(guest) => guest.within,
            Performed::Command(command) => command.within,
            Performed::Dns(dns) => dns.within,
            Performed::Check(wait) => wait.within,
        }
    }

    /// What the agent must have.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let secret = |name: &Option<SecretName>| name.iter().cloned().collect();
        match self {
            Performed::Http(http) => Needs { secrets: http.secret_header.iter().map(|header| header.secret.clone()).collect(), ..Needs::default() },
            Performed::Ssh(ssh) => Needs { secrets: secret(&ssh.key), ssh: true, command: None },
            Performed::Command(command) => Needs { command: Some(command.name.clone()), ..Needs::default() },
            Performed::Dns(dns) => Needs { secrets: secret(&dns.key), ..Needs::default() },
            Performed::Guest(_) | Performed::Check(_) => Needs::default(),
        }
    }

    /// Whether it is within its limits.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self) -> Result<(), InvalidAction> {
        let within = self.within();
        if within < Span::seconds(1) || within > LONGEST {
            return Err(InvalidAction::Within { within, longest: LONGEST });
        }
        match self {
            Performed::Http(http) => http.check(),
            Performed::Ssh(ssh) => ssh.check(),
            Performed::Guest(guest) => guest.check(),
            Performed::Command(command) => command.check(),
            Performed::Dns(dns) => dns.check(),
            Performed::Check(_) => Ok(()),
        }
    }
}

/// In few words, for tables and histories: what it does to what, without bodies, scripts or inputs.
impl std::fmt::Display for Performed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Performed::Http(http) => write!(f, "{} {}", http.method, http.url),
            Performed::Ssh(ssh) => write!(f, "a script at {}@{}:{}", ssh.user, ssh.host, ssh.port),
            Performed::Guest(guest) => write!(f, "{} in the guest of {}", guest.program, guest.item),
            Performed::Command(command) => write!(f, "command {}", command.name),
            Performed::Dns(dns) => write!(f, "{} {} at {}", dns.name, dns.record_type, dns.server),
            Performed::Check(wait) => write!(f, "{}", wait.check),
        }
    }
}

#[cfg(test)]
mod tests;
