//! Holding a guest's file systems, or a whole machine, still for the moment in which a point is taken, and letting it go whatever
//! happens.
//!
//! ```text
//!   journal ─▶ freeze ─▶ [the backup job begins] ─▶ thaw ─▶ journal removed         all by a thread of its own
//!      │         │                   │                │
//!      │         └── hangs ──────────┴── takes longer than LIMIT: thaw, the point is crash-consistent
//!      └── the agent dies anywhere here: the next one thaws what is journaled, as soon as libvirt and the guest answer
//! ```
//!
//! A guest that stays frozen is an outage that we have made; it is worse than no app-consistent point. Nothing in the guest ends
//! it: its agent has no time limit. The same holds of a machine that is paused for a common moment; what is said here of freeze and
//! thaw is said of pause and resume.
//!
//! Invariants: 1. `STATE/frozen/ITEM.wWRITER.json`, or `STATE/paused/…`, is durable before the freeze and is removed only after a thaw succeeded, or the
//! process that was frozen is gone. 2. The file is locked by whoever may still freeze, so a newer agent goes on thawing as long as
//! an older process could come late. 3. A point is app-consistent only if the thaw after its beginning found file systems that
//! were held. 4. While a thaw is owed, the guest is not frozen again. 5. A machine that somebody else has paused is not resumed: only
//! one that was seen to run is journaled. Who pauses it in the very moment in which it is held has to do so again: libvirt knows one
//! kind of pause.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use provider::{PowerState, ProviderError};
use recovery::ItemName;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{
    durable::{self, failed},
    guard::Guard,
    hypervisor::{Hypervisor, Vm},
};

/// No guest is held longer, counted from before the freeze.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// How soon and how rarely an agent that does not answer is asked again to thaw.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_AT_MOST: Duration = Duration::from_secs(15);

/// What is frozen, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    version: u32,
    item: ItemName,
    machine: String,
    uuid: String,
    /// Its processes; others hold nothing still.
    processes: Vec<i32>,
}

/// What is held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The guest's file systems, by its agent.
    FileSystems,
    /// The machine, by its hypervisor.
    Machine,
}

/// Freezes guests, and remembers which are owed a thaw. Dropped, it leaves what is owed to the next agent.
#[derive(Debug)]
pub(crate) struct Freezer {
    kind: Kind,
    dir: PathBuf,
    uri: String,
    guard: Arc<Guard>,
    owed: Arc<Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    items: Mutex<(BTreeSet<ItemName>, bool)>,
    stopping: Condvar,
}

impl Owed {
    fn lock(&self) -> MutexGuard<'_, (BTreeSet<ItemName>, bool)> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, unless the agent stops. Returns whether it goes on.
    fn wait(&self, pause: Duration) -> bool {
        let (items, _) = self.stopping.wait_timeout_while(self.lock(), pause, |(_, stop)| !*stop).unwrap_or_else(PoisonError::into_inner);
        !items.1
    }
}

/// What is asked of a guest; a fake takes its place in tests.
trait Guest: Send + 'static {
    fn freeze(&self) -> Result<u32, ProviderError>;
    /// `None` if there is nobody any more who could be frozen.
    fn thaw(&self) -> Result<Option<u32>, ProviderError>;
}

/// A guest that is held. Dropped, it is let go.
#[derive(Debug)]
pub(super) struct Held {
    release: Sender<()>,
    thawed: Receiver<Result<Duration, String>>,
}

impl Held {
    /// Lets the guest go. Returns for how long it was held.
    ///
    /// # Errors
    /// Why it was not held all the while: what was begun meanwhile does not count.
    pub(super) fn let_go(self) -> Result<Duration, String> {
        drop(self.release);
        self.thawed.recv_timeout(LIMIT).unwrap_or_else(|_silent| Err("the guest did not thaw at once; it is tried on".to_owned()))
    }
}

/// A guest that is journaled and not held yet. Dropped, it is forgotten.
#[derive(Debug)]
pub(super) struct Ready {
    item: ItemName,
    owed: Arc<Owed>,
    held: Option<(Frozen, PathBuf, File)>,
}

