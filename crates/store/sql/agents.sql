-- Enrolled agents.
-- No parameters. Rows: the agent's columns, connected.
-- Index: none; few rows. Locks: none.
select a.name, a.site, a.data_address, a.build, a.enrolled_at, a.seen_at, a.anchored_runs, a.anchor_alarm,
       exists (select from engine.leases l where l.worker_id = a.worker_id and l.expires_at > (select engine.now())) as connected
from recovery.agents a order by a.name
