-- Keeps a schedule, unless its name is taken.
-- $1 name, $2 spec json, $3 workflow id, $4 whether it waits boolean, $5 next fire time, $6 when that is due, $7 created by.
-- One row if it is kept: name. Index: schedules_pkey. Locks: the inserted row.
insert into engine.schedules (name, spec, workflow_id, waits, next_at, due_at, created_by, created_at)
values ($1, $2, $3, $4, $5, $6, $7, engine.now())
on conflict do nothing
returning name
