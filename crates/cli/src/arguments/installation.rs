//! Arguments of what runs for long: database, server, workers.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

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
