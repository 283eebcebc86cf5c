//! Runs put into the store in memory as their histories say they were: what they waited for, they wait for again.
//!
//! ```text
//!   histories ─▶ runs, events ─▶ tasks, timers, locks that were asked for ─▶ less what was answered ─▶ what children owe
//! ```
//!
//! Invariants: 1. Nothing is put there but what the histories say: attempts, progress and messages that nobody had recorded are not
//! known. 2. The clock is not moved; it must stand behind the last event.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sdk::{ChildEnd, ClosePolicy, Command, EventBody, Grant, History, Inbound, Lease, Message, Parent, RunId, Seq};

use super::{MemoryRun, MemoryStore, State};
use crate::{RunState, Writer, turns};

impl MemoryStore {
    /// Puts the runs of these histories there, a parent before its children. `granted` are the last grants that others had of locks:
    /// the next ones are newer.
    pub fn restore(&self, histories: &[History], granted: &[Grant]) {
        let mut state = self.lock();
        for grant in granted {
            let lock = state.locks.entry(grant.resource.clone()).or_insert((0, None));
            lock.0 = lock.0.max(grant.epoch);
            state.era = state.era.max(grant.era);
        }
        histories.iter().for_each(|history| state.restore(history));
        histories.iter().for_each(|history| state.restore_children(history));
        histories.iter().for_each(|history| state.restore_words(history));
        state.changes += 1;
    }
}

/// What a history says has been answered.
#[derive(Default)]
struct Answered {
    finished: BTreeSet<Seq>,
    fired: BTreeSet<Seq>,
    granted: BTreeSet<Seq>,
    begun: BTreeSet<Seq>,
    refused: BTreeSet<Seq>,
    closed: BTreeSet<Seq>,
}

impl Answered {
    fn of(history: &History) -> Self {
        let mut answered = Self::default();
        for stored in &history.events {
            let EventBody::Inbound(inbound) = &stored.event.body else { continue };
            match inbound {
                Inbound::ActivityFinished { of, .. } => answered.finished.insert(*of),
                Inbound::TimerFired { of } => answered.fired.insert(*of),
                Inbound::LocksGranted { of, .. } => answered.granted.insert(*of),
                Inbound::ChildStarted { of } => answered.begun.insert(*of),
                Inbound::ChildRefused { of, .. } => answered.refused.insert(*of),
                Inbound::ChildClosed { of, .. } => answered.closed.insert(*of),
                Inbound::RunStarted { .. } | Inbound::SignalReceived { .. } | Inbound::CancelRequested { .. } => false,
            };
        }
        answered
    }
}

impl State {
    fn restore(&mut self, history: &History) {
        let Some(EventBody::Inbound(Inbound::RunStarted { workflow, workflow_id, parent, .. })) = history.events.first().map(|first| &first.event.body)
        else {
            return;
        };
        let writer = |event: &sdk::Event| Writer { lease: Lease { worker: event.worker, epoch: event.lease_epoch }, turn: event.turn };
        let (run_state, failure) = ending(history);
        let ended = run_state != RunState::Open;
        let run = MemoryRun {
            workflow_id: workflow_id.clone(),
            workflow: workflow.clone(),
            parent: parent.map(|parent| (parent, self.close_policy(parent))),
            owner: None,
            build: None,
            epoch: history.events.last().map_or(0, |last| last.event.run_epoch),
            state: run_state,
            failure,
            closed_at: history.events.last().map(|last| last.event.at).filter(|_| ended),
            events: history.events.iter().map(|stored| (stored.bytes.clone(), stored.hash, writer(&stored.event))).collect(),
            msg_keys: history.events.iter().filter_map(|stored| stored.event.msg_key.clone()).collect(),
        };
        if let Some((parent, _)) = run.parent {
            self.children.insert((parent.run, parent.seq), history.run);
        }
        if !ended {
            self.open.insert(run.workflow_id.clone(), history.run);
        }
        self.runs.insert(history.run, run);
        let wanted = turns::wanted(history);
        self.projections.extend(wanted.projections.iter().map(|row| (history.run, row.clone())));
        self.restore_locks(history, ended, &wanted.release_locks);
        if ended {
            return;
        }
        let answered = Answered::of(history);
        for task in wanted.tasks.iter().filter(|task| !answered.finished.contains(&task.seq)) {
            self.queue(history.run, wanted.run_epoch, task, asked_at(history, task.seq));
            if wanted.cancel_tasks.contains(&task.seq)
                && let Some(task) = self.tasks.get_mut(&(history.run, task.seq))
            {
                task.cancel_requested = true;
            }
        }
        let timers = wanted.timers.iter().filter(|timer| !answered.fired.contains(&timer.seq) && !wanted.drop_timers.contains(&timer.seq));
        self.timers.extend(timers.map(|timer| ((history.run, timer.seq), timer.due_at)));
        for lock in wanted.locks.iter().filter(|lock| !answered.granted.contains(&lock.seq) && !wanted.release_locks.contains(&lock.seq)) {
            self.lock_requests.insert(self.next_request, (history.run, lock.seq, lock.resources.clone()));
            self.next_request += 1;
        }
    }

