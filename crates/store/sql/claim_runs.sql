-- Claims open runs whose owner's lease does not exist, or that nobody owns and that have messages. Fences first.
-- $1 worker uuid, $2 epoch bigint, $3 limit int. Rows: run_id, epoch.
-- Index: runs_open, inbox_pkey, leases_pkey. Locks: own lease shared, then the runs by id, skipping locked ones.
select run_id, epoch from engine.claim_runs($1, $2, $3)
