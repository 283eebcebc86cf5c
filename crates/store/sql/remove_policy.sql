-- Removes a trigger policy with what was decided by it; its versions stay.
-- $1 name. One row: whether there was one. Index: trigger_policies_pkey. Locks: the policy's row.
select recovery.remove_policy($1) as removed
