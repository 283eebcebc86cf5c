//! The target's end: a thread that listens, and one for each conversation.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use provider::{Applied, ProviderError};
use recovery::ItemName;
use rustls::{ServerConnection, StreamOwned};

use super::{
    BLOCK_BYTES, Frame, Mode, StreamError, Tls, digest,
    frame::{AskWritten, Commit, Hello, Welcome},
};
use crate::{
    blocks::Runs,
    replica::{Append, ItemStore, NewPoint},
};

/// A source that is silent for longer has gone; it comes back with a new conversation.
const IDLE: Duration = Duration::from_secs(150);
const HANDSHAKE: Duration = Duration::from_secs(10);
const MAX_CONVERSATIONS: usize = 256;
/// Digests are asked for at most this much content at once.
const MAX_DIGEST_BYTES: u64 = 64 << 20;
/// An answer about so many blocks has 128 KiB.
pub(super) const MAX_ASKED_BLOCKS: u64 = 1 << 20;

/// Where a conversation finds the replica that it is about.
pub(crate) trait Receiving: Send + Sync + 'static {
    /// The replica of an item; whoever holds the mutex may append.
    fn receiving(&self, item: &ItemName) -> Result<(Arc<ItemStore>, Arc<Mutex<()>>), ProviderError>;
    /// Where servers for images have their sockets.
    fn run_dir(&self) -> &std::path::Path;
}

struct Shared {
    tls: Tls,
    stopping: AtomicBool,
    /// The newest conversation of each item.
    sessions: Mutex<BTreeMap<ItemName, (u64, TcpStream)>>,
    count: AtomicU64,
    open: Mutex<BTreeMap<u64, TcpStream>>,
    listener: TcpListener,
    replicas: Arc<dyn Receiving>,
}

/// The listening end. Dropped, it ends all conversations and its port is free.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({})", self.address)
    }
}

impl Receiver {
    pub(crate) fn listen(address: SocketAddr, tls: Tls, replicas: Arc<dyn Receiving>) -> Result<Self, ProviderError> {
        let failed = |e: std::io::Error| ProviderError::Platform {
            operation: "listen on".to_owned(),
            target: address.to_string(),
            detail: e.to_string(),
            applied: Applied::No,
        };
        let listener = bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let listening = listener.try_clone().map_err(failed)?;
        let shared = Arc::new(Shared {
            tls,
            stopping: AtomicBool::new(false),
            sessions: Mutex::default(),
            count: AtomicU64::new(0),
            open: Mutex::default(),
            listener: listening,
            replicas,
        });
        let accepting = shared.clone();
        let listening = thread::Builder::new().name("receive".to_owned()).spawn(move || accept(&listener, &accepting)).map_err(failed)?;
        Ok(Self { shared, address, listening: Some(listening) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds so that a stopped agent process, which still holds its socket, does not keep its successor from listening.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 64)?;
    Ok(TcpListener::from(socket))
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).values() {
            end(stream);
        }
        // The thread that accepts is woken by its own socket: a connection could reach a successor, which listens at the same port.
        if let Err(error) = rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both) {
            tracing::debug!(%error, "the receiver had stopped listening already");
        }
        if let Some(listening) = self.listening.take()
            && listening.join().is_err()
        {
            tracing::error!("the receiver's thread had panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(stream: &TcpStream) {
    if let Err(error) = stream.shutdown(Shutdown::Both) {
        tracing::debug!(%error, "a conversation had ended already");
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut conversations: Vec<JoinHandle<()>> = vec![];
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        conversations.retain(|c| !c.is_finished());
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(50)); // out of descriptors: some conversation ends
            continue;
        };
        if conversations.len() >= MAX_CONVERSATIONS {
            tracing::warn!(limit = MAX_CONVERSATIONS, "a source is turned away: too many conversations");
            continue;
        }
        let shared = shared.clone();
        let spawned = thread::Builder::new().name("receive-item".to_owned()).spawn(move || converse(&shared, stream));
        match spawned {
            Ok(handle) => conversations.push(handle),
            Err(error) => tracing::error!(%error, "no thread for a source"),
        }
    }
    for conversation in conversations {
        if conversation.join().is_err() {
            tracing::error!("a conversation's thread had panicked");
        }
    }
}