impl Ready {
    /// Freezes the guest, for so long at most.
    ///
    /// # Errors
    /// Why it is not held; it has been let go, or will be as soon as that is possible.
    pub(super) fn hold(mut self, limit: Duration) -> Result<Held, String> {
        let Some((guest, path, file)) = self.held.take() else { return Err("it was held before".to_owned()) };
        let settled = move |owed: &Owed, item: &ItemName, thawed: bool| {
            settle(owed, &path, item, thawed);
            drop(file);
        };
        let begun = hold(self.owed.clone(), guest, limit, settled, &self.item).inspect_err(|_why| {
            self.owed.lock().0.remove(&self.item);
        });
        begun.map_err(|e| e.to_string())?.await_frozen(limit.max(LIMIT))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some((_guest, path, _file)) = self.held.take() {
            settle(&self.owed, &path, &self.item, true);
        }
    }
}

impl Freezer {
    /// Takes up what earlier agents owe. Needs no libvirt to be there already.
    pub(crate) fn open(kind: Kind, dir: PathBuf, uri: &str, guard: Arc<Guard>) -> Result<Self, ProviderError> {
        durable::make_dir(&dir).map_err(failed("make directory", &dir))?;
        let freezer = Self { kind, dir, uri: uri.to_owned(), guard, owed: Arc::default() };
        for name in durable::names(&freezer.dir).map_err(failed("list", &freezer.dir))? {
            let path = freezer.dir.join(&name);
            if !name.ends_with(".json") {
                durable::remove(&path).map_err(failed("remove", &path))?;
                continue;
            }
            let content = fs::read(&path).map_err(failed("read", &path))?;
            let journal: Journal = serde_json::from_slice(&content).map_err(|e| failed("read", &path)(e.into()))?;
            tracing::warn!(item = %journal.item, machine = journal.machine, ?kind, "an earlier agent may have left the guest held; letting it go");
            freezer.owed.lock().0.insert(journal.item.clone());
            let (owed, guest) = (freezer.owed.clone(), freezer.guest(journal.clone(), None));
            start("thaw", move || {
                let done = thaw(&owed, &guest, || match File::open(&path) {
                    // Whoever has it locked may freeze at any time: go on until they are gone.
                    Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
                    Err(_gone) => true,
                });
                settle(&owed, &path, &journal.item, done.is_some());
            })?;
        }
        Ok(freezer)
    }

    /// Freezes the guest, for a moment.
    ///
    /// # Errors
    /// Why it is not held; it has been let go, or will be as soon as that is possible.
    pub(super) fn hold(&self, item: &ItemName, vm: &Vm) -> Result<Held, String> {
        self.ready(item, vm)?.hold(LIMIT)
    }

    /// Journals that the guest will be held, so that holding it takes no time.
    ///
    /// # Errors
    /// Why it can't be held.
    pub(super) fn ready(&self, item: &ItemName, vm: &Vm) -> Result<Ready, String> {
        if self.kind == Kind::Machine && vm.power().map_err(|e| e.to_string())? != PowerState::Running {
            return Err("its machine does not run: somebody has paused it".to_owned());
        }
        if !self.owed.lock().0.insert(item.clone()) {
            return Err(match self.kind {
                Kind::FileSystems => "the guest's agent has not yet answered to the last thaw".to_owned(),
                Kind::Machine => "its machine was not resumed yet after the last pause".to_owned(),
            });
        }
        let journaled = self.journal(item, vm).inspect_err(|_why| {
            self.owed.lock().0.remove(item);
        });
        let (path, file, journal) = journaled.map_err(|e| e.to_string())?;
        Ok(Ready { item: item.clone(), owed: self.owed.clone(), held: Some((self.guest(journal, Some(vm.again())), path, file)) })
    }

    /// Waits until nothing of the item is held, or for as long as it may be: what a guest is asked meanwhile it can't hear.
    pub(crate) fn until_let_go(&self, item: &ItemName) {
        let held = |(items, stop): &mut (BTreeSet<ItemName>, bool)| items.contains(item) && !*stop;
        drop(self.owed.stopping.wait_timeout_while(self.owed.lock(), LIMIT, held).unwrap_or_else(PoisonError::into_inner));
    }

    fn guest(&self, journal: Journal, vm: Option<Vm>) -> Frozen {
        let touched = AtomicBool::new(vm.is_none());
        Frozen { kind: self.kind, journal, vm, touched, uri: self.uri.clone(), guard: self.guard.clone() }
    }

