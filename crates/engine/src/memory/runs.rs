//! Runs, histories, inboxes, timers and locks of the store in memory.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sdk::{Grant, History, Lease, Message, RunId, Seq};

use super::{MemoryRun, MemoryStore, State, lost};
use crate::{
    ClaimedRun, CommitError, InboxRow, RunState, RunStore, Sent, StartRun, Started, StoreError, Sweeps, TurnWrite, Writer,
    witness::{MessageNote, Note, RunNote, heads},
};

#[async_trait]
impl RunStore for MemoryStore {
    async fn start_run(&self, start: StartRun) -> Result<Started, StoreError> {
        let (asked, noted) = (self.asked(), start.start.clone());
        let run = start.run;
        let started = self.atomic("start_run", |s| s.known_server("start_run").map(|()| s.start_run(start))).await?;
        if matches!(started, Started::New) {
            self.noted(asked, "start_run", || vec![Note::Run(RunNote { run, seq: -1, hash: None, start: Some(noted), child_of: None })])?;
        }
        Ok(started)
    }
    async fn send(&self, run: RunId, message: Message) -> Result<Sent, StoreError> {
        let (asked, body) = (self.asked(), message.clone());
        let sent = self.atomic("send", |s| s.known_server("send").map(|()| s.send(run, message))).await?;
        if matches!(sent, Sent::Accepted) {
            self.noted(asked, "send", || vec![Note::Message(MessageNote { run, key: body.key(), body })])?;
        }
        Ok(sent)
    }
    async fn claim_runs(&self, lease: Lease, limit: u32) -> Result<Vec<ClaimedRun>, StoreError> {
        let doubles = self.faults.doubles();
        self.atomic("claim_runs", |s| s.claim_runs(lease, limit, doubles)).await
    }
    async fn owned_runs(&self, lease: Lease) -> Result<Vec<ClaimedRun>, StoreError> {
        self.atomic("owned_runs", |s| {
            s.land_sent_under(lease);
            s.owned_runs(lease)
        })
        .await
    }
    async fn load_history(&self, run: RunId) -> Result<History, StoreError> {
        self.atomic("load_history", |s| s.load_history(run)).await
    }
    async fn read_inbox(&self, runs: &[RunId]) -> Result<Vec<InboxRow>, StoreError> {
        self.atomic("read_inbox", |s| Ok(s.read_inbox(runs))).await
    }
    async fn commit_turns(&self, lease: Lease, turns: &[TurnWrite]) -> Result<(), CommitError> {
        let (asked, late) = (self.asked(), self.faults.late());
        self.atomic("commit_turns", |s| {
            s.land_writers_of(&turns.iter().map(|turn| turn.run).collect());
            match late {
                Some(after) => {
                    s.leave_in_limbo(lease, turns, s.now + after);
                    Err(lost("commit_turns").into())
                }
                None => s.commit_turns(lease, turns),
            }
        })
        .await?;
        self.noted(asked, "commit_turns", || heads(turns)).map_err(CommitError::Store)
    }
    async fn writer_of(&self, run: RunId, seq: Seq) -> Result<Option<Writer>, StoreError> {
        self.atomic("writer_of", |s| Ok(s.writer_of(run, seq))).await
    }
    async fn writer_of_turn(&self, lease: Lease, turn: &TurnWrite) -> Result<Option<Writer>, StoreError> {
        let Some(first) = turn.events.first() else { return Ok(None) };
        let asked = self.asked();
        let writer = self.writer_of(turn.run, first.seq).await?;
        if writer == Some(Writer { lease, turn: turn.turn }) {
            self.noted(asked, "writer_of", || heads(std::slice::from_ref(turn)))?;
        }
        Ok(writer)
    }
    async fn release_runs(&self, lease: Lease, runs: &[RunId]) -> Result<(), StoreError> {
        self.atomic("release_runs", |s| s.release_runs(lease, runs)).await
    }
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.atomic("now", |s| Ok(s.now)).await
    }
}

#[async_trait]
impl Sweeps for MemoryStore {
    async fn fire_timers(&self, limit: u32) -> Result<u32, StoreError> {
        self.atomic("fire_timers", |s| s.known_server("fire_timers").map(|()| s.fire_timers(limit))).await
    }
    async fn grant_locks(&self, limit: u32) -> Result<u32, StoreError> {
        self.atomic("grant_locks", |s| s.known_server("grant_locks").map(|()| s.grant_locks(limit))).await
    }
    async fn expire_tasks(&self, limit: u32) -> Result<u32, StoreError> {
        self.atomic("expire_tasks", |s| s.known_server("expire_tasks").map(|()| s.expire_tasks(limit))).await
    }
}

