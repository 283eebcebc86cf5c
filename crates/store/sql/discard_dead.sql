-- Ends a dead letter as failed and tells its run, in one statement.
-- $1 run uuid, $2 seq int, $3 message key, $4 message json. One row if it was dead, none else.
-- Index: tasks_pkey, inbox_pkey. Locks: the task row.
with ended as (
    delete from engine.tasks where run_id = $1 and seq = $2 and state = 'dead' returning run_id
)
insert into engine.inbox (run_id, msg_key, body) select run_id, $3, $4 from ended
returning id
