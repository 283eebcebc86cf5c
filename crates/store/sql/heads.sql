-- Heads of ended runs behind a place in the order in which they ended. That is not the order in which their transactions were
-- committed: whoever pages through it goes back a little each time.
-- $1 ended after timestamptz, $2 run uuid, $3 limit bigint. Rows: run_id, workflow, workflow_id, closed_at, events, head.
-- Index: runs_closed, primary key of the run's partition. Locks: none.
with ended as materialized (
    select r.run_id, r.workflow, r.workflow_id, r.closed_at from engine.runs r
    where r.closed_at is not null and (r.closed_at, r.run_id) > ($1, $2)
    order by r.closed_at, r.run_id limit $3
)
select e.run_id, e.workflow, e.workflow_id, e.closed_at, l.seq + 1 as events, l.hash as head
from ended e
cross join lateral (select v.seq, v.hash from engine.events v where v.run_id = e.run_id order by v.seq desc limit 1) l
order by e.closed_at, e.run_id
