//! Connections: a Unix socket whose peers the kernel names, and TCP with TLS.
//!
//! Invariants: 1. What is known of a connection is put into each of its requests here, and nowhere else. 2. At a stop, requests
//! under way are answered; idle connections are closed.

use std::{
    fs::{self, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::ca::{Authority, CaError, ServerIdentity};

/// Longest TLS handshake: a peer that says nothing holds nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest wait for the head of a request.
const HEAD: Duration = Duration::from_secs(60);
/// Longest wait for requests under way at a stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// What is known of whoever is at the other end.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// On this machine, as this user.
    Local {
        /// By the kernel's word.
        uid: u32,
    },
    /// On the network.
    Network {
        /// SHA-256 of the certificate that it showed, which our CA signed.
        certificate: Option<[u8; 32]>,
        /// Its address.
        from: SocketAddr,
    },
}

/// Makes the socket; one that is left over from a dead server is replaced.
pub(crate) fn unix_listener(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers there"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Answers on the socket until told to stop.
pub(crate) async fn unix(listener: UnixListener, app: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        let peer = accepted.and_then(|(stream, _)| stream.peer_cred().map(|cred| (stream, Peer::Local { uid: cred.uid() })));
        match peer {
            Ok((stream, peer)) => drop(connections.spawn(answer(stream, peer, app.clone(), stop.clone()))),
            Err(error) => {
                tracing::warn!(%error, "a local connection was not accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drained(connections).await;
}

/// Answers on the network until told to stop.
pub(crate) async fn tls(listener: TcpListener, config: Arc<ServerConfig>, app: Router, mut stop: watch::Receiver<bool>) {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        match accepted.and_then(|(stream, from)| stream.set_nodelay(true).map(|()| (stream, from))) {
            Ok((stream, from)) => drop(connections.spawn(shake_hands(stream, from, acceptor.clone(), app.clone(), stop.clone()))),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drained(connections).await;
}

/// Until somebody says stop, or nobody is left to say it.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Connections end by themselves once they were told to; what does not in time is cut off.
async fn drained(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        tracing::warn!("requests were cut off");
    }
}

async fn shake_hands(stream: tokio::net::TcpStream, from: SocketAddr, acceptor: TlsAcceptor, app: Router, stop: watch::Receiver<bool>) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%from, %error, "a TLS handshake failed"),
        Err(_) => return tracing::info!(%from, "a TLS handshake took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown.map(|certificate| Sha256::digest(certificate).into());
    answer(stream, Peer::Network { certificate, from }, app, stop).await;
}

async fn answer<S>(stream: S, peer: Peer, app: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        app.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// TLS of the server: agents may show a certificate of our CA; who shows none must bring a token.
pub(crate) fn tls_config(authority: &Authority, identity: ServerIdentity) -> Result<Arc<ServerConfig>, CaError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(CaError::Tls)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).allow_unauthenticated().build();
    let verifier = verifier.map_err(|error| CaError::Tls(rustls::Error::General(error.to_string())))?;
    let key = rustls_pemfile::private_key(&mut identity.key_pem.as_bytes()).ok().flatten();
    let key = key.ok_or_else(|| CaError::Tls(rustls::Error::General("the server's key can't be read".to_owned())))?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(CaError::Tls)?;
    let config = builder.with_client_cert_verifier(verifier).with_single_cert(identity.chain, key).map_err(CaError::Tls)?;
    Ok(Arc::new(config))
}
