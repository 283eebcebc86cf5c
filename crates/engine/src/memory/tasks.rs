//! The job queue of the store in memory.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sdk::{Failure, Lease, Message, Outcome, RunId, Scope, Seq, TaskQueue, TimeoutKind, Token};
use serde_json::Value;

use super::{MemoryStore, MemoryTask, State};
use crate::{ClaimedTask, Reported, StoreError, TaskPulse, TaskRow, TaskStore};

#[async_trait]
impl TaskStore for MemoryStore {
    async fn claim_tasks(&self, lease: Lease, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError> {
        self.atomic("claim_tasks", |s| s.claim_tasks(lease, queues, limit)).await
    }
    async fn complete_task(&self, run: RunId, seq: Seq, attempt: i32, outcome: &Outcome) -> Result<Reported, StoreError> {
        self.atomic("complete_task", |s| s.known_server("complete_task").map(|()| s.complete(run, seq, attempt, outcome.clone()))).await
    }
    async fn retry_task(&self, run: RunId, seq: Seq, attempt: i32, failure: &Failure, delay: Duration, in_doubt: bool) -> Result<Reported, StoreError> {
        self.atomic("retry_task", |s| {
            s.known_server("retry_task")?;
            let not_before = s.now + delay;
            Ok(s.change(run, seq, attempt, |task| {
                task.holder = None;
                task.not_before = not_before;
                task.attempt_deadline = None;
                task.beat_deadline = None;
                task.in_doubt |= in_doubt;
                task.last_failure = Some(failure.clone());
            }))
        })
        .await
    }
    async fn bury_task(&self, run: RunId, seq: Seq, attempt: i32, problem: &Failure) -> Result<Reported, StoreError> {
        self.atomic("bury_task", |s| {
            s.known_server("bury_task")?;
            Ok(s.change(run, seq, attempt, |task| {
                task.holder = None;
                task.attempt_deadline = None;
                task.beat_deadline = None;
                task.dead = Some(problem.clone());
            }))
        })
        .await
    }
    async fn pulse_task(&self, run: RunId, seq: Seq, attempt: i32, detail: Option<&Value>) -> Result<TaskPulse, StoreError> {
        self.atomic("pulse_task", |s| {
            s.known_server("pulse_task")?;
            let now = s.now;
            let mut cancel = false;
            let answer = s.change(run, seq, attempt, |task| {
                cancel = task.cancel_requested;
                task.last_sign = now;
                task.beat_deadline = task.row.options.timeouts.heartbeat_ms.map(|ms| now + Duration::from_millis(ms));
                if detail.is_some() {
                    task.detail = detail.cloned();
                }
            });
            Ok(match (answer, cancel) {
                (Reported::Refused, _) => TaskPulse::Gone,
                (Reported::Accepted, true) => TaskPulse::CancelRequested,
                (Reported::Accepted, false) => TaskPulse::Alive,
            })
        })
        .await
    }
    async fn task(&self, run: RunId, seq: Seq) -> Result<Option<ClaimedTask>, StoreError> {
        self.atomic("task", |s| Ok(s.tasks.get(&(run, seq)).map(|task| s.claimed(run, task)))).await
    }
}

/// For those who carry out tasks in the place of everybody.
impl MemoryStore {
    /// Tasks that could be claimed now, whatever their queue.
    #[must_use]
    pub fn claimable(&self) -> Vec<(RunId, TaskRow)> {
        let state = self.lock();
        state.tasks.iter().filter(|((run, _), task)| state.claimable(*run, task)).map(|((run, _), task)| (*run, task.row.clone())).collect()
    }

    /// Claims one task, if it can be claimed.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    pub fn claim(&self, lease: Lease, run: RunId, seq: Seq) -> Result<Option<ClaimedTask>, StoreError> {
        let mut state = self.lock();
        let can = state.tasks.get(&(run, seq)).is_some_and(|task| state.claimable(run, task));
        if can { Ok(state.claim(lease, vec![(run, seq)])?.pop()) } else { Ok(None) }
    }
}

impl State {
    pub(super) fn queue(&mut self, run: RunId, run_epoch: i64, row: &TaskRow, now: DateTime<Utc>) {
        let in_ms = |ms: Option<u64>| ms.map(|ms| now + Duration::from_millis(ms));
        let task = MemoryTask {
            row: row.clone(),
            run_epoch,
            attempt: 0,
            holder: None,
            in_doubt: false,
            dead: None,
            last_failure: None,
            cancel_requested: false,
            not_before: now,
            last_sign: now,
            queue_deadline: in_ms(row.options.timeouts.queue_ms),
            total_deadline: in_ms(row.options.timeouts.total_ms),
            attempt_deadline: None,
            beat_deadline: None,
            detail: None,
        };
        self.tasks.insert((run, row.seq), task);
    }

    fn claim_tasks(&mut self, lease: Lease, queues: &[TaskQueue], limit: u32) -> Result<Vec<ClaimedTask>, StoreError> {
        let ours = |run: RunId, task: &MemoryTask| queues.contains(&task.row.queue) && self.claimable(run, task);
        let mut wanted: Vec<(DateTime<Utc>, (RunId, Seq))> = self.tasks.iter().filter(|((run, _), task)| ours(*run, task)).map(|(k, task)| (task.not_before, *k)).collect();
        wanted.sort_unstable();
        wanted.truncate(limit as usize);
        self.claim(lease, wanted.into_iter().map(|(_, key)| key).collect())
    }

