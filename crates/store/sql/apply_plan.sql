-- Applies a plan; the same text again changes nothing.
-- $1 name, $2 text, $3 plan jsonb, $4 sha256, $5 items text[], $6 by. One row: the version.
-- Index: plans_pkey. Locks: the plan's row.
select recovery.apply_plan($1, $2, $3, $4, $5, $6) as version
