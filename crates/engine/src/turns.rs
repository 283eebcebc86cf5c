//! From a turn of the workflow to the rows that the store writes for it.

use chrono::{DateTime, Utc};
use sdk::{ChildEnd, Command, EventBody, Failure, History, Inbound, Kin, Message, Parent, Registry, Seq, StoredEvent, replay};

use crate::{ChildRow, ClaimedRun, Close, EventRow, InboxRow, LockRow, ProjectionRow, RunState, TaskRow, TimerRow, Told, TurnWrite, witness::ChildOf};

/// Histories longer than this are not replayed a second time before each commit: it would cost more than it finds.
const SHADOW_LIMIT_EVENTS: usize = 10_000;

/// Messages recorded by one turn, the oldest first; the rest waits for the next. A turn that takes longer to store than a
/// statement may take would be sent again for ever.
const MOST_MESSAGES: usize = 500;

/// A turn, ready to be stored, with what it adds to the cached history once it is.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What to store.
    pub write: TurnWrite,
    /// What the history then has more.
    pub adds: Vec<StoredEvent>,
}

/// Makes the turn of one run: synchronous, for a plain thread.
#[must_use]
pub fn prepare(registry: &Registry, history: &History, claimed: &ClaimedRun, inbox: &[InboxRow], stamp: replay::Stamp) -> Prepared {
    let messages: Vec<Message> = inbox.iter().take(MOST_MESSAGES).map(|row| row.message.clone()).collect();
    let first = replay::turn(registry, history, &messages, stamp);
    let turn = match first {
        Ok(turn) => turn,
        Err(error) => return suspended(claimed, stamp, &Failure::fatal("replay-differs", error.to_string())),
    };
    if history.events.len() <= SHADOW_LIMIT_EVENTS {
        match replay::turn(registry, history, &messages, stamp) {
            Ok(shadow) if shadow == turn => {}
            Ok(_) => {
                let failure = Failure::fatal("not-deterministic", "two replays of the same history gave different commands");
                return suspended(claimed, stamp, &failure);
            }
            Err(error) => return suspended(claimed, stamp, &Failure::fatal("not-deterministic", error.to_string())),
        }
    }
    let origin = Origin::of(history, inbox);
    let mut write = empty(claimed, stamp);
    write.child_of.clone_from(&origin.child_of);
    write.consumed = turn.consumed;
    for stored in &turn.events {
        add(&mut write, stored, &origin, inbox);
    }
    Prepared { write, adds: turn.events }
}

/// The turn that sets a run aside, visible, without touching its history or its messages.
#[must_use]
pub fn suspended(claimed: &ClaimedRun, stamp: replay::Stamp, why: &Failure) -> Prepared {
    let mut write = empty(claimed, stamp);
    write.close = Some(Close { state: RunState::Suspended, problem: Some(why.clone()), end: None });
    Prepared { write, adds: Vec::new() }
}

fn empty(claimed: &ClaimedRun, stamp: replay::Stamp) -> TurnWrite {
    TurnWrite::empty(claimed.run, claimed.epoch, stamp.turn)
}

/// What a run hands on to those whom it asks for something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Who asked for it.
    pub(crate) requested_by: String,
    /// W3C trace parent of the request that started it.
    pub(crate) trace: Option<String>,
    /// Whose child it is.
    pub(crate) child_of: Option<ChildOf>,
}

impl Origin {
    pub(crate) fn of(history: &History, inbox: &[InboxRow]) -> Self {
        let begun = history.events.first().map(|first| &first.event.body);
        let child_of = |parent: &Option<Parent>, about: &String| parent.map(|parent| ChildOf { parent: parent.run, about: about.clone() });
        if let Some(EventBody::Inbound(Inbound::RunStarted { trace, requested_by, parent, workflow_id, .. })) = begun {
            return Self { requested_by: requested_by.clone(), trace: trace.clone(), child_of: child_of(parent, workflow_id) };
        }
        let start = inbox.iter().find_map(|row| {
            let Message::Start { trace, requested_by, parent, workflow_id, .. } = &row.message else { return None };
            Some(Self { requested_by: requested_by.clone(), trace: trace.clone(), child_of: child_of(parent, workflow_id) })
        });
        start.unwrap_or_default()
    }
}

fn add(write: &mut TurnWrite, stored: &StoredEvent, origin: &Origin, inbox: &[InboxRow]) {
    let event = &stored.event;
    write.events.push(EventRow {
        seq: event.seq,
        kind: event.body.kind(),
        msg_key: event.msg_key.clone(),
        bytes: stored.bytes.clone(),
        hash: stored.hash,
    });
    if let EventBody::Command(command) = &event.body {
        want(write, event.seq, command, origin, inbox);
    }
}

