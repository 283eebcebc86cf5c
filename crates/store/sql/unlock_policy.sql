-- Ends the lock of a trigger policy whose alerts came and went.
-- $1 name. One row: whether it was locked. Index: trigger_policies_pkey. Locks: the policy's row.
select recovery.unlock_policy($1) as unlocked
