-- Removes a plan that no run carries out and of which nothing is to begin by itself; its versions and runs stay.
-- $1 name, $2 what its runs are about, which is also the name of its deadline. One row: whether it was removed.
-- Index: plans_pkey, runs_one_open, deadlines_pkey. Locks: the plan's row and those of its items.
with gone as (
    delete from recovery.plans
    where name = $1 and not exists (select from engine.runs where workflow_id = $2 and state in ('open', 'suspended'))
      and not exists (select from recovery.deadlines where name = $2 and started_run is null)
    returning 1
)
select exists (select from gone) as removed