    /// Locks as they were granted; those of an ended run are free, but their epochs are not forgotten.
    fn restore_locks(&mut self, history: &History, ended: bool, released: &[Seq]) {
        for stored in &history.events {
            let EventBody::Inbound(Inbound::LocksGranted { of, grants }) = &stored.event.body else { continue };
            for grant in grants {
                let held = (!ended && !released.contains(of)).then_some((history.run, *of));
                let lock = self.locks.entry(grant.resource.clone()).or_insert((0, None));
                *lock = (lock.0.max(grant.epoch), held.or(lock.1));
                self.era = self.era.max(grant.era);
            }
        }
    }

    fn close_policy(&self, parent: Parent) -> ClosePolicy {
        let asked = self.load_history(parent.run).ok().and_then(|history| {
            history.events.into_iter().find(|stored| stored.event.seq == parent.seq).map(|stored| stored.event.body)
        });
        match asked {
            Some(EventBody::Command(Command::ChildRequested { close, .. })) => close,
            Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => ClosePolicy::Leave,
        }
    }

    /// Starts the children whose histories are not there, and tells their parent what it had not heard yet.
    fn restore_children(&mut self, history: &History) {
        if ending(history).0 != RunState::Open {
            return;
        }
        let (wanted, answered) = (turns::wanted(history), Answered::of(history));
        for row in wanted.children.iter().filter(|row| !answered.refused.contains(&row.seq) && !answered.closed.contains(&row.seq)) {
            let Some(end) = self.runs.get(&row.child).map(|child| child.state.clone()) else {
                self.start_child(history.run, row);
                continue;
            };
            if !answered.begun.contains(&row.seq) {
                self.post(history.run, Message::ChildStarted { of: row.seq });
            }
            if end != RunState::Open
                && let Some(end) = self.child_end(row.child)
            {
                self.post(history.run, Message::ChildClosed { of: row.seq, end });
            }
        }
    }

    /// What relatives were told and had not heard yet.
    fn restore_words(&mut self, history: &History) {
        for told in turns::wanted(history).told {
            let key = told.message.key();
            let Some(relative) = self.kin(history.run, told.to) else { continue };
            let heard = self.runs.get(&relative).is_none_or(|run| run.msg_keys.contains(&key));
            if !heard {
                self.tell(relative, told.message);
            }
        }
    }

    fn child_end(&self, child: RunId) -> Option<ChildEnd> {
        let history = self.load_history(child).ok()?;
        match history.events.last().map(|last| &last.event.body) {
            Some(EventBody::Command(Command::RunCompleted { output })) => Some(ChildEnd::Completed { output: output.clone() }),
            Some(EventBody::Command(Command::RunFailed { failure })) => Some(ChildEnd::Failed { failure: failure.clone() }),
            Some(EventBody::Command(Command::RunCancelled { failure })) => Some(ChildEnd::Cancelled { failure: failure.clone() }),
            Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => None,
        }
    }
}

fn asked_at(history: &History, seq: Seq) -> DateTime<Utc> {
    let asked = history.events.iter().find(|stored| stored.event.seq == seq);
    asked.map_or(DateTime::UNIX_EPOCH, |stored| stored.event.at)
}

fn ending(history: &History) -> (RunState, Option<sdk::Failure>) {
    match history.events.last().map(|last| &last.event.body) {
        Some(EventBody::Command(Command::RunCompleted { .. })) => (RunState::Completed, None),
        Some(EventBody::Command(Command::RunFailed { failure })) => (RunState::Failed, Some(failure.clone())),
        Some(EventBody::Command(Command::RunCancelled { failure })) => (RunState::Cancelled, Some(failure.clone())),
        Some(EventBody::Command(_) | EventBody::Inbound(_)) | None => (RunState::Open, None),
    }
}
