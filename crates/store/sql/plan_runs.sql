-- Runs of plans, newest first.
-- $1 plan or null for all, $2 run or null for all, $3 at most so many. Rows: root, plan, work, version, rto_target_ms, rpo_target_ms, began_at, ended_at, failure.
-- Index: plan_runs_by_plan, plan_runs_pkey. Locks: none.
select root, plan, work, version, rto_target_ms, rpo_target_ms, began_at, ended_at, failure
from recovery.plan_runs
where ($1::text is null or plan = $1) and ($2::uuid is null or root = $2)
order by began_at desc, root
limit $3
