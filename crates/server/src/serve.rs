//! The server process: schema up to date, certificate authority, socket, TLS, until a signal says stop.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use engine::adapters::Spool;
use store::{Limits, OpenError, PgStore, migrate, pool::Target};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    app::{App, router},
    ca::{Authority, CaError},
    evidence_key, listen, readiness,
    state_dir::{StateDir, StateDirError},
    waking,
};

/// Between two rounds of forgetting: what one minute can bring is bounded.
const FORGETTING: Duration = Duration::from_secs(60);

/// How a server is run.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where its files are.
    pub state_dir: StateDir,
    /// Its database.
    pub database_url: String,
    /// Where it listens on the network, if it does; with TLS.
    pub listen: Option<SocketAddr>,
    /// Names that its certificate holds beside its addresses.
    pub tls_names: Vec<String>,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database can't be used.
    #[error("the database can't be used")]
    Database(#[from] OpenError),
    /// A file can't be used.
    #[error("the state directory can't be used")]
    Files(#[from] StateDirError),
    /// Certificates can't be made.
    #[error("the server's certificates can't be made")]
    Certificates(#[from] CaError),
    /// An address can't be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Serves until `stop` turns true.
///
/// # Errors
/// [`ServeError`]; nothing was served then.
pub async fn serve(options: ServerOptions, stop: watch::Receiver<bool>) -> Result<(), ServeError> {
    let limits = Limits { lease: Duration::from_secs(10), connections: 16 };
    let migrated = migrate::run(&Target::new(&options.database_url, limits.statement())?).await?;
    if migrated.from != migrated.to {
        tracing::info!(from = migrated.from, to = migrated.to, "the schema was brought up to date");
    }
    let spool = Spool::open(&options.state_dir.spool("server"), Uuid::now_v7()).map_err(|source| unusable(&options, source))?;
    let store = Arc::new(PgStore::open(&options.database_url, limits).await?.witnessed_by(Arc::new(spool)));
    let authority = Arc::new(Authority::open(&options.state_dir.pki())?);
    let evidence_key = Arc::new(evidence_key::open(&options.state_dir.pki())?);
    let public = options.listen.map(public_address);
    let mut serving = JoinSet::new();
    serving.spawn(store.clone().keep_testifying("server", host(), stop.clone()));
    serving.spawn(forget_old_deliveries(store.clone(), stop.clone()));
    let wakes = Arc::new(Notify::new());
    serving.spawn(waking::keep_waking(store.clone(), wakes.clone(), stop.clone()));
    let app = App {
        store,
        authority: authority.clone(),
        evidence_key,
        public: public.map(|at| format!("https://{at}")),
        stop: stop.clone(),
        wakes,
        tally: Arc::default(),
    };
    serving.spawn(readiness::keep_judging(app.clone()));
    let app = router(app);
    if let Some(address) = options.listen {
        let identity = authority.for_server(&names(&options.tls_names), &addresses(address))?;
        let config = listen::tls_config(&authority, identity)?;
        let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address: address.to_string(), source })?;
        tracing::info!(%address, ca_sha256 = authority.fingerprint(), "listening with TLS");
        serving.spawn(listen::tls(listener, config, app.clone(), stop.clone()));
    }
    let path = options.state_dir.socket();
    let listener = listen::unix_listener(&path).map_err(|source| ServeError::Listen { address: path.display().to_string(), source })?;
    tracing::info!(socket = %path.display(), "listening");
    serving.spawn(listen::unix(listener, app, stop));
    while serving.join_next().await.is_some() {}
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, "the socket was not removed");
    }
    Ok(())
}

fn unusable(options: &ServerOptions, source: std::io::Error) -> StateDirError {
    StateDirError { attempted: "open", path: options.state_dir.spool("server"), source }
}

/// By which people know this server among the witnesses.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What anybody can send must not fill the disk; several servers that do this do it once.
async fn forget_old_deliveries(store: Arc<PgStore>, mut stop: watch::Receiver<bool>) {
    let mut due = tokio::time::interval(FORGETTING);
    loop {
        tokio::select! {
            () = listen::stopped(&mut stop) => return,
            _ = due.tick() => {}
        }
        if let Err(error) = store.prune_triggers().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old deliveries are not forgotten for now");
        }
    }
}

/// Where others reach us: the address itself, or that of the way out if all are listened on.
fn public_address(listen: SocketAddr) -> SocketAddr {
    let ip = if listen.ip().is_unspecified() { way_out(listen).unwrap_or(listen.ip()) } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

/// No packet is sent: connecting a datagram socket only asks for a route.
fn way_out(listen: SocketAddr) -> Option<IpAddr> {
    let (any, far) = if listen.is_ipv4() { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn addresses(listen: SocketAddr) -> Vec<IpAddr> {
    let loopback: [IpAddr; 2] = [[127, 0, 0, 1].into(), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    let mut addresses = vec![public_address(listen).ip()];
    addresses.extend(loopback);
    addresses.dedup();
    addresses
}

fn names(given: &[String]) -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    let mut names = vec!["localhost".to_owned(), host];
    names.extend(given.iter().cloned());
    names.retain(plain);
    names.dedup();
    names
}
