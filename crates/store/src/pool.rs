//! Connections: where to, how encrypted, and how long anything may take.
//!
//! Invariants: 1. Every limit on the server's side is below half a lease, so that a client paused inside a statement can't
//! hold up its own takeover. 2. TLS is used if the address asks for it (`sslmode=require`), and then the server's certificate
//! must be trusted and carry its name. 3. A connection is checked before it is handed out again.

use std::{path::Path, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Lost, OpenError};

/// Where bundles of trusted certificates are found, in the order of looking.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/opt/homebrew/etc/openssl@3/cert.pem",
];

/// A database and how to reach it.
#[derive(Clone)]
pub struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    address: String,
}

impl Target {
    /// Reads an address such as `postgres://user@host/db?sslmode=require` or `host=/run/pg user=switchback dbname=switchback`.
    /// With TLS the server is trusted by the certificates in `SWITCHBACK_DATABASE_CA`, else by those of the system.
    /// `statement` limits each statement on the server's side.
    ///
    /// # Errors
    /// [`OpenError`] if the address or the certificates can't be read.
    pub fn new(url: &str, statement: Duration) -> Result<Self, OpenError> {
        let mut config: Config = url.parse().map_err(OpenError::Address)?;
        let statement_ms = statement.as_millis();
        let check_ms = (statement_ms / 4).max(1);
        let limits = format!(
            "-c statement_timeout={statement_ms} -c idle_in_transaction_session_timeout={statement_ms} \
             -c client_connection_check_interval={check_ms} -c timezone=UTC -c default_transaction_isolation=read\\ committed"
        );
        let options = config.get_options().map_or_else(|| limits.clone(), |given| format!("{given} {limits}"));
        config.options(options).application_name("switchback").connect_timeout(statement.max(Duration::from_secs(2)));
        config.tcp_user_timeout(statement).keepalives_idle(statement);
        let plain = matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer);
        let tls = if plain {
            config.ssl_mode(SslMode::Disable);
            None
        } else {
            Some(MakeRustlsConnect::new(trust()?))
        };
        let address = address(&config);
        Ok(Self { config, tls, address })
    }

    /// Host and database, without secrets.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection of its own, driven by the runtime of the caller.
    ///
    /// # Errors
    /// Nobody answers, or not to us.
    pub async fn connect(&self) -> Result<Client, Lost> {
        match self.tls.clone() {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls).await?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
        }
    }

    /// A pool of at most `size` connections; waiting for one takes at most `wait`.
    #[must_use]
    pub fn pool(&self, size: usize, wait: Duration) -> Pool {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = match self.tls.clone() {
            None => Manager::from_config(self.config.clone(), NoTls, recycling),
            Some(tls) => Manager::from_config(self.config.clone(), tls, recycling),
        };
        let timeouts = Timeouts { wait: Some(wait), create: Some(wait), recycle: Some(wait) };
        let built = Pool::builder(manager).max_size(size).timeouts(timeouts).runtime(Runtime::Tokio1).build();
        built.expect("a pool with timeouts is built when it has a runtime, which it has")
    }
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a database connection has ended");
    }
}

fn address(config: &Config) -> String {
    use tokio_postgres::config::Host;
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let name = config.get_dbname().or(config.get_user()).unwrap_or("?");
    format!("{}/{name}", hosts.join(","))
}

fn trust() -> Result<ClientConfig, OpenError> {
    let named = std::env::var("SWITCHBACK_DATABASE_CA").or_else(|_| std::env::var("SSL_CERT_FILE")).ok();
    let found = || BUNDLES.into_iter().find(|path| Path::new(path).exists()).map(str::to_owned);
    let path = named.or_else(found).unwrap_or_else(|| BUNDLES[0].to_owned());
    let unreadable = |source| OpenError::Certificates { path: path.clone(), source };
    let pem = std::fs::read(&path).map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        let (_added, _ignored) = roots.add_parsable_certificates([certificate.map_err(unreadable)?]);
    }
    if roots.is_empty() {
        return Err(unreadable(std::io::Error::other("it holds no certificate")));
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("ring offers the default protocol versions");
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_secrets() {
        let target = Target::new("postgres://app:hunter2@db.example/orders", Duration::from_secs(4)).unwrap();
        assert_eq!(target.address(), "db.example/orders");
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        assert!(matches!(Target::new("mysql://x", Duration::from_secs(4)), Err(OpenError::Address(_))));
    }
}
