-- A witness ends in order: nobody waits for it. What it has noted it tells when it comes again.
-- $1 witness uuid. No rows.
-- Index: witnesses_pkey. Locks: its row.
delete from engine.witnesses where witness = $1
