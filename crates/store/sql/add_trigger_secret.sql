-- Gives a source a second secret; both hold from then on.
-- $1 source, $2 by whom, $3 secret bytea or null, $4 sha256 bytea or null, $5 most secrets. One row if there is such a source and room.
-- Index: primary keys. Locks: the source's row, so that two who add do not pass the limit.
with source as (
    select name from recovery.trigger_sources where name = $1 for no key update
)
insert into recovery.trigger_secrets (source, secret, sha256, created_by, created_at)
select name, $3, $4, $2, engine.now() from source
where (select count(*) from recovery.trigger_secrets where source = $1) < $5
returning number
