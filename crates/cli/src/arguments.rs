//! The command line, as people type it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use recovery::{Check, ItemName, PointChoice, SiteName};
use sdk::RunId;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not possible now, 5 not allowed, 6 set aside or \
degraded, 124 wait timed out, 130 interrupted.";

/// Open disaster recovery: replicate machines to a second site, fail them over, prove it.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Arguments {
    /// Where the server is: unix:PATH or https://HOST:PORT. By default the socket in the state directory.
    #[arg(long, global = true, env = "SWITCHBACK_SERVER", value_name = "ADDRESS")]
    pub(crate) server: Option<String>,
    /// Bearer token for an https server.
    #[arg(long, global = true, env = "SWITCHBACK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// The CA by which an https server is known: a PEM file, or the SHA-256 of its certificate in hex.
    #[arg(long, global = true, env = "SWITCHBACK_CA", value_name = "FILE|HEX")]
    pub(crate) ca: Option<String>,
    /// How answers are printed; standard output carries nothing else.
    #[arg(short, long, global = true, value_enum, default_value_t = Form::Table)]
    pub(crate) output: Form,
    /// State directory of the server on this host.
    #[arg(long, global = true, env = "SWITCHBACK_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run database, server and workers on this host until stopped.
    Up(Up),
    /// Run the server alone.
    Server(Server),
    /// Run one worker alone.
    Worker(Worker),
    /// Begin replication of a machine to another site.
    Protect(Protect),
    /// List the recovery points of an item.
    Points {
        /// Which.
        item: ItemName,
    },
    /// Run an item at its recovery site from one of its points, whether or not its source answers.
    Failover(Failover),
    /// Accept a failover: its recovery points are withdrawn and removed, for good.
    Commit(Change),
    /// End replication of an item and remove its replica with all its points. The machine is not touched.
    Unprotect(Change),
    /// Ask a run to stop; what it did is undone, as long as that is possible.
    Cancel {
        /// Which.
        run: RunId,
        /// Kept in its history.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Let a run go on that was set aside.
    Resume {
        /// Which.
        run: RunId,
        /// Kept in its history.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Print a run's events, one a line, with the epoch that wrote each.
    History {
        /// Which.
        run: RunId,
    },
    /// Say in one line what a run waits for.
    Why {
        /// Which.
        run: RunId,
    },
    /// Wait until a run has ended.
    Wait {
        /// Which.
        run: RunId,
        /// Longest wait.
        #[arg(long, value_parser = duration, value_name = "TIME")]
        timeout: Option<Duration>,
    },
    /// List runs, newest first.
    Runs(Runs),
    /// Look at the job queue, and at what nobody could run.
    Queue {
        #[command(subcommand)]
        command: Option<Queue>,
    },
    /// List things of a kind, or show one.
    Get {
        /// Which kind.
        kind: Kind,
        /// Which one, by name or id.
        name: Option<String>,
    },
    /// Show everything about one thing.
    Describe {
        /// Which kind.
        kind: One,
        /// Which one, by name or id.
        name: String,
    },
    /// Rebuild every item's record from the histories, check every chain of hashes, and compare.
    Verify,
    /// Agents: the processes beside the hypervisors.
    Agent {
        #[command(subcommand)]
        command: Agent,
    },
    /// Tokens by which programs and people use the server over the network.
    Token {
        #[command(subcommand)]
        command: Token,
    },
    /// Versions of this program and of the server.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// A Postgres of your own instead of the private cluster in the state directory.
    #[arg(long, env = "SWITCHBACK_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Also listen on the network, for agents and remote users; always with TLS.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// How many worker processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// Life of a worker's lease without renewal: how long a dead worker's runs wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) lease_seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The database.
    #[arg(long, env = "SWITCHBACK_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,
    /// Also listen on the network; always with TLS.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// The database.
    #[arg(long, env = "SWITCHBACK_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: String,
    /// Life of the lease without renewal: how long this worker's runs wait when it dies.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) lease_seconds: u64,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Waiting {
    /// Wait until the run has ended, showing what it does.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest wait; the run goes on after it.
    #[arg(long, requires = "wait", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Protect {
    /// Name of the item.
    pub(crate) item: ItemName,
    /// Where it runs.
    #[arg(long, value_name = "SITE")]
    pub(crate) from: SiteName,
    /// Where its points go.
    #[arg(long, value_name = "SITE")]
    pub(crate) to: SiteName,
    /// Name of the machine on the platform; by default the item's.
    #[arg(long)]
    pub(crate) machine: Option<String>,
    /// Time between two points.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "5s")]
    pub(crate) interval: Duration,
    /// How many points are kept.
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) retention_points: u32,
    /// The time over which the kept points are spread.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "72h")]
    pub(crate) retention_window: Duration,
    /// Most bytes a second that replication may send.
    #[arg(long, value_name = "BYTES")]
    pub(crate) bandwidth: Option<u64>,
    /// How a recovered machine is asked whether it serves: tcp:HOST:PORT or http://HOST:PORT/path. May be repeated.
    #[arg(long = "check", value_name = "CHECK")]
    pub(crate) checks: Vec<Check>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Failover {
    /// Which.
    pub(crate) item: ItemName,
    /// latest-processed, latest-app-consistent, or the number of a point.
    #[arg(long, default_value = "latest-processed")]
    pub(crate) point: PointChoice,
    /// Go on although nobody can prove that the source can't write. Your name goes into the history.
    #[arg(long, requires = "reason")]
    pub(crate) accept_unfenced: bool,
    /// Why you know that the source can't write; kept in the history.
    #[arg(long, requires = "accept_unfenced")]
    pub(crate) reason: Option<String>,
    /// How long the source's agent may take to pick the fence up.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "10s")]
    pub(crate) fence_timeout: Duration,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Which.
    pub(crate) item: ItemName,
    /// Don't ask; only where a person would be asked.
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Of this item only.
    #[arg(long)]
    pub(crate) item: Option<ItemName>,
    /// Open ones only.
    #[arg(long)]
    pub(crate) open: bool,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// Depth, oldest age, attempts and dead letters of every queue.
    List,
    /// Tasks that nobody could run.
    Dead,
    /// Put a dead task back into its queue.
    Retry {
        /// Its run.
        run: RunId,
        /// Its scheduling event.
        seq: i32,
    },
    /// Give a dead task up: its run hears that it failed.
    Discard {
        /// Its run.
        run: RunId,
        /// Its scheduling event.
        seq: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Items.
    #[value(alias = "item")]
    Items,
    /// Sites.
    #[value(alias = "site")]
    Sites,
    /// Agents.
    #[value(alias = "agent")]
    Agents,
    /// Runs.
    #[value(alias = "run")]
    Runs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum One {
    /// An item.
    Item,
    /// A run.
    Run,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Make a one-time token with which an agent of a site enrolls.
    Token {
        /// The site; it exists from then on.
        #[arg(long)]
        site: SiteName,
    },
    /// List enrolled agents.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is shown once.
    Create {
        /// Who will use it; goes into histories.
        #[arg(long)]
        name: String,
        /// viewer, operator or admin.
        #[arg(long)]
        role: api::access::Role,
    },
}

/// Reads `250ms`, `5s`, `10m`, `72h`, `30d`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time such as 250ms, 5s, 10m, 72h or 30d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_e| bad())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(bad)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        let read = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(["250ms", "5s", "10m", "72h", "30d"].map(|text| read(text).unwrap()), [250, 5_000, 600_000, 259_200_000, 2_592_000_000]);
        for text in ["", "5", "s", "5 s", "-1s", "5w", "99999999999999999999s", "18446744073709551615d"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn accepting_an_unfenced_source_needs_a_reason() {
        let parse = |words: &[&str]| Arguments::try_parse_from(["switchback", "failover", "db9"].iter().chain(words));
        assert!(parse(&["--accept-unfenced"]).is_err());
        assert!(parse(&["--reason", "it burns"]).is_err());
        assert!(parse(&["--accept-unfenced", "--reason", "it burns"]).is_ok());
    }
}
