-- Claims tasks of some queues; the only place where an attempt grows. Fences first.
-- $1 worker uuid, $2 epoch bigint, $3 queues text[], $4 limit int. Rows: the task, its attempt and doubt, the era.
-- Index: tasks_in_order, leases_pkey. Locks: own lease shared, then the head of each queue, skipping locked ones.
select t.run_id, t.seq, t.queue, t.activity, t.input, t.options, t.effect, t.scope, t.lock_grant, t.trace, t.run_epoch,
       t.attempt, t.in_doubt, s.era
from engine.claim_tasks($1, $2, $3, $4) t, engine.store s
