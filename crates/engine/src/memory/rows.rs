//! What the store in memory keeps, and its leases and clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sdk::{ClosePolicy, Failure, Hash, Lease, Message, Parent, RunId, Seq, WorkerId};
use serde_json::Value;

use super::{limbo::Limbo, tail::Tail};
use crate::{
    ProjectionRow, RunState, StoreError, TaskRow, Writer,
    schedule::{Recorded, Schedule},
};

/// A run as the store sees it.
#[derive(Clone, Debug)]
pub struct MemoryRun {
    /// What it is about.
    pub workflow_id: String,
    /// Registered name.
    pub workflow: String,
    /// Which run asked for it, and what becomes of it when that ends.
    pub parent: Option<(Parent, ClosePolicy)>,
    /// Owner's lease.
    pub owner: Option<Lease>,
    /// Which build has claimed it last.
    pub build: Option<String>,
    /// Run epoch.
    pub epoch: i64,
    /// How it stands.
    pub state: RunState,
    /// Why it failed or was set aside.
    pub failure: Option<Failure>,
    /// When it ended.
    pub closed_at: Option<DateTime<Utc>>,
    pub(crate) events: Vec<(Vec<u8>, Hash, Writer)>,
    pub(crate) msg_keys: BTreeSet<String>,
}

/// A task as the store sees it.
#[derive(Clone, Debug)]
pub struct MemoryTask {
    /// As it was queued.
    pub row: TaskRow,
    pub(crate) run_epoch: i64,
    pub(crate) attempt: i32,
    pub(crate) holder: Option<Lease>,
    pub(crate) in_doubt: bool,
    /// Why nobody can run it.
    pub dead: Option<Failure>,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) cancel_requested: bool,
    pub(crate) not_before: DateTime<Utc>,
    pub(crate) last_sign: DateTime<Utc>,
    pub(crate) queue_deadline: Option<DateTime<Utc>>,
    pub(crate) total_deadline: Option<DateTime<Utc>>,
    pub(crate) attempt_deadline: Option<DateTime<Utc>>,
    pub(crate) beat_deadline: Option<DateTime<Utc>>,
    /// Progress, for people.
    pub detail: Option<Value>,
}

impl MemoryTask {
    /// When a begun task counts as abandoned, if nobody takes it over: its queue limit after the last sign of life.
    pub(crate) fn abandoned_at(&self) -> Option<DateTime<Utc>> {
        let limit = self.row.options.timeouts.queue_ms.filter(|_| self.attempt > 0)?;
        Some(self.not_before.max(self.last_sign) + Duration::from_millis(limit))
    }
}

#[derive(Clone)]
pub(crate) struct State {
    pub(crate) now: DateTime<Utc>,
    pub(crate) changes: u64,
    pub(crate) era: i64,
    pub(crate) leases: BTreeMap<Lease, DateTime<Utc>>,
    /// What workers say they are.
    pub(crate) builds_of: BTreeMap<Lease, String>,
    /// Known builds, the newest with the highest number.
    pub(crate) builds: BTreeMap<String, u64>,
    pub(crate) last_epoch: BTreeMap<WorkerId, i64>,
    pub(crate) runs: BTreeMap<RunId, MemoryRun>,
    /// Open runs by what they are about.
    pub(crate) open: BTreeMap<String, RunId>,
    /// Children by the event that asked for them.
    pub(crate) children: BTreeMap<(RunId, Seq), RunId>,
    /// By run, then in the order in which they came.
    pub(crate) inbox: BTreeMap<(RunId, i64), (String, Message)>,
    pub(crate) inbox_keys: BTreeSet<(RunId, String)>,
    pub(crate) next_inbox: i64,
    pub(crate) tasks: BTreeMap<(RunId, Seq), MemoryTask>,
    pub(crate) timers: BTreeMap<(RunId, Seq), DateTime<Utc>>,
    pub(crate) locks: BTreeMap<String, (i64, Option<(RunId, Seq)>)>,
    pub(crate) lock_requests: BTreeMap<u64, (RunId, Seq, Vec<String>)>,
    pub(crate) next_request: u64,
    pub(crate) projections: Vec<(RunId, ProjectionRow)>,
    pub(crate) schedules: BTreeMap<String, Schedule>,
    pub(crate) schedule_versions: i64,
    pub(crate) firings: BTreeMap<(String, DateTime<Utc>), Recorded>,
    pub(crate) limbo: Vec<Limbo>,
    /// How many batches landed from there.
    pub(crate) landed: u64,
    /// Runs that were claimed from a lease that was gone.
    pub(crate) takeovers: u64,
    /// Which server this is, and what it lacks.
    pub(crate) tail: Tail,
}

