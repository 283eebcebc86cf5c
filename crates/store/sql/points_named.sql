-- Points of those items, as their sites' journals list them.
-- $1 items text[]. Rows: item, site, point, consistency, taken_at, era, grant_epoch, size_bytes, pinned, withdrawn, group_name, moment.
-- Index: points_pkey. Locks: none.
select item, site, point, consistency, taken_at, era, grant_epoch, size_bytes, pinned, withdrawn, group_name, moment
from recovery.points
where item = any ($1)
order by item, site, point
