-- Replaces the points of an item at a site by what its journal lists now. A withdrawn point stays withdrawn.
-- $1 item, $2 site, $3 points json. No rows.
-- Index: points_pkey. Locks: the rows of that item at that site.
with given as materialized (
    select * from json_to_recordset($3) as g (point bigint, consistency text, taken_at timestamptz, era bigint, grant_epoch bigint,
                                              size_bytes bigint, pinned boolean, withdrawn boolean, group_name text,
                                              moment text)
), gone as (
    delete from recovery.points where item = $1 and site = $2 and point not in (select point from given)
)
insert into recovery.points (item, site, point, consistency, taken_at, era, grant_epoch, size_bytes, pinned, withdrawn, group_name, moment, reported_at)
select $1, $2, point, consistency, taken_at, era, grant_epoch, size_bytes, pinned, withdrawn, group_name, moment, engine.now() from given order by point
on conflict (item, site, point) do update
set pinned = excluded.pinned, withdrawn = points.withdrawn or excluded.withdrawn,
    group_name = excluded.group_name, moment = excluded.moment, reported_at = excluded.reported_at
