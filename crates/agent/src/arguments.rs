//! The command line of the agent.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Carries out a site's part of disaster recovery, beside its hypervisor.
#[derive(Debug, Parser)]
#[command(name = "switchback-agent", version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Gets this agent's certificate from the server, once, with a token from `switchback agent token --site SITE`.
    Enroll(Enroll),
    /// Carries out the site's activities and replicates its machines until it is stopped.
    Run(Run),
    /// Prints the heads of ended runs that this agent has noted, for `switchback evidence verify --anchors`.
    Anchors {
        /// Where its identity is kept.
        #[arg(long, value_name = "DIR", default_value = "/var/lib/switchback-agent")]
        state_dir: PathBuf,
    },
    /// What this agent can do for plans beside its machines.
    #[command(subcommand)]
    Actions(ActionsCommand),
    /// Looks at a host, read-only: which of its machines can be protected, and if not, why and what to do.
    Check(Check),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ActionsCommand {
    /// Looks at commands, secrets and the SSH client, and says what is wrong with them. Changes nothing.
    Check(ActionsCheck),
}

/// Exit codes: 0 all is well, 6 something is wrong, and actions that need it will fail.
#[derive(Debug, Args)]
pub(crate) struct ActionsCheck {
    /// Where commands, secrets and known hosts are kept.
    #[arg(long, value_name = "DIR", default_value = actions::DIRECTORY)]
    pub(crate) actions: PathBuf,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// Where the server is: https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// SHA-256 of the server's CA certificate, as `switchback agent token` prints it.
    #[arg(long, value_name = "HEX")]
    pub(crate) ca_sha256: String,
    /// One-time token; its site becomes this agent's site.
    #[arg(long, env = "SWITCHBACK_ENROLMENT_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    /// Name of this agent: lower-case letters, digits and dashes.
    #[arg(long)]
    pub(crate) name: String,
    /// Where its identity is kept; made if it is missing, readable for its owner only.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/switchback-agent")]
    pub(crate) state_dir: PathBuf,
}

/// Exit codes: 0 all machines can be protected, 4 some can't, 1 the host could not be looked at.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// libvirt's address of the host, such as qemu:///system or qemu+ssh://root@HOST/system.
    #[arg(default_value = "qemu:///system")]
    pub(crate) uri: String,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where the identity is kept. With --simulated: one for each site, all in one simulated world.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/switchback-agent")]
    pub(crate) state_dir: Vec<PathBuf>,
    /// The hypervisor beside this agent.
    #[arg(long, value_name = "URI", default_value = "qemu:///system")]
    pub(crate) libvirt: String,
    /// Where points and recovered disks are kept.
    #[arg(long, value_name = "DIR", required_unless_present = "simulated")]
    pub(crate) storage: Option<PathBuf>,
    /// Where other sites' agents send data to.
    #[arg(long, value_name = "IP:PORT", required_unless_present = "simulated")]
    pub(crate) data_listen: Option<SocketAddr>,
    /// Commands, secrets and known hosts for the actions of plans; need not exist.
    #[arg(long, value_name = "DIR", default_value = actions::DIRECTORY, conflicts_with = "simulated")]
    pub(crate) actions: PathBuf,
    /// Hosts simulated sites in memory instead of a hypervisor: for trying things out. All is gone when it stops.
    #[arg(long, conflicts_with_all = ["storage", "data_listen"])]
    pub(crate) simulated: bool,
    /// With --simulated: a Unix socket that takes one JSON command a line (add-machine, write, read, power, power-on,
    /// ignore-shut-down, refuse-freeze, site-down, ledger, inventory, …).
    #[arg(long, value_name = "PATH", requires = "simulated")]
    pub(crate) control: Option<PathBuf>,
    /// Life of the agent's lease without renewal, in seconds: how long its tasks wait when it dies.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = lease_life)]
    pub(crate) lease_seconds: Duration,
}

fn lease_life(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|e| format!("{text:?} is not a number of seconds: {e}"))?;
    if (2..=120).contains(&seconds) { Ok(Duration::from_secs(seconds)) } else { Err("a lease lives 2 to 120 seconds".into()) }
}
