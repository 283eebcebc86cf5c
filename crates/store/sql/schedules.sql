-- Schedules by name.
-- $1 name or null for all. Rows: the schedule's columns, open_run. Index: schedules_pkey, runs_one_open. Locks: none.
select name, version, spec, next_at, due_at, created_by, created_at, paused_at, paused_by, pause_reason, resumed_at, open_run
from engine.schedules_seen
where $1::text is null or name = $1
order by name
