-- Builds, the newest first, with how many workers are each and how many open runs each has claimed last.
-- No parameters. Rows: build, known_at, workers, open_runs.
-- Index: builds_pkey, runs_open. Locks: none.
select b.build, b.known_at,
       (select count(*) from engine.leases l where l.build = b.build) as workers,
       (select count(*) from engine.runs r where r.state in ('open', 'suspended') and r.build = b.build) as open_runs
from engine.builds b order by b.ordinal desc
