-- Notes a sign of life of an attempt, with its progress if it has any to tell.
-- $1 run uuid, $2 seq int, $3 attempt int, $4 detail json or null. One row: cancel_requested; none: the attempt is not ours any more.
-- Index: tasks_pkey. Locks: the task row.
update engine.tasks set heartbeat_at = engine.now(), heartbeat_detail = coalesce($4, heartbeat_detail)
where run_id = $1 and seq = $2 and attempt = $3 and state <> 'dead'
returning cancel_requested
