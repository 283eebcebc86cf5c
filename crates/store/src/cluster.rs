//! A private Postgres cluster, for those who bring no database: made from the system's binaries, reachable by a socket only.
//!
//! ```text
//!   DIR/lock      held as long as somebody uses the cluster
//!   DIR/data      the cluster; complete as soon as it has this name
//!   DIR/sock      its socket, for its owner (and root) alone
//! ```
//!
//! Invariants: 1. Nothing is written to disk with fsync off. 2. One user at a time: the lock is held before anything is looked
//! at. 3. As root, Postgres runs as the user `postgres`, and [`Cluster::runs_as`] says so. 4. A postmaster that outlived its
//! starter is stopped before another is started.

mod account;
mod binaries;
mod leftover;

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio_postgres::NoTls;

use account::Account;
use binaries::Binaries;

/// Longest path of a Unix socket that the kernel takes.
const SOCKET_PATH: usize = 107;
/// The role that owns everything in the cluster.
const ROLE: &str = "switchback";

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The programs are not installed.
    #[error(
        "no Postgres {least} or newer was found (looked in {looked}): install it, with `apt-get install postgresql`, `dnf install postgresql-server` \
         or `brew install postgresql`, or name a database with --database-url",
        least = binaries::LEAST_MAJOR
    )]
    NoBinaries {
        /// Where was looked.
        looked: String,
    },
    /// Postgres refuses to run as root, and there is nobody else.
    #[error("Postgres does not run as root, and there is no user {user}: create it (the package of Postgres does), or name a database with --database-url")]
    NoAccount {
        /// Who is missing.
        user: &'static str,
    },
    /// Somebody else uses the cluster.
    #[error("the database in {dir} is in use by another switchback")]
    InUse {
        /// Where.
        dir: PathBuf,
    },
    /// The kernel's limit.
    #[error("the path {path} of the database's socket has {} bytes, the limit is {SOCKET_PATH}: choose a shorter state directory", path.as_os_str().len())]
    SocketPath {
        /// The path.
        path: PathBuf,
    },
    /// A parent directory is closed to the user that Postgres runs as.
    #[error("user {user} can't enter {dir}: every directory above it needs the execute permission for others")]
    Unreachable {
        /// Who.
        user: String,
        /// Where.
        dir: PathBuf,
    },
    /// A file or program failed.
    #[error("could not {attempted} {path}")]
    Io {
        /// A verb.
        attempted: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cluster was not made.
    #[error("initdb failed for {dir}: {said}")]
    Initdb {
        /// Where.
        dir: PathBuf,
        /// Its last words.
        said: String,
    },
    /// Another major version made it.
    #[error("the cluster in {dir} was made by Postgres {found}, and no Postgres {found} is installed")]
    OtherMajor {
        /// Where.
        dir: PathBuf,
        /// Who made it.
        found: String,
    },
    /// It does not come up.
    #[error("the database in {dir} did not answer within {limit:?}; see its log")]
    Silent {
        /// Where.
        dir: PathBuf,
        /// How long was waited.
        limit: Duration,
        /// The last refusal.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// A postmaster from before does not go.
    #[error("process {pid} still runs the database in {dir} and does not stop")]
    Leftover {
        /// Which.
        pid: i32,
        /// Where.
        dir: PathBuf,
    },
}

/// A private cluster that nobody else uses.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    binaries: Binaries,
    account: Option<Account>,
    _lock: File,
}

