-- All runs in the order in which they began, for a check of everything.
-- No parameters. Rows: run_id.
-- Index: none. Locks: none.
select run_id from engine.runs order by started_at, run_id
