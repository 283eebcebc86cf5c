-- Open tasks as people look at them.
-- $1 run or null, $2 only dead ones boolean, $3 limit bigint. Rows: the task's columns, the holder's agent name.
-- Index: tasks_pkey. Locks: none.
select t.run_id, t.seq, t.queue, t.activity, t.state, t.attempt, t.max_attempts, t.in_doubt, t.worker_id, t.lease_epoch,
       a.name as agent, t.scheduled_at, t.not_before, t.heartbeat_detail, t.problem
from engine.tasks t
left join recovery.agents a on a.worker_id = t.worker_id
where ($1::uuid is null or t.run_id = $1) and (not $2 or t.state = 'dead')
order by t.scheduled_at, t.run_id, t.seq limit $3
