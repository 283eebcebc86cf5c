//! Arguments of what deals with alerts.

use std::{path::PathBuf, time::Duration};

use alerts::{Kind, SourceName};
use clap::{Args, Subcommand};

use super::PolicyCommand;
use crate::span;

/// A mapping as somebody would begin it.
pub(crate) const MAPPING_EXAMPLE: &str = r#"fingerprint: [/source, /subject]       # what fires; the same each time
status: /type                          # where the word is, and what the words mean
firing: [com.example.alert.firing]
resolved: [com.example.alert.resolved]
ignored: []
began: {by: message_time, at: /time}   # or {by: start, at: /data/started_at}, or {by: fingerprint}
labels: {site: /data/site}             # what policies look at
summary: /data/summary"#;

#[derive(Debug, Subcommand)]
pub(crate) enum TriggerCommand {
    #[command(flatten)]
    Policy(PolicyCommand),
    /// Says who may send alerts, and how they prove themselves.
    Source {
        #[command(subcommand)]
        command: SourceCommand,
    },
    /// Lists deliveries with what became of them, newest first.
    Deliveries {
        /// To this source only.
        source: Option<SourceName>,
        /// How many, at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Shows a delivery's body: all of one that was accepted, the beginning of one that was refused.
    Delivery {
        /// Its number in the list.
        id: u32,
    },
    /// Lists alerts as they were last heard of, newest first.
    Alerts {
        /// Of this source only.
        source: Option<SourceName>,
        /// Only those that go on.
        #[arg(long)]
        firing: bool,
        /// How many, at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Makes a source; prints how its sender is configured, with the secret, which is shown once.
    Create(CreateSource),
    /// Lists sources.
    List,
    /// Gives a source a second secret; both hold until the old one is dropped.
    Rotate {
        /// Which source.
        name: SourceName,
        /// File of the new secret; without it one is made up.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Drops the old secret of a source that has two.
    DropOldSecret {
        /// Which source.
        name: SourceName,
    },
    /// Lets a source's deliveries count again.
    Enable {
        /// Which source.
        name: SourceName,
    },
    /// Lets a source's deliveries be taken and noted, and count for nothing.
    Disable {
        /// Which source.
        name: SourceName,
    },
    /// Removes a source with its secrets, deliveries and alerts.
    Remove {
        /// Which source.
        name: SourceName,
        /// Its deliveries and alerts may be discarded.
        #[arg(long)]
        discard_deliveries: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_long_help = format!("A mapping file:\n\n{MAPPING_EXAMPLE}"))]
pub(crate) struct CreateSource {
    /// Its name: lower-case letters, digits and `-`; part of the path that the sender posts to.
    pub(crate) name: SourceName,
    /// Whose form: alertmanager, grafana, pagerduty, cloud-events or generic.
    #[arg(long)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) shown: ShownSecret,
    /// Grafana: the header in which it sends the time that it signs. Without it a delivery can be replayed.
    #[arg(long, value_name = "NAME")]
    pub(crate) timestamp_header: Option<String>,
    /// PagerDuty: oldest event that is believed [default: 30m, since it tries for some 20]
    #[arg(long, value_parser = span::parse, value_name = "TIME")]
    pub(crate) max_age: Option<Duration>,
    /// CloudEvents and generic: file that says where things are in the JSON, as YAML or JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) mapping_file: Option<PathBuf>,
    /// File of the secret, 16 characters at least; without it one is made up. PagerDuty makes its own.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// How a sender that does not sign shows its secret; a bearer token by default.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ShownSecret {
    /// The sender shows `Authorization: Basic` with this user, the secret being the password.
    #[arg(long, value_name = "USER")]
    pub(crate) basic: Option<String>,
    /// The sender shows `Authorization: SCHEME SECRET`.
    #[arg(long, value_name = "SCHEME")]
    pub(crate) scheme: Option<String>,
    /// The sender shows the secret in a header of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) header: Option<String>,
}
