-- Applies a trigger policy; the same text again changes nothing.
-- $1 name, $2 item, $3 text, $4 policy jsonb, $5 sha256, $6 sources text[], $7 by, $8 labels of which an alert must hold one,
-- jsonb list. One row: the version, null if a source does not exist.
-- Index: trigger_policies_pkey. Locks: the policy's row.
select recovery.apply_policy($1, $2, $3, $4, $5, $6, $7, $8) as version
