-- The last run of each plan; of those that were never carried out none.
-- $1 plan or null for all. Rows: root, plan, work, version, rto_target_ms, rpo_target_ms, began_at, ended_at, failure.
-- Index: plans_pkey, plan_runs_by_plan. Locks: none.
select r.root, r.plan, r.work, r.version, r.rto_target_ms, r.rpo_target_ms, r.began_at, r.ended_at, r.failure
from recovery.plans p
cross join lateral (select * from recovery.plan_runs where plan = p.name order by began_at desc, root limit 1) r
where $1::text is null or p.name = $1
order by p.name