fn converse(shared: &Shared, stream: TcpStream) {
    let id = shared.count.fetch_add(1, Ordering::SeqCst);
    let from = stream.peer_addr();
    match stream.try_clone() {
        Ok(clone) => lock(&shared.open).insert(id, clone),
        Err(error) => return tracing::error!(%error, "a source is turned away"),
    };
    match serve(shared, stream, id) {
        Ok(()) => {}
        Err(StreamError::Line(error)) => tracing::debug!(?from, %error, "a conversation ended"),
        Err(error) => tracing::warn!(?from, %error, "a conversation failed"),
    }
    lock(&shared.open).remove(&id);
    lock(&shared.sessions).retain(|_, (session, _)| *session != id);
}

type Wire = StreamOwned<ServerConnection, TcpStream>;

fn serve(shared: &Shared, stream: TcpStream, id: u64) -> Result<(), StreamError> {
    stream.set_read_timeout(Some(HANDSHAKE))?;
    stream.set_write_timeout(Some(HANDSHAKE))?;
    stream.set_nodelay(true)?;
    let clone = stream.try_clone()?;
    let tls = ServerConnection::new(shared.tls.server.clone()).map_err(|e| StreamError::Protocol(e.to_string()))?;
    let mut wire = StreamOwned::new(tls, stream);
    let Frame::Hello(hello) = Frame::read(&mut wire)? else {
        return Err(StreamError::Protocol("it does not begin with a greeting".to_owned()));
    };
    hello.check()?;
    wire.sock.set_read_timeout(Some(IDLE))?;
    wire.sock.set_write_timeout(Some(IDLE))?;

    let replaced = lock(&shared.sessions).insert(hello.item.clone(), (id, clone));
    if let Some((_, older)) = replaced {
        end(&older);
    }
    let welcomed = shared.replicas.receiving(&hello.item).and_then(|(store, turn)| {
        let base = store.base(hello.generation)?;
        fits(&store, &hello)?;
        Ok((store, turn, Welcome { newest: base.newest, seed: base.seed, old_marks: base.old_marks }))
    });
    let (store, turn, welcome) = match welcomed {
        Ok(welcomed) => welcomed,
        Err(error) => {
            if matches!(error, ProviderError::NotWriter { .. }) {
                stop_listening(shared);
            }
            return Frame::Refused(error).write(&mut wire).map(drop);
        }
    };
    Frame::Welcome(welcome).write(&mut wire)?;
    loop {
        let Frame::Begin(mode) = Frame::read(&mut wire)? else {
            return Err(StreamError::Protocol("it does not begin a copy".to_owned()));
        };
        let _turn = lock(&turn); // a conversation that this one has replaced may still be putting its copy away
        let appended = append(shared, &mut wire, &store, &hello, mode);
        match appended {
            Ok(()) => {}
            Err(StreamError::Here(error)) => return Frame::Refused(error).write(&mut wire).map(drop),
            Err(error) => return Err(error),
        }
    }
}

/// Another agent process has the host and listens on the same port: leaves all new conversations to it.
fn stop_listening(shared: &Shared) {
    shared.stopping.store(true, Ordering::SeqCst);
    if let Err(error) = rustix::net::shutdown(&shared.listener, rustix::net::Shutdown::Both) {
        tracing::warn!(%error, "a listener that was replaced stays");
    }
}

fn fits(store: &ItemStore, hello: &Hello) -> Result<(), ProviderError> {
    let item = hello.item.clone();
    let replica = store.describe().ok_or_else(|| ProviderError::NoSuchReplica { item: item.clone() })?;
    let have: Vec<(String, u64)> = replica.machine.disks.iter().map(|d| (d.target.clone(), d.capacity_bytes)).collect();
    if have != hello.disks {
        return Err(ProviderError::ReplicaMismatch { item, reason: format!("it has the disks {have:?}, the machine {:?}", hello.disks) });
    }
    Ok(())
}

