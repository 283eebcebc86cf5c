-- Open runs of plans that have one of these items: as the plan stands now, or as the run has it.
-- $1 items text[], $2 a plan that is left out, or null. Rows: plan, root, work (null before its first turn), items: those of $1 that it has.
-- Index: plans_pkey, runs_one_open, plan_runs_pkey, plan_items_pkey, plan_versions_pkey. Locks: none.
select p.name as plan, r.run_id as root, pr.work, has.items
from recovery.plans p
join engine.runs r on r.workflow_id = 'plan:' || p.name and r.state in ('open', 'suspended')
left join recovery.plan_runs pr on pr.root = r.run_id
left join recovery.plan_versions v on v.name = p.name and v.version = pr.version
cross join lateral (
    select array_agg(wanted.item order by wanted.item) as items
    from unnest($1::text[]) as wanted (item)
    where exists (select from recovery.plan_items i where i.plan = p.name and i.item = wanted.item)
       or jsonb_path_query_array(v.plan, '$.groups[*].items[*].item') ? wanted.item
) has
where has.items is not null and ($2::text is null or p.name <> $2)
order by p.name
