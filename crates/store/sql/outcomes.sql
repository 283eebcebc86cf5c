-- How runs stand, and whether what they judged has passed, if their result says so.
-- $1 runs uuid[]. Rows: run_id, state, passed boolean. Index: runs_pkey, events primary key. Locks: none.
select r.run_id, r.state,
       (select (convert_from(e.body, 'UTF8')::json #>> '{body,command,output,passed}')::boolean
        from engine.events e where e.run_id = r.run_id and e.kind = 'run_completed') as passed
from engine.runs r where r.run_id = any ($1)