    fn journal(&self, item: &ItemName, vm: &Vm) -> Result<(PathBuf, File, Journal), ProviderError> {
        let processes = vm.processes()?.iter().map(crate::pidfd::Pidfd::pid).collect();
        let journal = Journal { version: 1, item: item.clone(), machine: vm.name.clone(), uuid: vm.uuid.clone(), processes };
        let path = self.dir.join(format!("{item}.w{}.json", self.guard.writer()));
        let json = serde_json::to_vec(&journal).map_err(|e| failed("write", &path)(e.into()))?;
        durable::write(&path, &json).map_err(failed("write", &path))?;
        let file = File::open(&path).map_err(failed("open", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed("lock", &path)(e.into()))?;
        // A newer agent may have thawed and removed it before it was locked; then it must not be relied on.
        let same = |a: fs::Metadata, b: fs::Metadata| a.ino() == b.ino();
        let there = fs::metadata(&path).and_then(|named| Ok(same(named, file.metadata()?))).unwrap_or(false);
        self.guard.still_writer()?;
        if there { Ok((path, file, journal)) } else { Err(failed("keep", &path)(std::io::ErrorKind::NotFound.into())) }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.owed.lock().1 = true;
        self.owed.stopping.notify_all();
    }
}

/// A freeze that was begun on another thread.
struct Begun {
    frozen: Receiver<Result<u32, String>>,
    held: Held,
}

impl Begun {
    fn await_frozen(self, limit: Duration) -> Result<Held, String> {
        match self.frozen.recv_timeout(limit) {
            Ok(Ok(0)) => Err("the guest has no file system that its agent can freeze".to_owned()),
            Ok(Ok(_)) => Ok(self.held),
            Ok(Err(why)) => Err(why),
            Err(_silent) => Err(format!("it was not held within {} s", limit.as_secs())),
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ProviderError> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|e| failed("start a thread to", Path::new(name))(e))
}

/// Freezes, waits for the release or the limit, thaws, and settles.
fn hold<G: Guest>(
    owed: Arc<Owed>,
    guest: G,
    limit: Duration,
    settle: impl FnOnce(&Owed, &ItemName, bool) + Send + 'static,
    item: &ItemName,
) -> Result<Begun, ProviderError> {
    let ((say_frozen, frozen), (release, released), (say_thawed, thawed)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let item = item.clone();
    start("hold-guest", move || {
        let begun = Instant::now();
        let answer = guest.freeze();
        let held = answer.is_ok();
        // Nobody may listen any more; then the release is there already.
        drop(say_frozen.send(answer.map_err(|e| e.to_string())));
        let late = held && released.recv_timeout(limit.saturating_sub(begun.elapsed())) == Err(RecvTimeoutError::Timeout);
        let found = thaw(&owed, &guest, || true);
        settle(&owed, &item, found.is_some());
        drop(say_thawed.send(match found {
            _ if late => Err(format!("it was let go after {} ms: what was to begin meanwhile was not begun within that time", limit.as_millis())),
            None | Some(0) => Err("it had been let go before, by somebody else".to_owned()),
            Some(_) => Ok(begun.elapsed()),
        }));
    })?;
    Ok(Begun { frozen, held: Held { release, thawed } })
}

/// Thaws until it has succeeded and `last` says that nobody else can freeze. Returns what the first success found held; `None` if
/// the agent stops before.
fn thaw(owed: &Owed, guest: &impl Guest, last: impl Fn() -> bool) -> Option<u32> {
    let (mut found, mut pause) = (None, AGAIN);
    loop {
        let nobody_else = last();
        match guest.thaw() {
            Ok(count) => {
                let count = *found.get_or_insert(count.unwrap_or(0));
                if nobody_else {
                    return Some(count);
                }
            }
            Err(error) if pause == AGAIN => tracing::warn!(%error, "the guest may be frozen and does not thaw; trying again"),
            Err(error) => tracing::debug!(%error, "the guest still does not thaw"),
        }
        if !owed.wait(pause) {
            return None;
        }
        pause = (pause * 2).min(AGAIN_AT_MOST);
    }
}

/// What was owed is done, or is left to the next agent.
fn settle(owed: &Owed, path: &Path, item: &ItemName, thawed: bool) {
    if !thawed {
        return;
    }
    if let Err(error) = durable::remove(path) {
        tracing::warn!(%item, %error, "a thaw can't be forgotten; the next agent does it again, which is harmless");
    }
    owed.lock().0.remove(item);
    owed.stopping.notify_all();
}

/// A guest of libvirt's.
#[derive(Debug)]
struct Frozen {
    kind: Kind,
    journal: Journal,
    /// Of whoever holds it; file systems are thawed on a connection of their own, since an agent may have made that one hang.
    vm: Option<Vm>,
    /// It may be held: by us, or by whoever wrote the journal.
    touched: AtomicBool,
    uri: String,
    guard: Arc<Guard>,
}

impl Guest for Frozen {
    fn freeze(&self) -> Result<u32, ProviderError> {
        self.guard.still_writer()?;
        self.guard.about_to(match self.kind {
            Kind::FileSystems => "freeze",
            Kind::Machine => "suspend",
        });
        self.touched.store(true, Ordering::SeqCst);
        let Some(vm) = &self.vm else { return Ok(0) };
        match self.kind {
            Kind::FileSystems => vm.freeze(),
            Kind::Machine => vm.suspend().map(|()| 1),
        }
    }

    fn thaw(&self) -> Result<Option<u32>, ProviderError> {
        if !self.touched.load(Ordering::SeqCst) {
            return Ok(Some(0));
        }
        self.guard.about_to(match self.kind {
            Kind::FileSystems => "thaw",
            Kind::Machine => "unpause",
        });
        if let (Kind::Machine, Some(Ok(resumed))) = (self.kind, self.vm.as_ref().map(resumed)) {
            return Ok(Some(resumed));
        }
        let Some(vm) = Hypervisor::new(&self.uri).by_uuid(&self.journal.uuid)? else { return Ok(None) };
        let same = vm.processes()?.iter().any(|p| self.journal.processes.contains(&p.pid()));
        if !vm.active()? || !same {
            return Ok(None);
        }
        match self.kind {
            Kind::FileSystems => vm.thaw().map(Some),
            Kind::Machine => resumed(&vm).map(Some),
        }
    }
}

/// Lets a machine run again. Returns 1 if it was paused, else 0.
fn resumed(vm: &Vm) -> Result<u32, ProviderError> {
    if vm.power()? != PowerState::Paused {
        return Ok(0);
    }
    vm.resume().map(|()| 1)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    /// Answers as told, and counts.
    struct Fake {
        thaws: Sender<()>,
        frozen: u32,
        deaf: Mutex<u32>,
    }

    impl Guest for Fake {
        fn freeze(&self) -> Result<u32, ProviderError> {
            Ok(self.frozen)
        }

        fn thaw(&self) -> Result<Option<u32>, ProviderError> {
            self.thaws.send(()).unwrap();
            let mut deaf = self.deaf.lock().unwrap();
            if *deaf > 0 {
                *deaf -= 1;
                return Err(ProviderError::Unreachable { site: "guest".into(), detail: "deaf".into() });
            }
            Ok(Some(self.frozen))
        }
    }

    fn held(frozen: u32, deaf: u32, limit: Duration) -> (Begun, Receiver<()>, Arc<Owed>) {
        let (thaws, thawed) = mpsc::channel();
        let (owed, item): (Arc<Owed>, ItemName) = (Arc::default(), "vm".parse().unwrap());
        let fake = Fake { thaws, frozen, deaf: Mutex::new(deaf) };
        (hold(owed.clone(), fake, limit, |_, _, _| {}, &item).unwrap(), thawed, owed)
    }

    #[test]
    fn a_guest_is_held_until_it_is_let_go() {
        let (begun, thawed, _owed) = held(2, 0, LIMIT);
        let held = begun.await_frozen(LIMIT).unwrap();
        assert!(thawed.try_recv().is_err());
        held.let_go().unwrap();
        thawed.recv_timeout(LIMIT).unwrap();
    }

    #[test]
    fn a_guest_is_let_go_at_the_limit_and_the_point_is_not_app_consistent() {
        let (begun, thawed, _owed) = held(1, 0, Duration::from_millis(20));
        let held = begun.await_frozen(LIMIT).unwrap();
        thawed.recv_timeout(LIMIT).unwrap();
        assert!(held.let_go().unwrap_err().contains("let go after 20 ms"));
    }

    #[test]
    fn a_guest_whose_agent_is_deaf_is_thawed_again_and_again() {
        let (begun, thawed, owed) = held(1, 2, LIMIT);
        drop(begun.await_frozen(LIMIT).unwrap());
        for _ in 0..3 {
            thawed.recv_timeout(LIMIT).unwrap();
        }
        drop(owed);
    }

    #[test]
    fn a_guest_that_froze_nothing_gives_no_app_consistent_point() {
        let (begun, thawed, _owed) = held(0, 0, LIMIT);
        assert!(begun.await_frozen(LIMIT).unwrap_err().contains("no file system"));
        thawed.recv_timeout(LIMIT).unwrap();
    }
}
