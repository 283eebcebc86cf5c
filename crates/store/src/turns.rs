//! A batch of turns as the parameters of one function call.
//!
//! Invariants: 1. Whatever the caller hands in arrives in that one call; an absent list is left out rather than sent empty.
//! 2. U+0000, which Postgres keeps in no text, arrives as U+FFFD in the rows beside the events; the events have it as it was.

use engine::{ChildRow, CommitError, RunState, TaskRow, TurnWrite, witness::heads};
use sdk::{Kin, Lease, Message};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    PgStore,
    error::commit_error,
    pg::{Params, replace_nul, word},
    sql,
};

/// Events and consumed messages as parallel arrays: the part that grows with throughput.
#[derive(Default)]
struct Columns<'a> {
    runs: Vec<Uuid>,
    seqs: Vec<i32>,
    kinds: Vec<&'a str>,
    bodies: Vec<&'a [u8]>,
    keys: Vec<Option<&'a str>>,
    turns: Vec<Uuid>,
    hashes: Vec<&'a [u8]>,
    consumed_runs: Vec<Uuid>,
    consumed_keys: Vec<&'a str>,
}

impl PgStore {
    pub(crate) async fn write_turns(&self, lease: Lease, written: &[TurnWrite]) -> Result<(), CommitError> {
        let (query, asked) = (&sql::COMMIT_TURNS, self.asked());
        let with_events = written.iter().any(|turn| turn.close.is_some() && !turn.events.is_empty());
        let events = columns(written);
        let mut rest = rest(written);
        replace_nul(&mut rest);
        let Columns { runs, seqs, kinds, bodies, keys, turns, hashes, consumed_runs, consumed_keys } = events;
        let (worker, epoch) = (lease.worker.0, lease.epoch);
        let params: Params<'_> =
            &[&worker, &epoch, &runs, &seqs, &kinds, &bodies, &keys, &turns, &hashes, &consumed_runs, &consumed_keys, &rest];
        self.rows(query, params).await.map_err(|lost| commit_error(query.attempted, lease, with_events, lost))?;
        self.noted(asked, query.attempted, || heads(written)).await.map_err(CommitError::Store)
    }
}

fn columns(turns: &[TurnWrite]) -> Columns<'_> {
    let mut columns = Columns::default();
    for turn in turns {
        for event in &turn.events {
            columns.runs.push(turn.run.0);
            columns.seqs.push(event.seq.0);
            columns.kinds.push(event.kind);
            columns.bodies.push(&event.bytes);
            columns.keys.push(event.msg_key.as_deref());
            columns.turns.push(turn.turn);
            columns.hashes.push(&event.hash.0);
        }
        for key in &turn.consumed {
            columns.consumed_runs.push(turn.run.0);
            columns.consumed_keys.push(key);
        }
    }
    columns
}

fn rest(turns: &[TurnWrite]) -> Value {
    let mut lists = Map::new();
    let mut add = |name: &str, rows: Vec<Value>| {
        if let (false, Value::Array(list)) = (rows.is_empty(), lists.entry(name).or_insert_with(|| json!([]))) {
            list.extend(rows);
        }
    };
    for turn in turns {
        let run = turn.run.0;
        let closed = |close: &engine::Close| json!({"run": run, "state": state_word(&close.state), "problem": close.problem, "result": close.end});
        add("close", turn.close.iter().map(closed).collect());
        add("children", turn.children.iter().map(|child| child_row(run, child)).collect());
        add("told", turn.told.iter().map(|told| told_row(run, told)).collect());
        add("tasks", turn.tasks.iter().map(|task| task_row(run, turn.run_epoch, task)).collect());
        add("cancel_tasks", turn.cancel_tasks.iter().map(|seq| json!({"run": run, "seq": seq})).collect());
        add("timers", turn.timers.iter().map(|timer| json!({"run": run, "seq": timer.seq, "due_at": timer.due_at})).collect());
        add("drop_timers", turn.drop_timers.iter().map(|seq| json!({"run": run, "seq": seq})).collect());
        add("locks", turn.locks.iter().map(|lock| json!({"run": run, "seq": lock.seq, "resources": lock.resources})).collect());
        add("release_locks", turn.release_locks.iter().map(|seq| json!({"run": run, "seq": seq})).collect());
        let projected = |row: &engine::ProjectionRow| json!({"projection": row.projection, "run": run, "seq": row.seq, "fact": row.fact});
        add("projections", turn.projections.iter().map(projected).collect());
    }
    lists.retain(|_, list| list.as_array().is_some_and(|rows| !rows.is_empty()));
    Value::Object(lists)
}

fn task_row(run: Uuid, run_epoch: i64, task: &TaskRow) -> Value {
    let limits = task.options.timeouts;
    json!({
        "run": run,
        "seq": task.seq,
        "queue": task.queue,
        "activity": task.activity,
        "input": task.input,
        "options": task.options,
        "effect": word(&task.effect),
        "scope": word(&task.scope),
        "lock_grant": task.grant,
        "trace": task.trace,
        "run_epoch": run_epoch,
        "max_attempts": task.options.retry.max_attempts,
        "start_to_close_ms": limits.start_to_close_ms,
        "heartbeat_ms": limits.heartbeat_ms,
        "queue_ms": limits.queue_ms,
        "total_ms": limits.total_ms,
    })
}

/// `of` is null for the parent.
fn told_row(run: Uuid, told: &engine::Told) -> Value {
    let of = match told.to {
        Kin::Parent => None,
        Kin::Child { of } => Some(of),
    };
    json!({"run": run, "of": of, "key": told.message.key(), "body": told.message})
}

fn child_row(run: Uuid, row: &ChildRow) -> Value {
    // The table refuses a row of nulls: what is no start does not come from the engine.
    let Message::Start { workflow, workflow_id, requested_by, trace, .. } = &row.start else { return json!({"run": run}) };
    json!({
        "run": run,
        "seq": row.seq,
        "child": row.child,
        "on_parent_close": word(&row.close),
        "workflow": workflow,
        "workflow_id": workflow_id,
        "requested_by": requested_by,
        "trace": trace,
        "body": row.start,
    })
}

/// The word of a state in `engine.runs`.
pub(crate) fn state_word(state: &RunState) -> &'static str {
    match state {
        RunState::Open => "open",
        RunState::Suspended => "suspended",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
    }
}
