//! Arguments of simulations.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
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
/// touched. Steps are shown as they go if each takes what it takes in the middle; the RTO is the one in the middle of all draws, that
/// one among them, with the shortest and the longest of them. Exit code 6 if it would not end whole, or later than the plan allows.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["plan", "file"]))]
pub(crate) struct Simulate {
    /// Which plan, as it was applied.
    pub(crate) plan: Option<PlanName>,
    /// A plan that was not applied; `-` is standard input. Its machines are taken to be protected, and no server is asked.
    #[arg(short, long)]
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
    /// Supposes that something takes so many times as long: a site, an item, an activity, a step's key or its first parts, such as
    /// data/db1; may be repeated.
    #[arg(long, value_name = "WHAT=TIMES")]
    pub(crate) slow: Vec<Slow>,
    /// How long people take to answer [default: as long as they took, or 1m]
    #[arg(long, value_parser = span::parse, value_name = "TIME")]
    pub(crate) people_take: Option<Duration>,
    /// How often durations are drawn, the one with all of them in the middle among them; 0 for that one alone.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub(crate) draws: u64,
    /// Another seed, other draws.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}
