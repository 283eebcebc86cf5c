//! Arguments of operations on items.

use std::time::Duration;

use clap::{Args, ValueEnum};
use recovery::{Check, ItemName, PointChoice, PointId, Profile, SiteName};

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
    /// Bytes per second of the line [default: without a limit]
    #[arg(long, value_name = "BYTES")]
    pub(crate) bandwidth: Option<u64>,
    /// From which age of its newest point on the item is reported as critical [default: when many points are missing]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) rpo_threshold: Option<Duration>,
    /// How long after a failover its point can be changed [default: the profile's, 72h for kvm]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) change_window: Option<Duration>,
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
    /// From which point: latest (the source is asked for one more first, if it answers), latest-processed, latest-app-consistent, or a number.
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
    /// Asks the source's guest to shut down first, and to send what it has not sent yet; goes on whatever comes of it.
    #[arg(long)]
    pub(crate) shut_down: bool,
    /// With --shut-down: how long the guest may take [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = span::parse, requires = "shut_down")]
    pub(crate) shut_down_timeout: Option<Duration>,
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
    /// From which point: latest (made when it is off, loses nothing), latest-app-consistent, or a number. Older ones lose what came after them.
    #[arg(long, default_value = "latest")]
    pub(crate) point: PointChoice,
    /// What was written after that point may be lost. Your name stands in the history.
    #[arg(long, requires = "reason")]
    pub(crate) accept_loss: bool,
    /// Why you accept that.
    #[arg(long, requires = "accept_loss")]
    pub(crate) reason: Option<String>,
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
    /// The copy is removed after so long, if nobody has done that.
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = span::parse)]
    pub(crate) ttl: Duration,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct HoldPoint {
    /// Which item.
    pub(crate) item: ItemName,
    /// Which recovery point, by its number.
    #[arg(long)]
    pub(crate) point: PointId,
    /// Why it is needed; stands in the history beside your name.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct ReleasePoint {
    /// Which item.
    pub(crate) item: ItemName,
    /// Why it is not needed any more; stands in the history beside your name.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetItem {
    /// Which item.
    pub(crate) item: ItemName,
    /// What a site still keeps of it stays there: nobody could remove it when the item was unprotected.
    #[arg(long)]
    pub(crate) leave_behind: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// What is not named stays as it is.
#[derive(Debug, Args)]
pub(crate) struct ChangePolicy {
    /// Which item.
    pub(crate) item: ItemName,
    /// From one point to the next.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) interval: Option<Duration>,
    /// Most points that are kept.
    #[arg(long)]
    pub(crate) retention_points: Option<u32>,
    /// Over which the kept points are spread.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) retention_window: Option<Duration>,
    /// Bytes per second of the line; 0 is without a limit.
    #[arg(long, value_name = "BYTES")]
    pub(crate) bandwidth: Option<u64>,
    /// Takes an app-consistent point that often; 0s takes none.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) app_consistent_every: Option<Duration>,
    /// From which age of its newest point on the item is reported as critical; 0s goes by the interval alone.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) rpo_threshold: Option<Duration>,
    /// How long after a failover its point can be changed; 0s goes by the profile.
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) change_window: Option<Duration>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveItem {
    /// Which item.
    pub(crate) item: ItemName,
    /// The state that holds. Without it the sites are looked at and compared with the record, and no more.
    #[arg(long, value_enum, value_name = "STATE", requires = "reason")]
    pub(crate) r#as: Option<Holds>,
    /// Where the item runs [default: where it is recorded to run]
    #[arg(long, value_name = "SITE", requires = "as")]
    pub(crate) at: Option<SiteName>,
    /// Why; stands in the history beside your name.
    #[arg(long, requires = "as")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// A state in which nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Holds {
    /// Known, not replicated.
    Unprotected,
    /// Points are taken where it runs.
    Protected,
    /// Runs at the other site from a point, not accepted yet.
    CommitPending,
    /// Runs there, accepted, not replicated.
    Committed,
}

#[derive(Debug, Args)]
pub(crate) struct ItemOperation {
    /// Which item.
    pub(crate) item: ItemName,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}
