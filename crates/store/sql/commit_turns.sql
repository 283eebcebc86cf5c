-- Stores a batch of turns, all of it or nothing. Fences first; see the function.
-- $1 worker uuid, $2 epoch bigint; events as parallel arrays: $3 runs uuid[], $4 seqs int[], $5 kinds text[], $6 bodies bytea[],
-- $7 message keys text[], $8 turns uuid[], $9 hashes bytea[]; consumed messages: $10 runs uuid[], $11 keys text[]; $12 the rest json.
-- No rows. Index: primary keys. Locks: lease shared, run, events, task, timer, lock, inbox, projection.
select engine.commit_turns($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
