-- Where machines of items were seen, as last reported by the sites.
-- $1 item or null for all. Rows: item, site, seen, reported_at.
-- Index: machines_pkey. Locks: none.
select item, site, seen, reported_at from recovery.machines
where $1::text is null or item = $1
order by item, site
