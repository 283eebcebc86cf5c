-- Accepts a result if its task row is there with its attempt, whatever became of lease and deadline meanwhile; deletes the task
-- and tells the run, in one statement.
-- $1 run uuid, $2 seq int, $3 attempt int, $4 message key, $5 message json. One row if accepted, none if refused.
-- Index: tasks_pkey, inbox_pkey. Locks: the task row.
with ended as (
    delete from engine.tasks where run_id = $1 and seq = $2 and attempt = $3 returning run_id
)
insert into engine.inbox (run_id, msg_key, body) select run_id, $4, $5 from ended
returning id
