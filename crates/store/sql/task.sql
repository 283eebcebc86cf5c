-- A task as it stands.
-- $1 run uuid, $2 seq int. One row or none: as claim_tasks.
-- Index: tasks_pkey. Locks: none.
select t.run_id, t.seq, t.queue, t.activity, t.input, t.options, t.effect, t.scope, t.lock_grant, t.trace, t.run_epoch,
       t.attempt, t.in_doubt, s.era
from engine.tasks t, engine.store s
where t.run_id = $1 and t.seq = $2
