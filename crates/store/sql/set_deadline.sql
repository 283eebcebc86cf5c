-- Lets a workflow begin later; a newer one of that name takes its place.
-- $1 name, $2 milliseconds from now, $3 workflow, $4 workflow id, $5 input jsonb, $6 cause, $7 run. No rows.
-- Index: deadlines_pkey. Locks: the row.
insert into recovery.deadlines (name, due_at, workflow, workflow_id, input, cause, set_by)
values ($1, engine.now() + $2::bigint * interval '1 ms', $3, $4, $5, $6, $7)
on conflict (name) do update
set due_at = excluded.due_at, workflow = excluded.workflow, workflow_id = excluded.workflow_id, input = excluded.input,
    cause = excluded.cause, set_by = excluded.set_by, started_run = null
where deadlines.set_by is distinct from excluded.set_by
