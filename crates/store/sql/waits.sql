-- What else a run waits for: timers, and locks with who holds them.
-- $1 run uuid. Rows: what (timer | lock | message), seq, due_at, resource, holder.
-- Index: timers_pkey, lock_requests_run_id_seq_key, inbox_pkey. Locks: none.
select 'timer' as what, t.seq, t.due_at, null::text as resource, null::uuid as holder
from engine.timers t where t.run_id = $1
union all
select 'lock', q.seq, null, n.resource, l.holder_run
from engine.lock_requests q cross join unnest(q.resources) as n (resource)
left join engine.locks l on l.resource = n.resource
where q.run_id = $1
union all
select 'message', null, null, i.msg_key, null
from engine.inbox i where i.run_id = $1
order by 1, 2
