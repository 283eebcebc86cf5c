//! Batches of turns: of the head that is stored or of one that is not any more, with whatever a turn can write.

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::{ChildRow, Close, EventRow, InboxRow, LockRow, RunState, RunStore, TaskRow, TimerRow, Told, TurnWrite, memory::MemoryStore};
use sdk::{
    ActivityOptions, ChildEnd, ClosePolicy, Command, Effect, Event, EventBody, Grant, History, Kin, Lease, Message, Parent, Retry, RunId, Scope, Seq, TaskQueue, Timeouts, WorkerId,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    ask::Ask,
    book::Book,
    dice::Dice,
    draw::{ABOUT, QUEUES, failure, lease, run, start_message},
};

const RESOURCES: [&str; 3] = ["a", "b", "c"];
/// Limits of tasks in milliseconds; some meet a step of the clock exactly.
const LIMITS: [Option<u64>; 4] = [None, Some(1_000), Some(3_000), Some(10_000)];

pub(super) async fn batch(dice: &mut Dice, book: &mut Book, memory: &MemoryStore) -> Ask {
    if dice.percent(15)
        && let Some((under, turns)) = dice.one(&book.sent)
    {
        let under = if dice.percent(80) { under } else { lease(dice, book) };
        return Ask::CommitTurns(under, turns);
    }
    let mut runs: Vec<RunId> = (0..dice.of([1, 1, 2, 3])).map(|_| run(dice, book)).filter(|run| book.runs.contains(run)).collect();
    runs.sort_unstable();
    runs.dedup();
    let under = lease(dice, book);
    let states = memory.runs();
    let mut turns = vec![];
    for run in runs {
        let Some((_, stored)) = states.iter().find(|(id, _)| *id == run) else { continue };
        let inbox = memory.read_inbox(&[run]).await.unwrap_or_default();
        let ended = !matches!(stored.state, RunState::Open | RunState::Suspended);
        turns.push(Draft::new(book, run, stored.epoch, dice.percent(10)).drawn(dice, book, memory, &inbox, ended));
    }
    Ask::CommitTurns(under, turns)
}

/// A turn in the making.
struct Draft {
    history: History,
    write: TurnWrite,
}

impl Draft {
    fn new(book: &mut Book, run: RunId, run_epoch: i64, behind: bool) -> Self {
        let history = if behind { book.earlier.get(&run).cloned() } else { None }.unwrap_or_else(|| book.history(run));
        let write = TurnWrite::empty(run, run_epoch, book.id());
        Self { history, write }
    }

    fn event(&mut self, key: Option<String>, body: EventBody) -> Seq {
        let (seq, kind, turn) = (self.history.next_seq(), body.kind(), self.write.turn);
        let lease = Lease { worker: WorkerId(Uuid::nil()), epoch: 0 };
        let (at, run_epoch) = (DateTime::UNIX_EPOCH, self.write.run_epoch);
        let stored = self.history.push(Event { v: 1, seq, at, worker: lease.worker, lease_epoch: lease.epoch, run_epoch, turn, msg_key: key.clone(), body });
        self.write.events.push(EventRow { seq, kind, msg_key: key, bytes: stored.bytes.clone(), hash: stored.hash });
        seq
    }

    /// An event that asks for something.
    fn wish(&mut self) -> Seq {
        self.event(None, EventBody::Command(Command::TimerCancelled { of: Seq(0) }))
    }

    fn earlier(&self, dice: &mut Dice) -> Seq {
        Seq(dice.below(usize::try_from(self.history.next_seq().0).unwrap_or(0)) as i32)
    }

    fn drawn(mut self, dice: &mut Dice, book: &mut Book, memory: &MemoryStore, inbox: &[InboxRow], ended: bool) -> TurnWrite {
        self.consume(dice, inbox);
        if self.write.events.is_empty() && (dice.percent(60) || ended) {
            // A turn that only drops messages, or sets the run aside.
            if dice.percent(30) || ended {
                self.write.close = Some(Close { state: RunState::Suspended, problem: Some(failure(dice)), end: None });
            }
            return self.write;
        }
        if !ended {
            (0..dice.below(4)).for_each(|_| self.want(dice, book, memory));
        }
        if ended || dice.percent(12) {
            self.close(dice);
        }
        self.write
    }

