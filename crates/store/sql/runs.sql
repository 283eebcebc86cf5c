-- Runs, newest first.
-- $1 run or null, $2 workflow id or null, $3 only open ones boolean, $4 limit bigint.
-- Rows: the run's columns, events, held. Index: runs_pkey, runs_by_workflow_id, held_pkey. Locks: none.
with found as materialized (
    select * from engine.runs r
    where ($1::uuid is null or r.run_id = $1) and ($2::text is null or r.workflow_id = $2)
      and (not $3 or r.state in ('open', 'suspended'))
    order by r.started_at desc, r.run_id desc limit $4
)
select r.run_id, r.workflow, r.workflow_id, r.requested_by, r.trace, r.state, r.problem, r.owner, r.owner_epoch, r.epoch,
       r.started_at, r.closed_at, r.parent_run, e.events,
       exists (select from engine.held h where h.run_id = r.run_id) as held
from found r
cross join lateral (select count(*) as events from engine.events e where e.run_id = r.run_id) e
order by r.started_at desc, r.run_id desc
