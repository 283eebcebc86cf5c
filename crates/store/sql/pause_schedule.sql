-- Begins a pause, unless one holds. The new version makes firings that were planned before it stale.
-- $1 name, $2 by, $3 reason. One row if it begins: name. Index: schedules_pkey. Locks: the schedule.
update engine.schedules
set paused_at = engine.now(), paused_by = $2, pause_reason = $3, resumed_at = null, version = nextval('engine.schedule_versions')
where name = $1 and (paused_at is null or resumed_at is not null)
returning name
