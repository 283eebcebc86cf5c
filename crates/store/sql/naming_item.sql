-- What names an item: plans, trigger policies, schedules; in words, by kind and name.
-- $1 item. Rows: named_by.
-- Index: plan_items_pkey; policies and schedules are few. Locks: none.
select 'plan ' || plan as named_by from recovery.plan_items where item = $1
union all
select 'trigger policy ' || name from recovery.trigger_policies where item = $1
union all
select 'schedule ' || name from engine.schedules where spec -> 'input' ->> 'item' = $1
order by 1
