-- Trigger policies as they stand, with the run that evaluates each now.
-- $1 name or null for all. Rows: name, version, item, text, policy, sha256, applied_by, applied_at, flap_locked_at, unlocked_at, open_run, set_aside.
-- Index: trigger_policies_pkey, trigger_policy_versions_pkey, runs_one_open. Locks: none.
select p.name, p.version, p.item, v.text, v.policy, encode(v.sha256, 'hex') as sha256, v.applied_by, v.applied_at, p.flap_locked_at, p.unlocked_at, r.run_id as open_run, r.state = 'suspended' as set_aside
from recovery.trigger_policies p
join recovery.trigger_policy_versions v on v.name = p.name and v.version = p.version
left join engine.runs r on r.workflow_id = 'trigger:' || p.name and r.state in ('open', 'suspended')
where $1::text is null or p.name = $1
order by p.name
