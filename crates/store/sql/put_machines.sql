-- Notes which machines of an item a site sees; null forgets them.
-- $1 item, $2 site, $3 seen jsonb or null. No rows.
-- Index: machines_pkey. Locks: that row.
with forgotten as (
    delete from recovery.machines where item = $1 and site = $2 and $3::jsonb is null
)
insert into recovery.machines (item, site, seen, reported_at)
select $1, $2, $3, engine.now() where $3::jsonb is not null
on conflict (item, site) do update set seen = excluded.seen, reported_at = excluded.reported_at