/// Takes one point.
fn append(shared: &Shared, wire: &mut Wire, store: &Arc<ItemStore>, hello: &Hello, mode: Mode) -> Result<(), StreamError> {
    let base = store.base(hello.generation)?;
    let (first, on_old_disks) = (base.newest.is_none(), base.old_marks.is_some());
    let possible = match mode {
        // Zeroes are not sent, so nothing may lie beneath.
        Mode::Full => first && !on_old_disks,
        Mode::Resume => first && base.seed,
        Mode::Compare => !first || on_old_disks,
        Mode::Return => first && on_old_disks,
        Mode::Delta => !first,
    };
    if !possible {
        return Err(StreamError::Protocol(format!("a copy of mode {mode:?} does not fit what is here")));
    }
    let run_dir = shared.replicas.run_dir();
    // What is compared may go on from whatever was received before.
    let mut append = store.begin(hello.generation, mode != Mode::Full, run_dir)?;
    Frame::Ready.write(wire)?;
    let mut old_disks = OldDisks { store, run_dir, written: BTreeMap::new() };
    match fill(wire, hello, &mut append, &mut old_disks) {
        Ok(Commit { mark, consistency, taken_at, bytes, group, kept }) => {
            let new = NewPoint { generation: hello.generation, mark, consistency, taken_at, bytes, group, kept };
            let point = append.commit(new)?;
            Frame::Committed(point).write(wire).map(drop)
        }
        Err(error) => {
            append.abandon();
            Err(error)
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other frame is out of place here")]
fn fill(wire: &mut Wire, hello: &Hello, append: &mut Append, old_disks: &mut OldDisks<'_>) -> Result<Commit, StreamError> {
    let disk = |number: u16, offset: u64, length: u64| -> Result<&str, StreamError> {
        let found = hello.disks.get(usize::from(number));
        let within = found.filter(|(_, capacity)| offset.checked_add(length).is_some_and(|end| end <= *capacity));
        let (name, _) = within.ok_or_else(|| StreamError::Protocol(format!("{length} bytes at {offset} of disk {number}")))?;
        Ok(name)
    };
    loop {
        match Frame::read(wire)? {
            Frame::Data { disk: number, offset, content } => {
                append.write(disk(number, offset, content.len() as u64)?, offset, &content)?;
            }
            Frame::Zero { disk: number, offset, length } => append.zero(disk(number, offset, length)?, offset, length)?,
            Frame::AskDigests { disk: number, offset, length } => {
                let name = disk(number, offset, length)?;
                Frame::Digests(digests(append, name, offset, length)?).write(wire)?;
            }
            Frame::AskWritten(asked) => {
                let name = disk(asked.disk, 0, 0)?;
                Frame::Written(old_disks.written(name, &asked)?).write(wire)?;
            }
            Frame::Commit(commit) => return Ok(commit),
            other => return Err(StreamError::Protocol(format!("{other:?} within a copy"))),
        }
    }
}

/// What the old machine's disks know of their own changes, each asked once.
struct OldDisks<'a> {
    store: &'a ItemStore,
    run_dir: &'a Path,
    written: BTreeMap<(String, String), Runs>,
}

impl OldDisks<'_> {
    fn written(&mut self, disk: &str, asked: &AskWritten) -> Result<Vec<u8>, StreamError> {
        if asked.count > MAX_ASKED_BLOCKS || asked.first.checked_add(asked.count).is_none() {
            return Err(StreamError::Protocol(format!("changes of {} blocks from {} on at once", asked.count, asked.first)));
        }
        let key = (disk.to_owned(), asked.mark.clone());
        if !self.written.contains_key(&key) {
            let written = self.store.old_disk_written(self.run_dir, disk, &asked.mark)?;
            self.written.insert(key.clone(), written);
        }
        Ok(self.written.get(&key).map(|w| w.bits(asked.first, asked.count)).unwrap_or_default())
    }
}

fn digests(append: &mut Append, disk: &str, offset: u64, length: u64) -> Result<Vec<[u8; 16]>, StreamError> {
    if length > MAX_DIGEST_BYTES {
        return Err(StreamError::Protocol(format!("digests of {length} bytes at once")));
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or(0)];
    append.read(disk, offset, &mut content)?;
    Ok(content.chunks(BLOCK_BYTES).map(digest).collect())
}
