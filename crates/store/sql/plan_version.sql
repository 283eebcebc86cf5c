-- A plan as a version of it was.
-- $1 name, $2 version. At most one row: plan.
-- Index: plan_versions_pkey. Locks: none.
select plan from recovery.plan_versions where name = $1 and version = $2
