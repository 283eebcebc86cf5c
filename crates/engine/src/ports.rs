//! What the engine needs from the world. The simulator and Postgres implement the same ports, so the engine that is
//! simulated is the engine that ships.
//!
//! Invariants: 1. Time is the store's. 2. Every write carries what it believes; a lost belief is an answer, not a crash.
//! 3. A batch of turns is one call, atomic: all of it or nothing.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sdk::{ActivityOptions, ChildEnd, ClosePolicy, Effect, Failure, Grant, Hash, History, Kin, Lease, Message, Outcome, RunId, Scope, Seq, TaskQueue, Token, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

use crate::{schedule::ScheduleStore, witness::ChildOf};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Our lease row is gone: somebody else may own what we owned. Drop everything of that epoch.
    #[error("the lease of worker {} epoch {} is gone", .0.worker, .0.epoch)]
    Fenced(Lease),
    /// It may or may not have happened (connection lost, deadlock, shutdown): ask the same again.
    #[error("the store did not answer while {attempted}")]
    Again {
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It will not work by asking again.
    #[error("the store refused {attempted}")]
    Refused {
        /// What was attempted.
        attempted: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a batch of turns was not stored (nothing of it was).
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// As for every write, ambiguity included.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Some `(run, seq)` or message key is already in the history: send the turns one by one.
    #[error("an event of the batch is already there")]
    Taken,
    /// A row that the turn wanted to delete is gone (a message, a timer): read the inbox again and redo the turn.
    #[error("a row that the batch wanted to delete is gone")]
    Stale,
    /// The rows themselves are wrong (too large, bad projection): send one by one, suspend the culprit.
    #[error("the batch holds a row that the store refuses: {0}")]
    Bad(String),
}

/// A run that this worker owns from now on.
#[derive(Clone, Debug)]
pub struct ClaimedRun {
    /// Which.
    pub run: RunId,
    /// Run epoch: grows at each claim.
    pub epoch: i64,
}

/// A row of a run's inbox, in arrival order.
#[derive(Clone, Debug)]
pub struct InboxRow {
    /// Arrival order within the store.
    pub id: i64,
    /// Whose.
    pub run: RunId,
    /// Makes it count once.
    pub key: String,
    /// What.
    pub message: Message,
}

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Position.
    pub seq: Seq,
    /// Name of its kind.
    pub kind: &'static str,
    /// Message that it consumed.
    pub msg_key: Option<String>,
    /// JSON text of the event.
    pub bytes: Vec<u8>,
    /// Link of the chain.
    pub hash: Hash,
}

/// A task to be queued; its key is (run, seq).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskRow {
    /// Scheduling event.
    pub seq: Seq,
    /// Where it waits.
    pub queue: TaskQueue,
    /// Declared name.
    pub activity: String,
    /// Input.
    pub input: Value,
    /// Retries and limits.
    pub options: ActivityOptions,
    /// What repetition means.
    pub effect: Effect,
    /// What it may touch.
    pub scope: Scope,
    /// Lock under which it happens.
    pub grant: Option<Grant>,
    /// W3C trace parent.
    pub trace: Option<String>,
}

/// A timer to be kept.
#[derive(Clone, Copy, Debug)]
pub struct TimerRow {
    /// Its event.
    pub seq: Seq,
    /// When it is due.
    pub due_at: DateTime<Utc>,
}

/// A request for locks, granted all at once in the order of requests.
#[derive(Clone, Debug)]
pub struct LockRow {
    /// Its event.
    pub seq: Seq,
    /// Sorted names.
    pub resources: Vec<String>,
}

/// A run to be started for this one, unless an open run has its workflow id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChildRow {
    /// The event that asks for it.
    pub seq: Seq,
    /// Its id.
    pub child: RunId,
    /// What becomes of it when its parent ends.
    pub close: ClosePolicy,
    /// `Message::Start`, which names its workflow and what it is about.
    pub start: Message,
}

/// A word to a relative.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Whom.
    pub to: Kin,
    /// A signal, whose key names the sender and the event, so that it counts once; or, to a child, that it is to stop.
    pub message: Message,
}

/// How a run ends, or is set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Close {
    /// Its state from now on.
    pub state: RunState,
    /// Why it failed or was set aside.
    pub problem: Option<Failure>,
    /// What its parent hears; `None` if it is set aside.
    pub end: Option<ChildEnd>,
}

