//! Real databases for tests: one private cluster for a test process, a fresh database for each test, a clock that tests move.
//!
//! Invariants: 1. The cluster ends with the process that started it, however that ends: a shell that watches a pipe stops it and
//! removes its files. 2. Only databases made here have a clock that can be moved.

mod still;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use engine::contract::StoreLab;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

pub use still::StillDatabase;

use crate::{Limits, Lost, PgStore, cluster::Cluster, migrate, pg::column, pool::Target, sql};

/// Stops what it was given as soon as its standard input ends, then removes the directory.
const WATCHDOG: &str = r#"dir=$1; shift; "$@" & pid=$!; cat >/dev/null; kill -INT "$pid"; wait "$pid"; cd /; rm -rf "$dir""#;
/// The database that others are copied from.
const TEMPLATE: &str = "template_switchback";
/// Makes the clock of this database movable.
const TEST_CLOCK: &str = "
    create table engine.test_clock (ahead interval not null);
    insert into engine.test_clock values ('0');
    create or replace function engine.now() returns timestamptz language sql volatile parallel safe
    return clock_timestamp() + (select ahead from engine.test_clock);";

static CLUSTER: OnceLock<Arc<TestCluster>> = OnceLock::new();
static TEMPLATE_MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();

struct TestCluster {
    cluster: Cluster,
    /// Its end of the pipe closes with this process.
    _watchdog: std::process::Child,
}

/// An address that nobody else uses, of an empty database or one with our schema and a movable clock.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// Where clients connect.
    pub url: String,
}

/// What applying a policy does, for tests of what comes before policies.
impl PgStore {
    /// Makes a policy listen to these sources and no others; gives those that exist.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn set_trigger_listeners(&self, policy: &str, sources: &[&str]) -> Result<Vec<String>, Lost> {
        let rows = self.rows(&sql::SET_TRIGGER_LISTENERS, &[&policy, &sources]).await?;
        rows.iter().map(|row| column(row, "source")).collect()
    }
}

impl TestDatabase {
    /// With our schema.
    ///
    /// # Panics
    /// Where no cluster can be started: a test without its database proves nothing.
    pub async fn migrated() -> Self {
        let cluster = cluster();
        TEMPLATE_MADE.get_or_init(make_template).await;
        Self { url: create(&cluster, &format!("template {TEMPLATE}")).await }
    }

    /// Without anything.
    ///
    /// # Panics
    /// As [`TestDatabase::migrated`].
    pub async fn empty() -> Self {
        Self { url: create(&cluster(), "").await }
    }

    /// A connection for what a test wants to look at or break.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }

    /// Ends all connections and lets nobody in, or lets them in again.
    ///
    /// # Panics
    /// If the cluster does not answer.
    pub async fn lock_out(&self, locked: bool) {
        let name = self.url.split("dbname=").nth(1).and_then(|rest| rest.split([' ', '&']).next()).expect("the address names a database");
        let admin = connect(&cluster().cluster.url_of("postgres")).await;
        admin.batch_execute(&format!("alter database {name} allow_connections {}", !locked)).await.expect("a database can be locked");
        if locked {
            let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1";
            admin.query(end, &[&name]).await.expect("connections can be ended");
        }
    }

    /// Puts an item there as if a run had recorded it, with one point at a site.
    ///
    /// # Panics
    /// If the database refuses it.
    pub async fn put_item(&self, name: &str, record: &serde_json::Value, site: &str, point_at: chrono::DateTime<chrono::Utc>) {
        let client = self.client().await;
        let item = "insert into recovery.items (name, record, version, last_run, last_seq, updated_at) values ($1, $2, 1, gen_random_uuid(), 1, now())";
        let point = "insert into recovery.points values ($1, $2, 1, 'crash', $3, 1, 1, 0, false, false, now())";
        let put = async {
            client.execute(item, &[&name, record]).await?;
            client.execute(point, &[&name, &site, &point_at]).await
        };
        assert!(put.await.is_ok_and(|rows| rows == 1), "item {name} was not put there");
    }

