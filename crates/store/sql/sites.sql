-- Sites with their agents.
-- No parameters. Rows: name, agents text[], connected.
-- Index: none; few rows. Locks: none.
select s.name, coalesce(array_agg(a.name order by a.name) filter (where a.name is not null), '{}') as agents,
       count(a.name) filter (where exists (
           select from engine.leases l where l.worker_id = a.worker_id and l.expires_at > (select engine.now()))) as connected
from recovery.sites s left join recovery.agents a on a.site = s.name
group by s.name order by s.name