/// A fact for the caller's projection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProjectionRow {
    /// Name of the projection.
    pub projection: String,
    /// The fact.
    pub fact: Value,
    /// The event that caused it.
    pub seq: Seq,
}

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Work goes on.
    Open,
    /// Set aside until a person resumes it: its code panicked or no longer fits its history.
    Suspended,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended on request.
    Cancelled,
}

/// One turn of one run, atomic.
#[derive(Clone, Debug)]
pub struct TurnWrite {
    /// Whose.
    pub run: RunId,
    /// The claim under which it was made; also the run epoch of the tasks' tokens.
    pub run_epoch: i64,
    /// Nonce: the same at every repetition of this turn, and at no other.
    pub turn: Uuid,
    /// Of a child: who asked for it, and what it is about; for witnesses.
    pub child_of: Option<ChildOf>,
    /// Events from the head on. Empty for a turn that only drops messages or suspends.
    pub events: Vec<EventRow>,
    /// Messages to delete; every one must still be there.
    pub consumed: Vec<String>,
    /// Tasks to queue.
    pub tasks: Vec<TaskRow>,
    /// Tasks to cancel: queued ones complete as cancelled, running ones are told. Not counted.
    pub cancel_tasks: Vec<Seq>,
    /// Timers to keep.
    pub timers: Vec<TimerRow>,
    /// Timers to delete; every one must still be there.
    pub drop_timers: Vec<Seq>,
    /// Locks to ask for.
    pub locks: Vec<LockRow>,
    /// Requests whose locks are free again.
    pub release_locks: Vec<Seq>,
    /// Facts for the projection.
    pub projections: Vec<ProjectionRow>,
    /// Runs to start; each is answered by a message, started or refused.
    pub children: Vec<ChildRow>,
    /// Words to relatives; one that has ended, or was never started, hears nothing.
    pub told: Vec<Told>,
    /// Ends or suspends the run. Ending deletes its tasks, timers and messages, frees its locks, tells its parent and asks those of
    /// its children to stop that are to end with it.
    pub close: Option<Close>,
}

impl TurnWrite {
    /// One that writes nothing yet.
    #[must_use]
    pub fn empty(run: RunId, run_epoch: i64, turn: Uuid) -> Self {
        Self {
            run,
            run_epoch,
            turn,
            child_of: None,
            events: vec![],
            consumed: vec![],
            tasks: vec![],
            cancel_tasks: vec![],
            timers: vec![],
            drop_timers: vec![],
            locks: vec![],
            release_locks: vec![],
            projections: vec![],
            children: vec![],
            told: vec![],
            close: None,
        }
    }
}

/// Who wrote an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The lease.
    pub lease: Lease,
    /// The turn.
    pub turn: Uuid,
}

/// A new run.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// Chosen by the caller, so that asking twice starts once.
    pub run: RunId,
    /// `Message::Start`.
    pub start: Message,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It exists now (or did already under the same run id).
    New,
    /// Another open run has this workflow id.
    AlreadyOpen(RunId),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the inbox, or was already.
    Accepted,
    /// The run has ended.
    Closed,
    /// There is no such run.
    NoSuchRun,
}

/// A task that this worker or agent may carry out now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimedTask {
    /// Whose.
    pub run: RunId,
    /// The task as it was queued.
    pub task: TaskRow,
    /// What to show to the outside world; holds the attempt.
    pub token: Token,
    /// An earlier attempt may have had its effect: probe before repeating, or never repeat.
    pub in_doubt: bool,
}

/// What became of a report about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// It counts.
    Accepted,
    /// The task is gone or another attempt has begun: stop.
    Refused,
}

/// What a heartbeat of a task learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPulse {
    /// Go on.
    Alive,
    /// Somebody wants it to stop: end in a clean state soon.
    CancelRequested,
    /// Not ours any more: stop.
    Gone,
}

/// Leases: the right to write.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Inserts a lease with a new epoch, valid for `ttl`.
    async fn open_lease(&self, worker: WorkerId, ttl: Duration) -> Result<Lease, StoreError>;
    /// Says which build the worker is, and makes it known as the newest if nobody knew it. Without this it claims no run that a build has claimed,
    /// and none at all once a build is known.
    async fn declare_build(&self, lease: Lease, build: &str) -> Result<(), StoreError>;
    /// Makes a build the newest, as when somebody goes back to it. `false`: nobody knows it.
    async fn prefer_build(&self, build: &str) -> Result<bool, StoreError>;
    /// Renews it; `false` means fenced. Runs on a connection and thread of its own.
    async fn renew_lease(&self, lease: Lease, ttl: Duration) -> Result<bool, StoreError>;
    /// Gives it back at a clean stop.
    async fn close_lease(&self, lease: Lease) -> Result<(), StoreError>;
    /// Deletes expired leases of others; not within one `ttl` after the start of the store. Returns the deleted ones.
    async fn expire_leases(&self, ours: Lease, ttl: Duration) -> Result<Vec<Lease>, StoreError>;
}

