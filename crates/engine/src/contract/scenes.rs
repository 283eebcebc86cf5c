//! What cases have in common: workers, runs and turns made by hand.
#![expect(clippy::unwrap_used, reason = "a case panics where its sentence does not hold")]

use std::time::Duration;

use chrono::{DateTime, Utc};
use sdk::{
    ActivityOptions, ChildEnd, Command, Effect, Event, EventBody, Failure, Grant, History, Inbound, Lease, Message, Outcome, Retry, RunId, Scope, Seq, TaskQueue, Timeouts,
    WorkerId,
};
use serde_json::json;
use uuid::Uuid;

use crate::{ClaimedRun, ClaimedTask, Close, EventRow, RunState, StartRun, Started, Store, TaskRow, TurnWrite};

pub(super) const TTL: Duration = Duration::from_secs(10);

pub(super) fn worker() -> WorkerId {
    WorkerId(Uuid::now_v7())
}

pub(super) fn new_run() -> RunId {
    RunId(Uuid::now_v7())
}

pub(super) fn start_message(about: &str) -> Message {
    Message::Start { workflow: "case".into(), input: json!({"n": 1}), workflow_id: about.into(), requested_by: "tester".into(), trace: None, parent: None }
}

/// A run of which the start message waits.
pub(super) async fn started(store: &impl Store, about: &str) -> RunId {
    let run = new_run();
    assert_eq!(store.start_run(StartRun { run, start: start_message(about) }).await.unwrap(), Started::New);
    run
}

/// A worker that holds a lease and owns one new run.
pub(super) async fn owning(store: &impl Store, about: &str) -> (Lease, ClaimedRun) {
    let run = started(store, about).await;
    let lease = store.open_lease(worker(), TTL).await.unwrap();
    let claimed = store.claim_runs(lease, 100).await.unwrap();
    (lease, claimed.into_iter().find(|c| c.run == run).expect("the new run is claimed"))
}

/// Builds turns of one run by hand.
pub(super) struct Hand {
    pub(super) lease: Lease,
    pub(super) claimed: ClaimedRun,
    pub(super) history: History,
}

impl Hand {
    pub(super) fn new(lease: Lease, claimed: ClaimedRun) -> Self {
        let history = History::new(claimed.run);
        Self { lease, claimed, history }
    }

    /// A turn that consumes `message` and answers with `commands`; the history then counts it as stored.
    pub(super) fn turn(&mut self, message: Message, commands: Vec<Command>) -> TurnWrite {
        let turn = Uuid::now_v7();
        let mut write = self.empty(turn);
        let key = message.key();
        let inbound: Inbound = message.into_inbound();
        write.consumed.push(key.clone());
        self.add(&mut write, turn, Some(key), EventBody::Inbound(inbound));
        for command in commands {
            self.add(&mut write, turn, None, EventBody::Command(command));
        }
        write
    }

    pub(super) fn empty(&self, turn: Uuid) -> TurnWrite {
        TurnWrite::empty(self.claimed.run, self.claimed.epoch, turn)
    }

    fn add(&mut self, write: &mut TurnWrite, turn: Uuid, msg_key: Option<String>, body: EventBody) {
        let seq = self.history.next_seq();
        let at: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let kind = body.kind();
        let (worker, lease_epoch, run_epoch) = (self.lease.worker, self.lease.epoch, self.claimed.epoch);
        let stored = self.history.push(Event { v: 1, seq, at, worker, lease_epoch, run_epoch, turn, msg_key: msg_key.clone(), body });
        write.events.push(EventRow { seq, kind, msg_key, bytes: stored.bytes.clone(), hash: stored.hash });
    }
}

/// A task that may be queued by a turn.
pub(super) fn task(seq: i32, options: ActivityOptions) -> TaskRow {
    TaskRow {
        seq: Seq(seq),
        queue: queue(),
        activity: "work".into(),
        input: json!({"disk": "vda"}),
        options,
        effect: Effect::Idempotent,
        scope: Scope::Prod,
        grant: Some(Grant { resource: "item:a".into(), epoch: 7, era: 1 }),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

pub(super) fn queue() -> TaskQueue {
    TaskQueue::new("site:a")
}

pub(super) fn options(attempts: i32) -> ActivityOptions {
    ActivityOptions {
        retry: Retry { max_attempts: attempts, first_ms: 1_000, factor: 2.0, max_ms: 10_000 },
        timeouts: Timeouts { queue_ms: None, start_to_close_ms: 5_000, total_ms: None, heartbeat_ms: None },
    }
}

pub(super) fn done() -> Outcome {
    Outcome::Completed { output: json!("well") }
}

/// A worker that owns a run with one queued task at seq 1.
pub(super) async fn with_task(store: &impl Store, options: ActivityOptions) -> (Hand, TaskQueue) {
    let (lease, claimed) = owning(store, "item:a").await;
    let mut hand = Hand::new(lease, claimed);
    let mut write = hand.turn(start_message("item:a"), vec![]);
    write.tasks.push(task(1, options));
    store.commit_turns(lease, &[write]).await.unwrap();
    (hand, queue())
}

pub(super) async fn claim_one(store: &impl Store, lease: Lease) -> Option<ClaimedTask> {
    let mut claimed = store.claim_tasks(lease, &[queue()], 10).await.unwrap();
    assert!(claimed.len() <= 1, "one task is there, {} were claimed", claimed.len());
    claimed.pop()
}

/// Messages of a run, by key.
pub(super) async fn inbox_keys(store: &impl Store, run: RunId) -> Vec<String> {
    store.read_inbox(&[run]).await.unwrap().into_iter().map(|row| row.key).collect()
}

/// The one outcome that waits in the inbox.
pub(super) async fn outcome(store: &impl Store, run: RunId) -> Outcome {
    let rows = store.read_inbox(&[run]).await.unwrap();
    let found: Vec<Outcome> = rows
        .into_iter()
        .filter_map(|row| match row.message {
            Message::Finished { outcome, .. } => Some(outcome),
            Message::ChildStarted { .. } | Message::ChildRefused { .. } | Message::ChildClosed { .. } | Message::Start { .. } | Message::TimerDue { .. } | Message::Signal { .. } | Message::Granted { .. } | Message::Cancel { .. } => None,
        })
        .collect();
    assert_eq!(found.len(), 1, "one outcome waits: {found:?}");
    found.into_iter().next().unwrap()
}

pub(super) fn set_aside() -> Option<Close> {
    Some(Close { state: RunState::Suspended, problem: Some(Failure::fatal("replay-differs", "event 3")), end: None })
}

pub(super) fn completed() -> Option<Close> {
    Some(Close { state: RunState::Completed, problem: None, end: Some(ChildEnd::Completed { output: json!("well") }) })
}