impl State {
    pub(super) fn start_run(&mut self, start: StartRun) -> Started {
        let Message::Start { workflow, workflow_id, .. } = &start.start else { return Started::New };
        if self.runs.contains_key(&start.run) {
            return Started::New;
        }
        if let Some(run) = self.open.get(workflow_id) {
            return Started::AlreadyOpen(*run);
        }
        self.open.insert(workflow_id.clone(), start.run);
        let run = MemoryRun {
            workflow_id: workflow_id.clone(),
            workflow: workflow.clone(),
            parent: None,
            owner: None,
            build: None,
            epoch: 0,
            state: RunState::Open,
            failure: None,
            closed_at: None,
            events: Vec::new(),
            msg_keys: std::collections::BTreeSet::new(),
        };
        self.runs.insert(start.run, run);
        self.post(start.run, start.start);
        Started::New
    }

    fn send(&mut self, run: RunId, message: Message) -> Sent {
        match self.runs.get(&run).map(|r| &r.state) {
            None => Sent::NoSuchRun,
            Some(RunState::Open | RunState::Suspended) => {
                self.post(run, message);
                Sent::Accepted
            }
            Some(RunState::Completed | RunState::Failed | RunState::Cancelled) => Sent::Closed,
        }
    }

    fn claim_runs(&mut self, lease: Lease, limit: u32, doubles: bool) -> Result<Vec<ClaimedRun>, StoreError> {
        self.fence(lease)?;
        let build = self.builds_of.get(&lease).cloned();
        let free = |id: &RunId, run: &MemoryRun| {
            run.state == RunState::Open
                && !self.is_held(*id)
                && self.may_carry_on(build.as_deref(), run.build.as_deref())
                && match run.owner {
                    Some(owner) => !self.leases.contains_key(&owner) || doubles && owner != lease,
                    None => self.has_messages(*id),
                }
        };
        // Of those that have not ended: there are many more that have.
        let open = self.open.values().filter_map(|id| Some((id, self.runs.get(id)?)));
        let mut ids: Vec<RunId> = open.filter(|(id, run)| free(id, run)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.truncate(limit as usize);
        let mut claimed = Vec::new();
        for id in ids {
            if let Some(run) = self.runs.get_mut(&id) {
                self.takeovers += u64::from(run.owner.is_some_and(|owner| !self.leases.contains_key(&owner)));
                run.owner = Some(lease);
                run.epoch += 1;
                run.build = build.clone().or(run.build.take());
                self.changes += 1;
                claimed.push(ClaimedRun { run: id, epoch: run.epoch });
            }
        }
        Ok(claimed)
    }

    fn owned_runs(&self, lease: Lease) -> Result<Vec<ClaimedRun>, StoreError> {
        self.fence(lease)?;
        let ours = self.runs.iter().filter(|(_, run)| run.state == RunState::Open && run.owner == Some(lease));
        Ok(ours.map(|(id, run)| ClaimedRun { run: *id, epoch: run.epoch }).collect())
    }

    pub(super) fn load_history(&self, id: RunId) -> Result<History, StoreError> {
        let mut history = History::new(id);
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Refused { attempted: "loading a history", source };
        let run = self.runs.get(&id).ok_or_else(|| refused("no such run".into()))?;
        for (place, (bytes, hash, _)) in run.events.iter().enumerate() {
            let seq = Seq(i32::try_from(place).unwrap_or(i32::MAX));
            history.push_stored(seq, bytes.clone(), *hash).map_err(|e| refused(Box::new(e)))?;
        }
        Ok(history)
    }

    fn read_inbox(&self, runs: &[RunId]) -> Vec<InboxRow> {
        let of = |run: RunId| self.inbox.range((run, 0)..).take_while(move |((of, _), _)| *of == run);
        let mut rows: Vec<InboxRow> =
            runs.iter().copied().flat_map(of).map(|((run, id), (key, message))| InboxRow { id: *id, run: *run, key: key.clone(), message: message.clone() }).collect();
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }

    fn writer_of(&self, run: RunId, seq: Seq) -> Option<Writer> {
        let place = usize::try_from(seq.0).ok()?;
        self.runs.get(&run)?.events.get(place).map(|(_, _, writer)| *writer)
    }

    fn release_runs(&mut self, lease: Lease, runs: &[RunId]) -> Result<(), StoreError> {
        self.fence(lease)?;
        for id in runs {
            if let Some(run) = self.runs.get_mut(id).filter(|run| run.owner == Some(lease)) {
                run.owner = None;
                self.changes += 1;
            }
        }
        Ok(())
    }

    pub(super) fn commit_turns(&mut self, lease: Lease, turns: &[TurnWrite]) -> Result<(), CommitError> {
        self.fence(lease)?;
        for turn in turns {
            self.check(turn)?;
        }
        for turn in turns {
            self.apply(lease, turn);
        }
        // In this order a run may start its own successor in the turn that ends it.
        turns.iter().for_each(|turn| turn.children.iter().for_each(|row| self.start_child(turn.run, row)));
        self.tell_all_kin(turns);
        self.end_all(turns);
        self.changes += 1;
        Ok(())
    }

    /// All that could refuse the turn, before anything is written.
    pub(super) fn check(&self, turn: &TurnWrite) -> Result<(), CommitError> {
        let run = self.runs.get(&turn.run).ok_or_else(|| CommitError::Bad("no such run".into()))?;
        if turn.close.is_some() && !matches!(run.state, RunState::Open | RunState::Suspended) {
            let ended = CommitError::Bad(format!("run {} has ended", turn.run));
            return Err(if turn.events.is_empty() { ended } else { CommitError::Taken });
        }
        for event in &turn.events {
            let place = usize::try_from(event.seq.0).unwrap_or(usize::MAX);
            let again = event.msg_key.as_ref().is_some_and(|key| run.msg_keys.contains(key));
            if place < run.events.len() || again {
                return Err(CommitError::Taken);
            }
        }
        let missing_message = turn.consumed.iter().any(|key| !self.inbox_keys.contains(&(turn.run, key.clone())));
        let missing_timer = turn.drop_timers.iter().any(|seq| !self.timers.contains_key(&(turn.run, *seq)));
        if missing_message || missing_timer { Err(CommitError::Stale) } else { Ok(()) }
    }

    fn apply(&mut self, lease: Lease, turn: &TurnWrite) {
        let now = self.now;
        if let Some(run) = self.runs.get_mut(&turn.run) {
            for event in &turn.events {
                run.events.push((event.bytes.clone(), event.hash, Writer { lease, turn: turn.turn }));
                run.msg_keys.extend(event.msg_key.clone());
            }
            if let Some(close) = &turn.close {
                run.state = close.state.clone();
                run.failure = close.problem.clone();
                run.closed_at = (close.state != RunState::Suspended).then_some(now);
                run.owner = None;
                if close.state != RunState::Suspended {
                    self.open.remove(&run.workflow_id);
                }
            }
        }
        for task in &turn.tasks {
            self.queue(turn.run, turn.run_epoch, task, now);
            self.adopt_effect(turn.run, task);
        }
        for seq in &turn.cancel_tasks {
            if let Some(task) = self.tasks.get_mut(&(turn.run, *seq)) {
                task.cancel_requested = true;
            }
        }
        self.timers.extend(turn.timers.iter().map(|timer| ((turn.run, timer.seq), timer.due_at)));
        for seq in &turn.drop_timers {
            self.timers.remove(&(turn.run, *seq));
        }
        self.consume(turn.run, &turn.consumed);
        for lock in &turn.locks {
            self.lock_requests.insert(self.next_request, (turn.run, lock.seq, lock.resources.clone()));
            self.next_request += 1;
        }
        for seq in &turn.release_locks {
            self.free_locks(turn.run, Some(*seq));
        }
        self.projections.extend(turn.projections.iter().map(|row| (turn.run, row.clone())));
    }

    fn consume(&mut self, run: RunId, keys: &[String]) {
        for key in keys {
            self.inbox_keys.remove(&(run, key.clone()));
        }
        for place in Self::of_run(&self.inbox, run, 0) {
            if self.inbox.get(&place).is_some_and(|(key, _)| keys.contains(key)) {
                self.inbox.remove(&place);
            }
        }
    }

    pub(super) fn clear(&mut self, run: RunId) {
        for place in Self::of_run(&self.tasks, run, Seq(0)) {
            self.tasks.remove(&place);
        }
        for place in Self::of_run(&self.timers, run, Seq(0)) {
            self.timers.remove(&place);
        }
        for place in Self::of_run(&self.inbox, run, 0) {
            if let Some((key, _)) = self.inbox.remove(&place) {
                self.inbox_keys.remove(&(run, key));
            }
        }
        self.free_locks(run, None);
    }

    fn free_locks(&mut self, run: RunId, of: Option<Seq>) {
        let ours = |r: RunId, s: Seq| r == run && of.is_none_or(|of| of == s);
        self.lock_requests.retain(|_, (r, s, _)| !ours(*r, *s));
        for (_, holder) in self.locks.values_mut() {
            if holder.is_some_and(|(r, s)| ours(r, s)) {
                *holder = None;
            }
        }
    }

    fn fire_timers(&mut self, limit: u32) -> u32 {
        let mut due: Vec<(RunId, Seq)> = self.timers.iter().filter(|(_, at)| **at <= self.now).map(|(k, _)| *k).collect();
        due.sort_by_key(|key| (self.timers.get(key).copied(), *key));
        due.truncate(limit as usize);
        for (run, of) in &due {
            self.timers.remove(&(*run, *of));
            self.post(*run, Message::TimerDue { of: *of });
        }
        u32::try_from(due.len()).unwrap_or(u32::MAX)
    }

    fn grant_locks(&mut self, limit: u32) -> u32 {
        let mut granted = 0;
        // As many as are looked at in one go: of those whose resources were free before.
        let free = |resource: &String| self.locks.get(resource).is_none_or(|(_, holder)| holder.is_none());
        let candidates = self.lock_requests.iter().filter(|(_, (_, _, resources))| resources.iter().all(free)).map(|(id, _)| *id);
        for id in candidates.take(limit as usize).collect::<Vec<_>>() {
            let Some((run, seq, resources)) = self.lock_requests.get(&id).cloned() else { continue };
            if resources.iter().any(|r| self.locks.get(r).is_some_and(|(_, holder)| holder.is_some())) {
                continue;
            }
            let grants = resources.iter().map(|resource| {
                let entry = self.locks.entry(resource.clone()).or_insert((0, None));
                *entry = (entry.0 + 1, Some((run, seq)));
                Grant { resource: resource.clone(), epoch: entry.0, era: self.era }
            });
            let grants = grants.collect();
            self.lock_requests.remove(&id);
            self.post(run, Message::Granted { of: seq, grants });
            granted += 1;
        }
        granted
    }
}

/// What tests look at.
impl MemoryStore {
    /// All runs.
    #[must_use]
    pub fn runs(&self) -> Vec<(RunId, MemoryRun)> {
        self.lock().runs.iter().map(|(id, run)| (*id, run.clone())).collect()
    }

