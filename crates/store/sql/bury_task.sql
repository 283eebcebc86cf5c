-- Sets a task aside, visible, because nobody can run it.
-- $1 run uuid, $2 seq int, $3 attempt int, $4 failure json. One row if accepted, none if refused.
-- Index: tasks_pkey. Locks: the task row.
update engine.tasks
set state = 'dead', worker_id = null, lease_epoch = null, attempt_deadline = null, heartbeat_at = null, problem = $4
where run_id = $1 and seq = $2 and attempt = $3 and state <> 'dead'
returning seq
