-- Drills of items that have passed and are not noted as the last one yet, the newest of each item.
-- No parameters. Rows: run_id, workflow_id, closed_at.
-- Index: runs_drills, verified_pkey, events primary key. Locks: none.
select distinct on (r.workflow_id) r.run_id, r.workflow_id, r.closed_at
from engine.runs r
left join recovery.verified v on v.subject = 'item:' || substr(r.workflow_id, length('drill:') + 1)
where r.workflow = 'drill' and r.state = 'completed' and r.workflow_id like 'drill:%'
  and (v.verified_at is null or r.closed_at > v.verified_at)
  and (select (convert_from(e.body, 'UTF8')::json #>> '{body,command,output,passed}')::boolean
       from engine.events e where e.run_id = r.run_id and e.kind = 'run_completed')
order by r.workflow_id, r.closed_at desc
