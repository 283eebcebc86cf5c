//! Everything that runs: a Postgres of its own, servers, workers, agents, the ledger, and the proxies between them.
//!
//! Invariants: 1. Whatever was started is ended when this is dropped, and its disk taken away. 2. Whoever is struck is marked as such until
//! it is well again, so that nobody is struck twice at once.

mod disk;
mod member;
mod postgres;

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use switchback_tests::product::{Said, program, scratch};

pub use disk::Disk;
pub use member::{Member, kill};
pub use postgres::{Heads, Postgres, Tail};

use crate::{
    guard::Guard,
    programs::SITE,
    proxy::{Proxy, Target},
};

/// Longest wait for a part to begin, on a machine that others use as well.
const BEGINS: Duration = Duration::from_secs(60);
const WORKERS: usize = 3;
const SERVERS: usize = 2;
const AGENTS: usize = 3;

/// All of it.
pub struct Installation {
    /// The database.
    pub postgres: Arc<Postgres>,
    /// Between the database and everybody else.
    pub database: Proxy,
    /// Worker processes.
    pub workers: Vec<Arc<Member>>,
    /// Server processes.
    pub servers: Vec<Arc<Member>>,
    /// Agent processes.
    pub agents: Vec<Arc<Member>>,
    /// Life of every lease without renewal.
    pub lease: Duration,
    _ledger: Member,
    _front: Proxy,
    dir: PathBuf,
    /// The last to go: it ends what the others have left.
    _guard: Guard,
}

/// How it is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Life of every lease without renewal; whole seconds.
    pub lease: Duration,
    /// Agents whose probes say that nothing happened, whatever did.
    pub lying: bool,
    /// A standby beside the primary.
    pub replicated: Option<Replicated>,
}

/// When the primary says that something is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicated {
    /// When the standby has it on its disk as well.
    Sync,
    /// When it has it itself.
    Async,
}

impl Installation {
    /// Starts it in a directory of its own.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(wanted: &Wanted) -> Result<Self> {
        let dir = scratch("chaos");
        let guard = Guard::over(&dir)?;
        fs::create_dir_all(dir.join("logs"))?;
        let postgres = Postgres::start(&dir, wanted.replicated).await?;
        let database = Proxy::to(vec![postgres.target()]).await?;
        let url = format!("host=127.0.0.1 port={} user=switchback dbname=switchback sslmode=disable", database.listen.port());
        let ourselves = std::env::current_exe().context("finding this program")?;
        let at = free_port()?;
        let ledger = Member::new("ledger", &dir, {
            let (program, book) = (ourselves.clone(), dir.join("ledger.jsonl"));
            move || with(&program, &["ledger", "--listen", &at.to_string(), "--file", &text(&book)])
        });
        ledger.start();
        until("the ledger answers", || TcpStream::connect(at).is_ok()).await?;
        let (servers, front) = servers(&dir, &url).await?;
        let seconds = wanted.lease.as_secs().to_string();
        let agents = agents(&dir, front.listen, at, &seconds, wanted.lying)?;
        let workers = (1..=WORKERS).map(|number| {
            let (program, state, url, seconds, name) = (ourselves.clone(), text(&dir.join("workers")), url.clone(), seconds.clone(), format!("worker-{number}"));
            Member::new(&name.clone(), &dir, move || {
                with(&program, &["worker", "--state-dir", &state, "--database-url", &url, "--lease-seconds", &seconds, "--name", &name])
            })
        });
        let workers: Vec<Arc<Member>> = workers.map(Arc::new).collect();
        workers.iter().for_each(|worker| worker.start());
        Ok(Self { postgres, database, workers, servers, agents, lease: wanted.lease, _ledger: ledger, _front: front, dir, _guard: guard })
    }

    /// Where everything is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ledger's file.
    #[must_use]
    pub fn ledger_file(&self) -> PathBuf {
        self.dir.join("ledger.jsonl")
    }

    /// Address of the database as everybody but the judge sees it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=switchback dbname=switchback sslmode=disable", self.database.listen.port())
    }

    /// What a worker wrote down of itself: "PID worker ID epoch N".
    #[must_use]
    pub fn noted(&self, worker: &str) -> Option<sdk::Lease> {
        let note = fs::read_to_string(self.dir.join("workers/run").join(format!("{worker}.pid"))).ok()?;
        let mut words = note.split_whitespace().skip(2);
        let worker = sdk::WorkerId(words.next()?.parse().ok()?);
        Some(sdk::Lease { worker, epoch: words.nth(1)?.parse().ok()? })
    }

    /// Asks a server as a user would.
    #[must_use]
    pub fn say(&self, words: &[&str]) -> Said {
        say(&self.dir.join("server-1"), words)
    }

    /// Everybody goes on, and whoever is dead is started again.
    pub fn heal(&self) {
        for member in self.workers.iter().chain(&self.servers).chain(&self.agents) {
            member.heal();
        }
        self.database.stall(false);
        self.postgres.disk().clear();
    }

    /// Keeps the directory, for whoever looks for the reason of a failure.
    pub fn end(self, keep: bool) {
        let dir = self.dir.clone();
        for member in self.workers.iter().chain(&self.agents).chain(&self.servers) {
            member.kill();
        }
        self.postgres.end();
        if keep {
            let kept = dir.join("postgres.kept");
            if let Err(error) = self.postgres.disk().keep(&kept) {
                eprintln!("the database's files could not be kept: {error:#}");
            }
        }
        drop(self);
        if !keep && let Err(error) = fs::remove_dir_all(&dir) {
            eprintln!("{} could not be removed: {error}", dir.display());
        }
    }
}

