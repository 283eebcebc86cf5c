-- One firing, whole or not at all; see the function.
-- $1 name, $2 version bigint or null, $3 next fire time as it was read, $4 the one from now on, $5 when that is due, $6 missed
-- times json, $7 start json or null. One row: fired, run.
-- Index: schedules_pkey, firings_pkey, runs_one_open. Locks: the schedule, then the inserted run.
select fired, run from engine.fire($1, $2, $3, $4, $5, $6, $7)
