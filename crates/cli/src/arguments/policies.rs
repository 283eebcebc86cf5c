//! Arguments of what decides about alerts: policies, approvals, kill switches.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use recovery::{SiteName, trigger::TriggerName};

use super::Waiting;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Applies a trigger policy from a YAML file; the same text again changes nothing.
    Apply {
        /// Its file, or - for standard input.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Lists trigger policies, and what they ask people.
    List,
    /// Shows a trigger policy as it was written.
    Describe {
        /// Which policy.
        name: TriggerName,
    },
    /// Says why a policy started a failover, or why not: each rule with what it saw.
    Explain {
        /// A policy, for its last evaluations, or the run of one evaluation.
        what: String,
        /// How many evaluations, newest first.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
        last: u16,
    },
    /// Says what a delivery would lead to, if its alerts went on for as long as each policy asks for. Starts and stores nothing.
    Test {
        /// File of the payload, or - for standard input.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// As if it came to this source.
        #[arg(long)]
        source: String,
        /// With this header, as "Name: value"; may be given again.
        #[arg(short = 'H', long = "header", value_name = "HEADER")]
        headers: Vec<String>,
    },
    /// Lets a policy go on that was locked because its alerts came and went.
    Unlock {
        /// Which policy.
        name: TriggerName,
    },
    /// Removes a trigger policy; its versions and the histories of its evaluations stay.
    Remove {
        /// Which policy.
        name: TriggerName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The evaluation's run or the policy, or the run of a plan or the plan, if it asks for exactly one approval; without it: what is
    /// asked now.
    pub(crate) what: Option<String>,
    /// Says no: nothing is started for these alerts, or the plan's step fails.
    #[arg(long)]
    pub(crate) deny: bool,
    /// Kept in the history.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only if it is still this time of a policy's asking, as the list says: one that has changed since is asked about again.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) round: Option<u32>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KillSwitchCommand {
    /// No alert starts anything; a failover that an alert started is cancelled if it still can be.
    On {
        #[command(flatten)]
        reach: Reach,
        /// Kept with it.
        #[arg(long)]
        reason: String,
    },
    /// Alerts may start something again.
    Off {
        #[command(flatten)]
        reach: Reach,
    },
    /// Lists the kill switches that are on.
    List,
}

/// How far a kill switch reaches; everywhere, if nothing is named.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Reach {
    /// Only what runs at this site now.
    #[arg(long)]
    pub(crate) site: Option<SiteName>,
    /// Only this policy.
    #[arg(long)]
    pub(crate) policy: Option<TriggerName>,
}

impl Reach {
    /// As the server writes it.
    pub(crate) fn scope(&self) -> String {
        match (&self.site, &self.policy) {
            (Some(site), _) => format!("site:{site}"),
            (None, Some(policy)) => format!("policy:{policy}"),
            (None, None) => "all".to_owned(),
        }
    }
}
