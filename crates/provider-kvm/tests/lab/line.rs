//! A line between two agents that can be cut, at the moment that a test wants.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// So much of an append passes before the line is cut in its middle.
const MIDWAY_BYTES: u64 = 256 << 10;
/// Slow enough that a first copy takes longer than it takes to cut it.
const PIECE_BYTES: usize = 32 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Shared {
    to: Mutex<Option<SocketAddr>>,
    armed: AtomicBool,
    cut: AtomicBool,
    passed: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

pub struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Line {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the port is known");
        let shared = Arc::new(Shared::default());
        let listening = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if listening.ended.load(Ordering::SeqCst) {
                    return;
                }
                listening.connect(stream);
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn to(&self, address: SocketAddr) {
        *self.shared.to.lock().expect("no line thread panicked") = Some(address);
    }

    /// Cuts the line once an append is on its way.
    pub fn cut_midway(&self) {
        self.shared.passed.store(0, Ordering::SeqCst);
        self.shared.armed.store(true, Ordering::SeqCst);
    }

    pub fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Cuts the line now.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.hang_up();
    }

    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.hang_up();
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn hang_up(&self) {
        for stream in self.open.lock().expect("no line thread panicked").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn connect(self: &Arc<Self>, from: TcpStream) {
        let to = *self.to.lock().expect("no line thread panicked");
        let Some(to) = to.filter(|_| !self.is_cut()) else { return };
        let Ok(to) = TcpStream::connect(to) else { return };
        let ends = [from.try_clone(), to.try_clone(), from.try_clone(), to.try_clone()].map(|end| end.expect("a socket is cloned"));
        let [from_reading, to_writing, from_writing, to_reading] = ends;
        self.open.lock().expect("no line thread panicked").extend([from, to]);
        let (there, back) = (self.clone(), self.clone());
        thread::spawn(move || there.pass(from_reading, to_writing, true));
        thread::spawn(move || back.pass(to_reading, from_writing, false));
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(n) = from.read(&mut piece) {
            if n == 0 || self.is_cut() || to.write_all(&piece[..n]).is_err() {
                break;
            }
            if !counted {
                continue;
            }
            let passed = self.passed.fetch_add(n as u64, Ordering::SeqCst) + n as u64;
            if passed > MIDWAY_BYTES && self.armed.swap(false, Ordering::SeqCst) {
                self.cut.store(true, Ordering::SeqCst);
                self.hang_up();
                break;
            }
            if n > PIECE_BYTES / 2 {
                wait_until_due(PIECE_PAUSE);
            }
        }
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    }
}

/// The line is slow, as a test wants it.
fn wait_until_due(pause: Duration) {
    thread::sleep(pause);
}
