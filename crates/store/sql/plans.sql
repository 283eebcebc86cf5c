-- Plans as they stand, with the run that carries each out now. The text, which may be long, is that of one plan alone.
-- $1 name or null for all. Rows: name, version, text, plan, sha256, applied_by, applied_at, open_run, set_aside.
-- Index: plans_pkey, plan_versions_pkey, runs_one_open. Locks: none.
select p.name, p.version, case when $1::text is not null then v.text end as text, v.plan, encode(v.sha256, 'hex') as sha256, v.applied_by, v.applied_at,
       r.run_id as open_run, r.state = 'suspended' as set_aside
from recovery.plans p
join recovery.plan_versions v on v.name = p.name and v.version = p.version
left join engine.runs r on r.workflow_id = 'plan:' || p.name and r.state in ('open', 'suspended')
where $1::text is null or p.name = $1
order by p.name