    fn consume(&mut self, dice: &mut Dice, inbox: &[InboxRow]) {
        let taken = inbox.iter().take(if dice.percent(70) { inbox.len() } else { dice.below(inbox.len() + 1) });
        for row in taken {
            self.write.consumed.push(row.key.clone());
            let known = self.history.events.iter().any(|stored| stored.event.msg_key.as_ref() == Some(&row.key));
            if !known || dice.percent(10) {
                self.event(Some(row.key.clone()), EventBody::Inbound(row.message.clone().into_inbound()));
            }
        }
        if dice.percent(4) {
            self.write.consumed.push("signal:go:gone".into());
        }
    }

    fn want(&mut self, dice: &mut Dice, book: &mut Book, memory: &MemoryStore) {
        match dice.below(14) {
            0..4 => {
                let seq = self.wish();
                self.write.tasks.push(task(dice, seq));
            }
            4..6 => {
                let seq = self.wish();
                let due_at: DateTime<Utc> = memory.time() + Duration::from_millis(dice.of([0, 1_000, 3_000]));
                self.write.timers.push(TimerRow { seq, due_at });
            }
            6..8 => {
                let seq = self.wish();
                let mut resources: Vec<String> = RESOURCES.iter().filter(|_| dice.percent(50)).map(|name| (*name).to_owned()).collect();
                if resources.is_empty() {
                    resources.push("a".into());
                }
                self.write.locks.push(LockRow { seq, resources });
            }
            8..10 => self.child(dice, book),
            10 => {
                let of = self.earlier(dice);
                self.write.cancel_tasks.push(of);
            }
            11 => {
                let of = self.earlier(dice);
                if of < self.history.next_seq() && !self.write.drop_timers.contains(&of) && !self.write.timers.iter().any(|timer| timer.seq == of) {
                    self.write.drop_timers.push(of);
                }
            }
            12 => {
                let of = self.earlier(dice);
                self.write.release_locks.push(of);
            }
            _ => self.tell(dice),
        }
    }

    fn child(&mut self, dice: &mut Dice, book: &mut Book) {
        let seq = self.wish();
        let parent = Some(Parent { run: self.write.run, seq });
        let Message::Start { workflow, input, workflow_id, requested_by, trace, .. } = start_message(dice.of(ABOUT)) else { return };
        let start = Message::Start { workflow, input, workflow_id, requested_by, trace, parent };
        self.write.children.push(ChildRow { seq, child: RunId(book.id()), close: dice.of([ClosePolicy::Cancel, ClosePolicy::Leave]), start });
    }

    fn tell(&mut self, dice: &mut Dice) {
        let seq = self.wish();
        let to = if dice.percent(50) { Kin::Parent } else { Kin::Child { of: self.earlier(dice) } };
        let stop = matches!(to, Kin::Child { .. }) && dice.percent(40);
        let message = if stop {
            Message::Cancel { by: format!("run {}", self.write.run), reason: "it is not needed".into() }
        } else {
            Message::Signal { name: "word".into(), key: format!("{}:{seq}", self.write.run), body: json!(null), by: "a relative".into() }
        };
        self.write.told.push(Told { to, message });
    }

    fn close(&mut self, dice: &mut Dice) {
        self.wish();
        let failure = failure(dice);
        let (state, problem, end) = match dice.below(4) {
            0 => (RunState::Completed, None, Some(ChildEnd::Completed { output: json!("well") })),
            1 => (RunState::Failed, Some(failure.clone()), Some(ChildEnd::Failed { failure })),
            2 => (RunState::Cancelled, Some(failure.clone()), Some(ChildEnd::Cancelled { failure })),
            _ => (RunState::Suspended, Some(failure), None),
        };
        self.write.close = Some(Close { state, problem, end });
    }
}

fn task(dice: &mut Dice, seq: Seq) -> TaskRow {
    let timeouts = Timeouts { queue_ms: dice.of(LIMITS), start_to_close_ms: dice.of([1_000, 5_000, 60_000]), total_ms: dice.of(LIMITS), heartbeat_ms: dice.of(LIMITS) };
    TaskRow {
        seq,
        queue: TaskQueue::new(dice.of(QUEUES)),
        activity: "work".into(),
        input: json!({"disk": "vda"}),
        options: ActivityOptions { retry: Retry { max_attempts: dice.of([1, 2, 5]), first_ms: 1_000, factor: 2.0, max_ms: 10_000 }, timeouts },
        effect: dice.of([Effect::Idempotent, Effect::Probeable, Effect::AtMostOnce]),
        scope: dice.of([Scope::Prod, Scope::Isolated, Scope::Read]),
        grant: dice.percent(30).then(|| Grant { resource: "a".into(), epoch: 7, era: 1 }),
        trace: None,
    }
}
