//! A small proxy on loopback: to the first of some targets that answers, and it can cut, stall and shut out.
//!
//! Invariants: 1. What was let through is never changed. 2. A stalled connection keeps its bytes and goes on with them, as a network does
//! that comes back.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// Longest wait for a target: one that does not answer at once is on this machine, and stopped.
const ANSWERS: Duration = Duration::from_millis(500);

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port.
    Tcp(SocketAddr),
    /// A socket.
    Unix(PathBuf),
}

/// How connections are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Manner {
    targets: Vec<Target>,
    stalled: bool,
    /// Connections of an earlier generation are cut.
    generation: u64,
}

/// The proxy. It listens until the runtime ends.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where it listens.
    pub listen: SocketAddr,
    manner: Arc<watch::Sender<Manner>>,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn to(targets: Vec<Target>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for a proxy")?;
        let listen = listener.local_addr()?;
        let (manner, watched) = watch::channel(Manner { targets, stalled: false, generation: 0 });
        tokio::spawn(async move {
            let mut turn = 0_usize;
            while let Ok((stream, _)) = listener.accept().await {
                turn = turn.wrapping_add(1);
                tokio::spawn(carry(stream, watched.clone(), turn));
            }
        });
        Ok(Self { listen, manner: Arc::new(manner) })
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.manner.send_modify(|manner| manner.generation += 1);
    }

    /// Holds all bytes, or lets them go on.
    pub fn stall(&self, stalled: bool) {
        self.manner.send_modify(|manner| manner.stalled = stalled);
    }

    /// Ends all connections; new ones go there.
    pub fn point_at(&self, targets: Vec<Target>) {
        self.manner.send_modify(|manner| {
            manner.targets = targets;
            manner.generation += 1;
        });
    }
}

async fn carry(stream: TcpStream, manner: watch::Receiver<Manner>, turn: usize) {
    let Manner { targets, generation, .. } = manner.borrow().clone();
    drop(stream.set_nodelay(true));
    for place in 0..targets.len() {
        let target = &targets[(place + turn) % targets.len()];
        match target {
            Target::Tcp(address) => {
                let Ok(Ok(other)) = tokio::time::timeout(ANSWERS, TcpStream::connect(address)).await else { continue };
                drop(other.set_nodelay(true));
                return between(stream, other, manner, generation).await;
            }
            Target::Unix(path) => {
                let Ok(Ok(other)) = tokio::time::timeout(ANSWERS, UnixStream::connect(path)).await else { continue };
                return between(stream, other, manner, generation).await;
            }
        }
    }
}

async fn between(a: impl AsyncRead + AsyncWrite, b: impl AsyncRead + AsyncWrite, mut manner: watch::Receiver<Manner>, generation: u64) {
    let ((from_a, to_a), (from_b, to_b)) = (tokio::io::split(a), tokio::io::split(b));
    let watched = manner.clone();
    tokio::select! {
        () = copy(from_a, to_b, watched.clone()) => {}
        () = copy(from_b, to_a, watched) => {}
        _ = manner.wait_for(|manner| manner.generation != generation) => {}
    }
}

/// Until one side ends; the other then ends as well.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut manner: watch::Receiver<Manner>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if manner.wait_for(|manner| !manner.stalled).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
