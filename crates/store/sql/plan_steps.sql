-- Steps of a plan's run, in the order in which they began.
-- $1 root. Rows: key, state, began_at, ended_at, attempts, said, run_id, asked_by, question.
-- Index: plan_steps_pkey. Locks: none.
select key, state, began_at, ended_at, attempts, said, run_id, asked_by, question
from recovery.plan_steps where root = $1
order by began_at, key