    /// How many runs there are, are open, and have ended otherwise than well or are set aside.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn counted(&self) -> (i64, i64, i64) {
        let count = "select count(*), count(*) filter (where state = 'open'), count(*) filter (where state not in ('open', 'completed')) from engine.runs";
        let row = self.client().await.query_one(count, &[]).await.expect("runs can be counted");
        (row.get(0), row.get(1), row.get(2))
    }

    /// How many events and turns were written.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn written(&self) -> (i64, i64) {
        let count = "select count(*), count(distinct (run_id, turn)) from engine.events";
        let row = self.client().await.query_one(count, &[]).await.expect("events can be counted");
        (row.get(0), row.get(1))
    }

    /// Moves the clock.
    ///
    /// # Panics
    /// If the database was not made with a movable one.
    pub async fn advance(&self, by: Duration) {
        let client = self.client().await;
        let moved = client.execute("update engine.test_clock set ahead = ahead + make_interval(secs => $1)", &[&by.as_secs_f64()]).await;
        assert_eq!(moved.expect("the clock can be moved"), 1);
    }
}

/// A store in a fresh database: where the engine's contract runs on Postgres.
pub struct PgLab {
    /// Its database.
    pub database: TestDatabase,
    /// The store.
    pub store: Arc<PgStore>,
}

impl PgLab {
    /// A fresh one.
    ///
    /// # Panics
    /// As [`TestDatabase::migrated`].
    pub async fn new() -> Self {
        let database = TestDatabase::migrated().await;
        let store = PgStore::open(&database.url, Limits::default()).await.expect("a fresh database can be opened");
        Self { database, store: Arc::new(store) }
    }
}

#[async_trait]
impl StoreLab for PgLab {
    type Store = PgStore;

    fn store(&self) -> Arc<PgStore> {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.database.advance(by).await;
    }
}

fn cluster() -> Arc<TestCluster> {
    CLUSTER.get_or_init(|| Arc::new(start())).clone()
}

/// Short, because the path of a socket is; and under a directory that everybody may enter.
fn start() -> TestCluster {
    let dir = Path::new("/tmp").join(format!("sb-test-{}", Uuid::now_v7().simple()));
    let cluster = Cluster::prepare(&dir).expect("a private cluster can be made");
    let postmaster = cluster.postmaster();
    let mut watchdog = Command::new("sh");
    watchdog.args(["-c", WATCHDOG, "sh"]).arg(&dir).arg(postmaster.get_program()).args(postmaster.get_args());
    run_as_owner(&mut watchdog, &dir);
    watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    TestCluster { cluster, _watchdog: watchdog.spawn().expect("a shell can be started") }
}

fn run_as_owner(command: &mut Command, dir: &Path) {
    use std::os::unix::{fs::MetadataExt, process::CommandExt};
    command.current_dir(dir).process_group(0).env("LC_ALL", "C");
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(dir).expect("the cluster's directory exists");
        command.uid(owner.uid()).gid(owner.gid());
    }
}

async fn make_template() {
    let cluster = cluster();
    cluster.cluster.ready(Duration::from_secs(60)).await.expect("the cluster answers");
    let admin = connect(&cluster.cluster.url_of("postgres")).await;
    admin.batch_execute(&format!("create database {TEMPLATE}")).await.expect("the template is created");
    let url = cluster.cluster.url_of(TEMPLATE);
    let target = Target::new(&url, Duration::from_secs(30)).expect("the address can be read");
    migrate::run(&target).await.expect("the template is migrated");
    connect(&url).await.batch_execute(TEST_CLOCK).await.expect("the template gets a movable clock");
    wait_until_unused(&admin).await;
}

/// A template can be copied only while nobody is connected to it, and a closed connection takes a moment to go.
async fn wait_until_unused(admin: &Client) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let row = admin.query_one("select count(*) from pg_stat_activity where datname = $1", &[&TEMPLATE]).await;
        if row.expect("connections can be counted").get::<_, i64>(0) == 0 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the template stays in use");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn create(cluster: &TestCluster, template: &str) -> String {
    cluster.cluster.ready(Duration::from_secs(60)).await.expect("the cluster answers");
    let name = format!("test_{}", Uuid::now_v7().simple());
    let admin = connect(&cluster.cluster.url_of("postgres")).await;
    admin.batch_execute(&format!("create database {name} {template}")).await.expect("a database is created");
    cluster.cluster.url_of(&name)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

/// A directory of its own for a test, short enough for sockets; the caller removes it.
#[must_use]
pub fn short_dir(prefix: &str) -> PathBuf {
    Path::new("/tmp").join(format!("{prefix}-{}", Uuid::now_v7().simple()))
}
