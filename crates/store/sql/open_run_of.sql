-- The open run about something.
-- $1 workflow id. At most one row: run_id, workflow.
-- Index: runs_one_open. Locks: none.
select run_id, workflow from engine.runs where workflow_id = $1 and state in ('open', 'suspended')
