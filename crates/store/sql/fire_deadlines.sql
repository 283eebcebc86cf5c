-- Starts what is due.
-- One row: how many runs were started.
-- Index: deadlines_due, runs_one_open. Locks: the rows that are due.
select recovery.fire_deadlines() as fired
