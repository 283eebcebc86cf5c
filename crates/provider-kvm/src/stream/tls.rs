//! Certificates of both ends: each shows its own and takes only those of the same CA.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use provider::Endpoint;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};

/// Silence after which a line counts as dead.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);

/// Who an agent is to its peers.
#[derive(Clone)]
pub struct TlsIdentity {
    /// What its certificate is valid for.
    pub name: String,
    /// Who signed it and its peers, PEM.
    pub ca_pem: String,
    /// Its certificate, PEM.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why an identity can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or without what is needed.
    #[error("{what} of the agent can't be read as PEM")]
    Pem {
        /// Which part.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// PEM, but of no use.
    #[error("the agent's certificates can't be used together")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

pub(super) type ClientStream = StreamOwned<ClientConnection, TcpStream>;
pub(super) type ServerStream = StreamOwned<ServerConnection, TcpStream>;

/// Both sides of TLS for one agent.
#[derive(Clone, Debug)]
pub(crate) struct TlsSides {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl TlsSides {
    pub(crate) fn new(identity: &TlsIdentity) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&identity.ca_pem)?);
        let unusable = |e: rustls::Error| TlsError::Unusable(Box::new(e));
        let (chain, key) = own(identity)?;
        let client = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(unusable)?;
        let client = client.with_root_certificates(roots.clone()).with_client_auth_cert(chain, key).map_err(unusable)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifier = verifier.map_err(|e| TlsError::Unusable(Box::new(e)))?;
        let (chain, key) = own(identity)?;
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unusable)?;
        let server = server.with_client_cert_verifier(verifier).with_single_cert(chain, key).map_err(unusable)?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// To a target.
    pub(super) fn connect(&self, endpoint: &Endpoint) -> io::Result<ClientStream> {
        let name = ServerName::try_from(endpoint.tls_name.clone()).map_err(io::Error::other)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} is no address", endpoint.address));
        for address in endpoint.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    tuned(&stream)?;
                    let connection = ClientConnection::new(self.client.clone(), name).map_err(io::Error::other)?;
                    return Ok(StreamOwned::new(connection, stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// From a source.
    pub(super) fn accept(&self, stream: TcpStream) -> io::Result<ServerStream> {
        tuned(&stream)?;
        let connection = ServerConnection::new(self.server.clone()).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn tuned(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))
}

fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_bytes()) {
        let certificate = certificate.map_err(|source| TlsError::Pem { what: "the CA", source })?;
        roots.add(certificate).map_err(|e| TlsError::Unusable(Box::new(e)))?;
    }
    Ok(roots)
}

fn own(identity: &TlsIdentity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = rustls_pemfile::certs(&mut identity.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| TlsError::Pem { what: "the certificate", source })?;
    let key = rustls_pemfile::private_key(&mut identity.key_pem.as_bytes());
    let key = key.and_then(|key| key.ok_or_else(|| io::Error::other("no key in it")));
    Ok((chain, key.map_err(|source| TlsError::Pem { what: "the key", source })?))
}
