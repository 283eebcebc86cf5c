//! One cluster and its processes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sdk::RunId;
use store::cluster::Cluster;
use switchback_tests::product::Running;
use tokio_postgres::{Client, NoTls};

use crate::installation::kill;

/// Longest wait for a clean stop.
const ENDS: Duration = Duration::from_secs(10);
/// Longest wait for a cluster that was killed to answer again, when nobody else uses it.
const RECOVERS: Duration = Duration::from_secs(30);
/// When each transaction was stored is measured by; the log of changes stays small, and a standby that was away finds it.
const SETTINGS: [&str; 6] =
    ["track_commit_timestamp=on", "max_wal_size=128MB", "min_wal_size=32MB", "wal_keep_size=64MB", "shared_buffers=64MB", "log_checkpoints=off"];

/// How many events each run has, and in how many turns they were written.
pub type Heads = BTreeMap<RunId, (i64, i64)>;

pub(super) struct Node {
    pub(super) cluster: Cluster,
    pub(super) dir: PathBuf,
    running: Option<Running>,
    /// It died and is not to be started before it was made anew.
    dead: bool,
}

impl Node {
    pub(super) fn made(dir: PathBuf) -> Result<Self> {
        let cluster = Cluster::prepare(&dir).with_context(|| format!("making a cluster in {}", dir.display()))?;
        Ok(Self { cluster, dir, running: None, dead: false })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("sock/.s.PGSQL.5432")
    }

    /// Its files are those of a standby now; it may be started.
    pub(super) fn made_anew(&mut self) {
        self.dead = false;
    }

    fn spawned(&self, log: &Path) -> Running {
        let mut command = self.cluster.postmaster();
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        Running::start(command, log)
    }

    /// Whether it had to be started.
    pub(super) fn start(&mut self, log: &Path) -> bool {
        let runs = self.running.as_mut().is_some_and(|running| running.ended().is_none());
        if runs || self.dead {
            return false;
        }
        self.running = Some(self.spawned(log));
        true
    }

    /// A dead one for a look at what it had.
    pub(super) fn alone(&self, log: &Path) -> Running {
        self.spawned(log)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(running) = self.running.as_ref() {
            kill(running.pid(), signal);
        }
    }

    fn children(&self) -> Vec<i32> {
        let Some(running) = self.running.as_ref() else { return vec![] };
        let listed = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.pid())).unwrap_or_default();
        listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Processes of it whose title has that word.
    pub(super) fn children_called(&self, word: &str) -> Vec<i32> {
        let titled = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|title| title.contains(word));
        self.children().into_iter().filter(titled).collect()
    }

    /// All its processes die: the one that would start others is stopped first.
    pub(super) fn die(&mut self) {
        self.signal(Signal::STOP);
        self.children().into_iter().for_each(|pid| kill(pid, Signal::KILL));
        self.signal(Signal::KILL);
        self.dead = true;
        // Taken away by the system before anybody else may use its files.
        drop(self.running.take());
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            stop(&mut running);
        }
    }
}

/// Copies the cluster in `from` into `dir`, as a standby. The cluster that was there is gone then.
pub(super) fn copy(from: &Path, dir: &Path) -> Result<()> {
    let owner = fs::metadata(from.join("data")).context("looking whose the primary is")?;
    if dir.join("data").exists() {
        fs::remove_dir_all(dir.join("data")).context("removing the old cluster")?;
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    chown(dir, Some(owner.uid()), Some(owner.gid()))?;
    let mut copy = Command::new(programs(from)?.join("pg_basebackup"));
    copy.arg("-h").arg(from.join("sock")).args(["-p", "5432", "-U", "switchback", "-X", "stream", "-R", "--checkpoint=fast", "-D"]).arg(dir.join("data"));
    copy.current_dir(dir).env("LC_ALL", "C").stdin(Stdio::null()).uid(owner.uid()).gid(owner.gid());
    let copied = copy.output().context("starting pg_basebackup")?;
    ensure!(copied.status.success(), "copying the primary: {}", String::from_utf8_lossy(&copied.stderr));
    Ok(())
}

/// Immediately, as nobody needs it any more.
pub(super) fn stop(running: &mut Running) {
    kill(running.pid(), Signal::QUIT);
    let until = Instant::now() + ENDS;
    while running.ended().is_none() && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Where the programs of the cluster in `dir` are.
fn programs(dir: &Path) -> Result<PathBuf> {
    let postmaster = fs::read_to_string(dir.join("data/postmaster.opts")).context("reading how the primary was started")?;
    let program = PathBuf::from(postmaster.split_whitespace().next().unwrap_or_default());
    Ok(program.parent().context("the primary has no program")?.to_owned())
}

pub(super) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio::time::timeout(Duration::from_secs(5), tokio_postgres::connect(url, NoTls)).await.context("connecting")??;
    tokio::spawn(connection);
    Ok(client)
}

/// How many events and turns each run has, once the database answers. A run without any has 0.
pub(super) async fn heads(url: &str) -> Result<Heads> {
    let deadline = Instant::now() + RECOVERS;
    let counted = "select r.run_id, count(e.seq), count(distinct e.turn) from engine.runs r left join engine.events e on e.run_id = r.run_id group by r.run_id";
    loop {
        let heads = async { anyhow::Ok(connect(url).await?.query(counted, &[]).await?) };
        match heads.await {
            Ok(rows) => return Ok(rows.iter().map(|row| (RunId(row.get(0)), (row.get(1), row.get(2)))).collect()),
            Err(error) if Instant::now() > deadline => return Err(error.context("counting events")),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
