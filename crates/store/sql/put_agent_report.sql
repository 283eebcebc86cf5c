-- Keeps what an agent says of itself and its host.
-- $1 name, $2 report jsonb. No rows. Index: agents_pkey. Locks: that row.
update recovery.agents set report = $2, reported_at = engine.now(), seen_at = engine.now() where name = $1
