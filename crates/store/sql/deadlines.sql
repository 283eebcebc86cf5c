-- What is to begin by itself.
-- $1 workflow id or null for all. Rows: name, due_at, workflow, workflow_id, cause.
-- Index: deadlines_due. Locks: none.
select name, due_at, workflow, workflow_id, cause from recovery.deadlines
where started_run is null and ($1::text is null or workflow_id = $1)
order by due_at, name
