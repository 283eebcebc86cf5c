//! Arguments of simulations.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use recovery::{PlanName, PointChoice, SiteName};
use simulation::Slow;

use crate::span;

/// What would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SimulatedWork {
    TestFailover,
    CleanTestFailover,
    PlannedFailover,
    Failover,
    Failback,
    Commit,
    Undo,
    Reprotect,
}

/// Tells what a plan would do and how long it would take: its real workflows on simulated sites, in virtual time. Nothing real is
/// touched. Exit code 6 if it would not end whole, or later than the plan allows.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Which plan, as it was applied.
    #[arg(required_unless_present = "file")]
    pub(crate) plan: Option<PlanName>,
    /// A plan that was not applied; `-` is standard input. Its machines are taken to be protected, and no server is asked.
    #[arg(short, long, conflicts_with = "plan")]
    pub(crate) file: Option<PathBuf>,
    /// What would be done.
    #[arg(long, value_enum, default_value_t = SimulatedWork::Failover)]
    pub(crate) work: SimulatedWork,
    /// From which points [default: as the plan says]
    #[arg(long)]
    pub(crate) point: Option<PointChoice>,
    /// Supposes that somebody accepts what can't be fenced.
    #[arg(long)]
    pub(crate) accept_unfenced: bool,
    /// Supposes that this step fails for good, such as data/db1/start.
    #[arg(long, value_name = "STEP", conflicts_with = "each_step")]
    pub(crate) fail_at: Option<String>,
    /// Tells what becomes of the plan if each of its steps failed, one at a time.
    #[arg(long)]
    pub(crate) each_step: bool,
    /// Supposes that nobody answers at this site.
    #[arg(long, value_name = "SITE")]
    pub(crate) site_down: Option<SiteName>,
    /// Supposes that something takes so many times as long: a site, an item, an activity, or the beginning of a step's key; may be repeated.
    #[arg(long, value_name = "WHAT=TIMES")]
    pub(crate) slow: Vec<Slow>,
    /// How long people take to answer.
    #[arg(long, default_value = "1m", value_parser = span::parse, value_name = "TIME")]
    pub(crate) people_take: Duration,
    /// Draws for the range of durations.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub(crate) draws: u64,
    /// Another seed, other draws.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}
