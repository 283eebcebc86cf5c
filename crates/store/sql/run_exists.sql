-- Whether a run is known.
-- $1 run uuid. One row: true or false.
-- Index: runs_pkey. Locks: none.
select exists (select from engine.runs where run_id = $1)
