//! A process that is struck and comes back.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process};
use switchback_tests::product::Running;

type Make = Box<dyn Fn() -> Command + Send + Sync>;

/// One process, and how to start it again.
pub struct Member {
    /// Its name; that of its log as well.
    pub name: String,
    make: Make,
    log: PathBuf,
    running: Mutex<Option<Running>>,
    struck: AtomicBool,
}

impl Member {
    /// One that does not run yet. Its log is in `dir`.
    pub fn new(name: &str, dir: &Path, make: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        let log = dir.join("logs").join(format!("{name}.log"));
        Self { name: name.to_owned(), make: Box::new(make), log, running: Mutex::new(None), struck: AtomicBool::new(false) }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it, unless it runs.
    pub fn start(&self) {
        let mut running = self.running();
        if running.as_mut().is_none_or(|running| running.ended().is_some()) {
            *running = Some(Running::start((self.make)(), &self.log));
        }
    }

    /// Takes it for a strike; `false` if it is being struck or has not come back from the last.
    pub fn strike(&self) -> bool {
        let runs = self.running().as_mut().is_some_and(|running| running.ended().is_none());
        runs && !self.struck.swap(true, Ordering::SeqCst)
    }

    /// The strike is over.
    pub fn is_well(&self) {
        self.struck.store(false, Ordering::SeqCst);
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(running) = self.running().as_ref() {
            kill(running.pid(), signal);
        }
    }

    /// Kills it, and waits until the system has taken it away.
    pub fn kill(&self) {
        let mut slot = self.running();
        if let Some(running) = slot.take() {
            kill(running.pid(), Signal::KILL);
            drop(running);
        }
    }

    /// Lets it go on, or starts it if it is dead.
    pub fn heal(&self) {
        self.signal(Signal::CONT);
        self.start();
        self.is_well();
    }

    /// Whether it has ended by itself, and how.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        self.running().as_mut().and_then(Running::ended)
    }
}

/// Sends a signal to a process that we have started, or one that it has. One that is gone is as good.
pub fn kill(pid: i32, signal: Signal) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => eprintln!("{signal:?} to {}: {errno}", pid.as_raw_nonzero()),
    }
}