    fn claim(&mut self, lease: Lease, wanted: Vec<(RunId, Seq)>) -> Result<Vec<ClaimedTask>, StoreError> {
        self.fence(lease)?;
        let now = self.now;
        let mut claimed = Vec::new();
        for key in wanted {
            self.changes += 1;
            if let Some(task) = self.tasks.get_mut(&key) {
                task.in_doubt |= task.holder.is_some();
                task.attempt += 1;
                task.holder = Some(lease);
                task.last_sign = now;
                task.detail = None;
                let limits = task.row.options.timeouts;
                task.attempt_deadline = Some(now + Duration::from_millis(limits.start_to_close_ms));
                task.beat_deadline = limits.heartbeat_ms.map(|ms| now + Duration::from_millis(ms));
            }
            claimed.extend(self.tasks.get(&key).map(|task| self.claimed(key.0, task)));
        }
        Ok(claimed)
    }

    fn claimable(&self, run: RunId, task: &MemoryTask) -> bool {
        let free = match task.holder {
            None => task.not_before <= self.now && (!task.cancel_requested || task.in_doubt),
            Some(holder) => !self.leases.contains_key(&holder) || self.overdue(task),
        };
        free && !self.is_held(run) && task.dead.is_none() && task.attempt < task.row.options.retry.max_attempts
    }

    fn overdue(&self, task: &MemoryTask) -> bool {
        [task.attempt_deadline, task.beat_deadline].iter().flatten().any(|at| *at < self.now)
    }

    fn claimed(&self, run: RunId, task: &MemoryTask) -> ClaimedTask {
        let token = Token {
            era: task.row.grant.as_ref().map_or(self.era, |grant| grant.era),
            grant_epoch: task.row.grant.as_ref().map_or(0, |grant| grant.epoch),
            seq: task.row.seq,
            run_epoch: task.run_epoch,
            attempt: task.attempt,
        };
        ClaimedTask { run, task: task.row.clone(), token, in_doubt: task.in_doubt }
    }

    fn complete(&mut self, run: RunId, seq: Seq, attempt: i32, outcome: Outcome) -> Reported {
        let key = (run, seq);
        if self.tasks.get(&key).is_none_or(|task| task.attempt != attempt) {
            return Reported::Refused;
        }
        self.tasks.remove(&key);
        self.post(run, Message::Finished { of: seq, outcome });
        Reported::Accepted
    }

    fn change(&mut self, run: RunId, seq: Seq, attempt: i32, change: impl FnOnce(&mut MemoryTask)) -> Reported {
        match self.tasks.get_mut(&(run, seq)).filter(|task| task.attempt == attempt && task.dead.is_none()) {
            Some(task) => {
                change(task);
                self.changes += 1;
                Reported::Accepted
            }
            None => Reported::Refused,
        }
    }

    pub(super) fn expire_tasks(&mut self, limit: u32) -> u32 {
        let ends = |(key, task): (&(RunId, Seq), &MemoryTask)| self.end_of(task).map(|outcome| (*key, task.attempt, outcome));
        let ended: Vec<_> = self.tasks.iter().filter_map(ends).take(limit as usize).collect();
        for ((run, seq), attempt, outcome) in &ended {
            self.complete(*run, *seq, *attempt, outcome.clone());
        }
        u32::try_from(ended.len()).unwrap_or(u32::MAX)
    }

    /// How a task ends without anybody's report, if it does.
    fn end_of(&self, task: &MemoryTask) -> Option<Outcome> {
        let attempts = task.attempt;
        if task.holder.is_none() && task.cancel_requested && !task.in_doubt {
            return Some(Outcome::Cancelled);
        }
        let lost = task.holder.is_some_and(|holder| !self.leases.contains_key(&holder));
        let nobody_has_it = task.dead.is_none() && (task.holder.is_none() || lost || self.overdue(task));
        if task.cancel_requested && task.row.scope == Scope::Read && nobody_has_it {
            return Some(Outcome::Cancelled);
        }
        if task.attempt == 0 && task.dead.is_none() && task.queue_deadline.is_some_and(|at| at < self.now) {
            return Some(Outcome::TimedOut { kind: TimeoutKind::Queue, attempts });
        }
        if task.total_deadline.is_some_and(|at| at < self.now) {
            return Some(Outcome::TimedOut { kind: TimeoutKind::Total, attempts });
        }
        if task.holder.is_some() && attempts >= task.row.options.retry.max_attempts && (lost || self.overdue(task)) {
            let silent = task.beat_deadline.is_some_and(|at| at < self.now);
            let kind = if silent { TimeoutKind::Heartbeat } else { TimeoutKind::StartToClose };
            return Some(Outcome::TimedOut { kind, attempts });
        }
        if nobody_has_it && task.abandoned_at().is_some_and(|at| at < self.now) {
            return Some(Outcome::TimedOut { kind: TimeoutKind::Heartbeat, attempts });
        }
        None
    }
}
