//! Arguments of `store`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use sdk::RunId;

use super::run_id;
use crate::span;

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Says whether the database holds all that it had answered for: its server, the witnesses, and what they saw and it lacks.
    ///
    /// Exit codes: 0 all is well, 6 it is being checked, a witness was silent, or something waits to be settled.
    Check {
        /// Also what was settled or adopted.
        #[arg(long)]
        all: bool,
    },
    /// Shows what a check of the database has found, all of it; with --wait as soon as one that goes on has ended.
    ///
    /// A check begins by itself when the database server was started anew, and waits at most 20 seconds for witnesses. Exit codes: as `store check`.
    Reconcile {
        /// Waits for the end of a check that goes on.
        #[arg(long)]
        wait: bool,
        /// Longest wait.
        #[arg(long, requires = "wait", value_name = "DURATION", default_value = "2m", value_parser = span::parse)]
        timeout: Duration,
    },
    /// Says what becomes of a run of which the database has lost something.
    Settle(SettleRun),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how").required(true)))]
pub(crate) struct SettleRun {
    /// Which run.
    #[arg(value_parser = run_id)]
    pub(crate) run: RunId,
    /// It goes on from what is recorded. Steps that were carried out and are not recorded are probed, or their results taken.
    #[arg(long, group = "how")]
    pub(crate) go_on: bool,
    /// It is told to stop and puts back what is recorded.
    #[arg(long, group = "how")]
    pub(crate) cancel: bool,
    /// Nothing of it can go on; the loss is known.
    #[arg(long, group = "how")]
    pub(crate) accept_loss: bool,
    /// Why; kept with the loss.
    #[arg(long)]
    pub(crate) reason: String,
}
