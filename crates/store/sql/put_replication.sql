-- Notes how replication of an item goes at a site; null forgets it.
-- $1 item, $2 site, $3 status jsonb or null. No rows.
-- Index: replication_pkey. Locks: that row.
with forgotten as (
    delete from recovery.replication where item = $1 and site = $2 and $3::jsonb is null
)
insert into recovery.replication (item, site, status, reported_at)
select $1, $2, $3, engine.now() where $3::jsonb is not null
on conflict (item, site) do update set status = excluded.status, reported_at = excluded.reported_at
