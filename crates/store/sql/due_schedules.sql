-- Schedules that are due, the oldest first; not those that wait for an open run, unless they are paused.
-- $1 limit bigint. Rows: the schedule's columns, open_run, free_since, now.
-- Index: schedules_due, runs_one_open, runs_by_workflow_id. Locks: none.
with clock as materialized (
    select engine.now() as at
)
select s.name, s.version, s.spec, s.next_at, s.due_at, s.created_by, s.created_at, s.paused_at, s.paused_by, s.pause_reason,
       s.resumed_at, s.open_run, s.free_since, clock.at as now
from engine.schedules_seen s, clock
where s.due_at <= clock.at
  and not (s.waits and (s.paused_at is null or s.resumed_at is not null) and s.open_run is not null)
order by s.due_at, s.name limit $1
