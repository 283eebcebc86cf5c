//! Arguments of drills, by hand and by schedule.

use std::time::Duration;

use clap::Args;
use recovery::{Check, ItemName, PointChoice};

use super::Waiting;
use crate::span;

#[derive(Debug, Args)]
pub(crate) struct Drill {
    #[command(flatten)]
    pub(crate) options: DrillOptions,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// What is rehearsed and what counts as passed.
#[derive(Clone, Debug, Args)]
pub(crate) struct DrillOptions {
    /// Which item.
    pub(crate) item: ItemName,
    /// From which point: latest-processed, latest-app-consistent, or a number.
    #[arg(long, default_value = "latest-processed")]
    pub(crate) point: PointChoice,
    /// Asked of the copy, within its own network, beside the item's own checks: tcp:HOST:PORT, http://HOST:PORT/path, ssh:HOST:PORT,
    /// rdp:HOST:PORT, or guest:PROGRAM ARGUMENT … (run by the guest's agent, must exit with 0); may be repeated.
    #[arg(long, value_name = "CHECK")]
    pub(crate) check: Vec<Check>,
    /// The drill has not passed if it takes longer until the copy serves.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) rto_target: Option<Duration>,
    /// The drill has not passed if its point is older.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) rpo_target: Option<Duration>,
    /// Why, for whoever reads the report.
    #[arg(long)]
    pub(crate) note: Option<String>,
}