async fn servers(dir: &Path, url: &str) -> Result<(Vec<Arc<Member>>, Proxy)> {
    let (mut servers, mut ports) = (Vec::new(), Vec::new());
    for number in 1..=SERVERS {
        let (state, listen) = (dir.join(format!("server-{number}")), free_port()?);
        if number > 1 {
            // All servers of an installation have the same authority: agents know one.
            fs::create_dir_all(&state)?;
            let copied = Command::new("cp").arg("-a").arg(dir.join("server-1/pki")).arg(&state).status()?;
            ensure!(copied.success(), "copying the authority to {}", state.display());
        }
        let server = Member::new(&format!("server-{number}"), dir, {
            let (program, state, url) = (program("switchback"), text(&state), url.to_owned());
            move || with(&program, &["server", "--state-dir", &state, "--database-url", &url, "--listen", &listen.to_string()])
        });
        server.start();
        until(&format!("server {number} answers"), || say(&state, &["-o", "json", "get", "items"]).code == 0).await?;
        servers.push(Arc::new(server));
        ports.push(Target::Tcp(listen));
    }
    Ok((servers, Proxy::to(ports).await?))
}

fn agents(dir: &Path, front: SocketAddr, ledger: SocketAddr, seconds: &str, lying: bool) -> Result<Vec<Arc<Member>>> {
    let mut agents = Vec::new();
    for number in 1..=AGENTS {
        let (name, state) = (format!("agent-{number}"), dir.join(format!("agent-{number}")));
        let token = say(&dir.join("server-1"), &["-o", "json", "agent", "token", "--site", SITE]);
        ensure!(token.code == 0, "a token for an agent: {token:?}");
        let token = token.json();
        let of = |key: &str| token[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {token}"));
        let server = format!("https://{front}");
        let (ca, secret) = (of("ca_sha256")?, of("token")?);
        let words = ["enroll", "--server", &server, "--ca-sha256", &ca, "--token", &secret, "--name", &name, "--state-dir", &text(&state)];
        let said = blocking(&mut with(&program("switchback-agent"), &words));
        ensure!(said.code == 0, "enrolling {name}: {said:?}");
        let agent = Member::new(&name, dir, {
            let (program, state, ledger, seconds) = (std::env::current_exe()?, text(&state), ledger.to_string(), seconds.to_owned());
            move || {
                let mut command = with(&program, &["agent", "--state-dir", &state, "--ledger", &ledger, "--lease-seconds", &seconds]);
                if lying {
                    command.arg("--lying");
                }
                command
            }
        });
        agent.start();
        agents.push(Arc::new(agent));
    }
    Ok(agents)
}

fn with(program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).env("RUST_LOG", "info");
    command
}

fn say(state_dir: &Path, words: &[&str]) -> Said {
    let mut command = with(&program("switchback"), words);
    command.env("SWITCHBACK_STATE_DIR", state_dir).env_remove("SWITCHBACK_SERVER");
    blocking(&mut command)
}

/// The proxies go on meanwhile: they have threads of their own.
fn blocking(command: &mut Command) -> Said {
    tokio::task::block_in_place(|| Said::by(command))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn free_port() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("finding a free port")
}

/// Looks until it is so.
///
/// # Errors
/// It has not come to it in time.
pub async fn until(what: &str, mut look: impl FnMut() -> bool) -> Result<()> {
    let deadline = tokio::time::Instant::now() + BEGINS;
    while !look() {
        if tokio::time::Instant::now() > deadline {
            bail!("{what} did not happen within {BEGINS:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
