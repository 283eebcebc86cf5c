-- Queues a task again after a delay.
-- $1 run uuid, $2 seq int, $3 attempt int, $4 failure json, $5 delay in seconds float8, $6 in doubt boolean.
-- One row if accepted, none if refused. Index: tasks_pkey. Locks: the task row.
update engine.tasks
set state = 'queued', worker_id = null, lease_epoch = null, attempt_deadline = null, heartbeat_at = null,
    not_before = engine.now() + make_interval(secs => $5), in_doubt = in_doubt or $6, problem = $4
where run_id = $1 and seq = $2 and attempt = $3 and state <> 'dead'
returning seq
