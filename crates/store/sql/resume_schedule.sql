-- Ends the pause that holds; it is kept, so that times that came in it are missed because of it.
-- $1 name. One row if one held: name. Index: schedules_pkey. Locks: the schedule.
update engine.schedules set resumed_at = engine.now(), version = nextval('engine.schedule_versions')
where name = $1 and paused_at is not null and resumed_at is null
returning name
