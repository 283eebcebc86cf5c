-- Notes that an agent was heard of, and where it takes data.
-- $1 name, $2 data address or null. No rows. Index: agents_pkey. Locks: that row.
update recovery.agents set seen_at = engine.now(), data_address = coalesce($2, data_address) where name = $1
