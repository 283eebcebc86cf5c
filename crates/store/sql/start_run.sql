-- Creates a run and its start message; asking again with the same run id changes nothing.
-- $1 run uuid, $2 workflow, $3 workflow id, $4 requested by, $5 trace or null, $6 start message json.
-- One row: the open run that has the workflow id, or null if ours exists.
-- Index: runs_pkey, runs_one_open. Locks: none beyond the inserted rows.
select engine.start_run($1, $2, $3, $4, $5, $6)
