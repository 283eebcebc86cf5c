-- All that the engine keeps, in the words in which the store in memory tells it: for tests that compare the two.
-- No parameters. Rows: row json, an object that names its table.
-- A lock that was never granted is no row: one is there when somebody else was faster, and says nothing.
-- Index: none; the databases of tests are small. Locks: none.
select jsonb_build_object('row', 'lease', 'lease', jsonb_build_object('worker', worker_id, 'epoch', epoch),
           'until', (extract(epoch from expires_at) * 1000000)::bigint) as row
from engine.leases
union all
select jsonb_build_object('row', 'run', 'run', run_id, 'about', workflow_id, 'workflow', workflow, 'state', state, 'problem', problem,
           'owner', case when owner is not null then jsonb_build_object('worker', owner, 'epoch', owner_epoch) end, 'epoch', epoch,
           'closed_at', (extract(epoch from closed_at) * 1000000)::bigint, 'parent', parent_run, 'parent_seq', parent_seq,
           'close', on_parent_close)
from engine.runs
union all
select jsonb_build_object('row', 'event', 'run', run_id, 'seq', seq, 'body', convert_from(body, 'UTF8'),
           'hash', (select jsonb_agg(get_byte(hash, place) order by place) from generate_series(0, 31) as place),
           'lease', jsonb_build_object('worker', worker_id, 'epoch', lease_epoch), 'turn', turn)
from engine.events
union all
select jsonb_build_object('row', 'message_of_event', 'run', run_id, 'key', msg_key) from engine.events where msg_key is not null
union all
select jsonb_build_object('row', 'inbox', 'run', run_id, 'place', row_number() over (partition by run_id order by id), 'key', msg_key,
           'body', body)
from engine.inbox
union all
select jsonb_build_object('row', 'task', 'run', run_id, 'seq', seq, 'queue', queue, 'activity', activity, 'run_epoch', run_epoch,
           'state', state, 'attempt', attempt,
           'holder', case when worker_id is not null then jsonb_build_object('worker', worker_id, 'epoch', lease_epoch) end,
           'in_doubt', in_doubt, 'cancel_requested', cancel_requested,
           'not_before', (extract(epoch from not_before) * 1000000)::bigint,
           'queue_deadline', (extract(epoch from queue_deadline) * 1000000)::bigint,
           'total_deadline', (extract(epoch from total_deadline) * 1000000)::bigint,
           'attempt_deadline', (extract(epoch from attempt_deadline) * 1000000)::bigint,
           'beat_deadline', (extract(epoch from heartbeat_at + heartbeat_timeout) * 1000000)::bigint,
           'detail', heartbeat_detail, 'problem', problem)
from engine.tasks
union all
select jsonb_build_object('row', 'timer', 'run', run_id, 'seq', seq, 'due', (extract(epoch from due_at) * 1000000)::bigint)
from engine.timers
union all
select jsonb_build_object('row', 'lock', 'resource', resource, 'epoch', epoch, 'run', holder_run, 'seq', holder_seq)
from engine.locks where epoch > 0
union all
select jsonb_build_object('row', 'lock_request', 'place', row_number() over (order by id), 'run', run_id, 'seq', seq,
           'resources', to_jsonb(resources))
from engine.lock_requests
