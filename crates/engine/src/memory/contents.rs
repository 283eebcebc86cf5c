//! All that a store in memory keeps, row by row, in the words in which tests read it out of Postgres: so that two stores can be compared.

use chrono::{DateTime, Utc};
use sdk::{Failure, Lease, RunId, Seq};
use serde_json::{Value, json};

use super::{MemoryRun, MemoryStore, MemoryTask, State};

fn at(time: Option<DateTime<Utc>>) -> Option<i64> {
    time.map(|time| time.timestamp_micros())
}

fn lease(lease: Option<Lease>) -> Value {
    lease.map_or(Value::Null, |lease| json!({"worker": lease.worker, "epoch": lease.epoch}))
}

impl MemoryStore {
    /// Its rows, each an object that names its table; times in microseconds since 1970, leases as worker and epoch.
    #[must_use]
    pub fn contents(&self) -> Vec<Value> {
        let state = self.lock();
        let mut rows: Vec<Value> = state.leases.iter().map(|(of, until)| json!({"row": "lease", "lease": lease(Some(*of)), "until": at(Some(*until))})).collect();
        rows.extend(state.runs.iter().flat_map(|(id, run)| of_run(*id, run)));
        rows.extend(state.inbox_rows());
        rows.extend(state.tasks.iter().map(|((run, seq), task)| of_task(*run, *seq, task)));
        rows.extend(state.timers.iter().map(|((run, seq), due)| json!({"row": "timer", "run": run, "seq": seq, "due": at(Some(*due))})));
        rows.extend(state.locks.iter().map(|(name, (epoch, holder))| {
            json!({"row": "lock", "resource": name, "epoch": epoch, "run": holder.map(|(run, _)| run), "seq": holder.map(|(_, seq)| seq)})
        }));
        let requests = (1..).zip(state.lock_requests.values());
        rows.extend(requests.map(|(place, (run, seq, resources))| json!({"row": "lock_request", "place": place, "run": run, "seq": seq, "resources": resources})));
        rows
    }
}

impl State {
    /// By run and in the order of arrival: between two runs there is none.
    fn inbox_rows(&self) -> Vec<Value> {
        let mut last = (None, 0);
        let row = |((run, _), (key, message)): (&(RunId, i64), &(String, sdk::Message))| {
            last = if last.0 == Some(*run) { (last.0, last.1 + 1) } else { (Some(*run), 1) };
            json!({"row": "inbox", "run": run, "place": last.1, "key": key, "body": message})
        };
        self.inbox.iter().map(row).collect()
    }
}

fn of_run(id: RunId, run: &MemoryRun) -> Vec<Value> {
    let mut rows = vec![json!({
        "row": "run",
        "run": id,
        "about": run.workflow_id,
        "workflow": run.workflow,
        "state": run.state,
        "problem": run.failure,
        "owner": lease(run.owner),
        "epoch": run.epoch,
        "closed_at": at(run.closed_at),
        "parent": run.parent.map(|(parent, _)| parent.run),
        "parent_seq": run.parent.map(|(parent, _)| parent.seq),
        "close": run.parent.map(|(_, close)| close),
    })];
    let events = (0..).zip(&run.events);
    rows.extend(events.map(|(seq, (bytes, hash, writer))| {
        let body = String::from_utf8_lossy(bytes);
        json!({"row": "event", "run": id, "seq": seq, "body": body, "hash": hash.0.to_vec(), "lease": lease(Some(writer.lease)), "turn": writer.turn})
    }));
    rows.extend(run.msg_keys.iter().map(|key| json!({"row": "message_of_event", "run": id, "key": key})));
    rows
}

fn of_task(run: RunId, seq: Seq, task: &MemoryTask) -> Value {
    let problem: Option<&Failure> = task.dead.as_ref().or(task.last_failure.as_ref());
    let state = match (&task.dead, task.holder) {
        (Some(_), _) => "dead",
        (None, Some(_)) => "claimed",
        (None, None) => "queued",
    };
    json!({
        "row": "task",
        "run": run,
        "seq": seq,
        "queue": task.row.queue,
        "activity": task.row.activity,
        "run_epoch": task.run_epoch,
        "state": state,
        "attempt": task.attempt,
        "holder": lease(task.holder),
        "in_doubt": task.in_doubt,
        "cancel_requested": task.cancel_requested,
        "not_before": at(Some(task.not_before)),
        "queue_deadline": at(task.queue_deadline),
        "total_deadline": at(task.total_deadline),
        "attempt_deadline": at(task.attempt_deadline),
        "beat_deadline": at(task.beat_deadline),
        "detail": task.detail,
        "problem": problem,
    })
}