fn want(write: &mut TurnWrite, seq: Seq, command: &Command, origin: &Origin, inbox: &[InboxRow]) {
    match command {
        Command::ActivityScheduled { activity, queue, input, options, effect, scope, grant, .. } => write.tasks.push(TaskRow {
            seq,
            queue: queue.clone(),
            activity: activity.clone(),
            input: input.clone(),
            options: *options,
            effect: *effect,
            scope: *scope,
            grant: grant.clone(),
            trace: origin.trace.clone(),
        }),
        Command::ActivityCancelRequested { of } => write.cancel_tasks.push(*of),
        Command::TimerStarted { due_at, .. } => write.timers.push(TimerRow { seq, due_at: *due_at }),
        Command::TimerCancelled { of } => drop_timer(write, *of, inbox),
        Command::LocksRequested { resources } => write.locks.push(LockRow { seq, resources: resources.clone() }),
        Command::LocksReleased { of } => write.release_locks.push(*of),
        Command::Recorded { projection, fact } => {
            write.projections.push(ProjectionRow { projection: projection.clone(), fact: fact.clone(), seq });
        }
        Command::ChildRequested { child, workflow, workflow_id, input, close } => {
            let start = Message::Start {
                workflow: workflow.clone(),
                input: input.clone(),
                workflow_id: workflow_id.clone(),
                requested_by: origin.requested_by.clone(),
                trace: origin.trace.clone(),
                parent: Some(Parent { run: write.run, seq }),
            };
            write.children.push(ChildRow { seq, child: *child, close: *close, start });
        }
        Command::ChildCancelRequested { of, reason } => {
            let cancel = Message::Cancel { by: format!("run {}", write.run), reason: reason.clone() };
            write.told.push(Told { to: Kin::Child { of: *of }, message: cancel });
        }
        Command::SignalSent { to, name, body } => {
            let (key, by) = (format!("{}:{seq}", write.run), format!("run {}", write.run));
            write.told.push(Told { to: *to, message: Message::Signal { name: name.clone(), key, body: body.clone(), by } });
        }
        Command::PointOfNoReturn { .. } | Command::CancelRefused { .. } => {}
        Command::RunCompleted { output } => {
            write.close = Some(Close { state: RunState::Completed, problem: None, end: Some(ChildEnd::Completed { output: output.clone() }) });
        }
        Command::RunFailed { failure } => {
            let end = Some(ChildEnd::Failed { failure: failure.clone() });
            write.close = Some(Close { state: RunState::Failed, problem: Some(failure.clone()), end });
        }
        Command::RunCancelled { failure } => {
            let end = Some(ChildEnd::Cancelled { failure: failure.clone() });
            write.close = Some(Close { state: RunState::Cancelled, problem: Some(failure.clone()), end });
        }
    }
}

/// What all commands of a history ask for, as if one turn had.
pub(crate) fn wanted(history: &History) -> TurnWrite {
    let epoch = history.events.last().map_or(0, |last| last.event.run_epoch);
    let claimed = ClaimedRun { run: history.run, epoch };
    let nobody = sdk::Lease { worker: sdk::WorkerId(uuid::Uuid::nil()), epoch: 0 };
    let mut write = empty(&claimed, stamp(DateTime::UNIX_EPOCH, nobody, &claimed, uuid::Uuid::nil()));
    let origin = Origin::of(history, &[]);
    for stored in &history.events {
        add(&mut write, stored, &origin, &[]);
    }
    write
}

/// A timer that was begun in this very turn is not written at all; one that has fired is a message and no row any more.
fn drop_timer(write: &mut TurnWrite, of: Seq, inbox: &[InboxRow]) {
    let begun_here = write.timers.iter().position(|timer| timer.seq == of);
    if let Some(place) = begun_here {
        write.timers.remove(place);
        return;
    }
    let fired = Message::TimerDue { of }.key();
    if !inbox.iter().any(|row| row.key == fired) {
        write.drop_timers.push(of);
    }
}

/// Marks when a turn is made.
#[must_use]
pub fn stamp(at: DateTime<Utc>, lease: sdk::Lease, claimed: &ClaimedRun, turn: uuid::Uuid) -> replay::Stamp {
    replay::Stamp { at, worker: lease.worker, lease_epoch: lease.epoch, run_epoch: claimed.epoch, turn }
}
