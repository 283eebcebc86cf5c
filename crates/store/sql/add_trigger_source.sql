-- Makes a source with its first secret.
-- $1 name, $2 kind, $3 settings json, $4 by whom, $5 secret bytea or null, $6 sha256 bytea or null. One row if the name was free, else none.
-- Index: trigger_sources_pkey. Locks: none beyond the inserted rows.
with made as (
    insert into recovery.trigger_sources (name, kind, settings, created_by, created_at)
    values ($1, $2, $3::json, $4, engine.now())
    on conflict do nothing
    returning name, created_by, created_at
)
insert into recovery.trigger_secrets (source, secret, sha256, created_by, created_at)
select name, $5, $6, created_by, created_at from made
returning source
