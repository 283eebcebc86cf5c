-- Notes what an agent has anchored, and what is wrong with it.
-- $1 name, $2 runs bigint, $3 alarm or null. No rows. Index: agents_pkey. Locks: that row.
update recovery.agents set anchored_runs = $2, anchor_alarm = $3 where name = $1
