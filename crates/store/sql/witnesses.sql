-- Who can say what was committed.
-- No parameters. Rows: kind, name, seen_at, testified boolean (about the server that runs), awaited, silent_at or null.
-- Index: none; the table is small. Locks: none.
select kind, name, seen_at, testified_to is not distinct from pg_postmaster_start_time() as testified, awaited, silent_at
from engine.witnesses order by kind, name, witness