impl Cluster {
    /// Takes the cluster in `dir`, making it if there is none, and stops what still runs there from before.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn prepare(dir: &Path) -> Result<Self, ClusterError> {
        let account = Account::for_postgres()?;
        make_dir(dir, account.as_ref())?;
        let dir = fs::canonicalize(dir).map_err(failed("find", dir))?;
        let lock = lock(&dir)?;
        let socket = dir.join("sock/.s.PGSQL.5432");
        if socket.as_os_str().len() > SOCKET_PATH {
            return Err(ClusterError::SocketPath { path: socket });
        }
        let binaries = Binaries::find(made_by(&dir)?.as_deref(), &dir)?;
        let cluster = Self { dir, binaries, account, _lock: lock };
        cluster.reachable()?;
        leftover::stop(&cluster.data_dir())?;
        cluster.make()?;
        make_dir(&cluster.dir.join("sock"), cluster.account.as_ref())?;
        Ok(cluster)
    }

    /// The user that Postgres runs as, if it is not ours.
    #[must_use]
    pub fn runs_as(&self) -> Option<&str> {
        self.account.as_ref().map(|account| account.name.as_str())
    }

    /// Major version of the binaries.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.binaries.major
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(ROLE)
    }

    /// Where clients connect to another database of the cluster.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        let host = self.dir.join("sock").display().to_string().replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{host}' port=5432 user={ROLE} dbname={database} sslmode=disable")
    }

    /// The postmaster, to be started in the foreground in a process group of its own.
    #[must_use]
    pub fn postmaster(&self) -> Command {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data_dir());
        for setting in [
            "listen_addresses=",
            "port=5432",
            "unix_socket_permissions=0700",
            "max_connections=100",
            "jit=off",
            "log_line_prefix=%m [%p] ",
        ] {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("unix_socket_directories={}", self.dir.join("sock").display()));
        command.process_group(0).stdin(Stdio::null());
        command
    }

    /// Waits until it answers, and makes our database if there is none.
    ///
    /// # Errors
    /// [`ClusterError::Silent`].
    pub async fn ready(&self, limit: Duration) -> Result<(), ClusterError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let refused = match self.ensure_database().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if tokio::time::Instant::now() > deadline {
                return Err(ClusterError::Silent { dir: self.dir.clone(), limit, source: Some(refused) });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ensure_database(&self) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url_of("postgres"), NoTls).await?;
        let driver = tokio::spawn(connection);
        let found = client.query_opt("select from pg_database where datname = $1", &[&ROLE]).await?;
        if found.is_none() {
            client.batch_execute(&format!("create database {ROLE}")).await?;
        }
        drop(client);
        drop(driver.await);
        Ok(())
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.dir.join(name));
        command.current_dir(&self.dir).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// The working directory is entered as the other user, so starting anything there tells.
    fn reachable(&self) -> Result<(), ClusterError> {
        let Some(account) = &self.account else { return Ok(()) };
        let mut tried = Command::new("true");
        let tried = tried.current_dir(&self.dir).uid(account.uid).gid(account.gid).status();
        match tried {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClusterError::Unreachable { user: account.name.clone(), dir: self.dir.clone() })
            }
            Err(source) => Err(ClusterError::Io { attempted: "enter", path: self.dir.clone(), source }),
        }
    }

    /// Makes the cluster under another name, so that one which has the right name is whole.
    fn make(&self) -> Result<(), ClusterError> {
        let (data, part) = (self.data_dir(), self.dir.join("data.part"));
        if data.exists() {
            return Ok(());
        }
        if part.exists() {
            fs::remove_dir_all(&part).map_err(failed("remove", &part))?;
        }
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(&part).args(["-U", ROLE, "-A", "trust", "-E", "UTF8", "--no-locale", "--data-checksums", "--no-instructions"]);
        let output = initdb.stdin(Stdio::null()).output().map_err(failed("start", &self.binaries.dir.join("initdb")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ClusterError::Initdb { dir: self.dir.clone(), said });
        }
        fs::rename(&part, &data).map_err(failed("rename", &part))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))
    }
}

fn failed(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { attempted, path, source }
}

fn make_dir(dir: &Path, account: Option<&Account>) -> Result<(), ClusterError> {
    fs::create_dir_all(dir).map_err(failed("create", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed("close", dir))?;
    match account {
        Some(account) => chown(dir, Some(account.uid), Some(account.gid)).map_err(failed("give away", dir)),
        None => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, ClusterError> {
    let path = dir.join("lock");
    let file = File::options().create(true).append(true).open(&path).map_err(failed("open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ClusterError::InUse { dir: dir.to_owned() }),
        Err(errno) => Err(failed("lock", &path)(errno.into())),
    }
}

/// Major version of the cluster that is there.
fn made_by(dir: &Path) -> Result<Option<String>, ClusterError> {
    let path = dir.join("data/PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ClusterError::Io { attempted: "read", path, source }),
    }
}
