-- Removes a plan; its versions and runs stay.
-- $1 name. One row: whether there was one.
-- Index: plans_pkey. Locks: the plan's row and those of its items.
with gone as (delete from recovery.plans where name = $1 returning 1)
select exists (select from gone) as removed
