-- How replication goes, as last reported by the sources.
-- $1 item or null for all. Rows: item, site, status, reported_at.
-- Index: replication_pkey. Locks: none.
select item, site, status, reported_at from recovery.replication
where $1::text is null or item = $1
order by item, site
