//! What an agent does beside its hypervisor, for plans: requests, scripts by SSH, commands of its own, updates of zones.
//!
//! ```text
//!   DIR/actions.yaml      commands that plans may name, and how strange SSH servers are met
//!   DIR/secrets/NAME      one secret a file: a private key of OpenSSH, a TSIG key, the value of a header
//!   DIR/known_hosts       keys of SSH servers
//!   DIR/ca.crt            authorities that HTTPS servers may have beside those of the system
//! ```
//!
//! Invariants: 1. A secret is read when it is used, from a file that nobody but its owner can read, and is never told. 2. A command is
//! run if the configuration names it, with arguments that it allows, and no shell looks at them. 3. No process of an action goes on
//! here when its time is up, when nobody wants it any more, or when its future is dropped. 4. What is in doubt is told as such.

mod command;
mod configuration;
mod dns;
mod examine;
mod http;
mod limits;
mod owned;
mod running;
mod ssh;
mod tsig;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use provider::{ActionError, Actions, Done, Order, Wanted};
use recovery::{plan::action::Performed, readiness::ActionsReport};

pub use examine::{CommandSeen, Examined, Fault, examine};

/// Where agents keep this, unless they are told otherwise.
pub const DIRECTORY: &str = "/etc/switchback/actions";
/// How much of what is said is kept, in bytes: as much as a history takes.
const MOST_OUTPUT: usize = 16_384;

/// Carries out what is no machine's, with what a directory holds.
#[derive(Debug, Clone)]
pub struct Outside {
    dir: PathBuf,
}

impl Outside {
    /// With this directory; it need not exist, and is looked at with each action anew.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
}

#[async_trait]
impl Actions for Outside {
    async fn carry_out(&self, order: Order, wanted: &dyn Wanted) -> Result<Done, ActionError> {
        let limits = limits::Limits::of(order.action.within(), wanted);
        let Order { action, context, link } = order;
        match &action {
            Performed::Http(http) => http::carry_out(&self.dir, http, &context, limits).await,
            Performed::Ssh(ssh) => ssh::carry_out(&self.dir, ssh, &context, link, limits).await,
            Performed::Command(command) => command::carry_out(&self.dir, command, &context, limits).await,
            Performed::Dns(dns) => dns::carry_out(&self.dir, dns, limits).await,
            Performed::Guest(_) | Performed::Check(_) => {
                Err(ActionError::Refused { detail: format!("{action} is the hypervisor's and not done beside it"), advice: "report this".to_owned() })
            }
        }
    }

    fn report(&self) -> ActionsReport {
        let seen = examine(&self.dir);
        ActionsReport {
            ssh: seen.ssh.is_some(),
            secrets: seen.secrets,
            commands: seen.commands.into_iter().map(|command| command.name).collect(),
            faults: seen.faults.into_iter().map(|fault| format!("{}; {}", fault.what, fault.advice)).collect(),
        }
    }
}

/// This agent lacks something.
fn lacks(detail: impl Into<String>, advice: impl Into<String>) -> ActionError {
    ActionError::NotConfigured { detail: detail.into(), advice: advice.into() }
}

/// Nothing was sent or begun.
fn refused(detail: impl Into<String>, advice: impl Into<String>) -> ActionError {
    ActionError::Refused { detail: detail.into(), advice: advice.into() }
}
