-- What a lease owns, once every claim and release under it has ended: waits for those that had no answer. Fences first.
-- $1 worker uuid, $2 epoch bigint. Rows: run_id, epoch.
-- Index: runs_open. Locks: own lease, against all writes under it.
select run_id, epoch from engine.owned_runs($1, $2)
