//! The target's end: listens, and lets each source's points grow in its item's store.

use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use provider::ProviderError;
use recovery::{Generation, ItemName};
use sha2::{Digest, Sha256};

use super::{
    DIGEST_BLOCK_BYTES, TlsSides,
    frame::{self, Control, Frame, VERSION, bad},
    tls::ServerStream,
};
use crate::replica::{Append, ItemStore, NewPoint};

/// Most sources served at a time: each costs a thread and a few processes for its disks.
const MAX_SOURCES: usize = 64;

/// Finds an item's store; `None` if nothing was prepared here.
pub(crate) type Stores = Arc<dyn Fn(&ItemName) -> Option<Arc<ItemStore>> + Send + Sync>;

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    pub(crate) fn listen(address: SocketAddr, tls: TlsSides, stores: Stores, run_dir: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, busy) = (stop.clone(), Arc::new(()));
        thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            for accepted in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                match accepted {
                    Ok(stream) if Arc::strong_count(&busy) <= MAX_SOURCES => {
                        let (tls, stores, run_dir, busy) = (tls.clone(), stores.clone(), run_dir.clone(), busy.clone());
                        let served = thread::Builder::new().name("receiving".to_owned()).spawn(move || {
                            serve(stream, &tls, &stores, run_dir);
                            drop(busy);
                        });
                        if let Err(error) = served {
                            tracing::warn!(%error, "no thread for a source");
                        }
                    }
                    Ok(_) => tracing::warn!("too many sources; one was sent away"),
                    Err(error) => {
                        tracing::warn!(%error, "a source could not be accepted");
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
        Ok(Self { address, stop })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it should stop.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_millis(200)));
    }
}

fn serve(stream: TcpStream, tls: &TlsSides, stores: &Stores, run_dir: PathBuf) {
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    let ended = tls.accept(stream).and_then(|stream| Session { stream: BufReader::with_capacity(256 << 10, stream), run_dir, open: None }.run(stores));
    match ended {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => tracing::info!(peer, %error, "a source's line ended"),
        Ok(()) | Err(_) => tracing::debug!(peer, "a source hung up"),
    }
}

struct Open {
    append: Append,
    disks: Vec<String>,
}

struct Session {
    stream: BufReader<ServerStream>,
    run_dir: PathBuf,
    open: Option<Open>,
}

impl Session {
    fn run(mut self, stores: &Stores) -> io::Result<()> {
        let Frame::Control(Control::Hello { version, item, generation }) = frame::receive(&mut self.stream)? else {
            return Err(bad("no greeting".to_owned()));
        };
        if version != VERSION {
            return self.refuse(false, format!("protocol {version} is not spoken here, {VERSION} is; update the older agent"));
        }
        let Some(store) = stores(&item) else {
            return self.refuse(false, format!("nothing is prepared here for item {item}"));
        };
        match store.base(generation) {
            Ok(base) => self.tell(Control::Welcome { newest: base.newest, seed: base.seed })?,
            Err(error) => return self.refuse_with(&error),
        }
        let ended = self.points(&store, generation);
        if let Some(open) = self.open.take() {
            open.append.abandon();
        }
        ended
    }

    fn points(&mut self, store: &Arc<ItemStore>, generation: Generation) -> io::Result<()> {
        loop {
            let done = match frame::receive(&mut self.stream)? {
                Frame::Control(Control::Begin { resume, disks }) => match store.begin(generation, resume, &self.run_dir) {
                    Ok(append) => {
                        self.open = Some(Open { append, disks });
                        self.tell(Control::Begun)?;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Frame::Write { disk, offset, content } => self.with(disk, |append, target| append.write(target, offset, &content))?,
                Frame::Zero { disk, offset, length } => self.with(disk, |append, target| append.zero(target, offset, length))?,
                Frame::Control(Control::AskDigests { disk, offset, length }) => self.tell_digests(disk, offset, length)?,
                Frame::Control(Control::Commit { mark, consistency, taken_at, bytes }) => {
                    let Some(open) = self.open.take() else { return Err(bad("nothing to commit".to_owned())) };
                    match open.append.commit(NewPoint { generation, mark, consistency, taken_at, bytes }) {
                        Ok(point) => {
                            self.tell(Control::Committed { point })?;
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
                other => return Err(bad(format!("an unexpected {other:?}"))),
            };
            if let Err(error) = done {
                return self.refuse_with(&error);
            }
        }
    }

    /// Does something to a disk of the open point.
    fn with<T>(
        &mut self,
        disk: u16,
        act: impl FnOnce(&mut Append, &str) -> Result<T, ProviderError>,
    ) -> io::Result<Result<T, ProviderError>> {
        let open = self.open.as_mut().ok_or_else(|| bad("data for no point".to_owned()))?;
        let target = open.disks.get(usize::from(disk)).ok_or_else(|| bad(format!("there is no disk number {disk}")))?;
        Ok(act(&mut open.append, target))
    }

    fn tell_digests(&mut self, disk: u16, offset: u64, length: u64) -> io::Result<Result<(), ProviderError>> {
        // As many as fit a frame; a source asks in pieces.
        if length > DIGEST_BLOCK_BYTES * 65_536 {
            return Err(bad(format!("digests of {length} bytes at once")));
        }
        let read = self.with(disk, |append, target| {
            let (mut digests, mut at) = (Vec::new(), offset);
            while at < offset + length {
                let size = DIGEST_BLOCK_BYTES.min(offset + length - at);
                let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
                append.read(target, at, &mut block)?;
                digests.push(<[u8; 32]>::from(Sha256::digest(&block)));
                at += size;
            }
            Ok(digests)
        })?;
        match read {
            Ok(digests) => {
                self.send(&Frame::Digests(digests))?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn refuse_with(&mut self, error: &ProviderError) -> io::Result<()> {
        let ends = matches!(error, ProviderError::Superseded { .. } | ProviderError::PointsWithdrawn { .. });
        self.refuse(ends, error.to_string())
    }

    fn refuse(&mut self, superseded: bool, why: String) -> io::Result<()> {
        tracing::info!(why, superseded, "a source was refused");
        self.tell(Control::Refused { superseded, why })
    }

    fn tell(&mut self, control: Control) -> io::Result<()> {
        self.send(&Frame::Control(control))
    }

    fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut out = io::BufWriter::new(self.stream.get_mut());
        frame::send(&mut out, frame)?;
        out.flush()
    }
}
