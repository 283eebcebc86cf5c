-- Policies that have not looked at something, with the run that evaluates each now.
-- No parameters. Rows: policy, newest wake, open_run. Index: trigger_wakes_pkey, runs_one_open. Locks: none.
select w.policy, w.newest, r.run_id as open_run
from (select policy, max(id) as newest from recovery.trigger_wakes group by policy) w
join recovery.trigger_policies p on p.name = w.policy
left join engine.runs r on r.workflow_id = 'trigger:' || w.policy and r.state in ('open', 'suspended')
order by w.policy
