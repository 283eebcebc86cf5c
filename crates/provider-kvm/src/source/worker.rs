//! The thread of an item's loop, and what it shares with those who ask.

mod pace;
mod returning;
mod told;
mod turn;

use std::{
    net::{Shutdown, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use provider::{Machine, Phase, ProgressSink, ProviderError, Replicate, ReplicationStatus};
use chrono::{DateTime, Utc};
use recovery::{Consistency, Generation};

use super::{
    KeptMaps,
    cycle::{self, Cycle, NewPoint},
    freeze::Freezer,
    meeting::Groups,
    record::{Ended, FinalSync, LoopRecord},
};
use crate::{
    guard::Guard,
    hypervisor::Hypervisor,
    inspect::inspect,
    stream::{Commit, Hello, Limiter, Line, StreamError, Tls},
};

pub(super) use pace::Pace;
use returning::Asking;

/// A line that was not used for longer may have been given up by the target.
const LINE_FRESH: Duration = Duration::from_secs(60);
const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A thread that is to end has so long to finish what it says to the target.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// How often a machine that is off is looked at.
const OFF_POLL: Duration = Duration::from_millis(500);

/// What all loops of a site use.
pub(crate) struct Tools {
    pub(crate) hypervisor: Arc<Hypervisor>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) tls: Tls,
    pub(crate) run_dir: PathBuf,
    pub(crate) scratch_dir: PathBuf,
    pub(crate) freezer: Freezer,
    pub(crate) pauser: Freezer,
    pub(crate) groups: Groups,
    pub(crate) counter: AtomicU64,
    pub(crate) maps: Arc<dyn KeptMaps>,
    /// How long a machine that starts with its host waits for the target's word.
    pub(crate) autostart_patience: Duration,
}

impl Tools {
    pub(super) fn count(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn new_mark(&self, generation: Generation) -> String {
        format!("{}{generation}.w{}.{}", cycle::MARK_PREFIX, self.guard.writer(), self.count())
    }

    pub(super) fn call(&self, wanted: &Replicate, machine: &Machine) -> Result<Line, StreamError> {
        let disks = machine.disks.iter().map(|d| (d.target.clone(), d.capacity_bytes)).collect();
        Line::open(&self.tls, &wanted.endpoint, Hello::new(wanted.item.clone(), wanted.generation, disks))
    }
}

struct Control {
    record: LoopRecord,
    status: ReplicationStatus,
    /// When an app-consistent point was last tried in vain.
    app_failed_at: Option<DateTime<Utc>>,
    /// The thread is to end, whether or not the loop does.
    leave: bool,
    /// Until then no point is begun.
    lull_until: Option<Instant>,
}

struct Shared {
    tools: Arc<Tools>,
    dir: PathBuf,
    control: Mutex<Control>,
    changed: Condvar,
    /// Of the line that is open.
    socket: Mutex<Option<TcpStream>>,
}

/// One item's loop. Dropped, its thread ends; the loop goes on when the agent is started again.
pub(crate) struct Source {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What there is to say about a loop of which only the record is known.
fn status_of(record: &LoopRecord) -> ReplicationStatus {
    let phase = match record.ended {
        Some(Ended::Stopped) => Phase::Stopped,
        Some(Ended::Superseded) => Phase::Superseded,
        Some(Ended::Quarantined) => Phase::Quarantined,
        None if record.last_point.is_none() => Phase::Seeding,
        None => Phase::Replicating,
    };
    ReplicationStatus {
        generation: record.wanted.generation,
        phase,
        bytes_done: 0,
        bytes_total: 0,
        last_point: record.last_point.map(|(id, _)| id),
        last_point_taken_at: record.last_point.map(|(_, at)| at),
        last_app_point: record.last_app_point.map(|(id, _)| id),
        app_error: None,
        last_error: None,
        bytes_sent_total: record.bytes_sent_total,
        requested: record.requested.clone(),
        group: None,
    }
}

impl Control {
    fn nothing_new(&self, wanted: &Replicate, ended: Option<Ended>, asked: Option<Generation>) -> bool {
        let asked_since = self.record.requested.as_ref().map(|requested| requested.by) != asked;
        !self.leave && self.record.ended == ended && self.record.wanted == *wanted && !asked_since
    }

    /// Lets the status say what the record says.
    fn show(&mut self) {
        self.status = status_of(&self.record);
    }
}

impl Source {
    /// Takes up the loop that is recorded in `dir`.
    pub(crate) fn resume(tools: Arc<Tools>, dir: PathBuf) -> Result<Option<Self>, ProviderError> {
        match LoopRecord::read(&dir)? {
            Some(record) => Self::start(tools, dir, record).map(Some),
            None => Ok(None),
        }
    }

    /// Begins a loop.
    pub(crate) fn begin(tools: Arc<Tools>, dir: PathBuf, wanted: Replicate) -> Result<Self, ProviderError> {
        Self::start(tools, dir, LoopRecord::new(wanted))
    }

    fn start(tools: Arc<Tools>, dir: PathBuf, record: LoopRecord) -> Result<Self, ProviderError> {
        record.store(&dir, tools.guard.writer())?;
        let status = status_of(&record);
        let control = Control { record, status, app_failed_at: None, leave: false, lull_until: None };
        let shared = Arc::new(Shared { tools, dir, control: Mutex::new(control), changed: Condvar::new(), socket: Mutex::default() });
        if !shared.is_quarantined() {
            shared.lock().status.phase = Phase::Broken;
        }
        let source = Self { shared, thread: Mutex::new(None) };
        source.spawn()?;
        Ok(source)
    }

    fn spawn(&self) -> Result<(), ProviderError> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = {
            let (item, ended) = {
                let control = self.shared.lock();
                (control.record.wanted.item.clone(), control.record.ended)
            };
            (ended.is_none() || self.shared.must_ask(ended)).then_some(item)
        };
        let Some(item) = wanted.filter(|_| thread.as_ref().is_none_or(JoinHandle::is_finished)) else { return Ok(()) };
        let shared = self.shared.clone();
        let spawned = thread::Builder::new().name(format!("replicate-{item}")).spawn(move || shared.run());
        *thread = Some(spawned.map_err(|e| ProviderError::Platform {
            operation: "start a thread for".to_owned(),
            target: item.to_string(),
            detail: e.to_string(),
            applied: provider::Applied::Unknown,
        })?);
        Ok(())
    }

    /// What it is to do.
    pub(crate) fn wanted(&self) -> Replicate {
        self.shared.lock().record.wanted.clone()
    }

    /// Whether it has not ended.
    pub(crate) fn goes_on(&self) -> bool {
        self.shared.lock().record.ended.is_none()
    }

    /// Whether it has ended because the target had a newer generation.
    pub(crate) fn superseded(&self) -> bool {
        self.shared.lock().record.ended == Some(Ended::Superseded)
    }

    pub(crate) fn status(&self) -> ReplicationStatus {
        let (status, group) = {
            let control = self.shared.lock();
            (control.status.clone(), control.record.wanted.group.clone().filter(|_| control.record.ended.is_none()))
        };
        ReplicationStatus { group: group.map(|group| self.shared.tools.groups.status(&group)), ..status }
    }

    /// Whether it has ended because it was told to.
    pub(super) fn stopped(&self) -> bool {
        self.shared.lock().record.ended == Some(Ended::Stopped)
    }

    pub(super) fn tools(&self) -> &Tools {
        &self.shared.tools
    }

    /// With what it ended, if it ended with a last point.
    pub(super) fn final_sync(&self) -> Option<FinalSync> {
        self.shared.lock().record.final_sync.clone()
    }

    /// Ends the thread; the loop is as before.
    pub(super) fn rest(&self) {
        self.join();
    }

    /// Takes the loop up again after a rest, if it has not ended.
    pub(super) fn go_on(&self) -> Result<(), ProviderError> {
        self.shared.lock().leave = false;
        self.spawn()
    }

    /// How a copy is paced that is made while the thread rests.
    pub(super) fn pace(&self, sink: Arc<dyn ProgressSink>) -> Pace<'_> {
        let limit = self.shared.lock().record.wanted.policy.bandwidth_bytes_per_s();
        Pace { shared: &self.shared, limiter: Mutex::new(Limiter::new(limit)), sink: Some((sink, Mutex::new(None))) }
    }

    /// Ends the loop for good with a last point.
    pub(super) fn finished(&self, last: FinalSync, commit: &Commit) -> Result<(), ProviderError> {
        let mut control = self.shared.lock();
        let mut record = LoopRecord { ended: Some(Ended::Stopped), ..control.record.clone() };
        record.last_point = Some((last.point, commit.taken_at));
        record.last_app_point = record.last_point;
        record.bytes_sent_total += commit.bytes;
        record.final_sync = Some(last);
        record.store(&self.shared.dir, self.shared.tools.guard.writer())?;
        control.record = record;
        control.show();
        Ok(())
    }

    /// Changes what it is to do, and starts it if it had ended.
    pub(crate) fn change(&self, wanted: Replicate) -> Result<(), ProviderError> {
        let ended = self.shared.lock().record.ended.is_some();
        if ended {
            self.join();
        }
        {
            let mut control = self.shared.lock();
            let newest = control.record.wanted.generation;
            if wanted.generation < newest {
                return Err(ProviderError::Superseded { item: wanted.item, given: wanted.generation, newest });
            }
            if control.record.wanted == wanted && !ended {
                return Ok(());
            }
            let mut record = LoopRecord { wanted, ended: None, final_sync: None, ..control.record.clone() };
            let another = record.wanted.generation != newest;
            if another {
                // What was acknowledged before says nothing about this generation's replica.
                (record.last_point, record.last_app_point) = (None, None);
            }
            record.store(&self.shared.dir, self.shared.tools.guard.writer())?;
            control.record = record;
            if ended || another {
                control.show();
            }
            control.leave = false;
            self.shared.changed.notify_all();
        }
        self.spawn()
    }

    /// Ends the loop for good, without waiting for its thread.
    pub(crate) fn halt(&self) -> Result<(), ProviderError> {
        let ended = self.shared.lock().record.ended;
        if ended != Some(Ended::Quarantined) {
            self.shared.end(Ended::Stopped)?;
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Ends the loop for good and waits until its thread has.
    pub(crate) fn stop(&self) -> Result<(), ProviderError> {
        let ended = self.shared.lock().record.ended;
        if ended != Some(Ended::Quarantined) || self.shared.is_quarantined() {
            self.shared.end(Ended::Stopped)?;
        }
        self.join();
        Ok(())
    }

    fn join(&self) {
        let item = {
            let mut control = self.shared.lock();
            control.leave = true;
            control.record.wanted.item.clone()
        };
        self.shared.tools.groups.rise(&item);
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::now() + LEAVE_PATIENCE;
        while thread.as_ref().is_some_and(|t| !t.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // It waits for a target that does not answer.
        if let Some(socket) = self.shared.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
            && let Err(error) = socket.shutdown(Shutdown::Both)
        {
            tracing::debug!(%error, "the line had ended already");
        }
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("a replication thread had panicked");
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: Ended) -> Result<(), ProviderError> {
        let mut control = self.lock();
        if control.record.ended != Some(why) {
            let record = LoopRecord { ended: Some(why), ..control.record.clone() };
            record.store(&self.dir, self.tools.guard.writer())?;
            control.record = record;
        }
        control.status.phase = match why {
            Ended::Stopped => Phase::Stopped,
            Ended::Superseded => Phase::Superseded,
            // Until the machine is seen off.
            Ended::Quarantined => Phase::Broken,
        };
        control.status.last_error = None;
        Ok(())
    }

    fn run(&self) {
        self.take_points();
        let item = self.lock().record.wanted.item.clone();
        self.tools.groups.rise(&item);
    }

    fn take_points(&self) {
        let mut line: Option<Line> = None;
        let mut backoff = BACKOFF;
        let mut asking = Asking::default();
        loop {
            let (wanted, ended, requested) = {
                let control = self.lock();
                if control.leave {
                    return;
                }
                (control.record.wanted.clone(), control.record.ended, control.record.requested.clone())
            };
            let asked = requested.as_ref().map(|requested| requested.by);
            let compare = requested.is_some_and(|requested| requested.compare && requested.made.is_none());
            if self.must_ask(ended) {
                let pause = self.ask(&wanted, ended, &mut asking);
                self.wait(pause, &wanted, ended, asked);
                continue;
            }
            if ended.is_some() {
                return;
            }
            if self.lulled(&wanted) {
                self.wait(OFF_POLL, &wanted, None, asked);
                continue;
            }
            self.take_seat(&wanted);
            let begun = Instant::now();
            let pace = Pace { shared: self, limiter: Mutex::new(Limiter::new(wanted.policy.bandwidth_bytes_per_s())), sink: None };
            line = line.filter(|l| l.used_at.elapsed() < LINE_FRESH && l.serves(&wanted.endpoint, wanted.generation));
            let machine = inspect(&self.tools.hypervisor, &wanted.machine);
            let outcome = machine.map_err(StreamError::Here).and_then(|m| cycle::run(&self.tools, &wanted, &m, &mut line, &pace, compare));
            let pause = match outcome {
                Ok(Cycle::Point(point)) => {
                    self.point(&wanted, &point);
                    self.made(asked, point.id);
                    self.tools.groups.sit(&wanted.item, wanted.group.as_ref(), None);
                    backoff = BACKOFF;
                    self.until_next(&wanted, begun, asked);
                    continue;
                }
                Ok(Cycle::Off) => {
                    line = None;
                    self.lock().status.phase = Phase::Paused;
                    self.tools.groups.sit(&wanted.item, wanted.group.as_ref(), Some("its machine is off".to_owned()));
                    OFF_POLL
                }
                Err(error) => {
                    line = None;
                    self.tools.groups.sit(&wanted.item, wanted.group.as_ref(), Some(error.to_string()));
                    if let StreamError::Refused(why @ ProviderError::RunsHere { newest, .. }) = &error {
                        match self.quarantine(&wanted, why, *newest) {
                            Ok(_done) => continue,
                            Err(error) => tracing::error!(item = %wanted.item, %error, "the machine here must not run and could not be ended yet"),
                        }
                    } else if self.failed(&wanted, &error) {
                        return;
                    }
                    let pause = backoff;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    pause
                }
            };
            self.wait(pause, &wanted, None, asked);
        }
    }

    fn point(&self, wanted: &Replicate, point: &NewPoint) {
        let NewPoint { id, taken_at, sent, consistency, .. } = *point;
        if let Some(at) = &point.group {
            self.tools.groups.acknowledged(&wanted.item, at);
        }
        let mut control = self.lock();
        if control.record.wanted.generation != wanted.generation {
            return; // it was told something new meanwhile
        }
        if consistency == Consistency::App {
            control.record.last_app_point = Some((id, taken_at));
            (control.status.last_app_point, control.status.app_error) = (Some(id), None);
        }
        control.record.last_point = Some((id, taken_at));
        control.record.bytes_sent_total += sent;
        control.status.last_point = Some(id);
        control.status.last_point_taken_at = Some(taken_at);
        control.status.bytes_sent_total = control.record.bytes_sent_total;
        control.status.last_error = None;
        if control.record.ended.is_none() {
            control.status.phase = Phase::Replicating;
        }
        // Only the numbers are lost if this fails; the target knows what it has.
        if let Err(error) = control.record.store(&self.dir, self.tools.guard.writer()) {
            tracing::warn!(item = %control.record.wanted.item, %error, "could not remember a point");
        }
    }

    /// Notes a failure. Returns whether the thread is to end.
    fn failed(&self, wanted: &Replicate, error: &StreamError) -> bool {
        let ends = matches!(
            error,
            StreamError::Refused(ProviderError::Superseded { .. } | ProviderError::PointsWithdrawn { .. })
        );
        if ends {
            // The marks stay: they say what is written here from now on, which the way home needs to know.
            tracing::info!(item = %wanted.item, %error, "replication has ended; the target is asked on whether the machine runs there");
            if let Err(error) = self.end(Ended::Superseded) {
                tracing::warn!(item = %wanted.item, %error, "could not remember that replication has ended");
            }
            return false;
        }
        if matches!(error, StreamError::Here(ProviderError::NotWriter { .. })) {
            tracing::warn!(item = %wanted.item, "another agent process replicates now");
            return true;
        }
        let mut control = self.lock();
        if matches!(error, StreamError::Stopped) || control.record.ended.is_some() {
            return false;
        }
        tracing::warn!(item = %wanted.item, %error, "no point");
        control.status.phase = Phase::Broken;
        control.status.last_error = Some(error.to_string());
        false
    }
}
