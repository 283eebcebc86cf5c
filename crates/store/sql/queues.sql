-- Depth of every task queue that has a task.
-- No parameters. Rows: queue, queued, claimed, dead, oldest_age_ms, attempts.
-- Index: none; the table holds open work only. Locks: none.
select queue, count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'claimed') as claimed,
       count(*) filter (where state = 'dead') as dead,
       (extract(epoch from (select engine.now()) - min(scheduled_at)) * 1000)::bigint as oldest_age_ms, max(attempt) as attempts
from engine.tasks group by queue order by queue
