-- What a schedule of that name fired or missed, the newest first.
-- $1 name, $2 limit bigint. Rows: fire_at, until, count, kind, cause, run_id, recorded_at. Index: firings_pkey. Locks: none.
select fire_at, until, count, kind, cause, run_id, recorded_at
from engine.firings where schedule = $1
order by fire_at desc limit $2
