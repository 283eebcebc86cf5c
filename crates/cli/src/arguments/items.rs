//! Arguments of operations on items.

use std::time::Duration;

use clap::{Args, ValueEnum};
use recovery::{Check, ItemName, PointChoice, Profile, SiteName};

use crate::span;

/// How long to stay.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Waiting {
    /// Stays until the run has ended, and shows what it does.
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: stays at most this long; the run goes on.
    #[arg(long, value_name = "TIME", value_parser = span::parse, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Protect {
    /// Name of the item; by default also of its machine.
    pub(crate) item: ItemName,
    /// The site where it runs.
    #[arg(long)]
    pub(crate) from: SiteName,
    /// The site that gets its points.
    #[arg(long)]
    pub(crate) to: SiteName,
    /// Name of the machine on the platform [default: the item's]
    #[arg(long)]
    pub(crate) machine: Option<String>,
    /// From one point to the next.
    #[arg(long, default_value = "5s", value_parser = span::parse)]
    pub(crate) interval: Duration,
    /// Most points that are kept.
    #[arg(long, default_value_t = 12)]
    pub(crate) retention_points: u32,
    /// Over which the kept points are spread.
    #[arg(long, default_value = "72h", value_parser = span::parse)]
    pub(crate) retention_window: Duration,
    /// Takes an app-consistent point that often: the guest agent quiets file systems and applications for a moment [default: never]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) app_consistent_every: Option<Duration>,
    /// How a recovered machine is asked whether it serves: tcp:HOST:PORT, http://HOST:PORT/path, ssh:HOST:PORT, rdp:HOST:PORT, or
    /// guest:PROGRAM ARGUMENT … (run by the guest's agent, must exit with 0); may be repeated.
    #[arg(long, value_name = "CHECK")]
    pub(crate) check: Vec<Check>,
    /// Which platform's rules it follows: kvm, vmware, hyperv or physical. Sites under libvirt take kvm only, simulated ones any.
    #[arg(long, default_value_t = Profile::Kvm)]
    pub(crate) profile: Profile,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Failover {
    /// Which item.
    pub(crate) item: ItemName,
    /// From which point: latest-processed, latest-app-consistent, or a number.
    #[arg(long, default_value = "latest-processed")]
    pub(crate) point: PointChoice,
    /// Goes on although nobody can prove that the source is off. Your name stands in the history.
    #[arg(long, requires = "reason")]
    pub(crate) accept_unfenced: bool,
    /// Why you accept that.
    #[arg(long, requires = "accept_unfenced")]
    pub(crate) reason: Option<String>,
    /// How long the source's agent may take to pick the fence up.
    #[arg(long, default_value = "10s", value_parser = span::parse)]
    pub(crate) fence_timeout: Duration,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// How long a guest may take.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ShuttingDown {
    /// How long the guest may take to shut down; if it takes longer, nothing has changed.
    #[arg(long, default_value = "5m", value_parser = span::parse, value_name = "TIME")]
    pub(crate) shut_down_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PlannedFailover {
    /// Which item.
    pub(crate) item: ItemName,
    #[command(flatten)]
    pub(crate) shutting_down: ShuttingDown,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Failback {
    /// Which item.
    pub(crate) item: ItemName,
    /// When data is copied. Of an item that is not replicated back yet everything can be copied while it is off.
    #[arg(long, value_enum, default_value_t = Sync::BeforeFailover)]
    pub(crate) sync: Sync,
    #[command(flatten)]
    pub(crate) shutting_down: ShuttingDown,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// When a failback copies what it has to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    /// While the machine runs (reprotect does that); only what is missing is copied while it is off.
    BeforeFailover,
    /// Everything, while the machine is off, without comparing: for an item that was not reprotected.
    DuringFailover,
}

#[derive(Debug, Args)]
pub(crate) struct ChangePoint {
    /// Which item.
    pub(crate) item: ItemName,
    /// To which point: latest-processed, latest-app-consistent, or a number.
    #[arg(long)]
    pub(crate) point: PointChoice,
    /// The machine that runs now may be discarded with all it has written.
    #[arg(long)]
    pub(crate) discard_writes: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Discarding {
    /// Which item.
    pub(crate) item: ItemName,
    /// The machine that runs now may be discarded with all it has written.
    #[arg(long)]
    pub(crate) discard_writes: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Reprotect {
    /// Which item.
    pub(crate) item: ItemName,
    /// Onto what.
    #[arg(long, value_enum, default_value_t = Location::Original)]
    pub(crate) location: Location,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// Where an item will be able to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Location {
    /// The disks of its old machine: only what differs is sent.
    Original,
    /// A new machine at the old site: everything is sent.
    Alternate,
}

#[derive(Debug, Args)]
pub(crate) struct TestFailover {
    /// Which item.
    pub(crate) item: ItemName,
    /// From which point: latest-processed, latest-app-consistent, or a number.
    #[arg(long, default_value = "latest-processed")]
    pub(crate) point: PointChoice,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct ItemOperation {
    /// Which item.
    pub(crate) item: ItemName,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}