impl State {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self {
            now,
            changes: 0,
            era: 1,
            leases: BTreeMap::new(),
            builds_of: BTreeMap::new(),
            builds: BTreeMap::new(),
            last_epoch: BTreeMap::new(),
            runs: BTreeMap::new(),
            open: BTreeMap::new(),
            children: BTreeMap::new(),
            inbox: BTreeMap::new(),
            inbox_keys: BTreeSet::new(),
            next_inbox: 1,
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            locks: BTreeMap::new(),
            lock_requests: BTreeMap::new(),
            next_request: 1,
            projections: Vec::new(),
            schedules: BTreeMap::new(),
            schedule_versions: 0,
            firings: BTreeMap::new(),
            limbo: Vec::new(),
            landed: 0,
            takeovers: 0,
            tail: Tail::default(),
        }
    }

    pub(crate) fn fence(&self, lease: Lease) -> Result<(), StoreError> {
        if self.leases.contains_key(&lease) { self.known_server("writing") } else { Err(StoreError::Fenced(lease)) }
    }

    pub(crate) fn open_lease(&mut self, worker: WorkerId, ttl: Duration) -> Lease {
        let epoch = self.last_epoch.entry(worker).or_insert(0);
        *epoch += 1;
        let lease = Lease { worker, epoch: *epoch };
        self.leases.insert(lease, self.now + ttl);
        lease
    }

    pub(crate) fn renew_lease(&mut self, lease: Lease, ttl: Duration) -> bool {
        let until = self.now + ttl;
        self.leases.get_mut(&lease).map(|expires| *expires = until).is_some()
    }

    pub(crate) fn expire_leases(&mut self, ours: Lease) -> Vec<Lease> {
        let expired: Vec<Lease> = self.leases.iter().filter(|(l, at)| **l != ours && **at < self.now && !self.in_flight_under(**l)).map(|(l, _)| *l).collect();
        for lease in &expired {
            self.leases.remove(lease);
            self.builds_of.remove(lease);
            self.changes += 1;
        }
        expired
    }

    /// Puts a message in; false if its key is there already.
    pub(crate) fn post(&mut self, run: RunId, message: Message) -> bool {
        let key = message.key();
        if !self.inbox_keys.insert((run, key.clone())) {
            return false;
        }
        self.inbox.insert((run, self.next_inbox), (key, message));
        self.next_inbox += 1;
        self.changes += 1;
        true
    }

    /// The entries of one run.
    pub(crate) fn of_run<K: Copy + Ord, V>(all: &BTreeMap<(RunId, K), V>, run: RunId, first: K) -> Vec<(RunId, K)> {
        all.range((run, first)..).map(|(key, _)| *key).take_while(|(of, _)| *of == run).collect()
    }

    pub(crate) fn has_messages(&self, run: RunId) -> bool {
        self.inbox_keys.range((run, String::new())..).next().is_some_and(|(r, _)| *r == run)
    }

    /// Earliest moment at which a deadline, timer, delay or schedule is due.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        let tasks = self.tasks.values().filter(|t| t.dead.is_none()).flat_map(|t| {
            let waiting = t.holder.is_none();
            [waiting.then_some(t.not_before), t.queue_deadline.filter(|_| t.attempt == 0), t.abandoned_at(), t.total_deadline, t.attempt_deadline, t.beat_deadline]
        });
        let schedules = self.schedules.values().filter(|schedule| !self.waits(schedule)).map(|schedule| schedule.next.due_at);
        let limbo = self.limbo.iter().map(|batch| batch.lands_at);
        tasks.flatten().chain(self.timers.values().copied()).chain(schedules).chain(limbo).filter(|at| *at >= self.now).min()
    }
}
