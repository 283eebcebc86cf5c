-- Gives up runs that only wait. Fences first.
-- $1 worker uuid, $2 epoch bigint, $3 runs uuid[]. No rows.
-- Index: runs_pkey. Locks: own lease shared, then the runs by id.
select engine.release_runs($1, $2, $3)