/// Runs and their histories.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Creates a run with its start message.
    async fn start_run(&self, start: StartRun) -> Result<Started, StoreError>;
    /// Puts a message into the inbox of an open run.
    async fn send(&self, run: RunId, message: Message) -> Result<Sent, StoreError>;
    /// Takes open runs whose owner's lease does not exist, or that nobody owns and that have messages. Of those that a build has claimed before,
    /// only the ones of the worker's own build or of an older; others are left to the newest.
    async fn claim_runs(&self, lease: Lease, limit: u32) -> Result<Vec<ClaimedRun>, StoreError>;
    /// What this lease owns, after all its claims and releases that had no answer have ended one way or the other.
    async fn owned_runs(&self, lease: Lease) -> Result<Vec<ClaimedRun>, StoreError>;
    /// The whole history, chain checked by the caller's type.
    async fn load_history(&self, run: RunId) -> Result<History, StoreError>;
    /// All messages of these runs, by arrival; one statement.
    async fn read_inbox(&self, runs: &[RunId]) -> Result<Vec<InboxRow>, StoreError>;
    /// Stores a batch of turns: fence first, all or nothing.
    async fn commit_turns(&self, lease: Lease, turns: &[TurnWrite]) -> Result<(), CommitError>;
    /// Who wrote this event, if it is there.
    async fn writer_of(&self, run: RunId, seq: Seq) -> Result<Option<Writer>, StoreError>;
    /// The same of the first event of a turn that was sent under `lease`: what a commit without an answer came to. A store that notes its answers
    /// notes this one if it is that turn.
    async fn writer_of_turn(&self, _lease: Lease, turn: &TurnWrite) -> Result<Option<Writer>, StoreError> {
        match turn.events.first() {
            Some(event) => self.writer_of(turn.run, event.seq).await,
            None => Ok(None),
        }
    }
    /// Gives up runs that only wait; they are claimed again when a message arrives. Never with a turn in flight.
    async fn release_runs(&self, lease: Lease, runs: &[RunId]) -> Result<(), StoreError>;
    /// The store's time.
    async fn now(&self) -> Result<DateTime<Utc>, StoreError>;
}

/// The job queue.
#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Claims tasks that are queued and due, or whose attempt is past its deadline or heartbeat, or whose lease is gone
    /// (those are in doubt). The only place where the attempt grows. Attempts beyond the retry policy are left to `expire_tasks`.
    async fn claim_tasks(&self, lease: Lease, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError>;
    /// Deletes the task at this attempt and puts the outcome into the run's inbox, in one statement.
    async fn complete_task(&self, run: RunId, seq: Seq, attempt: i32, outcome: &Outcome) -> Result<Reported, StoreError>;
    /// Queues the task again after `delay`.
    async fn retry_task(&self, run: RunId, seq: Seq, attempt: i32, failure: &Failure, delay: Duration, in_doubt: bool) -> Result<Reported, StoreError>;
    /// Sets the task aside, visible, because nobody can run it.
    async fn bury_task(&self, run: RunId, seq: Seq, attempt: i32, problem: &Failure) -> Result<Reported, StoreError>;
    /// Says that the attempt lives; `detail` is progress for people.
    async fn pulse_task(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError>;
    /// The task as it stands, if it does.
    async fn task(&self, run: RunId, seq: Seq) -> Result<Option<ClaimedTask>, StoreError>;
}

/// What anybody may do at any time for everybody; each is one atomic statement and says how many rows it moved.
#[async_trait]
pub trait Sweeps: Send + Sync {
    /// Moves due timers into inboxes.
    async fn fire_timers(&self, limit: u32) -> Result<u32, StoreError>;
    /// Grants lock requests whose resources are all free, oldest first; each grant raises the resource's epoch.
    async fn grant_locks(&self, limit: u32) -> Result<u32, StoreError>;
    /// Ends tasks past their queue or total limit, past their last attempt, or cancelled before they began.
    async fn expire_tasks(&self, limit: u32) -> Result<u32, StoreError>;
}

/// All of it.
pub trait Store: LeaseStore + RunStore + TaskStore + Sweeps + ScheduleStore {}
impl<T: LeaseStore + RunStore + TaskStore + Sweeps + ScheduleStore> Store for T {}
