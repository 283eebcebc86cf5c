-- The open run of an item, and the last failover of it that has ended.
-- $1 item. Rows: run_id, workflow, closed_at. Index: runs_by_workflow_id. Locks: none.
(select run_id, workflow, closed_at from engine.runs where workflow_id = 'item:' || $1 and state in ('open', 'suspended'))
union all
(select run_id, workflow, closed_at from engine.runs
 where workflow_id = 'item:' || $1 and closed_at is not null and workflow in ('failover', 'planned-failover', 'failback', 'undo')
 order by closed_at desc limit 1)
