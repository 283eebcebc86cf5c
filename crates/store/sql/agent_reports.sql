-- What agents say of themselves and their hosts.
-- No parameters. Rows: name, site, connected, seen_at, report, reported_at.
-- Index: none; few rows. Locks: none.
select a.name, a.site, a.seen_at, a.report, a.reported_at,
       exists (select from engine.leases l where l.worker_id = a.worker_id and l.expires_at > (select engine.now())) as connected
from recovery.agents a order by a.name
