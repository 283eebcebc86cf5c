-- Queues a dead letter again, with one more attempt if none is left, and without a total limit that is over.
-- $1 run uuid, $2 seq int. One row if it was dead, none else.
-- Index: tasks_pkey. Locks: the task row.
update engine.tasks
set state = 'queued', not_before = engine.now(), max_attempts = greatest(max_attempts, attempt + 1),
    total_deadline = case when total_deadline > engine.now() then total_deadline end
where run_id = $1 and seq = $2 and state = 'dead'
returning seq
