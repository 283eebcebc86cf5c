-- Items of those names, with the run that has each now; who is not there is left out.
-- $1 names text[]. Rows: name, record, version, updated_at, running_since, open_run.
-- Index: items_pkey, runs_one_open. Locks: none.
select i.name, i.record, i.version, i.updated_at, i.running_since, r.run_id as open_run
from recovery.items i
left join engine.runs r on r.workflow_id = 'item:' || i.name and r.state in ('open', 'suspended')
where i.name = any ($1)
order by i.name
