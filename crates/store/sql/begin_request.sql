-- Notes that a request with a key is being worked on, unless one was; forgets keys older than a day.
-- $1 actor, $2 key, $3 sha256 of the request bytea. One row: fresh, same_request, status or null, answer or null.
-- Index: idempotency_keys_pkey, idempotency_keys_by_age. Locks: the inserted row.
with old as (
    delete from recovery.idempotency_keys where created_at < engine.now() - interval '24 hours' and (actor, key) <> ($1, $2)
), fresh as (
    insert into recovery.idempotency_keys (actor, key, request_sha256, created_at) values ($1, $2, $3, engine.now())
    on conflict do nothing
    returning true
)
select coalesce((select true from fresh), false) as fresh, coalesce(k.request_sha256 = $3, true) as same_request, k.status, k.answer
from (select 1) one left join recovery.idempotency_keys k on k.actor = $1 and k.key = $2
