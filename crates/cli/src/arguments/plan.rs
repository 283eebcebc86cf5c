//! Arguments of plans.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use recovery::{PlanName, PointChoice};
use sdk::RunId;

use super::{Location, ShuttingDown, Sync, Waiting};
use crate::span;

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Keeps a plan, or changes it, and shows what that changes: the same text again changes nothing. A run that carries it out goes on
    /// with the version with which it began.
    Apply {
        /// YAML; `-` is standard input.
        #[arg(short, long)]
        file: PathBuf,
    },
    /// Shows what `apply` would change, and whether the plan fits what is there. Exit code 6 if something would change.
    Diff {
        /// YAML; `-` is standard input.
        #[arg(short, long)]
        file: PathBuf,
    },
    /// Lists plans.
    List,
    /// Shows a plan, its warnings, and what is allowed now.
    Describe {
        /// Which.
        plan: PlanName,
    },
    /// Prints the text of a plan, as it was applied.
    Text {
        /// Which.
        plan: PlanName,
    },
    /// Prints the JSON Schema of plans, for editors.
    Schema,
    /// Forgets a plan. Its versions and histories stay; no machine is touched. Refused while copies of a test failover are up, or its
    /// commit policy is still to judge a failover.
    Remove {
        /// Which.
        plan: PlanName,
    },
    #[command(flatten)]
    Work(PlanWork),
    /// Tells what a plan would do and how long it would take. Nothing real is touched.
    Simulate(Box<super::Simulate>),
    /// Lists the runs of a plan, newest first.
    Runs {
        /// Which.
        plan: PlanName,
    },
    /// Says whether a recovery by this plan would work now, check by check. Exit code 6 on a warning or worse.
    Check {
        /// Which.
        plan: PlanName,
        /// Also what is well.
        #[arg(long)]
        all: bool,
    },
    /// Shows a run step by step, what it asks people, and its clock. Exit code 0 while it goes on and when it has ended well, 6 if a step
    /// has failed or the run stopped; of `--wait`, 1 if it stopped.
    Status {
        /// Which run.
        #[arg(value_parser = plan_run)]
        run: RunId,
    },
    /// Answers what a run asks: a manual step, an approval, or what to do about a step that failed.
    Answer {
        /// Which run.
        #[arg(value_parser = plan_run)]
        run: RunId,
        /// done, failed, approve, deny, retry, skip or stop: what the question offers.
        choice: String,
        /// About which step, if the run asks about several.
        #[arg(long)]
        step: Option<String>,
        /// Kept in the history.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// What is done with the machines of a plan.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanWork {
    /// Starts copies of all machines on isolated networks; production and replication do not notice.
    TestFailover(PlanTest),
    /// Removes the copies of a test failover.
    CleanTestFailover(PlanOnly),
    /// Moves all machines to the recovery site without loss. Stops at the first error.
    PlannedFailover(PlanShutDown),
    /// Runs all machines at the recovery site, from recovery points. What a plan that stopped has done is left alone when it is run again.
    Failover(PlanFailover),
    /// Moves all machines back to the primary site without loss.
    Failback(PlanFailback),
    /// Accepts the failover of all machines; their points go.
    Commit(PlanOnly),
    /// Gives the failover of all machines up: what they have written is discarded, and their sources run again.
    Undo(PlanUndo),
    /// Replicates all committed machines in the other direction.
    Reprotect(PlanReprotect),
}

fn plan_run(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|error| {
        let plan = text.parse::<PlanName>().map_or_else(|_| "PLAN".to_owned(), |plan| plan.to_string());
        format!("that is no id of a run ({error}); `switchback plan runs {plan}` lists those of a plan")
    })
}

#[derive(Debug, Args)]
pub(crate) struct PlanOnly {
    /// Which plan.
    pub(crate) plan: PlanName,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct PlanFromPoint {
    /// Which plan.
    pub(crate) plan: PlanName,
    /// From which points: latest, latest-processed, latest-app-consistent, latest-multi-vm-processed or latest-multi-vm-app-consistent
    /// [default: as the plan says]
    #[arg(long)]
    pub(crate) point: Option<PointChoice>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct PlanTest {
    #[command(flatten)]
    pub(crate) from: PlanFromPoint,
    /// The copies are removed after so long, if nobody has done that.
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = span::parse)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PlanShutDown {
    /// Which plan.
    pub(crate) plan: PlanName,
    #[command(flatten)]
    pub(crate) shutting_down: ShuttingDown,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct PlanFailover {
    #[command(flatten)]
    pub(crate) from: PlanFromPoint,
    /// Goes on with machines of which nobody can prove that their source is off. Your name stands in the histories.
    #[arg(long, requires = "reason")]
    pub(crate) accept_unfenced: bool,
    /// Why you accept that.
    #[arg(long, requires = "accept_unfenced")]
    pub(crate) reason: Option<String>,
    /// How long a source's agent may take to pick a fence up.
    #[arg(long, default_value = "30s", value_parser = span::parse)]
    pub(crate) fence_timeout: Duration,
    /// Asks the guests to shut down first and to send the rest; goes on whatever comes of it.
    #[arg(long)]
    pub(crate) shut_down: bool,
    /// How long a guest may take to shut down.
    #[arg(long, default_value = "1m", value_parser = span::parse, value_name = "TIME", requires = "shut_down")]
    pub(crate) shut_down_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PlanFailback {
    #[command(flatten)]
    pub(crate) planned: PlanShutDown,
    /// When data is copied.
    #[arg(long, value_enum, default_value_t = Sync::BeforeFailover)]
    pub(crate) sync: Sync,
    /// From older points than the last: latest-app-consistent, latest-multi-vm-processed or latest-multi-vm-app-consistent.
    #[arg(long)]
    pub(crate) point: Option<PointChoice>,
    /// What older points lose may be lost. Your name stands in the histories.
    #[arg(long, requires_all = ["reason", "point"])]
    pub(crate) accept_loss: bool,
    /// Why you accept that.
    #[arg(long, requires = "accept_loss")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanUndo {
    #[command(flatten)]
    pub(crate) only: PlanOnly,
    /// The machines that were failed over may be discarded with all they have written.
    #[arg(long)]
    pub(crate) discard_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanReprotect {
    #[command(flatten)]
    pub(crate) only: PlanOnly,
    /// Onto what.
    #[arg(long, value_enum, default_value_t = Location::Original)]
    pub(crate) location: Location,
}
