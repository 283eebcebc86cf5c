-- Forgets a schedule, not what it fired.
-- $1 name. One row if there was one: name. Index: schedules_pkey. Locks: the schedule.
delete from engine.schedules where name = $1 returning name
