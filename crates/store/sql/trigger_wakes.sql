-- What a policy has not looked at yet, oldest first.
-- $1 policy, $2 limit. Rows: the wake's columns.
-- Index: trigger_wakes_pkey. Locks: none.
select id, alert, source, fingerprint, starts_at, what, noted_at from recovery.trigger_wakes where policy = $1 order by id limit $2
