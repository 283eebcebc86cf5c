-- Keeps the answer of a request with a key; a null status forgets the key, so that it can be tried again.
-- $1 actor, $2 key, $3 status int or null, $4 answer json or null. No rows.
-- Index: idempotency_keys_pkey. Locks: that row.
with forgotten as (
    delete from recovery.idempotency_keys where actor = $1 and key = $2 and $3::int is null
)
update recovery.idempotency_keys set status = $3, answer = $4 where actor = $1 and key = $2 and $3::int is not null
