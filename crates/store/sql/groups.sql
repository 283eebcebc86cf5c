-- Members of replication groups, each with the group as its record defines it.
-- $1 group or null for all. Rows: item, group_name, definition, updated_at, open_run.
-- Index: group_members_by_group, runs_one_open. Locks: none.
select m.item, m.group_name, m.definition, m.updated_at, r.run_id as open_run
from recovery.group_members m
left join engine.runs r on r.workflow_id = 'group:' || m.group_name and r.state in ('open', 'suspended')
where $1::text is null or m.group_name = $1
order by m.group_name, m.item
