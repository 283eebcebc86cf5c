-- Which life of the store this is, and whether its server is known.
-- No parameters. One row: era, system_identifier, timeline, started_at (of the server that runs), known, known_at, asked_since or null.
-- Index: none; one row. Locks: none.
select era, system_identifier, timeline, pg_postmaster_start_time() as started_at, started_at = pg_postmaster_start_time() as known, known_at,
       case when started_at = pg_postmaster_start_time() then null else asked_since end as asked_since
from engine.store
