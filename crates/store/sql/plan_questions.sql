-- What runs of plans that have not ended ask people now, those first whose plans' names come first.
-- $1 the plan's run or null for all, $2 at most so many. Rows: root, plan, work, version, key, asked_by, question.
-- Index: runs_one_open, plan_runs_pkey, plan_steps_pkey. Locks: none.
select r.root, r.plan, r.work, r.version, s.key, s.asked_by, s.question
from engine.runs e
join recovery.plan_runs r on r.root = e.run_id
join recovery.plan_steps s on s.root = r.root and s.state = 'waiting'
where e.state in ('open', 'suspended') and ($1::uuid is null or e.run_id = $1)
order by r.plan, r.root, s.began_at, s.key
limit $2