    /// How each run stands.
    #[must_use]
    pub fn run_states(&self) -> Vec<(RunId, RunState)> {
        self.lock().runs.iter().map(|(id, run)| (*id, run.state.clone())).collect()
    }

    /// The newest fact of which `read` makes something. It must not use the store.
    pub fn last_fact<T>(&self, read: impl FnMut(&crate::ProjectionRow) -> Option<T>) -> Option<T> {
        let mut read = read;
        self.lock().projections.iter().rev().find_map(|(_, row)| read(row))
    }

    /// Facts recorded by committed turns, in order, but for the first so many.
    #[must_use]
    pub fn projections_from(&self, first: usize) -> Vec<(RunId, crate::ProjectionRow)> {
        self.lock().projections.iter().skip(first).cloned().collect()
    }

    /// Facts recorded by committed turns, in order.
    #[must_use]
    pub fn projections(&self) -> Vec<(RunId, crate::ProjectionRow)> {
        self.lock().projections.clone()
    }

    /// The history of a run, with its chain checked.
    ///
    /// # Errors
    /// If the run does not exist or its chain is broken.
    pub fn history(&self, run: RunId) -> Result<History, StoreError> {
        self.lock().load_history(run)
    }

    /// Rows that should be gone when every run has ended: tasks, timers, messages, held locks.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        let state = self.lock();
        let held = state.locks.values().filter(|(_, holder)| holder.is_some()).count();
        state.tasks.len() + state.timers.len() + state.inbox.len() + state.lock_requests.len() + held
    }

    /// Changes one byte of a stored event, as a tampering hand would.
    pub fn tamper(&self, run: RunId, seq: Seq) {
        let mut state = self.lock();
        let place = usize::try_from(seq.0).unwrap_or(usize::MAX);
        if let Some((bytes, _, _)) = state.runs.get_mut(&run).and_then(|r| r.events.get_mut(place))
            && let Some(digit) = bytes.iter_mut().find(|b| b.is_ascii_digit())
        {
            *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
        }
    }
}

