-- Points as their sites' journals list them.
-- $1 item or null for all. Rows: item, site, point, consistency, taken_at, era, grant_epoch, size_bytes, pinned, withdrawn,
-- group_name, moment.
-- Index: points_pkey. Locks: none.
select item, site, point, consistency, taken_at, era, grant_epoch, size_bytes, pinned, withdrawn, group_name, moment
from recovery.points
where $1::text is null or item = $1
order by item, site, point
