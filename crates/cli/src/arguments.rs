//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use api::access::Role;
use clap::{Args, Parser, Subcommand, ValueEnum};
use recovery::{Check, ItemName, PointChoice, SiteName};
use sdk::RunId;

use crate::span;

/// Disaster recovery as durable workflows on Postgres.
///
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 precondition or conflict, 5 not allowed, 6 degraded,
/// 124 waited in vain, 130 interrupted (what was begun goes on).
///
/// Over the network: --server https://HOST:PORT, --ca with the server's STATE_DIR/pki/ca.crt, and in SWITCHBACK_TOKEN what
/// `switchback token create` printed.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, about)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where the server is: unix:PATH or https://HOST:PORT [default: the socket in the state directory]
    #[arg(long, global = true, env = "SWITCHBACK_SERVER", value_name = "ADDRESS")]
    pub(crate) server: Option<String>,
    /// Form of answers.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Bearer token, for servers on the network.
    #[arg(long, global = true, env = "SWITCHBACK_TOKEN", hide_env_values = true, hide = true)]
    pub(crate) token: Option<String>,
    /// File of the CA by which the server is known, for servers on the network.
    #[arg(long, global = true, env = "SWITCHBACK_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs database, server and workers until it is stopped.
    Up(Up),
    /// Runs a server alone.
    Server(Server),
    /// Runs a worker alone.
    Worker(Worker),
    /// Begins replication of a machine to another site.
    Protect(Protect),
    /// Lists an item's recovery points.
    Points {
        /// Which item.
        item: ItemName,
    },
    /// Runs an item at its other site, from a recovery point.
    Failover(Failover),
    /// Moves an item to its recovery site without loss: shuts it down, sends the rest, starts it there. Stops at the first error.
    PlannedFailover(PlannedFailover),
    /// Recovers a failed-over item again from another point; what it has written since is discarded.
    ChangePoint(ChangePoint),
    /// Gives a failover up: what the failed-over machine has written is discarded, and the source runs again.
    Undo(Discarding),
    /// Accepts a failover; its points go.
    Commit(ItemOperation),
    /// Replicates a committed item in the other direction, onto its old machine's disks.
    Reprotect(Reprotect),
    /// Moves an item back to its primary site without loss. Stops at the first error.
    Failback(Failback),
    /// Starts a copy of an item on a network of its own; production and replication do not notice.
    TestFailover(TestFailover),
    /// Removes the copy of a test failover.
    CleanTestFailover(ItemOperation),
    /// Ends replication of an item and removes its replica.
    Unprotect(ItemOperation),
    /// Asks a run to stop and to put back what it did.
    Cancel {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Kept in the history.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Shows what a run did, an event a line, with the epoch that wrote it.
    History {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
    },
    /// Says in one line what a run waits for.
    Why {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
    },
    /// Lists runs, newest first.
    Runs {
        /// Of this item only.
        #[arg(long)]
        item: Option<ItemName>,
        /// Only those that have not ended.
        #[arg(long)]
        open: bool,
    },
    /// Shows the task queues, and deals with tasks that nobody can run.
    Queue {
        #[command(subcommand)]
        command: Option<QueueCommand>,
    },
    /// Lists what there is, or one of it.
    Get {
        /// Of which kind.
        kind: Kind,
        /// Which one.
        name: Option<String>,
    },
    /// Shows all that is known of one thing.
    Describe {
        /// Of which kind.
        kind: Described,
        /// Which one.
        name: String,
    },
    /// Rebuilds the projection from the histories and compares.
    Verify,
    /// Lets a run that was set aside go on.
    Resume {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Kept in the log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lets agents in, and lists them.
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
    /// Lets programs and people in.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Shows the versions of this program and of the server.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct StateDirArgument {
    /// Where the installation keeps its files [default: /var/lib/switchback as root, else $XDG_DATA_HOME/switchback]
    #[arg(long, env = "SWITCHBACK_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) state: StateDirArgument,
    /// A database of yours, instead of a private one.
    #[arg(long, env = "SWITCHBACK_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Where to listen on the network, with TLS; agents need it.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// A name by which the server is reached, beside its addresses; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Vec<String>,
    /// How many workers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,
    /// Life of a worker's lease without renewal: how long its runs wait when it dies.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=120))]
    pub(crate) lease_seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    #[command(flatten)]
    pub(crate) state: StateDirArgument,
    /// The database.
    #[arg(long, env = "SWITCHBACK_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,
    /// Where to listen on the network, with TLS.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// A name by which the server is reached, beside its addresses; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    #[command(flatten)]
    pub(crate) state: StateDirArgument,
    /// The database.
    #[arg(long, env = "SWITCHBACK_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,
    /// Life of its lease without renewal.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=120))]
    pub(crate) lease_seconds: u64,
    /// Its name among the pid files [default: worker-PID]
    #[arg(long)]
    pub(crate) name: Option<String>,
}

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
    #[arg(long, default_value_t = 24)]
    pub(crate) retention_points: u32,
    /// Over which the kept points are spread.
    #[arg(long, default_value = "72h", value_parser = span::parse)]
    pub(crate) retention_window: Duration,
    /// Takes an app-consistent point that often: the guest agent quiets file systems and applications for a moment [default: never]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) app_consistent_every: Option<Duration>,
    /// How a recovered machine is asked whether it serves: tcp:HOST:PORT or http://HOST:PORT/path; may be repeated.
    #[arg(long, value_name = "CHECK")]
    pub(crate) check: Vec<Check>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Depth, oldest age and attempts of each queue.
    List,
    /// Tasks that nobody can run.
    Dead,
    /// Tries one of them again.
    Retry {
        /// Of which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Which task.
        seq: i32,
    },
    /// Gives one of them up; its run hears that it failed.
    Discard {
        /// Of which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Which task.
        seq: i32,
    },
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[value(alias = "item")]
    Items,
    #[value(alias = "site")]
    Sites,
    #[value(alias = "agent")]
    Agents,
    #[value(alias = "run")]
    Runs,
}

/// What can be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Described {
    Item,
    Run,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Makes a one-time token with which an agent of a site is enrolled.
    Token {
        /// Which site; it exists from then on.
        #[arg(long)]
        site: SiteName,
    },
    /// Lists enrolled agents.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a bearer token; it is shown once.
    Create {
        /// Who will use it; goes into histories.
        #[arg(long)]
        name: String,
        /// What it allows: viewer, operator or admin.
        #[arg(long)]
        role: Role,
    },
}

fn run_id(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|error| format!("that is no id of a run ({error}); `switchback runs` lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn to_go_on_unfenced_needs_a_reason() {
        let parsed = |arguments: &[&str]| Arguments::try_parse_from([&["switchback", "failover", "db9"], arguments].concat());
        assert!(parsed(&["--accept-unfenced"]).is_err());
        assert!(parsed(&["--reason", "site burns"]).is_err());
        assert!(parsed(&["--accept-unfenced", "--reason", "site burns", "--wait"]).is_ok());
        assert!(parsed(&["--timeout", "5s"]).is_err(), "a limit without a wait is a mistake");
    }
}
