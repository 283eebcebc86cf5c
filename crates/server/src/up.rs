//! `switchback up`: database, server and workers as child processes, each restarted when it dies.
//!
//! ```text
//!   prepare ─▶ database ─▶ migrate ─▶ server, worker-1 … worker-N ─▶ watch ─▶ SIGTERM ─▶ workers, server, database
//! ```
//!
//! Invariants: 1. A child that dies is started again, after a pause that grows while it keeps dying. 2. Children of ours end
//! when we do, even if we are killed: they watch a pipe; a database that outlives us is stopped by the next start. 3. The database
//! goes last.

mod child;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use store::{
    Limits, OpenError,
    cluster::{Cluster, ClusterError},
    migrate,
    pool::Target,
};
use tokio::sync::watch;

use crate::{
    listen::stopped,
    state_dir::{StateDir, StateDirError},
};
use child::{Child, Ending};

/// Longest wait for the database to answer after its start: crash recovery included.
const DATABASE_START: Duration = Duration::from_secs(120);

/// How an installation is run.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Where its files are.
    pub state_dir: StateDir,
    /// Its database; a private one if none is given.
    pub database_url: Option<String>,
    /// Where the server listens on the network.
    pub listen: Option<SocketAddr>,
    /// Names that the server's certificate holds beside its addresses.
    pub tls_names: Vec<String>,
    /// How many workers.
    pub workers: u32,
    /// Life of a worker's lease without renewal.
    pub lease: Duration,
    /// The program to run for server and workers: ourselves.
    pub program: PathBuf,
}

/// Why an installation does not run.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The private database can't be used.
    #[error("the private database can't be started")]
    Cluster(#[from] ClusterError),
    /// The database can't be used.
    #[error("the database can't be used")]
    Database(#[from] OpenError),
    /// A file can't be used.
    #[error("the state directory can't be used")]
    Files(#[from] StateDirError),
    /// A program can't be started.
    #[error("could not start {name}")]
    Start {
        /// Which child.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs everything until `stop` turns true. `say` gets a line for people whenever something begins, dies or ends.
///
/// # Errors
/// [`UpError`]; whatever was started is stopped again.
pub async fn up(options: UpOptions, mut stop: watch::Receiver<bool>, say: impl Fn(&str) + Clone + Send + Sync + 'static) -> Result<(), UpError> {
    let (end_database, database_ends) = watch::channel(false);
    let (url, database) = match options.database_url.clone() {
        Some(url) => (url, None),
        None => {
            let (url, running) = start_database(&options, database_ends, say.clone()).await?;
            (url, Some(running))
        }
    };
    let ran = run_on(&options, &url, &mut stop, &say).await;
    end_database.send_replace(true);
    if let Some(database) = database {
        drop(database.await);
    }
    say("stopped");
    ran
}

async fn start_database(
    options: &UpOptions,
    ends: watch::Receiver<bool>,
    say: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<(String, tokio::task::JoinHandle<()>), UpError> {
    let cluster = Cluster::prepare(&options.state_dir.cluster())?;
    let user = cluster.runs_as().map(|user| format!(" as user {user}, because it refuses to run as root")).unwrap_or_default();
    say(&format!("starting a private Postgres {} in {}{user}", cluster.major(), options.state_dir.cluster().display()));
    let child = Child {
        name: "database".to_owned(),
        log: options.state_dir.log("database"),
        state_dir: options.state_dir.clone(),
        ending: Ending::FastShutdown,
        notes_itself: false,
    };
    let url = cluster.url();
    let command = std::sync::Arc::new(cluster);
    let running = tokio::spawn({
        let (cluster, say) = (command.clone(), say.clone());
        async move { child.keep_running(move || cluster.postmaster(), ends, &say).await }
    });
    match command.ready(DATABASE_START).await {
        Ok(()) => Ok((url, running)),
        Err(error) => {
            running.abort();
            Err(error.into())
        }
    }
}

async fn run_on(options: &UpOptions, url: &str, stop: &mut watch::Receiver<bool>, say: &(impl Fn(&str) + Clone + Send + Sync + 'static)) -> Result<(), UpError> {
    let limits = Limits { lease: options.lease, connections: 1 };
    let migrated = migrate::run(&Target::new(url, limits.statement())?).await?;
    if migrated.from == 0 {
        say("the database is new; its schema was made");
    } else if migrated.from != migrated.to {
        say(&format!("the schema was brought from version {} to {}", migrated.from, migrated.to));
    }
    let (end, ends) = watch::channel(false);
    let mut children = tokio::task::JoinSet::new();
    for (name, arguments) in processes(options) {
        let child = Child {
            log: options.state_dir.log(&name),
            state_dir: options.state_dir.clone(),
            ending: Ending::Terminate,
            notes_itself: name != "server",
            name,
        };
        let (program, url, ends, say) = (options.program.clone(), url.to_owned(), ends.clone(), say.clone());
        children.spawn(async move {
            let command = move || {
                let mut command = std::process::Command::new(&program);
                command.args(&arguments).env("SWITCHBACK_DATABASE_URL", &url);
                command
            };
            child.keep_running(command, ends, &say).await;
        });
    }
    let mut early = stop.clone();
    tokio::select! {
        () = answering(&options.state_dir) => {
            let network = options.listen.map(|listen| format!(" and, for agents, at https://{listen}")).unwrap_or_default();
            say(&format!("running {} worker(s); the API answers at unix:{}{network}", options.workers, options.state_dir.socket().display()));
            stopped(stop).await;
        }
        () = stopped(&mut early) => {}
    }
    say("stopping");
    end.send_replace(true);
    while children.join_next().await.is_some() {}
    Ok(())
}

/// Until the server's socket takes connections.
async fn answering(state_dir: &StateDir) {
    while tokio::net::UnixStream::connect(state_dir.socket()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The database's address is a secret at times: it goes by the environment, not by the command line.
fn processes(options: &UpOptions) -> Vec<(String, Vec<String>)> {
    let state_dir = options.state_dir.path().display().to_string();
    let mut server = vec!["server".to_owned(), "--state-dir".to_owned(), state_dir.clone()];
    if let Some(listen) = options.listen {
        server.extend(["--listen".to_owned(), listen.to_string()]);
    }
    for name in &options.tls_names {
        server.extend(["--tls-name".to_owned(), name.clone()]);
    }
    let worker = |number: u32| {
        let name = format!("worker-{number}");
        let lease = options.lease.as_secs().to_string();
        let arguments = ["worker", "--state-dir", &state_dir, "--lease-seconds", &lease, "--name", &name].map(str::to_owned);
        (name, arguments.to_vec())
    };
    let mut processes = vec![("server".to_owned(), server)];
    processes.extend((1..=options.workers).map(worker));
    processes
}
