-- Forgets a deadline that has not been fired.
-- $1 name. No rows.
-- Index: deadlines_pkey. Locks: the row.
delete from recovery.deadlines where name = $1 and started_run is null
